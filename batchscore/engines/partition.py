"""What a worker of an engine has: the pipeline of a local run, for the rows that it is given."""

from __future__ import annotations

from contextlib import AsyncExitStack
from typing import TYPE_CHECKING, Self

from batchscore.client.clock import monotonic_s
from batchscore.engines.handoff import Handoff
from batchscore.engines.loop import LoopThread
from batchscore.engines.rows import GivenRows
from batchscore.metrics import RunMetrics
from batchscore.observers import NullObserver
from batchscore.run import Run
from batchscore.runtime import Runtime
from batchscore.scorer import score_rows
from batchscore.scoring.connection import Limits, Target, connect

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator

    import pyarrow as pa

    from batchscore.engines.plan import Plan
    from batchscore.metrics import Traffic
    from batchscore.readers import Reader
    from batchscore.runtime import Ground

_CHECK_MODEL_EVERY_S = 180.0


class Partition:
    """Scores rows in order, one reader after another, over one connection with one limiter.

    Made and used by one thread; a context manager, which closes the connection.
    """

    def __init__(self, plan: Plan, number: int = 0) -> None:
        """Connect as one of the plan's workers.

        Raises:
            UsageError: something that the plan names is not there for this worker.
        """
        self._plan, self._number = plan, number
        self._traffic = RunMetrics()
        self._stack = AsyncExitStack()
        self._checked_s = monotonic_s()
        self._loop = LoopThread()
        try:
            self._ground, self._target = self._loop.run(self._connect())
        except BaseException:
            self._loop.close()
            raise

    async def _connect(self) -> tuple[Ground, Target]:
        plan, config = self._plan, self._plan.config
        ground = self._stack.enter_context(Runtime().ground(self._traffic))
        share = plan.share(self._number)
        connection = await self._stack.enter_async_context(
            connect(config, ground, Limits.of(config), share=share)
        )
        connection.client.began_with(plan.fingerprint)
        outputs = plan.are_outputs_published
        return ground, Target(connection, plan.signature, outputs, has_scored=plan.has_scored)

    def score(self, reader: Reader, counts: RunMetrics | None = None) -> Iterator[pa.RecordBatch]:
        """The rows of a reader scored, in order, in batches of the plan's output schema.

        Rows are read ahead of what is taken, within bounds, in another thread.

        Args:
            reader: has the columns of the plan's input.
            counts: counts the rows.

        Raises:
            BatchscoreError: the job cannot go on.
        """
        handoff = Handoff(self._plan.output_schema)
        work = self._score(reader, handoff, counts or RunMetrics())
        task = self._loop.start(work, handoff.end)
        try:
            yield from handoff
            task.result()
        finally:
            handoff.close()
            self._loop.cancel(task)
            handoff.wait_for_end()

    async def _score(self, reader: Reader, handoff: Handoff, counts: RunMetrics) -> None:
        # A job looks at the model while it runs; many short ones must not, each for itself.
        if monotonic_s() > self._checked_s + _CHECK_MODEL_EVERY_S:
            await self._target.connection.client.check_model()
            self._checked_s = monotonic_s()
        plan = self._plan
        run = Run(plan.config, NullObserver(), Runtime())
        # Nobody reads how this went on the way.
        run.history.close()
        run.ground, run.metrics, run.fingerprint = self._ground, counts, plan.fingerprint
        opened = plan.opened(reader)
        await score_rows(run, self._target, opened, handoff, kept=plan.kept, limit=None)

    def score_batches(
        self, batches: Iterable[pa.RecordBatch], counts: RunMetrics | None = None
    ) -> Iterator[pa.RecordBatch]:
        """The same as ``score`` for rows that an engine gives, with any columns."""
        return self.score(GivenRows(self._plan.input_schema, batches), counts)

    def take_traffic(self) -> Traffic:
        """What was sent since this was last asked."""
        return self._traffic.take_traffic()

    def close(self) -> None:
        """Close the connection."""
        try:
            self._loop.run(self._stack.aclose())
        finally:
            self._loop.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()
