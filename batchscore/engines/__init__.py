"""Where a job is scored: by this process, or by the workers of an engine that the user has."""

from __future__ import annotations

from typing import TYPE_CHECKING

from batchscore.errors import UsageError
from batchscore.scorer import score as score_here

if TYPE_CHECKING:
    from batchscore.config import ScoreConfig
    from batchscore.engines.work import Engine
    from batchscore.metrics import RunReport
    from batchscore.observers import Observer

__all__ = ["score"]


async def score(config: ScoreConfig, *, observer: Observer | None = None) -> RunReport:
    """Score the input of a configuration into its output, with the engine that it names.

    Raises:
        BatchscoreError: the job ended early; its reports are written all the same.
    """
    if config.engine == "local":
        return await score_here(config, observer=observer)
    # What an engine's workers need is imported for them alone.
    from batchscore.engines.job import score_files  # noqa: PLC0415

    return await score_files(config, _engine(config), observer=observer)


def _engine(config: ScoreConfig) -> Engine:
    match config.engine:
        case "ray":
            from batchscore.engines.ray import RayEngine  # noqa: PLC0415

            return RayEngine()
        case "spark":
            from batchscore.engines.spark.files import SparkEngine  # noqa: PLC0415

            return SparkEngine()
    raise UsageError(f"--engine {config.engine}: this engine is not here yet")
