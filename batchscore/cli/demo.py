"""``batchscore demo``: the whole way from sample data to predictions, in one process."""

from __future__ import annotations

import shlex
import shutil
import socket
import sys
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from pydantic import Field

from batchscore.cli.commands import as_function
from batchscore.cli.options import Command, GeneralOptions, OptionsModel
from batchscore.cli.terminal import TERMINAL
from batchscore.errors import UsageError

if TYPE_CHECKING:
    from collections.abc import Callable

    import pyarrow as pa

_ROWS_SHOWN = 5


class DemoOptions(OptionsModel):
    """Everything ``demo`` can be told."""

    directory: Path = Field(
        Path("batchscore-demo"), description="folder for the sample data and the results"
    )


@dataclass(frozen=True)
class _Job:
    """One thing that is scored.

    Attributes:
        input, output: names in the folder.
        model: the demo model.
        shown: the columns that are shown.
        truth: the column that tells the truth.
        predicted: the column of the prediction.
        truth_of: the truth from a cell of that column.
    """

    input: str
    output: str
    model: str
    shown: tuple[str, ...]
    truth: str
    predicted: str
    truth_of: Callable[[str], str] = str


def _digit_of(path: str) -> str:
    """The digit in a picture's name, ``NUMBER-DIGIT.png``."""
    return path.removesuffix(".png").rpartition("-")[2]


_PENGUIN = ("species", "body_mass_g", "predicted_species", "predicted_expected_body_mass_g")
_JOBS = (
    _Job(
        "penguins.parquet",
        "penguins-scored.arrow",
        "penguins",
        shown=_PENGUIN,
        truth="species",
        predicted="predicted_species",
    ),
    _Job(
        "penguins.csv",
        "penguins-from-csv-scored.arrow",
        "penguins",
        shown=_PENGUIN,
        truth="species",
        predicted="predicted_species",
    ),
    _Job(
        "digits",
        "digits-scored.arrow",
        "digits",
        shown=("path", "predicted_digit", "prediction_error"),
        truth="path",
        predicted="predicted_digit",
        truth_of=_digit_of,
    ),
)


_MARKER = "README.txt"


def _demo(options: DemoOptions, general: GeneralOptions) -> int:
    from batchscore.serving.demo import write_sample_data

    directory = options.directory
    marker = directory / _MARKER
    if directory.is_dir() and not marker.exists() and any(directory.iterdir()):
        raise UsageError(
            f"{str(directory)!r} holds files that are not the demo's; give another folder: "
            "batchscore demo DIRECTORY"
        )
    try:
        directory.mkdir(parents=True, exist_ok=True)
        marker.write_text("Made by `batchscore demo`, which replaces what is here.\n")
        write_sample_data(directory)
    except OSError as error:
        reason = error.strerror or error
        raise UsageError(
            f"cannot write the sample data to {str(directory)!r}: {reason}; "
            "give another folder: batchscore demo DIRECTORY"
        ) from error
    exit_code = 0
    for job in _JOBS:
        exit_code = max(exit_code, _run_job(job, directory, general))
    TERMINAL.data(
        f"\nNext, a deployment of its own and a job for it:\n{_next_command(directory)}\n"
    )
    return exit_code


def _run_job(job: _Job, directory: Path, general: GeneralOptions) -> int:
    from batchscore.cli import runner
    from batchscore.config import ScoreConfig
    from batchscore.scorer import score
    from batchscore.serving.app import running_deployment

    source, output = directory / job.input, directory / job.output
    with running_deployment(job.model) as url:
        config = ScoreConfig(
            # Without a token: a deployment of this process asks for none.
            url=url,
            token=lambda: None,
            inputs=(str(source),),
            output=str(output),
            overwrite=True,
        )
        # The jobs take less than a second: no progress but what is asked for.
        progress = "none" if general.progress == "auto" else general.progress
        observer = TERMINAL.observer(progress, summary=False)
        try:
            report = runner.run(score(config, observer=observer))
        finally:
            TERMINAL.finish(observer)
    if report.message:
        TERMINAL.error(report.message, report.status, report.exit_code)
    if output.exists():
        _show(job, source, output)
    return report.exit_code


def _show(job: _Job, source: Path, output: Path) -> None:
    import pyarrow as pa
    from rich.table import Table

    with pa.memory_map(str(output)) as file:
        table = pa.ipc.open_file(file).read_all()
    shown = Table(box=None, pad_edge=False, header_style="bold")
    for name in job.shown:
        shown.add_column(name, overflow="fold")
    for row in table.slice(0, _ROWS_SHOWN).select(job.shown).to_pylist():
        shown.add_row(*(_cell(row[name]) for name in job.shown))
    TERMINAL.data(f"\n{source} -> {output}: {table.num_rows:,} rows, such as\n")
    TERMINAL.table(shown)
    TERMINAL.data(f"{_accuracy(job, table)}\n")


def _cell(value: object) -> str:
    return "" if value is None else f"{value:.4g}" if isinstance(value, float) else str(value)


def _accuracy(job: _Job, table: pa.Table) -> str:
    """How many predictions are right, of the rows that the model has not learned from."""
    import pyarrow.compute as pc

    which = "rows"
    if "split" in table.column_names:
        table, which = table.filter(pc.field("split") == "test"), "rows held out of the training"
    truths = [job.truth_of(value) for value in table[job.truth].to_pylist()]
    predicted = table[job.predicted].to_pylist()
    right = sum(one == other for one, other in zip(predicted, truths, strict=True))
    share = right / max(1, len(truths))
    return f"{job.predicted} is right in {right:,} of {len(truths):,} {which}, {share:.1%}"


def _next_command(directory: Path) -> str:
    """One line for the shell: it starts a deployment, scores with it, and stops it again."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    program = _program()
    source = shlex.quote(str(directory / "penguins.parquet"))
    output = shlex.quote(str(directory / "again.arrow"))
    url = f"http://127.0.0.1:{port}/deployment/penguins/forward"
    return (
        f"{program} serve penguins --port {port} --quiet & sleep 3; "
        f"{program} score {source} --url {url} -o {output} --overwrite; kill $!"
    )


def _program() -> str:
    """How this program can be called again: as it was now, where that was by its name."""
    called = Path(sys.argv[0])
    if called.name == "batchscore" and called.is_file():
        # A shell gives the whole path of what it found on its PATH; the bare name is nicer.
        found = shutil.which("batchscore")
        return "batchscore" if found == str(called) else shlex.quote(sys.argv[0])
    return f"{shlex.quote(sys.executable)} -m batchscore"


COMMAND = Command(
    name="demo",
    model=DemoOptions,
    call=_demo,
    positional="directory",
    metavars={"directory": "DIRECTORY"},
)
demo = as_function(COMMAND)
