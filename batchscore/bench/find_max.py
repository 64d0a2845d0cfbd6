"""The highest rate of an open loop that keeps the objectives, with a confidence interval.

First by the figures as they are: rates are doubled or halved until the border is between two, then
bisected to 5 %. Then for sure: rates around are measured again, and others below and above, until
the lowest that is missed for sure and the highest that is kept for sure are near, or will not come
nearer.
"""

from __future__ import annotations

import math
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

import numpy as np

from batchscore.bench.figures import Latencies
from batchscore.bench.verdict import (
    CONFIDENCE,
    MOST_LOOKS,
    Judgement,
    Verdict,
    judged,
    least_requests,
)

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable, Sequence

    from batchscore.bench.cells import Cell
    from batchscore.bench.slo import Slo

_NEAR = 1.05
_NEAR_FOR_SURE = 1.1
_SAME = 1.001
_MOST_MEASUREMENTS = 40
_LEAST_REQUESTS = 10
# Of what was sent: a server that answers less is behind, whatever the latency still is.
_LEAST_ANSWERED = 0.95


@dataclass
class Step:
    """One rate that was tried.

    Attributes:
        rate: requests a second.
        slos: what has to be kept.
        cells: what came of it, each time it was measured.
        judgements: what the valid ones together say of each objective.
    """

    rate: float
    slos: Sequence[Slo]
    cells: list[Cell] = field(default_factory=list)
    judgements: list[Judgement] = field(default_factory=list)

    def add(self, cell: Cell) -> None:
        """It was measured, for the first time or again."""
        self.cells.append(cell)
        if self.valid:
            self.judgements = [judged(slo, self.valid) for slo in self.slos]

    @property
    def valid(self) -> list[Cell]:
        """The measurements that tell of the deployment."""
        return [cell for cell in self.cells if not cell.why_invalid]

    @property
    def seems_kept(self) -> bool:
        """Whether the figures as they are keep everything."""
        return (
            bool(self.valid) and self._keeps_up and all(each.seems_kept for each in self.judgements)
        )

    @property
    def verdict(self) -> Verdict:
        """What is known for sure."""
        if not self.valid:
            return Verdict.CLIENT
        verdicts = {each.verdict for each in self.judgements}
        if not self._keeps_up or Verdict.MISSED in verdicts:
            return Verdict.MISSED
        return Verdict.UNSURE if Verdict.UNSURE in verdicts else Verdict.KEPT

    @property
    def may_be_measured_again(self) -> bool:
        """Whether it is open, and another measurement might decide."""
        is_open = self.verdict in {Verdict.UNSURE, Verdict.CLIENT}
        return is_open and len(self.cells) < MOST_LOOKS

    @property
    def _keeps_up(self) -> bool:
        requests = sum(cell.requests for cell in self.valid)
        answered = sum(cell.answered_share * cell.requests for cell in self.valid)
        # Of few requests, those in flight at the beginning and at the end are a large part.
        chance = 3 / math.sqrt(max(1, requests))
        return answered >= requests * (1 - max(1 - _LEAST_ANSWERED, chance))

    def as_dict(self, number: int) -> dict[str, object]:
        """As it stands in the report."""
        cells = self.valid or self.cells
        responses = np.concatenate([cell.responses for cell in cells])
        return {
            "step": number,
            "rate": self.rate,
            "measurements": len(self.cells),
            "requests": sum(cell.requests for cell in cells),
            "failed_requests": sum(cell.failed_requests for cell in cells),
            "rows_per_s": float(np.mean([cell.goodput_rows_per_s for cell in cells])),
            "response_s": Latencies(responses[np.isfinite(responses)]).summary(),
            "verdict": str(self.verdict),
            "seems_kept": self.seems_kept,
            "why_invalid": [] if self.valid else list(self.cells[-1].why_invalid),
        }


