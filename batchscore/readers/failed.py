"""The rows of an output that failed, to be scored again."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
import pyarrow as pa

from batchscore.batches import INVALID_INPUT, RowBatch, RowFailure
from batchscore.errors import InputError
from batchscore.readers.columns import select
from batchscore.schema import UNTYPED_KEY

if TYPE_CHECKING:
    from collections.abc import Collection, Iterator

    from batchscore.readers.base import Reader


class FailedRows:
    """A ``Reader`` of the rows whose error is not null, in their order.

    Args:
        output: the output.
        error: its error column.
        source: has the same rows with the features: the original input; None: the output.
        also: columns of the source whose cells have to be readable, too, as the output kept them.
        untyped: columns of the output that are text without a type.
        limit: how many rows of the source were scored; None: all.
    """

    num_rows: int | None = None

    def __init__(
        self,
        output: Reader,
        error: str,
        *,
        source: Reader | None = None,
        also: Collection[str] = (),
        untyped: Collection[str] = (),
        limit: int | None = None,
    ) -> None:
        self._output, self._error, self._limit = output, error, limit
        self._source = output if source is None else source
        self._is_output, self._also = source is None, also
        schema = self._source.schema
        self.schema = schema if source else pa.schema([_marked(f, untyped) for f in schema])

    def batches(
        self, start_row: int = 0, columns: Collection[str] | None = None
    ) -> Iterator[RowBatch]:
        """The failed rows, without the first ``start_row`` of them.

        Raises:
            InputError: the source has not as many rows as the output.
        """
        names = select(self.schema, columns).names
        skipped = 0
        reasons = self._output.batches(columns={self._error})
        wanted = None if columns is None else {*columns, *self._also}
        rows = self._source.batches(columns=wanted)
        for reason, batch in _side_by_side(reasons, rows, is_all=self._limit is None):
            failed = np.flatnonzero(reason.is_valid().to_numpy(zero_copy_only=False))
            passed = min(len(failed), start_row - skipped)
            skipped += passed
            if len(failed) > passed:
                taken = self._taken(batch, reason, failed[passed:])
                yield RowBatch(taken.columns.select(names), taken.failures)

    def _taken(self, batch: RowBatch, reasons: pa.Array, failed: np.ndarray) -> RowBatch:
        positions = pa.array(failed)
        columns = batch.columns.take(positions)
        if self._is_output:
            return RowBatch(columns, _unreadable(columns, reasons.take(positions)))
        failures = {
            place: batch.failures[row]
            for place, row in enumerate(failed.tolist())
            if row in batch.failures
        }
        return RowBatch(columns, failures)


def _marked(field: pa.Field, untyped: Collection[str]) -> pa.Field:
    if field.name not in untyped:
        return field
    return field.with_metadata({**(field.metadata or {}), UNTYPED_KEY: b"1"})


def _side_by_side(
    reasons: Iterator[RowBatch], rows: Iterator[RowBatch], *, is_all: bool
) -> Iterator[tuple[pa.Array, RowBatch]]:
    """The errors of the output, and the rows that they are of."""
    held: RowBatch | None = None
    for batch in reasons:
        column, at = batch.columns.column(0), 0
        while at < len(column):
            while held is None or not held.num_rows:
                held = next(rows, None)
                if held is None:
                    raise InputError(
                        "--input: the input has fewer rows than the output"
                        "; give the one that it was scored from"
                    )
            count = min(len(column) - at, held.num_rows)
            yield column.slice(at, count), held.slice(0, count)
            held, at = held.slice(count, held.num_rows), at + count
    if is_all and ((held is not None and held.num_rows) or any(batch.num_rows for batch in rows)):
        raise InputError(
            "--input: the input has more rows than the output; give the one that it was scored from"
        )


def _unreadable(rows: pa.RecordBatch, reasons: pa.Array) -> dict[int, RowFailure]:
    """The rows of an output that could not be read from the input as they stood there.

    What could be read of such a row is in the output, and what could not is null: sent again, it
    would be scored as if it were whole. A cell that was read, and could not be put on the wire,
    is still there: whether it can be now is for the codec to say.
    """
    found: dict[int, RowFailure] = {}
    for row, reason in enumerate(reasons.to_pylist()):
        code, _, text = reason.partition(": ")
        if code == INVALID_INPUT and not any(
            text.startswith(f"column {name!r}: ") and rows.column(name)[row].is_valid
            for name in rows.schema.names
        ):
            found[row] = RowFailure(code, text)
    return found
