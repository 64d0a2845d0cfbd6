"""Parquet: typed, compressed, in row groups of a useful size."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pyarrow as pa
import pyarrow.parquet as pq

from batchscore.errors import UsageError
from batchscore.sinks.sealed import open_sealed, record_batches

if TYPE_CHECKING:
    from pathlib import Path

ROW_GROUP_ROWS = 128 * 1024
ROW_GROUP_BYTES = 64 * 2**20


class ParquetExporter:
    """Writes zstd Parquet. Extension types and metadata come back when PyArrow reads it.

    A row group is as many whole record batches as reach 128k rows or 64 MiB.
    """

    is_text = False

    def export(self, partial: Path, out: Path) -> None:
        """Write the rows of ``partial`` to ``out``."""
        with open_sealed(partial) as reader, parquet_writer(out, reader.schema) as writer:
            group: list[pa.RecordBatch] = []
            rows = size = 0
            for batch in record_batches(reader):
                group.append(batch)
                rows, size = rows + batch.num_rows, size + batch.get_total_buffer_size()
                if rows >= ROW_GROUP_ROWS or size >= ROW_GROUP_BYTES:
                    _write_group(writer, group, reader.schema)
                    group, rows, size = [], 0, 0
            if rows:
                _write_group(writer, group, reader.schema)

    def check_schema(self, schema: pa.Schema) -> None:
        """Raise UsageError where Parquet has no form for a column's type, or for nulls of it."""
        for field in schema:
            # With a null in it, as some types find out only then that they have no form for one.
            null = pa.table([pa.nulls(1, field.type)], [field.name])
            try:
                with parquet_writer(pa.BufferOutputStream(), null.schema) as writer:
                    writer.write_table(null)
            except (pa.ArrowException, OSError) as error:
                raise UsageError(
                    f"Parquet cannot hold column {field.name!r} ({field.type}): "
                    f"{str(error).splitlines()[0]}; write .arrow, or --drop the column"
                ) from None


def parquet_writer(out: Path | pa.NativeFile, schema: pa.Schema) -> pq.ParquetWriter:
    """A writer of Parquet as outputs have it."""
    return pq.ParquetWriter(out, schema, compression="zstd")


def _write_group(writer: pq.ParquetWriter, group: list[pa.RecordBatch], schema: pa.Schema) -> None:
    table = pa.Table.from_batches(group, schema)
    # Only a very large batch is cut: a few rows over are no reason for a tiny second group.
    rows = table.num_rows if table.num_rows < 2 * ROW_GROUP_ROWS else ROW_GROUP_ROWS
    writer.write_table(table, row_group_size=rows)
