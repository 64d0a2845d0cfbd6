"""Whether objectives are kept for sure: each with a confidence interval.

Requests wait for one another, so that those that are too slow come in bunches: a run of ten seconds
often has none at a rate that is too high. Taken for independent, they would promise too much. They
count here as fewer, by how much more their number varies from window to window than that of
independent ones would (the design effect), seen where there is more of them: among the slowest
tenth.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from enum import StrEnum
from statistics import NormalDist
from typing import TYPE_CHECKING

import numpy as np

if TYPE_CHECKING:
    from collections.abc import Sequence

    from batchscore.bench.cells import Cell
    from batchscore.bench.samples import Column
    from batchscore.bench.slo import Slo

CONFIDENCE = 0.95
MOST_LOOKS = 3
"""So often a rate is measured at most; its error is divided among the looks (Bonferroni)."""
_ERROR = (1 - CONFIDENCE) / MOST_LOOKS
_TAIL = 0.1
_WINDOWS = 10


class Verdict(StrEnum):
    """What is known of a rate."""

    KEPT = "kept"
    MISSED = "missed"
    UNSURE = "unsure"
    CLIENT = "client"
    """The client was the bottleneck: nothing is known of the deployment."""


@dataclass(frozen=True, slots=True)
class Judgement:
    """One objective at one rate.

    Attributes:
        text: the objective.
        value: what is bounded; of a percentile it is the share of requests beyond the bound.
        low, high: within which the true value lies.
        bound: what it must not pass.
        is_least: the bound is the least, not the most.
    """

    text: str
    value: float
    low: float
    high: float
    bound: float
    is_least: bool = False

    @property
    def seems_kept(self) -> bool:
        """Whether the figure itself keeps it."""
        return self.value >= self.bound if self.is_least else self.value <= self.bound

    @property
    def verdict(self) -> Verdict:
        """Whether it is kept or missed for sure."""
        best, worst = (self.high, self.low) if self.is_least else (self.low, self.high)
        sign = -1 if self.is_least else 1
        if sign * worst <= sign * self.bound:
            return Verdict.KEPT
        return Verdict.MISSED if sign * best > sign * self.bound else Verdict.UNSURE


def judged(slo: Slo, cells: Sequence[Cell]) -> Judgement:
    """What one or several measurements of a rate together say of an objective."""
    match slo.metric:
        case "percentile":
            allowed = 1 - slo.percent / 100
            low, value, high = _share_beyond(slo.bound, allowed, cells)
            if slo.percent == 100:  # Nothing is known of requests that were not sent.
                low = high = value
            return Judgement(slo.text, value, low, high, allowed)
        case "max":
            low, value, high = _share_beyond(slo.bound, 0.0, cells)
            return Judgement(slo.text, value, value, value, 0.0)
        case "errors":
            failed = [np.isinf(cell.responses) for cell in cells]
            low, value, high = _share(failed, failed, cells)
            return Judgement(slo.text, value, low, high, slo.bound)
        case "mean":
            low, value, high = _mean(cells)
            return Judgement(slo.text, value, low, high, slo.bound)
        case "throughput":
            low, value, high = _throughput(slo.unit, cells)
            return Judgement(slo.text, value, low, high, slo.bound, is_least=True)


def least_requests(slo: Slo) -> float:
    """How many requests it takes at least to know that an objective is kept, if all are good."""
    allowed = {"percentile": 1 - slo.percent / 100, "errors": slo.bound}.get(slo.metric, 1.0)
    t = _student(MOST_LOOKS * _WINDOWS - 1)
    return t * t * (1 - allowed) / allowed if allowed else 1.0


def _share_beyond(
    bound_s: float, allowed: float, cells: Sequence[Cell]
) -> tuple[float, float, float]:
    """The share of requests that took longer, with its interval."""
    responses = np.concatenate([cell.responses for cell in cells])
    if not len(responses):
        return 0.0, 1.0, 1.0
    tail = max(_TAIL, min(2 * allowed, 0.5))
    often = min(bound_s, float(np.quantile(responses, 1 - tail, method="inverted_cdf")))
    slow = [cell.responses > bound_s for cell in cells]
    return _share(slow, [cell.responses > often for cell in cells], cells)


def _share(
    which: Sequence[np.ndarray], bunched: Sequence[np.ndarray], cells: Sequence[Cell]
) -> tuple[float, float, float]:
    """A share of requests: low, value, high.

    Args:
        which: of each cell's requests, whether it is one of them.
        bunched: the same of requests that come in the same bunches, but are more.
        cells: the measurements.
    """
    all_ = _by_window([np.ones(len(each)) for each in which], cells)
    count, total = _by_window(which, cells), all_.sum()
    if not total:
        return 0.0, 1.0, 1.0
    value, error = _ratio(count, all_)
    t = _student(len(all_) - 1)
    n = total / _design_effect(_by_window(bunched, cells), all_)
    # Wilson's interval, which knows that none seen is not none.
    middle = (value + t * t / (2 * n)) / (1 + t * t / n)
    half = t / (1 + t * t / n) * math.sqrt(value * (1 - value) / n + t * t / (4 * n * n))
    low, high = min(value - t * error, middle - half), max(value + t * error, middle + half)
    return max(0.0, low), value, min(1.0, high)


def _mean(cells: Sequence[Cell]) -> tuple[float, float, float]:
    responses = [cell.responses for cell in cells]
    if not all(len(each) and np.isfinite(each).all() for each in responses):
        return math.inf, math.inf, math.inf
    all_ = _by_window([np.ones(len(each)) for each in responses], cells)
    value, error = _ratio(_by_window(responses, cells), all_)
    half = _student(len(all_) - 1) * error
    return value - half, value, value + half


def _throughput(unit: str, cells: Sequence[Cell]) -> tuple[float, float, float]:
    rates = np.array(
        [
            window.rows_per_s if unit == "rows" else window.good_requests_per_s
            for cell in cells
            for window in cell.windows
        ]
    )
    half = _student(len(rates) - 1) * float(rates.std(ddof=1)) / math.sqrt(len(rates))
    return float(rates.mean()) - half, float(rates.mean()), float(rates.mean()) + half


def _by_window(values: Sequence[np.ndarray], cells: Sequence[Cell]) -> Column:
    """Sums over the windows of the measurements in which requests were meant to be sent."""
    sums = []
    for each, cell in zip(values, cells, strict=True):
        after = cell.samples.column("intended") - cell.measured.start
        place = np.minimum((after / cell.seconds * _WINDOWS).astype(np.int64), _WINDOWS - 1)
        sums.append(np.bincount(place, weights=each, minlength=_WINDOWS))
    return np.concatenate(sums)


def _ratio(of: Column, to: Column) -> tuple[float, float]:
    """A ratio of sums over windows, and its standard error; neighbours may be alike."""
    windows, total = len(of), float(to.sum())
    ratio = float(of.sum()) / total
    rest = (of - ratio * to).reshape(-1, _WINDOWS)
    alike = max(0.0, 2 * float((rest[:, :-1] * rest[:, 1:]).sum()))
    variance = windows / (windows - 1) * float((rest * rest).sum()) + alike
    return ratio, math.sqrt(variance) / total


def _design_effect(of: Column, to: Column) -> float:
    """How many times more a share varies than that of independent requests; at least 1."""
    share, error = _ratio(of, to)
    alone = share * (1 - share) / float(to.sum())
    return max(1.0, error * error / alone) if alone else 1.0


def _student(freedom: int) -> float:
    """The quantile of Student's t for an interval (Abramowitz and Stegun 26.7.5)."""
    z = NormalDist().inv_cdf(1 - _ERROR / 2)
    more = (z**3 + z) / (4 * freedom) + (5 * z**5 + 16 * z**3 + 3 * z) / (96 * freedom**2)
    return z + more
