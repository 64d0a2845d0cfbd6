"""The highest throughput that keeps the objectives: bisection over the rate of an open loop."""

from __future__ import annotations

import math
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

import numpy as np

from batchscore.bench.compare import CONFIDENCE, resampled_means

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable, Sequence

    from batchscore.bench.cells import Cell
    from batchscore.bench.slo import Slo

_NEAR = 1.05
_MOST_STEPS = 24
# Of what was asked for: a server that gives less is behind, whatever the latency still is.
_LEAST_THROUGHPUT = 0.95


@dataclass(frozen=True, slots=True)
class Step:
    """One rate that was tried.

    Attributes:
        rate: requests a second.
        cell: what came of it.
        is_met: all objectives were kept, and the throughput was the rate.
    """

    rate: float
    cell: Cell
    is_met: bool

    def as_dict(self) -> dict[str, object]:
        """As it stands in the report."""
        return {
            "rate": self.rate,
            "rows_per_s": self.cell.goodput_rows_per_s,
            "response_s": self.cell.response.summary(),
            "failed_requests": self.cell.failed_requests,
            "is_met": self.is_met,
            "why_invalid": list(self.cell.why_invalid),
        }


@dataclass
class Search:
    """How the rate was found.

    Attributes:
        steps: the rates that were tried, in order.
    """

    steps: list[Step] = field(default_factory=list)

    @property
    def best(self) -> Step | None:
        """The highest rate that was kept, below every one that was not."""
        low, high = self.bounds
        kept = [step for step in self.steps if step.is_met and step.rate == low]
        return kept[-1] if kept and low < high else None

    @property
    def bounds(self) -> tuple[float, float]:
        """The highest rate known to be kept, 0 where none is, and the lowest known not to be."""
        high = min((step.rate for step in self.steps if not step.is_met), default=math.inf)
        kept = (step.rate for step in self.steps if step.is_met and step.rate < high)
        return max(kept, default=0.0), high

    @property
    def client_limit(self) -> tuple[str, ...]:
        """Why it is the client that ends the search; empty where it is the deployment."""
        _, high = self.bounds
        ends = [step.cell.why_invalid for step in self.steps if step.rate == high]
        return ends[-1] if ends else ()

    def as_dict(self, seed: int) -> dict[str, object]:
        """As it stands in the report.

        The interval is that of the throughput at the best rate (bootstrap of its windows), and
        reaches up to the lowest rate that was not kept.
        """
        steps = [step.as_dict() for step in self.steps]
        best, (rate, missed) = self.best, self.bounds
        if best is None:
            return {"rows_per_s": 0.0, "low": 0.0, "high": None, "confidence": CONFIDENCE,
                    "load": None, "steps": steps}  # fmt: skip
        windows = np.array([window.rows_per_s for window in best.cell.windows])
        means = resampled_means(windows, np.random.default_rng(seed))
        tail = (1 - CONFIDENCE) / 2
        low, high = np.quantile(means, (tail, 1 - tail))
        return {
            "rows_per_s": best.cell.goodput_rows_per_s,
            "low": float(low),
            "high": float(high) * missed / rate if math.isfinite(missed) else None,
            "confidence": CONFIDENCE,
            "load": best.cell.measured.load.as_dict(),
            "steps": steps,
        }


async def find_max(
    measure: Callable[[float], Awaitable[Cell]], slos: Sequence[Slo], first_rate: float
) -> Search:
    """Search from a first rate: doubled or halved until it is bracketed, then bisected to 5 %.

    Args:
        measure: measures an open loop of a rate.
        slos: what has to be kept.
        first_rate: requests a second to begin with.
    """
    search = Search()
    rate = first_rate
    while len(search.steps) < _MOST_STEPS:
        cell = await measure(rate)
        search.steps.append(Step(rate, cell, _is_met(cell, slos, rate)))
        low, high = search.bounds
        if not math.isfinite(high):
            rate = 2 * low
        elif low == 0:
            rate = high / 2
        elif high / low > _NEAR:
            rate = math.sqrt(low * high)
        else:
            break
    return search


def _is_met(cell: Cell, slos: Sequence[Slo], rate: float) -> bool:
    if cell.why_invalid or not all(slo.is_met(slo.value(cell)) for slo in slos):
        return False
    # Random arrivals are themselves that much more or fewer than asked for.
    chance = 3 / math.sqrt(max(1.0, rate * cell.seconds))
    return cell.good_requests_per_s >= rate * (1 - max(1 - _LEAST_THROUGHPUT, chance))
