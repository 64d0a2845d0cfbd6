"""The first process's side: it starts the others, gives them chunks and answers what they ask."""

from __future__ import annotations

import asyncio
import logging
from contextlib import asynccontextmanager
from dataclasses import replace
from typing import TYPE_CHECKING

import pyarrow as pa

from batchscore.batches import ScoredBatch
from batchscore.client.turns import LocalTurns
from batchscore.processes.child import Child
from batchscore.processes.messages import Answered, Pause, Setup
from batchscore.processes.places import Places
from batchscore.scoring.pipeline import watching

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Callable

    from batchscore.batches import Chunk
    from batchscore.client.client import Client
    from batchscore.metrics import RunMetrics
    from batchscore.run import Run
    from batchscore.scoring.connection import Connection
    from batchscore.scoring.features import Features
    from batchscore.scoring.predictor import Predictor

_log = logging.getLogger("batchscore")
_TELL_EVERY_S = 0.25


class _Here:
    """This process, as one of those that score."""

    def __init__(self, client: Client) -> None:
        self._client = client
        self.taken = 0

    @property
    def places(self) -> int:
        # So many requests at once, and something to go on with.
        return self._client.limit + 2


class ProcessPool:
    """Scores chunks in several processes, this one among them.

    ``score`` decides one chunk, any number of them at a time, inside ``running``, which raises
    what another process found, or ``WorkerLostError`` where one is gone. The other processes are
    started as soon as one row was scored: until then it may be that the file is bad throughout,
    or that the classes are to be learned.

    Args:
        setup: what the others have to know of the job; the number, the token and what was learned
            of the signature are put in when they start.
        predictor, client: score in this process.
        turns: gives turns to all processes while the deployment is away.
        metrics: count for all processes.
        on_retry: told of each retry in another process.
    """

    def __init__(
        self,
        *,
        setup: Setup,
        predictor: Predictor,
        client: Client,
        turns: LocalTurns,
        metrics: RunMetrics,
        on_retry: Callable[[str, int, float], None],
    ) -> None:
        self._setup = setup
        self._predictor, self.client, self.turns = predictor, client, turns
        self.metrics, self.on_retry = metrics, on_retry
        self._here = _Here(client)
        self._children = [Child(self, number) for number in range(1, setup.of)]
        self._places: Places[_Here | Child] = Places([*self._children, self._here])
        self._may_start = asyncio.Event()
        self._answered_s = client.answered_s
        client.on_pause = self.pause

    @property
    def size(self) -> int:
        """How many processes there are, this one included."""
        return 1 + len(self._children)

    @property
    def limit(self) -> int:
        """How many requests may be in flight now, in all processes."""
        return self.client.limit + self.metrics.other_limits

    async def score(self, chunk: Chunk) -> ScoredBatch:
        """Decide every row of a chunk, in whichever process has room."""
        place = await self._places.take()
        try:
            if isinstance(place, Child):
                return await self._score_there(place, chunk)
            scored = await self._predictor.score(chunk)
        finally:
            self._places.give_back(place)
        if not self._predictor.decoding.in_order() and self._predictor.refusals.any_scored:
            self._may_start.set()
        return scored

    async def _score_there(self, child: Child, chunk: Chunk) -> ScoredBatch:
        rows = chunk.rows.columns.select(child.columns)
        found, predictions = await child.score(rows, chunk.rows.failures)
        if predictions is None:
            return ScoredBatch(chunk, None, found)
        batch = pa.ipc.read_record_batch(predictions, self._predictor.decoding.schema)
        return ScoredBatch(chunk, tuple(batch.columns), found)

    async def _run(self) -> None:
        """Start the other processes when it is time for them, and stay with them until the end."""
        await self._may_start.wait()
        token = await self.client.token.current()
        setup = replace(self._setup, signature=self._predictor.decoding.signature, token=token)
        async with asyncio.TaskGroup() as group:
            group.create_task(self._tell_of_answers())
            for number, child in enumerate(self._children, start=1):
                group.create_task(child.run(replace(setup, number=number)))

    @asynccontextmanager
    async def running(self) -> AsyncIterator[None]:
        """The other processes, beside the body; an error of theirs ends it, its end ends them."""
        async with watching(self._run()):
            yield
            for child in self._children:
                child.is_done = True

    def refresh(self) -> None:
        """A process may have room for more chunks."""
        self._places.refresh()

    def pause(self, seconds: float, origin: Child | None = None) -> None:
        """A server that asked one process to wait asked them all."""
        if origin is not None:
            self.client.pause(seconds)
        for child in self._children:
            if child is not origin and child.is_ready:
                child.tell(Pause(seconds))

    async def _tell_of_answers(self) -> None:
        """A server that answers one process is there for all of them."""
        while True:
            await asyncio.sleep(_TELL_EVERY_S)
            if self.client.answered_s > self._answered_s:
                self._answered_s = self.client.answered_s
                for child in self._children:
                    if child.is_ready:
                        child.tell(Answered(self._answered_s))


def process_pool(
    run: Run, connection: Connection, predictor: Predictor, features: Features
) -> ProcessPool:
    """The pool for a run.

    Args:
        run: the run.
        connection: of this process; its turns are those of all processes.
        predictor: scores in this process.
        features: what is sent of the rows.
    """
    share = connection.share
    assert isinstance(share.turns, LocalTurns)  # noqa: S101 - the first process gives the turns
    setup = Setup(
        config=run.config.model_copy(update={"token": None}),
        number=share.number,
        of=share.of,
        signature=predictor.decoding.signature,
        fingerprint=connection.client.fingerprint or "",
        token=None,
        features=features,
        log_level=_log.getEffectiveLevel(),
    )
    return ProcessPool(
        setup=setup,
        predictor=predictor,
        client=connection.client,
        turns=share.turns,
        metrics=run.metrics,
        on_retry=run.ground.on_retry,
    )
