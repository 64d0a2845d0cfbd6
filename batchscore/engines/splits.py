"""The input cut into splits: what one worker reads, scores and writes as one part of the output."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from batchscore.errors import UsageError
from batchscore.readers.arrow_ipc import ArrowReader
from batchscore.readers.parquet import ParquetReader
from batchscore.readers.partitions import PartitionedReader
from batchscore.readers.pictures import PictureReader
from batchscore.readers.union import UnionReader

if TYPE_CHECKING:
    from collections.abc import Collection, Generator, Iterable, Iterator

    import pyarrow as pa

    from batchscore.batches import RowBatch
    from batchscore.readers import Reader
    from batchscore.readers.formats import FileReader

SPLITS_A_WORKER = 4
"""So many at least, where the input has rows enough: a lost worker costs the others little."""

MIN_CHUNKS = 8
MAX_ROWS = 2**20


@dataclass(frozen=True)
class Split:
    """A run of rows of the input: a ``Reader`` that a worker can be sent.

    Attributes:
        number: its place among the splits, from 0.
        reader: of the files that hold the rows, with the columns of all files.
        start_row: where the rows begin in those files.
        rows: how many there are; None: all that come.
    """

    number: int
    reader: Reader
    start_row: int = 0
    rows: int | None = None

    @property
    def schema(self) -> pa.Schema:
        """The columns of the whole input."""
        return self.reader.schema

    @property
    def num_rows(self) -> int | None:
        """How many rows there are, where that is known."""
        return self.rows

    def batches(
        self, start_row: int = 0, columns: Collection[str] | None = None
    ) -> Iterator[RowBatch]:
        """See ``Reader``."""
        left = None if self.rows is None else self.rows - start_row
        for batch in self.reader.batches(self.start_row + start_row, columns):
            rows = batch if left is None else batch.slice(0, min(left, batch.num_rows))
            yield rows
            left = None if left is None else left - rows.num_rows
            if left == 0:
                return


def cut(reader: Reader, *, workers: int, chunk_rows: int, limit: int | None) -> list[Split]:
    """Cut an input into splits, in order.

    Parquet is cut between row groups, Arrow files and pictures between any rows; any other file
    is read by one worker. Small files go together where they tell how many rows they have.

    Args:
        reader: the whole input.
        workers: how many there are to keep busy.
        chunk_rows: rows of a chunk; fewer than some chunks are not worth a part of their own.
        limit: the row to stop before, counted from the first.

    Raises:
        UsageError: where the limit falls cannot be told before the rows are read.
    """
    if isinstance(reader, PictureReader):
        rows = _rows_a_split(len(reader.paths), workers, chunk_rows)
        pieces: Iterator[Piece] = _pieces_of_pictures(reader, rows)
    elif isinstance(reader, UnionReader):
        known = sum(file.num_rows or 0 for file in reader.files)
        pieces = _pieces_of_files(reader, _rows_a_split(known, workers, chunk_rows))
    else:
        raise TypeError(f"no way to cut {type(reader).__name__}")
    splits = [Split(number, *piece) for number, piece in enumerate(pieces)]
    return splits if limit is None else list(_up_to(splits, limit))


def _rows_a_split(total: int, workers: int, chunk_rows: int) -> int:
    wanted = -(-total // (workers * SPLITS_A_WORKER))
    return max(1, min(max(wanted, MIN_CHUNKS * chunk_rows), MAX_ROWS))


Piece = tuple["Reader", int, int | None]
"""Of a split: its reader, where its rows begin there, and how many they are."""


def _pieces_of_pictures(reader: PictureReader, rows: int) -> Generator[Piece]:
    for start in range(0, len(reader.paths), rows):
        part = reader.of_files(start, start + rows)
        yield part, 0, len(part.paths)


def _pieces_of_files(reader: UnionReader, rows: int) -> Generator[Piece]:
    first = held = 0
    for number, file in enumerate(reader.files):
        if file.num_rows is not None and file.num_rows < rows:
            held += file.num_rows
            if held < rows:
                continue
            yield reader.of_files(first, number + 1), 0, held
        else:
            if held:
                yield reader.of_files(first, number), 0, held
            yield from _pieces_of_file(reader.of_files(number, number + 1), file, rows)
        first, held = number + 1, 0
    if held:
        yield reader.of_files(first, len(reader.files)), 0, held


def _pieces_of_file(reader: UnionReader, file: FileReader, rows: int) -> Generator[Piece]:
    start = 0
    if file.num_rows is None:
        yield reader, 0, None
        return
    for stop in _borders(file, file.num_rows, rows):
        yield reader, start, stop - start
        start = stop


def _borders(file: FileReader, total: int, rows: int) -> Iterator[int]:
    """Where the splits of a file end, counted in its rows; the last is its own end."""
    start = end = 0
    for step in _steps(file, total, rows):
        end += step
        if end - start >= rows:
            yield end
            start = end
    if end > start:
        yield end


def _steps(file: FileReader, total: int, rows: int) -> Iterable[int]:
    """The rows between one place where a split may end and the next."""
    if isinstance(file, PartitionedReader):
        return _steps(file.file, total, rows)
    if isinstance(file, ParquetReader):
        return file.group_rows
    if isinstance(file, ArrowReader):
        return (min(rows, total - start) for start in range(0, total, rows))
    return (total,)


def _up_to(splits: list[Split], limit: int) -> Iterator[Split]:
    left = limit
    for split in splits:
        if left == 0:
            return
        if split.rows is None and split is not splits[-1]:
            raise UsageError(
                "--limit: how many rows a file has is known only when it is read, and the limit "
                "may fall in a later file; name the first file alone, or leave out --engine"
            )
        rows = left if split.rows is None else min(left, split.rows)
        yield Split(split.number, split.reader, split.start_row, rows)
        left -= rows
