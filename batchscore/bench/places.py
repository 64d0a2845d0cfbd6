"""The requests that may be in flight at one time."""

from __future__ import annotations

import asyncio
import time
from collections import deque


class Places:
    """A place for each request in flight; who is ready to send waits for one, in order.

    A client that makes its next request ready only when it has read the answer before adds that
    work to every cycle of a closed loop, and the deployment looks faster than it is. Here a
    request is ready by the time its predecessor is answered, and takes its place at once.

    Args:
        count: how many places; None: as many as there are requests.

    Attributes:
        taken: requests in flight now.
    """

    def __init__(self, count: int | None) -> None:
        self.taken = 0
        self._free = None if count is None else deque([time.monotonic()] * count)
        self._waiting: deque[tuple[asyncio.Future[float], bool]] = deque()
        self._is_closed = False

    async def enter(self, *, has_begun: bool = False) -> float:
        """Take a place; since when it was free.

        Args:
            has_begun: for another try of a request, which is let in to the end.

        Raises:
            asyncio.CancelledError: no request may begin any more.
        """
        free_since = await self._place(has_begun=has_begun)
        self.taken += 1
        return free_since

    async def _place(self, *, has_begun: bool) -> float:
        if self._free is None:
            return time.monotonic()
        if self._is_closed and not has_begun:
            raise asyncio.CancelledError
        if self._free:
            return self._free.popleft()
        future: asyncio.Future[float] = asyncio.get_running_loop().create_future()
        self._waiting.append((future, has_begun))
        try:
            return await future
        except asyncio.CancelledError:
            if future.done() and not future.cancelled():
                self._give(future.result())
            raise

    def leave(self, at: float) -> None:
        """Give a place back, which is free since then."""
        self.taken -= 1
        self._give(at)

    def _give(self, at: float) -> None:
        if self._free is None:
            return
        while self._waiting:
            future, _ = self._waiting.popleft()
            if not future.done():
                future.set_result(at)
                return
        self._free.append(at)

    def close(self) -> None:
        """Let no request begin any more; those that wait to are cancelled."""
        self._is_closed = True
        for future, has_begun in self._waiting:
            if not has_begun:
                future.cancel()
