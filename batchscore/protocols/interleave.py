"""Rows of JSON objects from columns, without a Python object a cell.

Each column becomes the JSON text of all its cells, one after another. What stands between two
cells of a row (``,"name":``) is a text as well, the same in all rows. One Arrow ``take`` lays
the texts out row by row, and the bytes of its result are the rows. Where cells are large, to move
their bytes costs more than an object a cell, so they are moved once: all pieces are joined.
"""

from __future__ import annotations

from functools import lru_cache
from itertools import chain, pairwise
from typing import TYPE_CHECKING, Any, Literal

import msgspec
import numpy as np
import orjson
import pyarrow as pa
import pyarrow.compute as pc

from batchscore.codecs.base import NumberColumn, PieceColumn, TextColumn

if TYPE_CHECKING:
    from collections.abc import Sequence

    import numpy.typing as npt

    from batchscore.codecs.base import WholeColumn

    Bytes = npt.NDArray[np.uint8]
    Positions = npt.NDArray[np.int64]
    Numbers = npt.NDArray[np.int32]

_COMMA = ord(",")
# What 32-bit offsets can reach; they take half the cache.
_MAX_SMALL_BYTES = 2**31 - 1
# From about this size on, the texts of cells are joined as objects.
_LARGE_CELL_BYTES = 512
_NUMBER_BYTES = 20


class Interleaver:
    """Writes rows with these keys, in their order.

    Args:
        names: a key a column.
        form: a row is an object of them, a list of its cells, or its one cell alone.
    """

    def __init__(
        self, names: Sequence[str], form: Literal["object", "list", "cell"] = "object"
    ) -> None:
        is_object = form == "object"
        self._keys = [msgspec.json.encode(name) + b":" if is_object else b"" for name in names]
        self._open, self._close = {"object": (b"{", b"}"), "list": (b"[", b"]")}.get(
            form, (b"", b"")
        )

    def body(
        self,
        head: bytes,
        columns: Sequence[WholeColumn],
        positions: Positions,
        tail: bytes,
    ) -> tuple[bytes, int]:
        """Some rows as JSON with commas between them, and what stands around them.

        Args:
            head: what stands before the rows.
            columns: a column a key, all of one length.
            positions: which rows; at least one.
            tail: what stands behind them.

        Returns:
            The text, and how many numbers of all rows stand there as null.
        """
        if sum(map(_mean_bytes, columns)) >= _LARGE_CELL_BYTES * len(columns):
            return self._joined(head, columns, positions, tail)
        return self._taken(head, list(map(_with_text, columns)), positions, tail)

    def _joined(
        self, head: bytes, columns: Sequence[WholeColumn], positions: Positions, tail: bytes
    ) -> tuple[bytes, int]:
        keys = [b"," + key for key in self._keys]
        keys[0] = b"," + self._open + self._keys[0]
        cells = [_pieces(column) for column in columns]
        end = (self._close,)
        parts: list[bytes | memoryview] = [head]
        for position in positions.tolist():
            for key, column in zip(keys, cells, strict=True):
                parts.append(key)
                parts += column[position]
            parts += end
        parts[1] = keys[0][1:]
        parts.append(tail)
        return b"".join(parts), sum(map(_nonfinite, columns))

    def _taken(
        self,
        head: bytes,
        columns: Sequence[NumberColumn | TextColumn],
        positions: Positions,
        tail: bytes,
    ) -> tuple[bytes, int]:
        texts = _Texts()
        firsts, nonfinite = _add_columns(texts, columns)
        openings, closings = [b""] * len(columns), [b","] * len(columns)
        for place, column in enumerate(columns):
            if isinstance(column, TextColumn):
                openings[place], closings[place] = column.opening, column.closing + b","
        end = closings[-1][:-1] + self._close
        # What closes a row, and the comma before the next one.
        closings[-1] = end + b","
        num_rows = texts.count // len(columns)
        for place, column in enumerate(columns):
            if isinstance(column, TextColumn) and not column.has_spare:
                continue
            # Behind a number there is a comma already.
            if isinstance(column, TextColumn) or closings[place] != b",":
                texts.put_in_spare(firsts[place], num_rows, closings[place][0])
            closings[place] = closings[place][1:]
        # Before a cell stands what closes the one before it; before the first of a row, what
        # closes the row above, and a comma.
        before = [closings[-1] + self._open, *closings[:-1]]
        between = [b"".join(parts) for parts in zip(before, self._keys, openings, strict=True)]
        order = _order(num_rows, tuple(firsts), texts.add_all(between))
        if len(positions) < len(order):
            order = order[positions]
        rows = texts.in_order(order.ravel())[len(closings[-1]) :]
        # The last row's own byte of what closes it may be in it already: its end, or the comma.
        spared = len(end) + 1 - len(closings[-1])
        if spared > len(end):
            rows = rows[:-spared]
        return b"".join((head, rows, end[spared:], tail)), nonfinite


def _mean_bytes(column: WholeColumn) -> float:
    """About how many bytes the text of a cell has."""
    match column:
        case PieceColumn():
            return sum(map(len, chain.from_iterable(column.pieces))) / len(column.pieces)
        case TextColumn():
            return len(column.data) / len(column.ends)
    return _NUMBER_BYTES


