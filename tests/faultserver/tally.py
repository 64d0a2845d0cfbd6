"""How often each row was asked for, over all the clients that come and go."""

from __future__ import annotations

from collections import Counter
from typing import TYPE_CHECKING

import numpy as np

if TYPE_CHECKING:
    from faultserver.requests import RequestInfo


class RowTally:
    """Counts the requests that each row stands in; rows are told apart by a number in them.

    Requests that the script lets fail do not count: their rows have to come again. What comes
    again all the same was sent twice.

    Args:
        feature: the feature that numbers the rows from 0.
        rows: how many rows there are.

    Attributes:
        faults: what the script chose, by name and status.
    """

    def __init__(self, feature: str, rows: int) -> None:
        self._feature = feature
        self._times = np.zeros(rows, np.uint16)
        self.faults: Counter[str] = Counter()

    def observe(self, info: RequestInfo) -> None:
        """Count a request; its rows are known, or were not waited for."""
        if info.fault is not None:
            self.faults[str(info.fault)] += 1
            if not info.fault.is_harmless:
                return
        self._times[[row[self._feature] for row in info.rows]] += 1

    def counts(self) -> dict[str, object]:
        """What was counted, JSON-ready."""
        again = np.maximum(self._times, 1) - 1
        return {
            "rows_never_sent": int((self._times == 0).sum()),
            "rows_sent_twice": int(again.sum(dtype=np.int64)),
            "most_times_a_row": int(self._times.max(initial=0)),
            "faults": dict(sorted(self.faults.items())),
        }
