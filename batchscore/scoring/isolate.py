"""Finding the bad rows of a refused batch: it is halved until they stand alone.

k bad rows among n cost about ``2 k log2(n / k) + 2 k`` requests; the other rows are scored on the
way. Both halves go out at once, inside the limits on requests in flight, as soon as any row of the
job has been scored.
"""

from __future__ import annotations

import asyncio
from contextlib import asynccontextmanager
from dataclasses import dataclass
from typing import TYPE_CHECKING, Generic, Protocol, TypeVar

from batchscore.batches import RowFailure
from batchscore.errors import DeploymentAwayError, RowsRefusedError, StoppedError

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Callable, Coroutine, Sequence
    from contextlib import AbstractAsyncContextManager

    from batchscore.errors import AttemptError

P = TypeVar("P")

_HOPELESS_ROWS = 20


@dataclass(frozen=True, slots=True)
class Decided(Generic[P]):
    """Rows ``start`` to ``stop`` (not included) with their predictions, or the reason why not."""

    start: int
    stop: int
    result: P | RowFailure


class Sender(Protocol[P]):
    """What isolation needs of the rows it is to decide.

    ``send`` raises ``RowsRefusedError`` or ``DeploymentAwayError`` for rows it gets no predictions
    for. ``alone`` holds all other rows of the job back; inside it ``ride_out`` waits until the
    deployment is back, asking with one row or, for None, without any. ``run_all`` runs several of
    its own kind at once, or one after another. ``in_order`` says whether rows must still go out in
    their order, one request at a time.
    """

    def in_order(self) -> bool: ...

    async def send(self, start: int, stop: int, *, alone: bool) -> P: ...

    def alone(self) -> AbstractAsyncContextManager[None]: ...

    async def ride_out(self, away: DeploymentAwayError, row: int | None) -> None: ...

    async def run_all(
        self,
        decide: Callable[[tuple[int, int]], Coroutine[None, None, list[Decided[P]]]],
        runs: Sequence[tuple[int, int]],
    ) -> list[list[Decided[P]]]: ...


class Refusals:
    """Tells a bad file from bad rows: whether the server has ever taken a row.

    Until it has, refused batches are taken apart one after another and half by half: side by side,
    the whole window would be cut to pieces before the first rows stand alone.
    """

    def __init__(self) -> None:
        self.any_scored = False
        self._alone = 0
        self._is_taken = False
        self._freed = asyncio.Event()

    def scored(self) -> None:
        """A row was scored, so the file is not bad throughout."""
        self.any_scored = True
        self._freed.set()

    @asynccontextmanager
    async def turn(self) -> AsyncIterator[None]:
        """Wait until no other refused batch is being taken apart, or a row was scored."""
        while self._is_taken and not self.any_scored:
            self._freed.clear()
            await self._freed.wait()
        is_mine = not self._is_taken
        self._is_taken = True
        yield
        # An error ends the job: then nobody else shall begin.
        if is_mine:
            self._is_taken = False
            self._freed.set()

    def failed_alone(self, failure: RowFailure) -> None:
        """A row failed by itself.

        Raises:
            StoppedError: none was ever scored, and so many have failed.
        """
        self._alone += 1
        if not self.any_scored and self._alone >= _HOPELESS_ROWS:
            raise StoppedError(
                f"the deployment refused {self._alone} rows one by one and scored none; it says: "
                f"{failure.code}: {failure.text}"
            )


async def decide(
    sender: Sender[P],
    start: int,
    stop: int,
    refusals: Refusals,
    *,
    alone: bool = False,
    in_turn: bool = False,
) -> list[Decided[P]]:
    """Decide every row from ``start`` to ``stop``, in order.

    Rows that were in flight when the deployment went away are sent again alone when it is back.
    If it goes away once more, they are the cause (a row can crash a server), and are halved like
    a refused batch, each half alone. A single row for which the server was silent while others
    were answered gets that second chance too: it may be a bystander.

    Args:
        sender: sends runs of these rows.
        start: the first row.
        stop: the row after the last.
        refusals: counts rows that fail alone; shared by the whole job.
        alone: the rows are suspects: nobody else sends.
        in_turn: the rows are part of a batch that has its turn, see ``Refusals``.

    Raises:
        StoppedError: the file is bad throughout.
    """
    outcome = await _sent(sender, start, stop, refusals, alone=alone)
    if isinstance(outcome, list):
        return outcome
    return await _refused(sender, start, stop, refusals, outcome, alone=alone, in_turn=in_turn)


async def _sent(
    sender: Sender[P], start: int, stop: int, refusals: Refusals, *, alone: bool
) -> list[Decided[P]] | AttemptError:
    """The rows decided, where they were scored or had a second chance; else why they were not."""
    try:
        predictions = await sender.send(start, stop, alone=alone)
    except DeploymentAwayError as away:
        if alone:
            await sender.ride_out(away, None)
            return away.last
        async with sender.alone():
            await sender.ride_out(away, start)
            return await decide(sender, start, stop, refusals, alone=True)
    except RowsRefusedError as refused:
        if stop - start > 1 or alone or refused.is_certain:
            return refused.last
        async with sender.alone():
            await sender.ride_out(DeploymentAwayError(refused.last), None)
            return await decide(sender, start, stop, refusals, alone=True)
    refusals.scored()
    return [Decided(start, stop, predictions)]


async def _refused(
    sender: Sender[P],
    start: int,
    stop: int,
    refusals: Refusals,
    error: AttemptError,
    *,
    alone: bool,
    in_turn: bool,
) -> list[Decided[P]]:
    """Fail a row that stands alone, take others apart."""
    if stop - start == 1:
        failure = RowFailure(error.code, str(error))
        refusals.failed_alone(failure)
        return [Decided(start, stop, failure)]
    if alone or in_turn or refusals.any_scored:
        return await _decide_halves(sender, start, stop, refusals, alone=alone)
    async with refusals.turn():
        return await _decide_halves(sender, start, stop, refusals, alone=False)


async def _decide_halves(
    sender: Sender[P], start: int, stop: int, refusals: Refusals, *, alone: bool
) -> list[Decided[P]]:
    async def half(run: tuple[int, int]) -> list[Decided[P]]:
        return await decide(sender, *run, refusals, alone=alone, in_turn=True)

    middle = (start + stop) // 2
    runs = [(start, middle), (middle, stop)]
    if alone or sender.in_order():
        halves = [await half(run) for run in runs]
    elif refusals.any_scored:
        halves = await sender.run_all(half, runs)
    else:
        # The file may be bad throughout. Going straight for single rows shows that in some dozens
        # of requests, taking both halves apart at once in thousands. But both are asked for first:
        # the bad rows may all stand at the beginning.
        sent = [await _sent(sender, *run, refusals, alone=False) for run in runs]
        halves = [
            outcome
            if isinstance(outcome, list)
            else await _refused(sender, *run, refusals, outcome, alone=False, in_turn=True)
            for run, outcome in zip(runs, sent, strict=True)
        ]
    return [decided for part in halves for decided in part]