@dataclass
class Search:
    """How the highest rate with one batch size was found.

    Attributes:
        batch_size: rows in a request.
        slos: what has to be kept.
        seconds: how long each measurement takes.
        tried: what came of each rate.
        last: the rate that was measured last.
    """

    batch_size: int
    slos: Sequence[Slo]
    seconds: float
    tried: dict[float, Step] = field(default_factory=dict)
    last: float = 0.0

    @property
    def steps(self) -> list[Step]:
        """The rates that were tried, from the lowest to the highest."""
        return [self.tried[rate] for rate in sorted(self.tried)]

    def add(self, rate: float, cell: Cell) -> None:
        """A rate was measured, for the first time or again."""
        self.tried.setdefault(rate, Step(rate, self.slos)).add(cell)
        self.last = rate

    @property
    def best(self) -> Step | None:
        """The highest rate that seems kept, below every one that does not."""
        return self.tried.get(self.seeming[0])

    @property
    def rows_per_s(self) -> float:
        """The highest throughput; 0 where no rate is kept."""
        return self.best.rate * self.batch_size if self.best else 0.0

    @property
    def seeming(self) -> tuple[float, float]:
        """The highest rate that seems kept, 0 where none does, and the lowest that does not."""
        high = self._lowest(lambda step: not step.seems_kept)
        return self._highest(lambda step: step.seems_kept, below=high), high

    @property
    def sure(self) -> tuple[float, float]:
        """The highest rate kept for sure, 0 where none is, and the lowest that is not to be had.

        The latter is missed for sure, or more than the client can send.
        """
        over = {Verdict.MISSED, Verdict.CLIENT}
        high = self._lowest(lambda step: step.verdict in over)
        return self._highest(lambda step: step.verdict == Verdict.KEPT, below=high), high

    @property
    def client_limit(self) -> tuple[str, ...]:
        """Why it is the client that ends the search; empty where it is the deployment."""
        _, high = self.sure
        end = self.tried.get(high)
        return end.cells[-1].why_invalid if end and end.verdict == Verdict.CLIENT else ()

    def next_rate(self) -> float | None:
        """What to measure next; None where the search is at its end."""
        last = self.tried[self.last]
        if last.may_be_measured_again and not last.seems_kept:
            return last.rate  # It may have been a bad moment of the computer, or of chance.
        low, high = self.seeming
        if not math.isfinite(high):
            return 2 * max(low, last.rate)
        if low == 0:
            return high / 2 if high / 2 * self.seconds >= _LEAST_REQUESTS else None
        return self._between(low, high, _NEAR) or self._below(low) or self._above(low, high)

    def _between(self, low: float, high: float, near: float) -> float | None:
        """A rate between two that are further apart than that, best one that was begun with.

        None where what lies between has been measured as often as it may.
        """
        if high <= low * near:
            return None
        middle = math.sqrt(low * high)
        inside = [step for step in self.steps if low * _SAME < step.rate < high / _SAME]
        begun = [step.rate for step in inside if step.may_be_measured_again]
        if begun:
            return min(begun, key=lambda rate: abs(math.log(rate / middle)))
        return None if inside else middle

    def _below(self, best: float) -> float | None:
        """Which rate may tell that less is kept for sure."""
        kept, _ = self.sure
        if kept >= best:
            return None
        if self.tried[best].may_be_measured_again:
            return best
        decided = [step.rate for step in self.steps if not step.may_be_measured_again]
        ceiling = min(rate for rate in decided if rate > kept)
        if kept == 0:
            wanted = ceiling / 2
            most_requests = wanted * self.seconds * MOST_LOOKS
            needed = max(_LEAST_REQUESTS, *map(least_requests, self.slos))
            return wanted if most_requests >= needed else None
        return self._between(kept, ceiling, _NEAR_FOR_SURE)

    def _above(self, best: float, high: float) -> float | None:
        """Which rate may tell that more is missed for sure."""
        _, missed = self.sure
        if missed <= best * _NEAR_FOR_SURE:
            return None
        if self.tried[high].may_be_measured_again:
            return high
        decided = [step.rate for step in self.steps if not step.may_be_measured_again]
        floor = max((rate for rate in decided if rate < missed), default=best)
        if not math.isfinite(missed):
            return floor * math.sqrt(2)
        return self._between(floor, missed, _NEAR_FOR_SURE)

    def _lowest(self, which: Callable[[Step], bool]) -> float:
        """The lowest of such rates; in doubt a higher one that is known better counts."""
        valid = max((step.rate for step in self.steps if step.valid), default=0.0)
        kept = max((s.rate for s in self.steps if s.verdict == Verdict.KEPT), default=0.0)
        doubted = {Verdict.CLIENT: valid, Verdict.UNSURE: kept}
        told = (step for step in self.steps if step.rate > doubted.get(step.verdict, 0.0))
        return min((step.rate for step in told if which(step)), default=math.inf)

    def _highest(self, which: Callable[[Step], bool], below: float) -> float:
        return max((s.rate for s in self.steps if s.rate < below and which(s)), default=0.0)

    def as_dict(self, *, is_best: bool) -> dict[str, object]:
        """As it stands in the report; rates are those of rows, all of the loop's requests."""
        kept, missed = self.sure
        is_bounded = math.isfinite(missed) and not self.client_limit
        return {
            "batch_size": self.batch_size,
            "is_best": is_best,
            "rows_per_s": self.rows_per_s,
            "low": kept * self.batch_size,
            "high": missed * self.batch_size if is_bounded else None,
            "confidence": CONFIDENCE,
            "load": self.best.cells[0].measured.load.as_dict() if self.best else None,
            "client_limit": list(self.client_limit),
            "steps": [step.as_dict(number) for number, step in enumerate(self.steps)],
        }


async def find_max(
    search: Search, measure: Callable[[float, int], Awaitable[Cell]], first_rate: float
) -> None:
    """Search from a first rate on; what was measured stands in the search at any time.

    Args:
        search: what is looked for.
        measure: measures an open loop of a rate, with arrivals of its own for each number.
        first_rate: requests a second to begin with.
    """
    rate: float | None = first_rate
    for number in range(_MOST_MEASUREMENTS):
        if rate is None:
            break
        search.add(rate, await measure(rate, number))
        rate = search.next_rate()
