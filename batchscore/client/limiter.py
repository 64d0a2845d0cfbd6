"""How many requests are in flight, and how fast they follow one another."""

from __future__ import annotations

import asyncio
import time
from typing import TYPE_CHECKING, Protocol

from batchscore.client.clock import monotonic_s
from batchscore.client.controller import AdaptiveLimit
from batchscore.client.gate import Gate

if TYPE_CHECKING:
    from collections.abc import Callable

    from batchscore.client.controller import Outcome
    from batchscore.client.sharing import SharedLimit
    from batchscore.units import Rate


class Limiter(Protocol):
    """Says when a request may be sent.

    The client calls ``acquire`` before each try and ``release`` after it, whatever came of it,
    with the ticket that ``acquire`` gave. ``acquire`` waits and may be cancelled; the others
    never block.

    Attributes:
        limit: how many requests may be in flight now.
    """

    @property
    def limit(self) -> int: ...

    async def acquire(self, rows: int) -> int: ...

    def release(self, outcome: Outcome) -> None: ...

    def pause(self, seconds: float) -> None:
        """Nobody may send for so long: the server asked for it (``Retry-After``)."""
        ...


class _PacedLimiter:
    """A gate for requests, and the times at which they may go."""

    def __init__(self, places: Callable[[], int], rate: Rate | None) -> None:
        self._gate = Gate(places)
        self._rate = rate
        self._next_send = 0.0
        self._paused_until = 0.0

    async def _enter(self, rows: int) -> None:
        """Wait for a slot, for the end of a pause and for the rate."""
        await self._gate.enter()
        try:
            await self._wait(rows)
        except BaseException:
            self._gate.leave()
            raise

    async def _wait(self, rows: int) -> None:
        if self._rate is not None:
            # Each request books its time at once, so the order of waking does not matter.
            cost = rows if self._rate.unit == "rows" else 1
            send_at = max(self._next_send, monotonic_s())
            self._next_send = send_at + cost / self._rate.per_second
            await asyncio.sleep(send_at - monotonic_s())
        # A pause may be made longer while we sleep through it.
        while (left := self._paused_until - monotonic_s()) > 0:  # noqa: ASYNC110
            await asyncio.sleep(left)

    def pause(self, seconds: float) -> None:
        """See ``Limiter.pause``; a longer pause under way stays."""
        self._paused_until = max(self._paused_until, monotonic_s() + seconds)


class FixedLimiter(_PacedLimiter):
    """At most ``limit`` requests in flight, and optionally so many requests or rows a second."""

    def __init__(self, limit: int, rate: Rate | None = None) -> None:
        super().__init__(lambda: limit, rate)
        self._limit = limit
        self._sent = 0

    @property
    def limit(self) -> int:
        """How many requests may be in flight."""
        return self._limit

    async def acquire(self, rows: int) -> int:
        """See ``Limiter``."""
        await self._enter(rows)
        self._sent += 1
        return self._sent

    def release(self, _outcome: Outcome) -> None:
        """Give the slot back."""
        self._gate.leave()


class AdaptiveLimiter(_PacedLimiter):
    """As many requests in flight as pay; see ``AdaptiveLimit``."""

    def __init__(
        self, rate: Rate | None = None, *, controller: AdaptiveLimit | None = None
    ) -> None:
        self._controller = controller or AdaptiveLimit()
        super().__init__(lambda: self._controller.limit, rate)

    @property
    def limit(self) -> int:
        """How many requests may be in flight now."""
        return self._controller.settled_limit

    async def acquire(self, rows: int) -> int:
        """See ``Limiter``."""
        await self._enter(rows)
        # Who waits for the rate or the end of a pause is not in flight, and its wait no latency.
        ticket = self._controller.on_start()
        # The last request of a measurement at a lower limit ends it.
        self._gate.refresh()
        return ticket

    def release(self, outcome: Outcome) -> None:
        """Give the slot back, and learn from what became of the request."""
        self._controller.on_outcome(outcome)
        self._gate.leave()


class SharedLimiter(AdaptiveLimiter):
    """As many requests in flight as are this worker's share; see ``SharedLimit``.

    Args:
        shared: the limit.
        rate: the worker's part of the rate.
        clock: the seconds since the epoch, about the same on all machines.
    """

    def __init__(
        self,
        shared: SharedLimit,
        rate: Rate | None = None,
        *,
        clock: Callable[[], float] = time.time,
    ) -> None:
        super().__init__(rate, controller=shared)
        self._shared = shared
        self._clock = clock
        self._alarm: asyncio.TimerHandle | None = None

    async def acquire(self, rows: int) -> int:
        """See ``Limiter``."""
        await self._enter(rows)
        self._tell_time()
        ticket = self._shared.on_start()
        self._gate.refresh()
        return ticket

    def release(self, outcome: Outcome) -> None:
        """Give the slot back, and learn from what became of the request."""
        self._shared.on_time(self._clock())
        self._shared.on_outcome(outcome)
        self._rest()
        self._gate.leave()

    def _tell_time(self) -> None:
        self._shared.on_time(self._clock())
        self._rest()

    def _rest(self) -> None:
        if self._shared.rest_s:
            self.pause(self._shared.rest_s)
        resting_s = self._shared.resting_s
        if resting_s is not None and self._alarm is None:
            self._alarm = asyncio.get_running_loop().call_later(resting_s, self._rested)

    def _rested(self) -> None:
        """A place has rested: whoever waits for one may have it."""
        self._alarm = None
        self._tell_time()
        self._gate.refresh()
