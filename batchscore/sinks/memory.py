"""The output as a table in memory."""

from __future__ import annotations

import pyarrow as pa

from batchscore.sinks.finished import RowCounts


class MemorySink:
    """Keeps the output as a table."""

    def __init__(self) -> None:
        self._schema: pa.Schema | None = None
        self._batches: list[pa.RecordBatch] = []

    def check(self, schema: pa.Schema) -> None:
        """See ``BatchSink``; memory takes any schema."""

    def open(self, schema: pa.Schema) -> None:
        """See ``BatchSink``."""
        self._schema = schema

    def go_on(self, schema: pa.Schema) -> RowCounts:
        """See ``BatchSink``; nothing of an earlier run is in memory."""
        self.open(schema)
        return RowCounts()

    def append(self, batch: pa.RecordBatch) -> None:
        """See ``BatchSink``."""
        self._batches.append(batch)

    def table(self) -> pa.Table:
        """All that was appended."""
        return pa.Table.from_batches(self._batches, schema=self._schema)
