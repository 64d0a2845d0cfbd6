"""What is done while the deployment is away: everybody waits, one probe at a time asks."""

from __future__ import annotations

import asyncio
import logging
from contextlib import asynccontextmanager
from typing import TYPE_CHECKING

from batchscore.client.clock import monotonic_s
from batchscore.client.turns import LocalTurns
from batchscore.errors import AttemptError, OutageError

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Awaitable, Callable

    from batchscore.client.turns import Turns

_log = logging.getLogger("batchscore")

_FIRST_WAIT_S = 0.5
_MAX_WAIT_S = 10.0


class Outage:
    """The gate that all requests pass, and the waiting for a deployment that is away.

    Requests that were in flight when the deployment went away are suspects: one of them may have
    taken it down. When it is back they are sent alone, one after another, before anybody else.

    Args:
        max_outage_s: how long a deployment may be away before the job ends.
        place: the deployment's host and port, for messages.
        on_return: called once after each outage, before anybody goes on; may end the job.
        turns: gives the suspects their turns; None: there are no other processes.
    """

    def __init__(
        self,
        max_outage_s: float,
        place: str,
        on_return: Callable[[], Awaitable[None]],
        turns: Turns | None = None,
    ) -> None:
        self._max_outage_s = max_outage_s
        self._place = place
        self._on_return = on_return
        self._open = asyncio.Event()
        self._open.set()
        self._turns = turns or LocalTurns()
        self._turns.join(self)

    @property
    def is_holding(self) -> bool:
        """Whether nobody may send but who is alone."""
        return not self._open.is_set()

    async def passed(self) -> bool:
        """Wait until the deployment is there for everybody; whether that took waiting."""
        if self._open.is_set():
            return False
        await self._open.wait()
        return True

    def hold(self) -> None:
        """See ``Member``."""
        self._open.clear()

    async def held(self) -> None:
        """See ``Member``; there is nothing to wait for."""

    def go_on(self) -> None:
        """See ``Member``."""
        self._open.set()

    @asynccontextmanager
    async def alone(self) -> AsyncIterator[None]:
        """Hold everybody else back; suspects have their turns one after another."""
        self._open.clear()
        async with self._turns.alone():
            yield

    async def ride_out(self, error: AttemptError, probe: Callable[[], Awaitable[bool]]) -> None:
        """Wait until the deployment is back, inside ``alone``.

        The first suspect asks, for those behind it as well.

        Args:
            error: what showed that it is away.
            probe: one try; whether it was answered.

        Raises:
            OutageError: it was away for too long.
        """
        if not self._turns.is_away:
            return
        began = monotonic_s()
        if self._max_outage_s > 0:
            fields = {"host": self._place, "cause": error.code, "max_outage_s": self._max_outage_s}
            extra = {"event": "outage", "fields": fields}
            _log.warning("%s is away (%s); waiting for it", self._place, error, extra=extra)
        await self._probe_until_back(began, error, probe)
        await self._on_return()
        self._turns.is_away = False
        away_s = monotonic_s() - began
        fields = {"host": self._place, "seconds": round(away_s, 3)}
        extra = {"event": "outage_over", "fields": fields}
        _log.warning("%s is back after %.0f s", self._place, away_s, extra=extra)

    def went_away_again(self) -> None:
        """A request that was alone in flight got no answer."""
        self._turns.is_away = True

    async def _probe_until_back(
        self, began: float, error: AttemptError, probe: Callable[[], Awaitable[bool]]
    ) -> None:
        wait_s = _FIRST_WAIT_S
        while True:
            left = began + self._max_outage_s - monotonic_s()
            if left <= 0:
                waited = f" for {self._max_outage_s:g} s" if self._max_outage_s else ""
                raise OutageError(
                    f"{self._place} is away{waited}: {error.code}: {error}"
                    "; a longer --max-outage would wait on"
                )
            await asyncio.sleep(min(wait_s, left))
            if await probe():
                return
            wait_s = min(2 * wait_s, _MAX_WAIT_S)
