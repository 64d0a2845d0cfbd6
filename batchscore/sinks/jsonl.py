"""JSON Lines: one object a row, with every column."""

from __future__ import annotations

from typing import TYPE_CHECKING, BinaryIO

import msgspec
import pyarrow as pa
import pyarrow.compute as pc

from batchscore.jsontext import json_texts
from batchscore.sinks.base import FormatWriter
from batchscore.sinks.sealed import pieces

if TYPE_CHECKING:
    from collections.abc import Iterator

_PIECE_BYTES = 8 * 2**20


class JsonLinesExporter(FormatWriter):
    """Writes UTF-8 lines that end in a line feed; a null is written as ``null``."""

    def write(self, schema: pa.Schema, batches: Iterator[pa.RecordBatch], file: BinaryIO) -> None:
        """See ``FormatWriter``."""
        for batch in batches:
            file.writelines(_lines(piece) for piece in pieces(batch, _PIECE_BYTES))


def _lines(batch: pa.RecordBatch) -> memoryview:
    parts: list[pa.Array | pa.Scalar] = []
    for position, name in enumerate(batch.schema.names):
        key = msgspec.json.encode(name).decode()
        parts += [_text(f"{',' if position else '{'}{key}:"), json_texts(batch.column(position))]
    lines = pc.binary_join_element_wise(*parts, _text("}\n"), _text(""))
    # The lines stand one after another in the array's buffer: that is the text of the file.
    return memoryview(lines.buffers()[2])


def _text(text: str) -> pa.Scalar:
    return pa.scalar(text, pa.large_string())
