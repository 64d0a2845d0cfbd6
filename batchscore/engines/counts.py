"""What workers count, and its sum: each row once, though a split may be scored twice."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Self

from batchscore.metrics import MAX_EXAMPLES, FailedRow

if TYPE_CHECKING:
    from collections.abc import Mapping

    from batchscore.metrics import RunMetrics, Traffic


@dataclass(frozen=True)
class PartCounts:
    """What became of the rows of one split.

    Attributes:
        rows: all of them.
        failed: those that were not scored, by code.
        examples: the first of them by code, counted from 1 in the split.
    """

    rows: int
    failed: Mapping[str, int]
    examples: Mapping[str, tuple[FailedRow, ...]]

    @classmethod
    def of(cls, metrics: RunMetrics) -> Self:
        """What was counted of one split."""
        examples = {code: tuple(rows) for code, rows in metrics.failed_examples.items()}
        return cls(metrics.rows_done, dict(metrics.failed_rows), examples)


class Tally:
    """Sums what workers tell into the counters of the run.

    Rows are counted when their part is whole, requests when a worker tells of them: what a worker
    sent and took with it when it was killed is not known.
    """

    def __init__(self, metrics: RunMetrics) -> None:
        self._metrics = metrics
        self._parts: dict[int, PartCounts] = {}
        self._last: dict[int, Traffic] = {}

    def told(self, worker: int, traffic: Traffic) -> None:
        """Count what a worker sent since it told last."""
        self._metrics.add_traffic(traffic, self._last.get(worker))
        self._last[worker] = traffic

    def done(self, number: int, counts: PartCounts) -> None:
        """Count the rows of a part that is whole now."""
        if number in self._parts:
            return
        self._parts[number] = counts
        failed, metrics = sum(counts.failed.values()), self._metrics
        metrics.rows_read += counts.rows
        metrics.rows_scored += counts.rows - failed
        metrics.rows_failed += failed
        metrics.failed_rows.update(counts.failed)

    @property
    def parts_done(self) -> int:
        """How many parts are whole."""
        return len(self._parts)

    def quote(self) -> None:
        """Quote the first failed rows, by their places in the input as far as those are known."""
        row, examples = 0, self._metrics.failed_examples
        for number in range(len(self._parts)):
            counts = self._parts.get(number)
            if counts is None:
                return  # how many rows come before the next part is not known
            for code, rows in counts.examples.items():
                quoted = examples.setdefault(code, [])
                left = MAX_EXAMPLES - len(quoted)
                quoted += [FailedRow(row + each.row, each.text) for each in rows[:left]]
            row += counts.rows
