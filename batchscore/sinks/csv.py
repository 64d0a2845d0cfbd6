"""CSV: what every program reads. Text is quoted, so that nothing in it can break a row."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pyarrow as pa
import pyarrow.compute as pc
from pyarrow import csv

from batchscore.jsontext import json_texts, scalar_texts
from batchscore.sinks.sealed import open_sealed, pieces, record_batches

if TYPE_CHECKING:
    from pathlib import Path

_PIECE_BYTES = 8 * 2**20


class CsvExporter:
    """Writes UTF-8 with a header row, commas and line feeds.

    A null is an empty cell and ``""`` the empty text. Numbers and booleans stand bare, text,
    times (ISO 8601), bytes (data URIs) and nested values (JSON text) in quotes.
    """

    def export(self, partial: Path, out: Path) -> None:
        """Write the rows of ``partial`` to ``out``."""
        with open_sealed(partial) as reader:
            schema = pa.schema([(field.name, _cell_type(field.type)) for field in reader.schema])
            with csv.CSVWriter(str(out), schema) as writer:
                for batch in record_batches(reader):
                    for piece in pieces(batch, _PIECE_BYTES):
                        cells = [_cells(column) for column in piece.columns]
                        writer.write_batch(pa.RecordBatch.from_arrays(cells, schema=schema))


def _cell_type(kind: pa.DataType) -> pa.DataType:
    """The type that a column is written as: numbers as they are, all else as text."""
    if pa.types.is_float16(kind):
        return pa.float64()
    if (
        pa.types.is_integer(kind)
        or pa.types.is_floating(kind)
        or pa.types.is_decimal(kind)
        or pa.types.is_boolean(kind)
    ):
        return kind
    return pa.large_string()


def _cells(column: pa.Array) -> pa.Array:
    kind = _cell_type(column.type)
    if kind != pa.large_string():
        return column.cast(kind)
    texts = scalar_texts(column)
    if texts is None:
        texts = pc.if_else(column.is_valid(), json_texts(column), pa.scalar(None, kind))
    return texts
