"""How many requests are in flight, and how fast they follow one another."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING, Protocol

from batchscore.client.transport import monotonic_s

if TYPE_CHECKING:
    from batchscore.units import Rate


class Limiter(Protocol):
    """Says when a request may be sent.

    The client calls ``acquire`` before each try and ``release`` after it, whatever came of it.
    ``acquire`` waits and may be cancelled; the others never block.
    """

    async def acquire(self, rows: int) -> None: ...

    def release(self) -> None: ...

    def pause(self, seconds: float) -> None:
        """Nobody may send for so long: the server asked for it (``Retry-After``)."""
        ...


class FixedLimiter:
    """At most ``limit`` requests in flight, and optionally so many requests or rows a second."""

    def __init__(self, limit: int, rate: Rate | None = None) -> None:
        self._slots = asyncio.Semaphore(limit)
        self._rate = rate
        self._next_send = 0.0
        self._paused_until = 0.0

    async def acquire(self, rows: int) -> None:
        """Wait for a slot, for the end of a pause and for the rate."""
        await self._slots.acquire()
        try:
            await self._wait(rows)
        except BaseException:
            self._slots.release()
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

    def release(self) -> None:
        """Give the slot back."""
        self._slots.release()

    def pause(self, seconds: float) -> None:
        """See ``Limiter.pause``; a longer pause under way stays."""
        self._paused_until = max(self._paused_until, monotonic_s() + seconds)
