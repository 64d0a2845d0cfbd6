"""An event loop on virtual time: when nobody has anything to do, it is later at once."""

from __future__ import annotations

import asyncio
import contextlib
from typing import TYPE_CHECKING, Any, ParamSpec, TypeVar

if TYPE_CHECKING:
    import random
    from collections.abc import Callable, Iterator

P = ParamSpec("P")
T = TypeVar("T")


class DeadlockError(Exception):
    """Raised when every task waits for another and none for the time."""


class SimulatedLoop(asyncio.BaseEventLoop):
    """Runs tasks as every loop of asyncio does; its selector does not wait but moves the clock.

    Args:
        now_s: the time at which it begins.
    """

    def __init__(self, now_s: float = 0.0) -> None:
        super().__init__()
        self._now_s = now_s
        self._selector = self

    def time(self) -> float:
        return self._now_s

    def select(self, timeout: float | None) -> list[Any]:
        """In place of a selector's: nothing ever comes from outside."""
        if timeout is None:
            raise DeadlockError("nobody waits for the time, and nothing else can happen")
        self._now_s += timeout
        return []

    def _process_events(self, event_list: list[Any]) -> None:
        """There are none."""

    def _write_to_self(self) -> None:
        """Nothing sleeps that would have to be woken."""


class Inline:
    """Runs blocking work in the loop, as if threads did it: it may wait before and after.

    Args:
        random: decides how long.
        slow_s: the mean of the longer waits.
    """

    def __init__(self, random: random.Random, slow_s: float) -> None:
        self._random = random
        self._slow_s = slow_s

    @contextlib.contextmanager
    def opened(self) -> Iterator[Inline]:
        """Opened for a run, as a pool of threads is."""
        yield self

    async def __call__(self, function: Callable[P, T], /, *args: P.args, **kwargs: P.kwargs) -> T:
        await self._wait()
        result = function(*args, **kwargs)
        await self._wait()
        return result

    async def _wait(self) -> None:
        dice = self._random.random()
        if dice < 0.1:
            await asyncio.sleep(self._random.expovariate(1 / self._slow_s))
        elif dice < 0.3:
            await asyncio.sleep(0)
