"""The types that travel from reader to sink: columnar, immutable, in input order."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Mapping

    import pyarrow as pa

MAX_ERROR_CHARS = 500
INVALID_INPUT = "invalid_input"
"""The code of a row that is not sent: a cell cannot be read, or not be put on the wire."""


@dataclass(frozen=True, slots=True)
class RowFailure:
    """Why one row has no prediction; ``str()`` is what stands in ``prediction_error``."""

    code: str
    text: str

    def __str__(self) -> str:
        # One line a row: a server's message may hold line breaks, a table cell should not.
        text = "".join(c if c.isprintable() else " " for c in self.text[: 4 * MAX_ERROR_CHARS])
        line = f"{self.code}: {' '.join(text.split())}"
        return line if len(line) <= MAX_ERROR_CHARS else line[: MAX_ERROR_CHARS - 1] + "…"


@dataclass(frozen=True, slots=True)
class RowBatch:
    """Rows as a reader yields them.

    Attributes:
        columns: the rows; dictionary columns are already decoded.
        failures: rows (by position in ``columns``) that could not be read as the file means
            them. They are not sent; what could be read of them stands in ``columns``, the rest
            is null.
    """

    columns: pa.RecordBatch
    failures: Mapping[int, RowFailure] = field(default_factory=dict)

    @property
    def num_rows(self) -> int:
        """How many rows there are, failed ones included."""
        return int(self.columns.num_rows)

    def slice(self, start: int, stop: int) -> RowBatch:
        """The rows from start to stop (not included), without a copy."""
        kept = {row - start: why for row, why in self.failures.items() if start <= row < stop}
        return RowBatch(self.columns.slice(start, stop - start), kept)


@dataclass(frozen=True, slots=True)
class Chunk:
    """One unit of the window, of durability and of resume: one record batch of the output.

    Attributes:
        start_row: where it begins, counted from the first row of the input.
        rows: its rows.
    """

    start_row: int
    rows: RowBatch


@dataclass(frozen=True, slots=True)
class ScoredBatch:
    """A chunk whose every row is decided.

    Attributes:
        chunk: the rows that were scored.
        predictions: the prediction columns in the order of the output layout, each as long as
            the chunk; None where no row was scored.
        failures: the rows that were not scored, by position, those of the reader included.
    """

    chunk: Chunk
    predictions: tuple[pa.Array, ...] | None
    failures: Mapping[int, RowFailure]

    @property
    def result_bytes(self) -> int:
        """How many bytes the predictions have."""
        return sum(int(array.nbytes) for array in self.predictions or ())
