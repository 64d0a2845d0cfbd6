"""What ``check`` can be told: all that ``score`` can, so that one line or file serves both."""

from __future__ import annotations

from pydantic import Field

from batchscore.config import ScoreConfig


class CheckConfig(ScoreConfig):
    """Everything ``check`` can be told."""

    output: str = Field("-", description="as for score; check writes no file")
    probe: bool = Field(
        False,
        description="also send a few requests, the only rows that check sends, to tell the time "
        "to expect",
    )


MEANS_NOTHING = (
    "processes", "max_outage", "max_failed_rows", "report", "resume", "overwrite", "work_dir",
    "engine", "workers", "ray_address", "master", "metrics_port", "metrics_linger",
    "max_part_bytes",
)  # fmt: skip
"""The options of ``score`` that change nothing here; they are accepted all the same."""
