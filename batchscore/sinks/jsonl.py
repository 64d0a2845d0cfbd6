"""JSON Lines: one object a row, with every column."""

from __future__ import annotations

from typing import TYPE_CHECKING

import msgspec

from batchscore.jsontext import json_texts, row_bytes
from batchscore.sinks.sealed import open_sealed, pieces, record_batches

if TYPE_CHECKING:
    from pathlib import Path

    import pyarrow as pa

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
    parts: list[pa.Array | str] = []
    for position, name in enumerate(batch.schema.names):
        key = msgspec.json.encode(name).decode()
        parts += [f"{',' if position else '{'}{key}:", json_texts(batch.column(position))]
    return row_bytes(*parts, "}\n")
