"""Reading the sealed partial file, and what it becomes: an Arrow IPC file."""

from __future__ import annotations

import contextlib
from typing import TYPE_CHECKING

import pyarrow as pa

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path


@contextlib.contextmanager
def open_sealed(
    partial: Path, columns: list[int] | None = None
) -> Iterator[pa.ipc.RecordBatchFileReader]:
    """The reader of a sealed partial file, of all its columns or some.

    Not memory-mapped: a batch that was read is freed, a page that was mapped stays in the
    process's memory for as long as the system likes.
    """
    options = pa.ipc.IpcReadOptions(included_fields=columns)
    with pa.OSFile(str(partial)) as source, pa.ipc.open_file(source, options=options) as reader:
        yield reader


def record_batches(reader: pa.ipc.RecordBatchFileReader) -> Iterator[pa.RecordBatch]:
    """The record batches in order, one in memory at a time."""
    for index in range(reader.num_record_batches):
        yield reader.get_batch(index)


def pieces(batch: pa.RecordBatch, max_bytes: int) -> Iterator[pa.RecordBatch]:
    """The batch cut into slices of equally many rows, of about ``max_bytes`` each at most."""
    count = max(1, min(batch.num_rows, -(-batch.get_total_buffer_size() // max_bytes)))
    rows = max(1, -(-batch.num_rows // count))
    for start in range(0, batch.num_rows, rows):
        yield batch.slice(start, rows)
