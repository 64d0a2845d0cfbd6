"""A run whose output is there already, and whole."""

from __future__ import annotations

import logging
from typing import TYPE_CHECKING

from batchscore.errors import StoppedError, TemporaryError
from batchscore.job import OTHER_SPECIFICATION
from batchscore.offload import uninterrupted
from batchscore.sinks.writer import check_failures

if TYPE_CHECKING:
    from contextlib import AbstractAsyncContextManager

    from batchscore.run import Run
    from batchscore.scoring.connection import Target
    from batchscore.sinks.file import FileOutput
    from batchscore.sinks.finished import FinishedOutput
    from batchscore.sinks.work import UnfinishedOutput

_log = logging.getLogger("batchscore")


async def ends_as_before(
    run: Run,
    finished: FinishedOutput,
    asking: AbstractAsyncContextManager[Target],
) -> bool:
    """Make the run end as the one that wrote the output; False where it is to be replaced.

    The deployment is asked only for its specification. Where it is gone or refuses by now, the
    output is taken for what it says.

    Raises:
        UsageError: the deployment is another one, and the output is not to be replaced.
        TooManyFailuresError: more rows failed then than the user allows now.
    """
    if not await _is_same_model(run, finished, asking):
        return False
    counts = await run.ground.offload(finished.counts)
    run.metrics.total_rows = counts.rows
    run.metrics.count_earlier(counts.rows, counts.failed)
    check_failures(run.config.max_failed_rows, run.metrics, counts.rows)
    return True


async def take_all_rows(run: Run, output: FileOutput, earlier: UnfinishedOutput) -> None:
    """Go on with work whose rows are all there, without the deployment, which nothing is sent to.

    Raises:
        TooManyFailuresError: more rows failed then than the user allows now.
    """
    counts = await uninterrupted(run.ground.offload(output.go_on, earlier.schema))
    metadata = earlier.schema.metadata or {}
    run.fingerprint = metadata.get(b"batchscore.fingerprint", b"").decode() or None
    run.metrics.total_rows = counts.rows
    run.metrics.count_earlier(counts.rows, counts.failed)
    check_failures(run.config.max_failed_rows, run.metrics, counts.rows)


async def _is_same_model(
    run: Run, finished: FinishedOutput, asking: AbstractAsyncContextManager[Target]
) -> bool:
    try:
        async with asking:
            pass  # the run takes note of the specification
    except (StoppedError, TemporaryError) as error:
        _log.warning("%s is whole; the deployment was not asked: %s", finished.shown, error)
        return True
    if run.fingerprint == finished.fingerprint:
        return True
    if run.config.overwrite:
        return False
    raise finished.refused([OTHER_SPECIFICATION])