def _pieces(column: WholeColumn) -> Sequence[tuple[bytes | memoryview, ...]]:
    """The text of each cell in pieces."""
    if isinstance(column, PieceColumn):
        return column.pieces
    if isinstance(column, NumberColumn):
        return [(number,) for number in _json_of(column.numbers)[1:-1].split(b",")]
    data, spare = memoryview(column.data.data), int(column.has_spare)
    bounds = pairwise([0, *column.ends.tolist()])
    return [(column.opening, data[start : end - spare], column.closing) for start, end in bounds]


def _nonfinite(column: WholeColumn) -> int:
    """How many numbers stand there as null."""
    if not isinstance(column, NumberColumn):
        return column.nonfinite
    return _count_nonfinite(column.numbers) - column.nulls


def _count_nonfinite(numbers: npt.NDArray[Any]) -> int:
    return len(numbers) - int(np.count_nonzero(np.isfinite(numbers)))


def _json_of(numbers: npt.NDArray[Any]) -> bytes:
    return orjson.dumps(numbers, option=orjson.OPT_SERIALIZE_NUMPY)


def _with_text(column: WholeColumn) -> NumberColumn | TextColumn:
    """The column with all its text in one place."""
    if not isinstance(column, PieceColumn):
        return column
    lengths = [sum(map(len, pieces)) for pieces in column.pieces]
    data = np.frombuffer(b"".join(chain.from_iterable(column.pieces)), np.uint8)
    return TextColumn(data, np.cumsum(lengths), nonfinite=column.nonfinite)


@lru_cache(maxsize=4)
def _order(num_rows: int, firsts: tuple[int, ...], first_between: int) -> Numbers:
    """The numbers of the texts that make each row: what stands before a cell, the cell, ..."""
    order = np.empty((num_rows, 2 * len(firsts)), np.int32)
    order[:, 0::2] = np.arange(len(firsts)) + first_between
    order[:, 1::2] = np.arange(num_rows)[:, None] + firsts
    return order


def _add_columns(
    texts: _Texts, columns: Sequence[NumberColumn | TextColumn]
) -> tuple[list[int], int]:
    """Add the cells of all columns.

    Returns:
        For each column the number of its first text, and how many numbers stand there as null.
    """
    firsts = [-1] * len(columns)
    nonfinite = 0
    alike: dict[np.dtype[Any], list[int]] = {}
    for place, column in enumerate(columns):
        if isinstance(column, NumberColumn):
            alike.setdefault(column.numbers.dtype, []).append(place)
            nonfinite -= column.nulls
        else:
            firsts[place] = texts.add(column.data, column.ends)
            nonfinite += column.nonfinite
    for dtype, places in alike.items():
        # All at once: a call costs as much as some dozens of numbers.
        numbers = np.concatenate([columns[place].numbers for place in places])  # type: ignore[union-attr]
        if dtype == np.float64:
            nonfinite += _count_nonfinite(numbers)
        data = np.frombuffer(_json_of(numbers), np.uint8)[1:]
        first = texts.add(data, np.append(np.flatnonzero(data == _COMMA) + 1, len(data)))
        texts.put_in_spare(first + len(numbers) - 1, 1, _COMMA)
        for place in places:
            firsts[place] = first
            first += len(numbers) // len(places)
    return firsts, nonfinite


class _Texts:
    """Numbered texts, one after another; ``count`` is how many there are."""

    def __init__(self) -> None:
        self._data: list[Bytes] = []
        self._ends: list[tuple[Positions, int]] = [(np.zeros(1, np.int64), 0)]
        self._spares: list[tuple[int, int, int]] = []
        self._size = self.count = 0

    def add(self, data: Bytes, ends: Positions) -> int:
        """Add texts by where they end in the data; the number of the first."""
        first = self.count
        self._data.append(data)
        self._ends.append((ends, self._size))
        self._size += len(data)
        self.count += len(ends)
        return first

    def add_all(self, texts: Sequence[bytes]) -> int:
        """Add texts; the number of the first."""
        ends = np.cumsum([len(text) for text in texts])
        return self.add(np.frombuffer(b"".join(texts), np.uint8), ends)

    def put_in_spare(self, first: int, count: int, byte: int) -> None:
        """Put this byte in the place of the last one of so many texts."""
        self._spares.append((first, count, byte))

    def in_order(self, numbers: Numbers) -> memoryview:
        """The texts with these numbers, one after another."""
        is_large = self._size > _MAX_SMALL_BYTES
        width = np.int64 if is_large else np.int32
        data = np.concatenate(self._data)
        ends = np.concatenate(
            [np.add(ends, start, dtype=width, casting="unsafe") for ends, start in self._ends]
        )
        for first, count, byte in self._spares:
            data[ends[first + 1 : first + count + 1] - 1] = byte
        buffers = [None, pa.py_buffer(ends), pa.py_buffer(data)]
        kind = pa.large_binary() if is_large else pa.binary()
        texts = pa.Array.from_buffers(kind, self.count, buffers)
        taken = pc.take(texts, pa.array(numbers), boundscheck=False)
        return memoryview(taken.buffers()[2])
