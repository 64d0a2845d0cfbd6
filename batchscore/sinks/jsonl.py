"""JSON Lines: one object a row, with every column."""

from __future__ import annotations

from typing import TYPE_CHECKING, BinaryIO

import msgspec

from batchscore.sinks.base import FormatWriter
from batchscore.sinks.jsontext import json_texts, row_bytes
from batchscore.sinks.sealed import pieces

if TYPE_CHECKING:
    from collections.abc import Iterator

    import pyarrow as pa

_PIECE_BYTES = 8 * 2**20


class JsonLinesExporter(FormatWriter):
    """Writes UTF-8 lines that end in a line feed; a null is written as ``null``."""

    def write(self, schema: pa.Schema, batches: Iterator[pa.RecordBatch], file: BinaryIO) -> None:
        """See ``FormatWriter``."""
        for batch in batches:
            file.writelines(_lines(piece) for piece in pieces(batch, _PIECE_BYTES))


def _lines(batch: pa.RecordBatch) -> memoryview:
    parts: list[pa.Array | str] = []
    for position, name in enumerate(batch.schema.names):
        key = msgspec.json.encode(name).decode()
        parts += [f"{',' if position else '{'}{key}:", json_texts(batch.column(position))]
    return row_bytes(*parts, "}\n")
