"""A gate that lets in so many at a time, in order of arrival; how many may change meanwhile."""

from __future__ import annotations

import asyncio
import math
from collections import deque
from contextlib import suppress
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Callable


class Gate:
    """Bounds how many are inside, and how much they weigh together.

    One is always let into an empty gate, whatever it weighs, so that the work goes on.

    Args:
        places: says how many may be inside now.
        max_weight: the bound of their weights' sum.
    """

    def __init__(self, places: Callable[[], int], max_weight: float = math.inf) -> None:
        self._places = places
        self._max_weight = max_weight
        self._inside = 0
        self._weight = 0.0
        self._waiting: deque[tuple[asyncio.Future[None], float]] = deque()

    async def enter(self, weight: float = 0.0) -> None:
        """Wait for a place; whoever came first goes in first."""
        if not self._waiting and self._fits(weight):
            self._take(weight)
            return
        turn: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        self._waiting.append((turn, weight))
        try:
            await turn
        except asyncio.CancelledError:
            if turn.done() and not turn.cancelled():
                self.leave(weight)
            else:
                with suppress(ValueError):  # it may have been passed over already
                    self._waiting.remove((turn, weight))
                self.refresh()
            raise

    def leave(self, weight: float = 0.0) -> None:
        """Give a place back."""
        self._inside -= 1
        self._weight -= weight
        self.refresh()

    def refresh(self) -> None:
        """Let in who fits now; to be called where there may be more places than before."""
        while self._waiting and (self._waiting[0][0].done() or self._fits(self._waiting[0][1])):
            turn, weight = self._waiting.popleft()
            # A cancelled task learns of it only when it runs next; its turn is over now.
            if not turn.done():
                self._take(weight)
                turn.set_result(None)

    def _fits(self, weight: float) -> bool:
        return self._inside == 0 or (
            self._inside < self._places() and self._weight + weight <= self._max_weight
        )

    def _take(self, weight: float) -> None:
        self._inside += 1
        self._weight += weight
