"""Whether it was the deployment that was measured, or the client.

What counts is how far the client moved the figures. How late each request was sent is known, and is
taken off it. How late an answer was read is not; what is known is when the event loop stood still,
asked every ten milliseconds. So as many and as long stops are put once more among the answers, at
random: the figures move by about as much as they were moved the first time (simulation
extrapolation, Cook and Stefanski 1994).
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

if TYPE_CHECKING:
    from collections.abc import Sequence

    from batchscore.bench.samples import Column

PERCENTS = (50, 99)
# A process with one event loop has one core; from here on it waits for itself.
_MAX_CPU = 0.9
# The event loop sleeps in whole milliseconds, so that its lags are no finer.
_LEAST_S = 0.001
_SHORTEST_STOP_S = 0.0005
_SHOWN_S = 0.00005
_LEAST_LAGS = 2
_TIMES = 8


@dataclass(frozen=True, slots=True)
class OwnDelay:
    """The client's part in a percentile of the response times, in seconds.

    Attributes:
        percent: which percentile.
        told_s: what was measured.
        sending_s: of it, because requests were sent late.
        reading_s: of it, because answers were read late.
    """

    percent: int
    told_s: float
    sending_s: float
    reading_s: float

    @property
    def seconds(self) -> float:
        """Both parts."""
        return self.sending_s + self.reading_s

    def __str__(self) -> str:
        parts = (("sent", self.sending_s), ("read", self.reading_s))
        late = " and ".join(f"{how} {_ms(part)} late" for how, part in parts if part >= _SHOWN_S)
        part, told = _ms(self.seconds), _ms(self.told_s)
        return f"{part} of the p{self.percent} of {told} are the client's own delay ({late})"


def own_delays(
    responses: Column, send_delays: Column, answered: Column, stops: Column, closed: int | None
) -> tuple[OwnDelay, ...]:
    """What the client's delays did to the percentiles.

    Args:
        responses: of the requests that were answered well, in seconds.
        send_delays: how late each of them was sent; zeros in a closed loop, where nothing is due.
        answered: when the answer of each was there, in seconds.
        stops: how long the event loop stood still, each time, see ``stops_of``.
        closed: how many requests were in flight in a closed loop: as no more is sent before they
            are read, no more of them wait for the end of one stop. None of an open loop.
    """
    if not len(responses):
        return ()
    late = [_read_late(answered, stops, closed, seed) for seed in range(_TIMES)]
    found = []
    for percent in PERCENTS:
        share = percent / 100
        told, alone = (_quantile(each, share) for each in (responses, responses - send_delays))
        moved = float(np.mean([_quantile(responses + each, share) - told for each in late]))
        found.append(OwnDelay(percent, told, max(0.0, told - alone), min(moved, told)))
    return tuple(found)


def _read_late(answered: Column, stops: Column, closed: int | None, seed: int) -> Column:
    """How late each answer would be read if the loop stood still as often at other times."""
    order = np.argsort(answered)
    times = answered[order]
    late = np.zeros(len(times))
    begins = np.random.default_rng(seed).uniform(times[0], times[-1], len(stops))
    firsts = np.searchsorted(times, begins)
    lasts = np.searchsorted(times, begins + stops)
    if closed is not None:
        lasts = np.minimum(lasts, firsts + closed)
    for first, last, end in zip(firsts, lasts, begins + stops, strict=True):
        late[first:last] = np.maximum(late[first:last], end - times[first:last])
    found = np.empty(len(times))
    found[order] = late
    return found


def stops_of(at: Column, lags: Column) -> Column:
    """How long the loop stood still, each time, from how late it was when it was asked.

    Asked at a moment that knows nothing of the stop, half of it is still to come; one that is
    shorter than the time between two questions is met only now and then, and stands for the others.

    Args:
        at: when each lag was known.
        lags: they themselves, in seconds.
    """
    if len(lags) < _LEAST_LAGS:
        return np.zeros(0)
    every_s = float(np.median(np.diff(at) - lags[1:]))
    seen = lags[lags >= _SHORTEST_STOP_S]
    stops = np.minimum(2 * seen, seen + every_s / 2)
    return np.repeat(stops, np.maximum(1, np.rint(every_s / stops)).astype(np.int64))


def why_invalid(
    delays: Sequence[OwnDelay], max_share: float, *, closed_cpu: float, gave_up: str = ""
) -> tuple[str, ...]:
    """Why a measurement tells of the client, not the deployment; empty where it does not.

    Args:
        delays: the client's part in each figure.
        max_share: how large it may be, as a share of the figure.
        closed_cpu: the processor's time of a closed loop, as a share of one core; 0 of an open one,
            which waits awake.
        gave_up: why the client sent no more before the end.
    """
    reasons = [
        str(delay) for delay in delays if delay.seconds > max(max_share * delay.told_s, _LEAST_S)
    ][:1]
    if closed_cpu > _MAX_CPU:
        reasons.append(f"the client used {closed_cpu:.0%} of a core, and has one")
    if gave_up:
        reasons.append(gave_up)
    return tuple(reasons)


def _quantile(values: Column, share: float) -> float:
    return float(np.quantile(values, share, method="inverted_cdf"))


def _ms(seconds: float) -> str:
    return f"{seconds * 1000:.1f} ms"
