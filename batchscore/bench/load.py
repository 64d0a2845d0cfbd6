"""The load: requests in a closed or an open loop, and the client watching itself."""

from __future__ import annotations

import asyncio
import time
from contextlib import asynccontextmanager, suppress
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from batchscore.bench.places import Places
from batchscore.bench.samples import NOT_SENT, Sample
from batchscore.bench.schedule import Arrivals, arrivals, wait_until

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Callable

    from batchscore.bench.bodies import Bodies
    from batchscore.bench.sender import Sender

# While one has its request in flight, the other reads the answer before and makes the next ready.
_WORKERS_A_PLACE = 2
_LAG_EVERY_S = 0.01
# The event loop sleeps in whole milliseconds: that much later is no sign of being busy.
_TIMER_S = 0.001
_MAX_IN_FLIGHT = 10_000
_NO_HANDLES = "this computer had no file handles left; raise the limit (ulimit -n)"
_TOO_MANY = f"{_MAX_IN_FLIGHT:,} requests were in flight, which is more than one client can hold"


@dataclass(frozen=True, slots=True)
class Closed:
    """So many requests in flight, each sent when its predecessor is answered."""

    concurrency: int

    def __str__(self) -> str:
        return f"{self.concurrency} in flight"

    def as_dict(self) -> dict[str, object]:
        """As it stands in the report."""
        return {"kind": "closed", "concurrency": self.concurrency}


@dataclass(frozen=True, slots=True)
class Open:
    """So many requests a second, whatever is in flight."""

    rate: float
    arrivals: Arrivals
    seed: int = 1

    def __str__(self) -> str:
        return f"{self.rate:g} req/s"

    def as_dict(self) -> dict[str, object]:
        """As it stands in the report."""
        return {"kind": "open", "rate": self.rate, "arrivals": self.arrivals}


Load = Closed | Open


@dataclass
class Traffic:
    """What a load did so far; written by the event loop alone.

    Attributes:
        places: the requests in flight.
        samples: the requests that are done with.
        lags: (when, seconds) by which the event loop was late.
        gave_up: why no more is sent, where the client cannot; empty where it can.
    """

    places: Places
    samples: list[Sample] = field(default_factory=list)
    lags: list[tuple[float, float]] = field(default_factory=list)
    gave_up: str = ""

    def add(self, sample: Sample) -> None:
        """A request is done with."""
        self.samples.append(sample)
        if sample.error == NOT_SENT:
            self.gave_up = _NO_HANDLES


@asynccontextmanager
async def generated(load: Load, bodies: Bodies, sender: Sender) -> AsyncIterator[Traffic]:
    """Generate a load inside the ``async with``; at its end what is in flight is waited for.

    Raises:
        RefusedError: the deployment will answer no request.
    """
    traffic = Traffic(Places(load.concurrency if isinstance(load, Closed) else None))
    stop = asyncio.Event()
    async with asyncio.TaskGroup() as group:
        watch = group.create_task(_watch_loop(traffic))
        try:
            if isinstance(load, Closed):
                workers = [
                    group.create_task(_work(bodies, sender, traffic, stop))
                    for _ in range(_WORKERS_A_PLACE * load.concurrency)
                ]
            else:
                workers = [group.create_task(_dispatch(load, bodies, sender, traffic, stop))]
            yield traffic
            stop.set()
            traffic.places.close()
            await asyncio.wait(workers)
        finally:
            watch.cancel()


async def _work(bodies: Bodies, sender: Sender, traffic: Traffic, stop: asyncio.Event) -> None:
    while not (stop.is_set() or traffic.gave_up):
        traffic.add(await sender.send(bodies.take(), bodies.rows, traffic.places))


async def _dispatch(
    load: Open, bodies: Bodies, sender: Sender, traffic: Traffic, stop: asyncio.Event
) -> None:
    async def send(intended: float) -> None:
        traffic.add(await sender.send(bodies.take(), bodies.rows, traffic.places, intended))

    async with asyncio.TaskGroup() as group:
        began = time.monotonic()
        for after in arrivals(load.rate, load.arrivals, load.seed):
            await _until(began + after, stop)
            if stop.is_set() or traffic.gave_up:
                return
            if traffic.places.taken >= _MAX_IN_FLIGHT:
                traffic.gave_up = _TOO_MANY
                return
            group.create_task(send(began + after))


async def _until(moment: float, stop: asyncio.Event) -> None:
    """Wait for a moment, or the end; a long wait must not hold up the end."""
    left = moment - time.monotonic()
    if left > 0.1:
        with suppress(TimeoutError):
            await asyncio.wait_for(stop.wait(), left - 0.05)
    if not stop.is_set():
        await wait_until(moment)


async def _watch_loop(traffic: Traffic) -> None:
    """Note how late the event loop is: for a timer, and for what is ready to run."""
    loop = asyncio.get_running_loop()
    while True:
        wanted = loop.time() + _LAG_EVERY_S
        await asyncio.sleep(_LAG_EVERY_S)
        woken = loop.time()
        await asyncio.sleep(0)
        lag = max(woken - wanted - _TIMER_S, loop.time() - woken)
        traffic.lags.append((time.monotonic(), max(lag, 0.0)))


async def measured_stretch(
    traffic: Traffic,
    *,
    warmup_s: float,
    duration_s: float,
    longest_s: float,
    is_enough: Callable[[float, float], bool],
    on_tick: Callable[[float], None],
    tick_s: float = 0.25,
) -> tuple[float, float, float]:
    """Let the load warm up and be measured: from when, until when, and the processor's time.

    Args:
        traffic: the load's.
        warmup_s: time before the measured stretch.
        duration_s: its least length.
        longest_s: its greatest length.
        is_enough: asked, with begin and end, whether the stretch will do.
        on_tick: told for how many seconds the load has run.
        tick_s: how often.
    """
    began = time.monotonic()
    start = began + warmup_s
    while time.monotonic() < start and not traffic.gave_up:
        on_tick(time.monotonic() - began)
        await asyncio.sleep(min(tick_s, max(0.0, start - time.monotonic())))
    start, cpu_s = time.monotonic(), time.process_time()
    until = start + duration_s
    while True:
        while time.monotonic() < until and not traffic.gave_up:
            on_tick(time.monotonic() - began)
            await asyncio.sleep(min(tick_s, max(0.0, until - time.monotonic())))
        end = time.monotonic()
        cpu = time.process_time() - cpu_s
        if traffic.gave_up or end - start >= longest_s or is_enough(start, end):
            return start, end, cpu
        until = min(start + longest_s, end + max(duration_s / 4, tick_s))
