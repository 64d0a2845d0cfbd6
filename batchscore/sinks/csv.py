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
            columns = _cells(reader.schema.empty_table().to_batches()[0]) if False else None
            del columns
            with csv.CSVWriter(out, _cell_schema(reader.schema)) as writer:
                for batch in record_batches(reader):
                    for piece in pieces(batch, _PIECE_BYTES):
                        writer.write_batch(_cells(piece))
