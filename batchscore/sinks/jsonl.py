"""JSON Lines: one object a row, with every column."""

from __future__ import annotations

from typing import TYPE_CHECKING

import msgspec
import pyarrow as pa
import pyarrow.compute as pc

from batchscore.jsontext import json_texts
from batchscore.sinks.sealed import open_sealed, pieces, record_batches

if TYPE_CHECKING:
    from pathlib import Path

_PIECE_BYTES = 8 * 2**20


class JsonLinesExporter:
    """Writes UTF-8 lines that end in a line feed; a null is written as ``null``."""

    def export(self, partial: Path, out: Path) -> None:
        """Write the rows of ``partial`` to ``out``."""
        with open_sealed(partial) as reader, out.open("wb") as file:
            for batch in record_batches(reader):
                for piece in pieces(batch, _PIECE_BYTES):
                    file.write(_lines(piece))


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
