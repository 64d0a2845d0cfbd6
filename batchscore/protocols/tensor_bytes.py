"""The bytes of a tensor's rows, of which any run can be sent."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property
from typing import TYPE_CHECKING

import numpy as np
import orjson
import pyarrow as pa
import pyarrow.compute as pc

from batchscore.codecs.columns import bytes_and_ends

if TYPE_CHECKING:
    from collections.abc import Callable

    from numpy.typing import NDArray

    Rows = NDArray[np.int64]

_NOTHING = pa.scalar(b"", pa.large_binary())


@dataclass(frozen=True)
class Encoded:
    """The rows of one tensor on the wire, one after another.

    Attributes:
        data: their bytes; in JSON what stands between the brackets.
        ends: where each row ends, the comma behind it included; or how many bytes each has; or
            what tells where they end, asked only if fewer rows are to be sent.
        gap: how many bytes stand between two rows.
    """

    data: memoryview
    ends: int | Callable[[], Rows]
    gap: int = 0

    @cached_property
    def _bounds(self) -> Rows:
        assert not isinstance(self.ends, int)  # noqa: S101 - for the type checker
        return np.concatenate(([0], self.ends()))

    def part(self, start: int, stop: int, num_rows: int) -> memoryview:
        """The bytes of the rows from start to stop, of all those there are."""
        if start == 0 and stop == num_rows:
            return self.data
        if isinstance(self.ends, int):
            return self.data[start * self.ends : stop * self.ends]
        if start == stop:
            return self.data[:0]
        return self.data[int(self._bounds[start]) : int(self._bounds[stop]) - self.gap]


def ends_of_numbers(json: memoryview, width: int) -> Rows:
    """Where each row of so many numbers and its comma end, were there a comma behind the last."""
    commas = np.flatnonzero(np.frombuffer(json, np.uint8) == ord(",")) + 1
    return np.append(commas, len(json) + 1)[width - 1 :: width]


def json_texts(strings: list[str]) -> Encoded:
    """Texts as JSON strings."""
    json = memoryview(orjson.dumps(strings))[1:-1]

    def ends() -> Rows:
        return np.cumsum([len(orjson.dumps(each)) + 1 for each in strings])

    return Encoded(json, ends, 1)


def with_lengths(column: pa.Array) -> Encoded:
    """Byte strings without nulls, each behind its length of four bytes."""
    if not len(column):
        return Encoded(memoryview(b""), lambda: np.zeros(0, np.int64))
    ends = np.append(0, bytes_and_ends(column)[1])
    lengths = np.diff(ends)
    offsets = np.arange(len(column) + 1, dtype=np.int64) * 4
    prefixes = pa.Array.from_buffers(
        pa.large_binary(),
        len(column),
        [None, pa.py_buffer(offsets), pa.py_buffer(lengths.astype("<u4"))],
    )
    # With wide offsets the bytes may grow beyond 2 GiB.
    joined = pc.binary_join_element_wise(prefixes, column.cast(pa.large_binary()), _NOTHING)
    bounds = np.cumsum(lengths + 4)
    return Encoded(memoryview(joined.buffers()[2])[: int(bounds[-1])], lambda: bounds)
