"""Figures of latencies: HDR histograms, percentiles, windows, stability."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
from hdrh.histogram import HdrHistogram

if TYPE_CHECKING:
    from batchscore.bench.samples import Column, Samples

PERCENTS = (50, 75, 90, 95, 99, 99.9)
_POINTS = (
    0, 10, 20, 30, 40, 50, 55, 60, 65, 70, 75, 80, 85, 90, 92.5, 95, 97, 98, 99, 99.5, 99.9, 99.99,
)  # fmt: skip
_SMALLEST_NS, _LARGEST_NS, _DIGITS = 1, 24 * 3600 * 10**9, 3
WINDOWS = 20


def rank(count: int, percent: float) -> int:
    """Which of so many sorted values is a percentile: the first that so many percent stay within.

    It is always one of the values, and never a lower one than asked for.
    """
    return max(1, math.ceil(round(count * percent / 100, 6)))


class Latencies:
    """Latencies in an HDR histogram: from 2 us to a day with three digits, below to 1 ns."""

    def __init__(self, seconds: Column) -> None:
        self._histogram = HdrHistogram(_SMALLEST_NS, _LARGEST_NS, _DIGITS)
        whole = np.clip(np.rint(seconds * 1e9), _SMALLEST_NS, _LARGEST_NS).astype(np.int64)
        values, counts = np.unique(whole, return_counts=True)
        for value, count in zip(values.tolist(), counts.tolist(), strict=True):
            self._histogram.record_value(value, count)
        self.count = len(seconds)
        self.mean = float(seconds.mean()) if self.count else math.nan
        self.min = float(seconds.min()) if self.count else math.nan
        self.max = float(seconds.max()) if self.count else math.nan

    def percentiles(self, percents: tuple[float, ...]) -> dict[float, float]:
        """The latency in seconds that so many percent stayed within; NaN where there is none."""
        if not self.count:
            return dict.fromkeys(percents, math.nan)
        # The histogram rounds ranks to the nearest, so it is asked for the one that is meant.
        asked = {each: 100 * rank(self.count, each) / self.count for each in percents}
        found = self._histogram.get_percentile_to_value_dict(sorted(asked.values()))
        return {each: min(found[asked[each]] / 1e9, self.max) for each in percents}

    def summary(self) -> dict[str, float | int | None]:
        """The figures of a report, in seconds."""
        found = self.percentiles(PERCENTS)
        return {
            "count": self.count,
            "mean": known(self.mean),
            "min": known(self.min),
            **{f"p{percent:g}": known(found[percent]) for percent in PERCENTS},
            "max": known(self.max),
        }


def supported_percents(count: int) -> tuple[float, ...]:
    """The percentiles beyond which at least one of so many lies."""
    return tuple(percent for percent in _POINTS if round(count * (100 - percent), 6) >= 100)


def known(value: float) -> float | None:
    """A figure as JSON has it: null where there is none."""
    return float(value) if math.isfinite(value) else None


@dataclass(frozen=True, slots=True)
class WindowFigures:
    """One stretch of a measurement; counts are of requests that ended in it, times in seconds."""

    at_s: float
    seconds: float
    requests: int
    rows: int
    errors: int
    p50: float
    p99: float
    max: float
    in_flight: int

    @property
    def rows_per_s(self) -> float:
        """Good rows a second."""
        return self.rows / self.seconds

    @property
    def good_requests_per_s(self) -> float:
        """Good requests a second."""
        return (self.requests - self.errors) / self.seconds

    def as_dict(self) -> dict[str, object]:
        """As it stands in the report."""
        return {
            "at_s": self.at_s,
            "requests": self.requests,
            "rows": self.rows,
            "errors": self.errors,
            "p50": known(self.p50),
            "p99": known(self.p99),
            "max": known(self.max),
            "in_flight": self.in_flight,
        }


def windows(
    samples: Samples, start: float, end: float, count: int = WINDOWS
) -> list[WindowFigures]:
    """A measurement cut into equal windows."""
    edges = np.linspace(start, end, count + 1)
    ended, begun = samples.column("ended"), samples.column("intended")
    latency = samples.column("last_byte") - begun
    rows = samples.column("rows")
    found = []
    for left, right in zip(edges[:-1].tolist(), edges[1:].tolist(), strict=True):
        inside = (ended >= left) & (ended < right)
        good = inside & samples.ok
        values = latency[good]
        ordered = np.sort(values).tolist()
        p50, p99 = (ordered[rank(len(ordered), p) - 1] if ordered else math.nan for p in (50, 99))
        found.append(
            WindowFigures(
                at_s=left - start,
                seconds=right - left,
                requests=int(inside.sum()),
                rows=int(rows[good].sum()),
                errors=int((inside & ~samples.ok).sum()),
                p50=p50,
                p99=p99,
                max=ordered[-1] if ordered else math.nan,
                in_flight=int(((begun < right) & (ended >= right)).sum()),
            )
        )
    return found


def drift(parts: list[WindowFigures]) -> float:
    """How far the later half of the windows is from the earlier one, as a share of it.

    The greater of that of the throughput and that of the median latency. Infinite where a half
    has no good answer.
    """
    half = len(parts) // 2
    sides = (parts[:half], parts[-half:])
    medians = [_median([part.p50 for part in side]) for side in sides]
    rates = [float(np.mean([part.rows_per_s for part in side])) for side in sides]
    changes = []
    for before, after in (medians, rates):
        if not (before > 0 and math.isfinite(before) and math.isfinite(after)):
            return math.inf
        changes.append(abs(after - before) / before)
    return max(changes)


def _median(values: list[float]) -> float:
    there = [value for value in values if math.isfinite(value)]
    return float(np.median(there)) if there else math.nan
