"""The functions of the package: what the command line does, for Python."""

from __future__ import annotations

import asyncio
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from typing import TYPE_CHECKING, Any, TypeVar

from batchscore.checking.options import CheckConfig
from batchscore.checking.run import check as check_config
from batchscore.config import RescoreConfig, ScoreConfig, Token, configured
from batchscore.engines import score as score_config
from batchscore.errors import UsageError
from batchscore.observers.chosen import watched
from batchscore.rescorer import rescore as rescore_config
from batchscore.scorer import score_data

if TYPE_CHECKING:
    from collections.abc import Callable, Coroutine, Sequence
    from os import PathLike

    import pyarrow as pa

    from batchscore.checking.report import CheckReport
    from batchscore.metrics import RunReport
    from batchscore.observers import Observer
    from batchscore.observers.chosen import Display

T = TypeVar("T")

_OF_FILES = (
    "inputs", "input_format", "source_column", "delimiter", "encoding", "null", "type",
    "output", "output_format", "resume", "overwrite",
    "engine", "workers", "ray_address", "master",
)  # fmt: skip
"""What says how files are read or written, and means nothing for a table."""


def score(
    inputs: str | PathLike[str] | Sequence[str | PathLike[str]],
    output: str | PathLike[str],
    *,
    url: str,
    token: Token = None,
    observer: Observer | None = None,
    progress: Display = "none",
    **options: Any,
) -> RunReport:
    """Score files against a deployment, in order, into one output file.

    Args:
        inputs: a file, folder, glob or several of them.
        output: the file to write; its suffix tells the format.
        url: the deployment's address.
        token: the token, or a function that gives it; else ``BATCHSCORE_TOKEN``.
        observer: watches the run.
        progress: ``"auto"`` shows how it goes: below a notebook's cell, as a bar on a terminal,
            else a line on standard error every ten seconds; ``"bar"`` and ``"plain"`` choose.
        **options: named as on the command line: ``batch_size=1000``, ``keep=["id"]``, ...

    Returns:
        The report; rows that failed are counted there and told in the output.

    Raises:
        UsageError: an option or the input is wrong; nothing was sent.
        StoppedError: running the same again will not help.
        TemporaryError: it may.
    """
    watcher = watched(observer, progress)
    return _run(score_async(inputs, output, url=url, token=token, observer=watcher, **options))


async def score_async(
    inputs: str | PathLike[str] | Sequence[str | PathLike[str]],
    output: str | PathLike[str],
    *,
    url: str,
    token: Token = None,
    observer: Observer | None = None,
    progress: Display = "none",
    **options: Any,
) -> RunReport:
    """The same as ``score``, for async code."""
    values = {
        "inputs": _texts(inputs),
        "output": str(output),
        "url": url,
        "token": token,
        **options,
    }
    return await score_config(configured(ScoreConfig, values), observer=watched(observer, progress))


def rescore(
    output: str | PathLike[str],
    *,
    url: str,
    token: Token = None,
    observer: Observer | None = None,
    progress: Display = "none",
    **options: Any,
) -> RunReport:
    """Send only the rows of an output that failed; what comes back takes their places.

    The output, an ``.arrow`` or ``.parquet`` file that ``score`` wrote, tells itself how it was
    scored. It is replaced in one step at the end.

    Args:
        output: the file.
        url: as in ``score``; the deployment must have the same specification.
        token: as in ``score``.
        observer: as in ``score``.
        progress: as in ``score``.
        **options: named as on the command line: ``input="in.parquet"``, ``concurrency=8``, ...

    Returns:
        The report, of all rows of the output; those that were scored before are ``rows_resumed``.

    Raises:
        UsageError, StoppedError, TemporaryError: as in ``score``; the output is as it was.
    """
    watcher = watched(observer, progress)
    return _run(rescore_async(output, url=url, token=token, observer=watcher, **options))


