"""One request as it was measured, and many of them as columns."""

from __future__ import annotations

from dataclasses import dataclass, fields
from operator import attrgetter

import numpy as np
import numpy.typing as npt

NOT_SENT = "no_file_handles"
"""The error of a request that this computer had no file handle left for."""


@dataclass(slots=True)
class Sample:
    """One request. Times are those of ``time.monotonic``, 0 where it did not come to them.

    Attributes:
        intended: when it was meant to be sent; in a closed loop when it was sent.
        due: when it could have been sent at the earliest: the intended time, in a closed loop the
            moment its predecessor's answer was there.
        connect_began, connected: of a new connection.
        sent, first_byte, last_byte: of the last try.
        decoded: when the answer had been read.
        ended: when it was done with, well or not.
        attempts: tries.
        bytes_sent, bytes_received: bodies, of all tries and of the last.
        rows: rows in it.
        in_flight: requests under way when it was sent, itself included.
        status: of the last answer; 0 where there was none.
        error: the code of what went wrong; empty for a good answer.
    """

    due: float = 0.0
    rows: int = 0
    bytes_sent: int = 0
    in_flight: int = 0
    intended: float = 0.0
    connect_began: float = 0.0
    connected: float = 0.0
    sent: float = 0.0
    first_byte: float = 0.0
    last_byte: float = 0.0
    decoded: float = 0.0
    ended: float = 0.0
    attempts: int = 0
    bytes_received: int = 0
    status: int = 0
    error: str = ""


Column = npt.NDArray[np.float64]


class Samples:
    """Requests as columns, in order of their intended times."""

    def __init__(self, samples: list[Sample]) -> None:
        ordered = sorted(samples, key=lambda sample: sample.intended)
        names = [item.name for item in fields(Sample)]
        columns = list(zip(*map(attrgetter(*names), ordered), strict=True)) or [()] * len(names)
        self._columns = dict(zip(names, columns, strict=True))
        self.errors = np.array(self._columns.pop("error"), dtype=object)
        self.ok = np.array([not error for error in self.errors], dtype=bool)

    def __len__(self) -> int:
        return len(self.errors)

    def column(self, name: str) -> Column:
        """One column of numbers."""
        return np.array(self._columns[name], dtype=np.float64)

    def between(self, start: float, stop: float, name: str = "intended") -> npt.NDArray[np.bool_]:
        """Which of them have a time in this stretch, its end not included."""
        times = self.column(name)
        return (times >= start) & (times < stop)

    def chosen(self, which: npt.NDArray[np.bool_]) -> Samples:
        """Some of them."""
        few = Samples([])
        few._columns = {
            name: tuple(np.array(values, dtype=object)[which])
            for name, values in self._columns.items()
        }
        few.errors, few.ok = self.errors[which], self.ok[which]
        return few
