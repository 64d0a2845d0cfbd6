"""The input cut into chunks by its data alone, whatever batches the reader yields."""

from __future__ import annotations

from collections import deque
from collections.abc import Generator
from contextlib import contextmanager
from dataclasses import dataclass
from inspect import GEN_RUNNING, getgeneratorstate
from typing import TYPE_CHECKING

import pyarrow as pa

from batchscore.batches import Chunk, RowBatch, RowFailure
from batchscore.config import AUTO_ROWS
from batchscore.errors import UsageError
from batchscore.readers.measure import batch_bits, rows_within

if TYPE_CHECKING:
    from collections.abc import Collection, Iterator

    import numpy as np
    import numpy.typing as npt

    from batchscore.readers.base import Reader

AUTO_BYTES = 2**20


def chunks(
    reader: Reader,
    *,
    batch_rows: int | None,
    columns: Collection[str] | None,
    limit: int | None,
    start_row: int = 0,
) -> Generator[list[Chunk], None, None]:
    """Cut the input into chunks; where they begin and end depends on the rows alone.

    Started again at any border of an earlier run, it goes on with the very same chunks. They come
    as lists of those that one read completed, so that none waits for the next read.

    Args:
        reader: where the rows come from.
        batch_rows: rows a chunk, the last one may be shorter. None: 1,024 rows or 1 MiB of data,
            whichever is less, and at least one row.
        columns: the columns to read; None: all. They take part in the 1 MiB.
        limit: the row to stop before, counted from the first of the input; None: read all.
        start_row: the row to begin at.

    Raises:
        InputError: the input cannot be read any further.
        UsageError: a chunk's data would be more than one Arrow array can hold.
    """
    pending = _Pending(batch_rows)
    row = start_row
    if limit is not None and limit <= start_row:
        return
    with _closing(reader.batches(start_row, columns)) as batches:
        for batch in batches:
            room = batch.num_rows if limit is None else limit - row - pending.num_rows
            pending.append(batch if batch.num_rows <= room else batch.slice(0, room))
            whole: list[Chunk] = []
            while taken := pending.next_chunk_rows():
                whole.append(Chunk(row, pending.take(taken)))
                row += taken
            if whole:
                yield whole
            if limit is not None and row + pending.num_rows >= limit:
                break
    while taken := pending.next_chunk_rows(at_end=True):
        yield [Chunk(row, pending.take(taken))]
        row += taken


def leave(chunks: Generator[list[Chunk], None, None]) -> None:
    """Close the files of chunks that are read no further.

    Else they stay open for as long as somebody holds the error that ended the run. Where a thread
    still hangs in a silent pipe, nothing can be closed.
    """
    if getgeneratorstate(chunks) != GEN_RUNNING:
        chunks.close()


@contextmanager
def _closing(batches: Iterator[RowBatch]) -> Iterator[Iterator[RowBatch]]:
    """Let a reader that is a generator close its file at once, not when memory is tidied up."""
    try:
        yield batches
    finally:
        if isinstance(batches, Generator):
            batches.close()


@dataclass(slots=True)
class _Piece:
    """Rows of one reader batch, with what was measured of them."""

    rows: RowBatch
    nbytes: int | None = None
    bits: npt.NDArray[np.int64] | None = None

    def head_nbytes(self, rows: int) -> int:
        """An upper bound of the data in the first rows."""
        if rows < self.rows.num_rows:
            return int(self.rows.columns.slice(0, rows).nbytes)
        if self.nbytes is None:
            self.nbytes = int(self.rows.columns.nbytes)
        return self.nbytes

    def head_bits(self, rows: int) -> npt.NDArray[np.int64]:
        if self.bits is None or len(self.bits) < rows:
            self.bits = batch_bits(self.rows.columns.slice(0, rows))
        return self.bits[:rows]


class _Pending:
    """Rows that were read and are in no chunk yet."""

    def __init__(self, batch_rows: int | None) -> None:
        self._batch_rows = batch_rows
        self._pieces: deque[_Piece] = deque()
        # Of all pieces, at most; spares adding them up for every tiny batch of a reader.
        self._nbytes = 0
        self.num_rows = 0

    def append(self, rows: RowBatch) -> None:
        if rows.num_rows:
            piece = _Piece(rows)
            self._pieces.append(piece)
            self.num_rows += rows.num_rows
            if self._batch_rows is None:
                self._nbytes += piece.head_nbytes(rows.num_rows)

    def next_chunk_rows(self, *, at_end: bool = False) -> int:
        """How many rows make the next chunk; 0 if that takes more rows than there are."""
        if not self.num_rows:
            return 0
        wanted = AUTO_ROWS if self._batch_rows is None else self._batch_rows
        rows = min(wanted, self.num_rows)
        if self._batch_rows is None and not self._surely_small(rows):
            bits = [piece.head_bits(count) for piece, count in self._heads(rows)]
            fitting = rows_within(bits, AUTO_BYTES)
            if fitting < rows:
                return max(fitting, 1)
        return rows if rows == wanted or at_end else 0

    def _surely_small(self, rows: int) -> bool:
        if self._nbytes <= AUTO_BYTES:
            return True
        # Only a large piece at the end makes the sum below differ from the one kept.
        return sum(p.head_nbytes(count) for p, count in self._heads(rows)) <= AUTO_BYTES

    def _heads(self, rows: int) -> Iterator[tuple[_Piece, int]]:
        for piece in self._pieces:
            if not rows:
                return
            count = min(rows, piece.rows.num_rows)
            yield piece, count
            rows -= count

    def take(self, rows: int) -> RowBatch:
        """Remove the first rows and return them as one batch."""
        taken: list[RowBatch] = []
        left = rows
        while left:
            piece = self._pieces.popleft()
            held = piece.rows.num_rows
            if self._batch_rows is None:
                self._nbytes -= piece.head_nbytes(held)
            if held > left:
                rest = _Piece(piece.rows.slice(left, held))
                if piece.bits is not None and len(piece.bits) > left:
                    rest.bits = piece.bits[left:]
                if self._batch_rows is None:
                    self._nbytes += rest.head_nbytes(held - left)
                self._pieces.appendleft(rest)
            taken.append(piece.rows.slice(0, min(left, held)))
            left -= min(left, held)
        self.num_rows -= rows
        return taken[0] if len(taken) == 1 else _joined(taken, rows)


def _joined(batches: list[RowBatch], num_rows: int) -> RowBatch:
    failures: dict[int, RowFailure] = {}
    row = 0
    for batch in batches:
        failures.update({row + position: why for position, why in batch.failures.items()})
        row += batch.num_rows
    if not batches[0].columns.num_columns:
        return RowBatch(pa.record_batch([pa.nulls(num_rows)], ["rows"]).select([]), failures)
    table = pa.Table.from_batches([batch.columns for batch in batches])
    whole = table.combine_chunks().to_batches()
    if len(whole) > 1:
        raise UsageError(
            f"{num_rows:,} rows hold more text than one batch can (2 GiB); lower --batch-size"
        )
    return RowBatch(whole[0], failures)
