"""``batchscore score``: the main job."""

from __future__ import annotations

from typing import TYPE_CHECKING

from batchscore.cli.commands import as_function
from batchscore.cli.options import Command, GeneralOptions
from batchscore.cli.terminal import TERMINAL
from batchscore.config import ScoreConfig
from batchscore.endpoint import redacted
from batchscore.version import __version__

if TYPE_CHECKING:
    from collections.abc import Callable, Coroutine, Mapping

    from batchscore.metrics import RunReport
    from batchscore.observers import Observer

INPUT = (
    "inputs", "input_format", "source_column", "map", "delimiter", "encoding", "null", "type",
    "image_root", "hive", "keep", "drop", "limit",
)  # fmt: skip
SENDING = (
    "batch_size", "max_batch_bytes", "concurrency", "processes", "rate_limit", "timeout",
    "max_attempts", "max_outage", "max_failed_rows", "max_response_bytes",
)  # fmt: skip
DEPLOYMENT = (
    "url", "token_command", "token_file", "protocol", "features", "schema", "pack", "classes",
    "ca_bundle", "header", "header_file",
)  # fmt: skip
ENGINE = ("engine", "workers", "ray_address", "master")
OUTPUT = (
    "output", "output_format", "max_part_bytes", "probs", "prefix", "report", "metrics_port",
    "metrics_linger", "resume", "overwrite", "work_dir",
)  # fmt: skip
STORES = ("store_endpoint", "store_region")

METAVARS = {
    "inputs": "INPUT", "output": "OUT", "url": "URL", "token_command": "COMMAND",
    "token_file": "FILE", "ca_bundle": "FILE", "header_file": "FILE", "header": "'NAME: VALUE'",
    "timeout": "TIME", "max_response_bytes": "SIZE", "max_batch_bytes": "SIZE",
    "map": "FEATURE=COLUMN", "type": "COLUMN=TYPE", "delimiter": "CHAR|tab",
    "encoding": "NAME", "source_column": "NAME", "image_root": "FOLDER", "work_dir": "FOLDER",
    "max_part_bytes": "SIZE", "store_endpoint": "URL", "store_region": "NAME",
    "keep": "COLUMN,...|all|none", "drop": "COLUMN,...", "limit": "ROWS",
    "batch_size": "ROWS|auto", "concurrency": "N|auto",
    "processes": "N|auto", "rate_limit": "RATE",
    "max_attempts": "N", "max_outage": "TIME", "max_failed_rows": "N|P%", "classes": "A,B,...",
    "report": "FILE", "metrics_port": "[HOST:]PORT", "metrics_linger": "TIME",
    "protocol": "NAME|CLASS", "input_format": "NAME", "output_format": "NAME",
    "features": "COLUMN,...", "schema": "FILE", "pack": "INPUT=COLUMN,...",
    "workers": "N", "ray_address": "ADDRESS", "master": "URL",
}  # fmt: skip


def _score(config: ScoreConfig, general: GeneralOptions) -> int:
    def work(observer: Observer) -> Coroutine[None, None, RunReport]:
        from batchscore.engines import score as run_job

        return run_job(config, observer=observer)

    about = {"kind": "score", "input": [redacted(source) for source in config.inputs]}
    return report_of(work, general, about | told_of(config.url, config.output))


def told_of(url: str, output: str) -> dict[str, object]:
    """What the log of any run tells at its start, without what may be a secret."""
    return {"endpoint": redacted(url), "output": redacted(output), "version": __version__}


def report_of(
    work: Callable[[Observer], Coroutine[None, None, RunReport]],
    general: GeneralOptions,
    about: Mapping[str, object],
) -> int:
    """Do the work of a run before the user's eyes; the exit code."""
    from batchscore.cli import runner

    observer = TERMINAL.observer(general.progress, about=about)
    try:
        report = runner.run(work(observer))
    finally:
        TERMINAL.finish(observer)
    if report.message and report.exit_code:
        TERMINAL.error(report.message, report.status, report.exit_code)
    return report.exit_code


COMMAND = Command(
    name="score",
    model=ScoreConfig,
    call=_score,
    positional="inputs",
    groups={
        "Input": INPUT,
        "Sending": SENDING,
        "Deployment": DEPLOYMENT,
        "Output": OUTPUT,
        "Stores": STORES,
        "Engine": ENGINE,
    },
    short={"output": "-o"},
    metavars=METAVARS,
)
score = as_function(COMMAND)
