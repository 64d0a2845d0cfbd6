"""Parquet files, read a few thousand rows at a time."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pyarrow.parquet as pq

from batchscore.batches import RowBatch
from batchscore.errors import InputError
from batchscore.readers.columns import plain_schema
from batchscore.readers.options import TARGET_BATCH_BYTES
from batchscore.readers.sources import blaming, head

if TYPE_CHECKING:
    from collections.abc import Collection, Iterator
    from pathlib import Path

    from batchscore.readers.discover import InputFile
    from batchscore.readers.formats import Skip

_PROBE_ROWS = 16
_MAX_BATCH_ROWS = 4096
_MAX_BATCH_BYTES = 4 * TARGET_BATCH_BYTES
_BUFFER_BYTES = 2**20


class ParquetReader:
    """One Parquet file; its memory use does not grow with the size of its row groups."""

    def __init__(self, file: InputFile, path: Path) -> None:
        self.name = file.name
        self._path, self._stored = path, file.stored
        if not head(file, path).startswith(b"PAR1"):
            raise InputError(
                f"{self.name}: the file is not Parquet; rename it or say --input-format"
            )
        with self._open() as parquet, blaming(self.name):
            metadata = parquet.metadata
            self.schema = plain_schema(parquet.schema_arrow, self.name)
            groups = [metadata.row_group(i) for i in range(metadata.num_row_groups)]
            self._group_rows = [group.num_rows for group in groups]
            self._group_bytes = [group.total_byte_size for group in groups]
        self.num_rows: int | None = sum(self._group_rows)

    @property
    def group_rows(self) -> tuple[int, ...]:
        """Rows of each row group: where they begin, reading may begin without a detour."""
        return tuple(self._group_rows)

    def _open(self) -> pq.ParquetFile:
        with blaming(self.name):
            # Without pre-buffering pages are read as they are needed; with it, a whole row group:
            # from a store, where each request takes its time, that is few requests for many.
            is_local = self._stored is None
            return pq.ParquetFile(
                str(self._path) if self._stored is None else self._stored.open(),
                pre_buffer=not is_local,
                buffer_size=_BUFFER_BYTES if is_local else 0,
                page_checksum_verification=True,
            )

    def scan(self, skip: Skip, columns: Collection[str] | None) -> Iterator[RowBatch]:
        """See ``FileReader.scan``; row groups to skip are not read."""
        wanted = [name for name in self.schema.names if columns is None or name in columns]
        with self._open() as parquet:
            for group, rows in enumerate(self._group_rows):
                passed = skip.take(rows)
                if passed < rows:
                    yield from self._group(parquet, group, wanted, passed)

    def _group(
        self, parquet: pq.ParquetFile, group: int, wanted: list[str], done: int
    ) -> Iterator[RowBatch]:
        """The rows of a row group after the first ``done``.

        How large rows are is known only when they are read: a text that the file has once, in a
        dictionary, may stand in every row. So the first batch is a few rows, and whenever a
        batch was too large the group is read again with smaller ones, up to where it was left.
        """
        rows = self._group_rows[group]
        stored = self._group_bytes[group] // rows
        size = min(rows, _PROBE_ROWS)
        if self._stored is not None:
            # A look at a few rows would fetch the whole row group twice.
            size = min(rows, max(1, min(_MAX_BATCH_ROWS, TARGET_BATCH_BYTES // max(1, stored))))
        is_probe = self._stored is None and size < rows
        while done < rows:
            position = 0
            batches = parquet.iter_batches(
                batch_size=size, row_groups=[group], columns=wanted, use_threads=False
            )
            while True:
                with blaming(self.name):
                    batch = next(batches, None)
                if batch is None:
                    if done < rows:
                        raise InputError(f"{self.name}: the file has fewer rows than it says")
                    break
                before, position = max(0, done - position), position + batch.num_rows
                nbytes = batch.nbytes
                if position > done:
                    done = position
                    # A prefix "a" also names the columns "a.b"; keep to what was asked for.
                    yield RowBatch(batch.slice(before).select(wanted))
                if is_probe or nbytes > _MAX_BATCH_BYTES:
                    is_probe = False
                    row_bytes = max(1, stored, nbytes // max(1, batch.num_rows))
                    fitting = max(1, min(_MAX_BATCH_ROWS, TARGET_BATCH_BYTES // row_bytes))
                    if fitting != size:
                        size = fitting
                        break
