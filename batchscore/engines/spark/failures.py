"""What Spark says when it gives up, as an error of ours."""

from __future__ import annotations

import re
from contextlib import contextmanager
from typing import TYPE_CHECKING

from batchscore.errors import (
    BatchscoreError,
    StoppedError,
    TemporaryError,
    UsageError,
    WorkerLostError,
)
from batchscore.version import __version__

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator

_OURS = re.compile(
    r"^batchscore\.errors\.(?P<kind>\w+): (?P<text>.*?)(?=\n\s*(?:SQLSTATE|at |$)|\Z)",
    re.MULTILINE | re.DOTALL,
)
_PYTHON = re.compile(
    r"^(?P<kind>[A-Za-z_][\w.]*(?:Error|Exception|Interrupt|Exit)): ?(?P<text>.*)$", re.MULTILINE
)
_LOST = re.compile(r"ExecutorLostFailure \(.*?\)(?: Reason: (?P<reason>[^\n]*))?")
_CRASHED = re.compile(r"Python worker exited unexpectedly[^\n]*")
_NO_PROGRAM = re.compile(r'Cannot run program "([^"]+)"')
_CHARS = 300

_ENDING = (UsageError, StoppedError, TemporaryError)
"""What ends a job, with what is derived from it; each is made of its text."""


def error_of(error: BaseException) -> BatchscoreError | None:
    """The error of this package that a worker raised, from what Spark made of it; else None."""
    found = _OURS.search(str(error))
    if found is None:
        return None
    kind = next((kind for kind in _kinds(_ENDING) if kind.__name__ == found["kind"]), None)
    return None if kind is None else kind(found["text"].removesuffix(" SQLSTATE: 38000").strip())


def _kinds(bases: Iterable[type[BatchscoreError]]) -> Iterator[type[BatchscoreError]]:
    for base in bases:
        yield base
        yield from _kinds(base.__subclasses__())


def told_by_spark(error: BaseException, what: str) -> BatchscoreError:
    """An error of ours that says in a line what Spark says in a hundred.

    Args:
        error: what PySpark raised.
        what: the part of the job that it is about.
    """
    if (ours := error_of(error)) is not None:
        return ours
    said = str(error)
    if lost := _LOST.search(said) or _CRASHED.search(said):
        reason = lost.groupdict().get("reason") or lost[0]
        return WorkerLostError(
            f"Spark gave up {what}: the executors that scored it were lost again and again "
            f"({reason.strip()[:_CHARS]}); is their memory too small?"
        )
    if any(kind.__name__ == "Py4JNetworkError" for kind in type(error).__mro__):
        return WorkerLostError(
            f"Spark's own process has ended while it scored {what}; is its memory too small?"
        )
    if program := _NO_PROGRAM.search(said):
        return StoppedError(
            f"the executors of Spark have no {program[1]!r}; PYSPARK_PYTHON names their Python, "
            f"which needs batchscore {__version__}"
        )
    raised = _PYTHON.findall(said)
    if raised and "Traceback" in said:
        kind, text = raised[-1]
        missing = kind.endswith(("ModuleNotFoundError", "ImportError", "AttributeError"))
        remedy = (
            f"the executors need the Python of the driver, with batchscore {__version__} "
            "(PYSPARK_PYTHON)"
            if missing
            else "--debug shows where"
        )
        return StoppedError(f"a Python worker of Spark failed: {kind}: {text[:_CHARS]}; {remedy}")
    lines = [line.strip(" :\t") for line in said.splitlines() if line.strip()]
    # Py4J's own first line says which call it was.
    telling = next((line for line in lines if "Exception" in line), lines[0] if lines else "?")
    return StoppedError(f"Spark could not score {what}: {telling[:_CHARS]}; --debug shows more")


@contextmanager
def errors() -> Iterator[None]:
    """Within it, what a worker raised comes as the error of this package that it was.

    Spark scores when rows are asked for, and wraps what happens then::

        with batchscore.engines.spark.errors():
            scored.write.parquet("s3a://bucket/scored")

    Raises:
        BatchscoreError: what a worker raised.
    """
    try:
        yield
    except Exception as error:
        if (ours := error_of(error)) is None:
            raise
        raise ours from error
