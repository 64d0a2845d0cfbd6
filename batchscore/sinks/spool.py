"""Failed rows that wait until the schema of the output is known."""

from __future__ import annotations

import tempfile
from pathlib import Path
from typing import TYPE_CHECKING

import pyarrow as pa

from batchscore.batches import Chunk, RowBatch, RowFailure, ScoredBatch
from batchscore.partial.disk import writing

if TYPE_CHECKING:
    from collections.abc import Iterator

_MEMORY_BYTES = 16 * 2**20


class Spool:
    """Batches of failed rows in input order; they move to disk when they grow.

    Args:
        folder: where, if it comes to that; the system's folder for temporary files by default.
    """

    def __init__(self, folder: Path | None) -> None:
        self._folder = folder or Path(tempfile.gettempdir())
        self._file: tempfile.SpooledTemporaryFile[bytes] | None = None
        self._stream: pa.ipc.RecordBatchStreamWriter | None = None

    def append(self, scored: ScoredBatch) -> None:
        """Keep the next batch; blocks.

        Raises:
            OutputError: it cannot be written.
        """
        with writing(self._folder):
            self._append(scored)

    def _append(self, scored: ScoredBatch) -> None:
        columns = scored.chunk.rows.columns
        reasons = pa.array([str(scored.failures[row]) for row in range(columns.num_rows)])
        columns = columns.append_column("", reasons)
        if self._stream is None:
            self._file = tempfile.SpooledTemporaryFile(_MEMORY_BYTES, dir=str(self._folder))  # noqa: SIM115
            self._stream = pa.ipc.new_stream(self._file, columns.schema)
        self._stream.write_batch(columns)

    def batches(self) -> Iterator[ScoredBatch]:
        """What was kept; nothing may be appended any more."""
        if self._stream is None or self._file is None:
            return
        self._stream.close()
        self._file.seek(0)
        for columns in pa.ipc.open_stream(self._file):
            failures = {}
            last = columns.num_columns - 1
            for row, reason in enumerate(columns.column(last).to_pylist()):
                code, _, text = reason.partition(": ")
                failures[row] = RowFailure(code, text)
            rows = RowBatch(columns.select(list(range(last))), failures)
            yield ScoredBatch(Chunk(0, rows), None, failures)

    def close(self) -> None:
        """Let go of what is kept."""
        if self._file is not None:
            self._file.close()
        self._file = self._stream = None
