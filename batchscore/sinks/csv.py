"""CSV: what every program reads. Text is quoted, so that nothing in it can break a row."""

from __future__ import annotations

from typing import TYPE_CHECKING, BinaryIO

import pyarrow as pa
import pyarrow.compute as pc

from batchscore.sinks.base import FormatWriter
from batchscore.sinks.jsontext import joined, json_texts, row_bytes, scalar_texts
from batchscore.sinks.sealed import pieces

if TYPE_CHECKING:
    from collections.abc import Iterator

_PIECE_BYTES = 8 * 2**20


class CsvExporter(FormatWriter):
    """Writes UTF-8 with a header row, commas and line feeds.

    A null is an empty cell and ``""`` the empty text. Numbers and booleans stand bare, text,
    times (ISO 8601), bytes (data URIs) and nested values (JSON text) in quotes. PyArrow's own
    writer would write 3.0 as 3, which readers that guess types take for an integer.
    """

    def write(self, schema: pa.Schema, batches: Iterator[pa.RecordBatch], file: BinaryIO) -> None:
        """See ``FormatWriter``."""
        header = _quoted(pa.array(schema.names, pa.large_string()))
        file.write(",".join(header.to_pylist()).encode() + b"\n")
        for batch in batches:
            file.writelines(_lines(piece) for piece in pieces(batch, _PIECE_BYTES))


def _lines(batch: pa.RecordBatch) -> memoryview:
    parts: list[pa.Array | str] = []
    for position, column in enumerate(batch.columns):
        parts += ["," if position else "", _cells(column)]
    return row_bytes(*parts, "\n")


def _cells(column: pa.Array) -> pa.Array:
    kind = column.type
    texts = scalar_texts(column)
    if texts is None:
        texts = pc.if_else(
            column.is_valid(), json_texts(column), pa.scalar(None, pa.large_string())
        )
    if not (
        pa.types.is_integer(kind)
        or pa.types.is_floating(kind)
        or pa.types.is_decimal(kind)
        or pa.types.is_boolean(kind)
    ):
        texts = _quoted(texts)
    return pc.fill_null(texts, "")


def _quoted(texts: pa.Array) -> pa.Array:
    return joined('"', pc.replace_substring(texts, '"', '""'), '"')
