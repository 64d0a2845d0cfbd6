"""Whether it was the deployment that was measured, or the client.

What counts is how far the client moved the figures. How late each request was sent is known, and is
taken off it. How late an answer was read is not; but a timer of the event loop is as late as an
answer that comes at the same moment would be read, so that its lags, drawn at random, are added to
the latencies once more: the figures move by about as much as they were moved the first time
(simulation extrapolation, Cook and Stefanski 1994).
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
_SHOWN_S = 0.00005
_DRAWS = 20_000
_LEAST_LAGS = 2
_MOST_FILLED = 1_000


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
        return (
            f"{_ms(self.seconds)} of the p{self.percent} of {_ms(self.told_s)} are its own delay "
            f"({late})"
        )


def own_delays(responses: Column, send_delays: Column, lags: Column) -> tuple[OwnDelay, ...]:
    """What the client's delays did to the percentiles.

    Args:
        responses: of the requests that were answered well, in seconds.
        send_delays: how late each of them was sent; zeros in a closed loop, where nothing is due.
        lags: how late the event loop was whenever it was asked, see ``over_time``.
    """
    if not len(responses):
        return ()
    dice = np.random.default_rng(0)
    drawn = dice.choice(responses, _DRAWS)
    late = drawn + dice.choice(lags, _DRAWS) if len(lags) else drawn
    found = []
    for percent in PERCENTS:
        share = percent / 100
        told, alone = (_quantile(each, share) for each in (responses, responses - send_delays))
        reading = _quantile(late, share) - _quantile(drawn, share)
        found.append(OwnDelay(percent, told, max(0.0, told - alone), max(0.0, reading)))
    return tuple(found)


def over_time(at: Column, lags: Column) -> Column:
    """Lags as they would be if the loop had been asked all the time.

    While it is late it cannot be asked: a second's lag is one figure, as is each of the hundred
    without one. What would have been asked in that second is filled in.

    Args:
        at: when each lag was known.
        lags: they themselves, in seconds.
    """
    if len(lags) < _LEAST_LAGS:
        return lags
    every_s = float(np.median(np.diff(at) - lags[1:]))
    steps = np.arange(1, _MOST_FILLED) * every_s
    filled = lags[lags > every_s][:, None] - steps
    return np.concatenate([lags, filled[filled > 0]])


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