async def rescore_async(
    output: str | PathLike[str],
    *,
    url: str,
    token: Token = None,
    observer: Observer | None = None,
    progress: Display = "none",
    **options: Any,
) -> RunReport:
    """The same as ``rescore``, for async code."""
    values = {"output": str(output), "url": url, "token": token, **options}
    values["input"] = _texts(options.get("input", ()))
    return await rescore_config(
        configured(RescoreConfig, values), observer=watched(observer, progress)
    )


def check(
    inputs: str | PathLike[str] | Sequence[str | PathLike[str]],
    *,
    url: str,
    token: Token = None,
    observer: Observer | None = None,
    **options: Any,
) -> CheckReport:
    """Read files as ``score`` would, and tell all that would keep rows from being scored.

    No row is sent, unless ``probe=True`` asks for a few requests that tell the time to expect.

    Args:
        inputs: as in ``score``.
        url: as in ``score``.
        token: as in ``score``.
        observer: watches the run; rows that can be sent count as scored.
        **options: as in ``score``; those that say how rows are sent or written do not matter.

    Returns:
        The report; ``report.problems`` is empty where ``score`` would send every row.

    Raises:
        UsageError: an option is wrong, or the input cannot be opened.
        StoppedError: the deployment refuses to tell its specification.
        TemporaryError: it cannot be reached.
    """
    return _run(check_async(inputs, url=url, token=token, observer=observer, **options))


async def check_async(
    inputs: str | PathLike[str] | Sequence[str | PathLike[str]],
    *,
    url: str,
    token: Token = None,
    observer: Observer | None = None,
    **options: Any,
) -> CheckReport:
    """The same as ``check``, for async code."""
    values = {"inputs": _texts(inputs), "url": url, "token": token, **options}
    return await check_config(configured(CheckConfig, values), observer=observer)


def score_table(
    table: object,
    *,
    url: str,
    token: Token = None,
    observer: Observer | None = None,
    progress: Display = "none",
    **options: Any,
) -> pa.Table:
    """Score a table in memory; the columns are those that ``score`` writes.

    Args:
        table: anything that exports an Arrow stream: PyArrow, Polars, pandas, DuckDB.
        url: as in ``score``.
        token: as in ``score``.
        observer: as in ``score``.
        progress: as in ``score``.
        **options: as in ``score``, but for those of files.

    Raises:
        UsageError, StoppedError, TemporaryError: as in ``score``.
    """
    for name in _OF_FILES:
        if name in options:
            raise UsageError(f"score_table has no option {name!r}: table in, table out")
    values = {"inputs": ["<table>"], "output": "-", "url": url, "token": token, **options}
    config = configured(ScoreConfig, values)
    return _run(score_data(config, table, observer=watched(observer, progress)))


def _texts(paths: str | PathLike[str] | Sequence[str | PathLike[str]]) -> list[str]:
    one = isinstance(paths, str) or not hasattr(paths, "__iter__")
    return [str(paths)] if one else [str(path) for path in paths]  # type: ignore[union-attr]


def _run(work: Coroutine[Any, Any, T]) -> T:
    """Run a coroutine to its end, in another thread where this one has a running loop."""
    if not _in_running_loop():
        return asyncio.run(work)
    cancel: list[Callable[[], object]] = []

    async def cancellable() -> T:
        task = asyncio.current_task()
        assert task is not None  # noqa: S101 - a coroutine that runs is run by a task
        cancel.append(partial(asyncio.get_running_loop().call_soon_threadsafe, task.cancel))
        return await work

    with ThreadPoolExecutor(1) as thread:
        future = thread.submit(asyncio.run, cancellable())
        try:
            return future.result()
        except BaseException:
            # Ctrl-C in a notebook comes here, while the work goes on in its thread.
            if cancel and not future.done():
                cancel[0]()
            raise


def _in_running_loop() -> bool:
    try:
        asyncio.get_running_loop()
    except RuntimeError:
        return False
    return True
