"""``batchscore rescore``: the failed rows of an output, once more."""

from __future__ import annotations

from typing import TYPE_CHECKING

from batchscore.cli.commands import as_function
from batchscore.cli.options import Command, GeneralOptions
from batchscore.cli.score import METAVARS, SENDING, STORES, report_of, told_of
from batchscore.config import RescoreConfig
from batchscore.endpoint import redacted

if TYPE_CHECKING:
    from collections.abc import Coroutine

    from batchscore.metrics import RunReport
    from batchscore.observers import Observer


def _rescore(config: RescoreConfig, general: GeneralOptions) -> int:
    def work(observer: Observer) -> Coroutine[None, None, RunReport]:
        from batchscore.rescorer import rescore as run_job

        return run_job(config, observer=observer)

    about = {"kind": "rescore", "input": [redacted(source) for source in config.input]}
    return report_of(work, general, about | told_of(config.url, config.output))


COMMAND = Command(
    name="rescore",
    model=RescoreConfig,
    call=_rescore,
    positional="output",
    groups={
        "Input": ("output", "input", "image_root"),
        "Sending": SENDING,
        "Deployment": (
            "url", "token_command", "token_file", "ca_bundle", "header", "header_file",
        ),
        "Output": ("report", "metrics_port", "metrics_linger", "resume", "work_dir"),
        "Stores": STORES,
    },
    metavars={**METAVARS, "input": "INPUT"},
    several=("input",),
)  # fmt: skip
rescore = as_function(COMMAND)
