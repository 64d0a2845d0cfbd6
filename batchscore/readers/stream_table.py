"""Tables in memory: anything that exports an Arrow stream."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import pyarrow as pa

from batchscore.batches import RowBatch
from batchscore.errors import UsageError
from batchscore.readers.columns import as_schema, plain_schema, select, sliced
from batchscore.readers.formats import Skip
from batchscore.readers.sources import blaming

if TYPE_CHECKING:
    from collections.abc import Collection, Iterator

_NAME = "the table"


class TableReader:
    """The rows of a table that exports ``__arrow_c_stream__``, streamed from it."""

    def __init__(self, data: Any) -> None:
        if not hasattr(data, "__arrow_c_stream__"):
            raise UsageError(
                f"{type(data).__name__} does not export an Arrow stream (__arrow_c_stream__); "
                "give a PyArrow, Polars or pandas table, or make one with pyarrow.table(...)"
            )
        self._data = data
        # A stream that can be read only once must not be asked for again before it is read.
        self._first: Any = self._export()
        self._schema = plain_schema(self._first.schema, _NAME)

    def _export(self) -> Any:
        with blaming(_NAME):
            return pa.RecordBatchReader.from_stream(self._data)

    @property
    def schema(self) -> pa.Schema:
        """The columns with plain types."""
        return self._schema

    @property
    def num_rows(self) -> int | None:
        """The number of rows where the table tells; streams do not."""
        for attribute in ("num_rows", "height"):
            rows = getattr(self._data, attribute, None)
            if isinstance(rows, int):
                return rows
        return len(self._data.index) if hasattr(self._data, "iloc") else None

    def batches(
        self, start_row: int = 0, columns: Collection[str] | None = None
    ) -> Iterator[RowBatch]:
        """The rows from ``start_row`` on."""
        stream, self._first = self._first or self._export(), None
        skip = Skip(start_row)
        wanted = select(self._schema, columns)
        while True:
            with blaming(_NAME):
                batch = next(stream, None)
            if batch is None:
                return
            rest = batch.slice(skip.take(batch.num_rows))
            for rows in sliced(RowBatch(rest)):
                yield RowBatch(as_schema(rows.columns, wanted, _NAME))
