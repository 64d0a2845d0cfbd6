"""Measuring one load."""

from __future__ import annotations

import gc
from bisect import bisect_left
from contextlib import contextmanager
from operator import attrgetter
from typing import TYPE_CHECKING, Protocol

from batchscore.bench.cells import Cell, Measured
from batchscore.bench.figures import drift, windows
from batchscore.bench.load import Load, generated, measured_stretch
from batchscore.bench.samples import Samples

if TYPE_CHECKING:
    from collections.abc import Iterator

    from batchscore.bench.bodies import Bodies
    from batchscore.bench.load import Traffic
    from batchscore.bench.options import BenchConfig
    from batchscore.bench.sender import Sender

_GLANCE = 5_000
_ended = attrgetter("ended")


class Display(Protocol):
    """Shows a bench while it runs; called from the event loop, so nothing may block for long.

    ``on_load`` comes before each load, ``on_tick`` meanwhile, ``on_cell`` after.
    """

    def on_load(self, number: int, of: int, text: str, expected_s: float) -> None: ...

    def on_tick(self, seconds: float, done: int, failed: int, in_flight: int) -> None: ...

    def on_cell(self, cell: Cell) -> None: ...


async def measured_cell(
    config: BenchConfig,
    load: Load,
    bodies: Bodies,
    sender: Sender,
    display: Display,
    *,
    rows_reused: bool = False,
) -> Cell:
    """Measure one load."""
    with _collector_held_back():
        async with generated(load, bodies, sender) as traffic:

            def tick(seconds: float) -> None:
                failed = sum(bool(sample.error) for sample in traffic.samples[-1000:])
                display.on_tick(seconds, len(traffic.samples), failed, traffic.places.taken)

            start, end, cpu_s = await measured_stretch(
                traffic,
                warmup_s=config.warmup,
                duration_s=config.duration,
                longest_s=config.longest_s,
                is_enough=lambda start, end: _is_enough(config, traffic, start, end),
                on_tick=tick,
            )
    measured = Measured(
        load=load,
        batch_size=bodies.rows,
        samples=Samples(traffic.samples),
        lags=traffic.lags,
        start=start,
        end=end,
        warmup_s=config.warmup,
        cpu_s=cpu_s,
        unique_requests=len(bodies.items),
        rows_reused=rows_reused,
        gave_up=traffic.gave_up,
    )
    return Cell(measured, max_client_share=config.max_client_share, max_drift=config.max_drift)


def _is_enough(config: BenchConfig, traffic: Traffic, start: float, end: float) -> bool:
    # They stand in the order of their ends.
    first, last = (bisect_left(traffic.samples, at, key=_ended) for at in (start, end))
    if last - first < config.min_requests:
        return False
    # Asked amid the load, so that a glance has to do.
    few = traffic.samples[first : last : max(1, (last - first) // _GLANCE)]
    return drift(windows(Samples(few), start, end)) <= config.max_drift


@contextmanager
def _collector_held_back() -> Iterator[None]:
    """Keep the collector from stopping the client while it measures.

    What is young is still looked through, which takes microseconds; what is old never.
    """
    gc.collect()
    gc.freeze()
    before = gc.get_threshold()
    gc.set_threshold(before[0], before[1], 10**9)
    try:
        yield
    finally:
        gc.set_threshold(*before)
