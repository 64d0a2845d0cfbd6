"""When the requests of an open loop are to be sent, and waiting until exactly then."""

from __future__ import annotations

import asyncio
import itertools
import random
import time
from typing import TYPE_CHECKING, Literal

if TYPE_CHECKING:
    from collections.abc import Iterator

Arrivals = Literal["poisson", "constant"]
# The event loop sleeps in whole milliseconds and wakes up late; the rest is waited for awake.
_AWAKE_S = 0.0012


def arrivals(rate: float, kind: Arrivals, seed: int) -> Iterator[float]:
    """The times of an open loop, in seconds from its beginning; they never end.

    Args:
        rate: requests a second.
        kind: equal gaps, or independent exponential ones, which is how users come.
        seed: of the exponential gaps; the same one gives the same times.
    """
    if kind == "constant":
        # Multiplied, not added up: the millionth is as exact as the first.
        yield from (number / rate for number in itertools.count())
    dice = random.Random(seed)  # noqa: S311 - nobody is to be kept from guessing it
    at = 0.0
    while True:
        at += dice.expovariate(rate)
        yield at


async def wait_until(moment: float) -> None:
    """Wait until a time of ``time.monotonic``; answers are read meanwhile.

    The last millisecond goes round the event loop without sleeping, as sleep is not that exact.
    """
    left = moment - time.monotonic()
    if left > _AWAKE_S:
        await asyncio.sleep(left - _AWAKE_S)
    while time.monotonic() < moment:  # noqa: ASYNC110 - an event would come when the loop wakes
        await asyncio.sleep(0)
