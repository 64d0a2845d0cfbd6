"""``batchscore check``: everything that would keep rows from being scored, before one is sent."""

from __future__ import annotations

from typing import TYPE_CHECKING

from pydantic import Field

from batchscore.checking.options import MEANS_NOTHING, CheckConfig
from batchscore.cli.commands import as_function
from batchscore.cli.options import Command, GeneralOptions
from batchscore.cli.score import DEPLOYMENT, INPUT, METAVARS, STORES
from batchscore.cli.terminal import TERMINAL

if TYPE_CHECKING:
    from batchscore.checking.report import CheckReport


class CheckOptions(CheckConfig):
    """What the command can be told besides."""

    json_output: bool = Field(False, alias="json", description="print JSON")


def _check(options: CheckOptions, general: GeneralOptions) -> int:
    from batchscore.checking.run import check as run_check
    from batchscore.cli import runner

    observer = TERMINAL.observer(general.progress, summary=False)
    try:
        report = runner.run(run_check(options, observer=observer))
    finally:
        TERMINAL.finish(observer)
    _print(report, as_json=options.json_output)
    return report.exit_code


def _print(report: CheckReport, *, as_json: bool) -> None:
    if as_json:
        TERMINAL.data(report.as_json())
        return
    from batchscore.cli.check_text import printed

    TERMINAL.data(printed(report, TERMINAL.console()))


COMMAND = Command(
    name="check",
    model=CheckOptions,
    call=_check,
    positional="inputs",
    groups={
        "Input": INPUT,
        "Sending": (
            "probe", "batch_size", "max_batch_bytes", "concurrency", "rate_limit", "timeout",
            "max_attempts", "max_response_bytes",
        ),
        "Deployment": DEPLOYMENT,
        "Stores": STORES,
        "Output": ("json", "output", "output_format", "probs", "prefix"),
    },
    short={"output": "-o"},
    metavars=METAVARS,
    hidden=MEANS_NOTHING,
)  # fmt: skip
check = as_function(COMMAND)
