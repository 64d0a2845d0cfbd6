"""How much data a row holds: the same number however the rows were batched, sliced or read."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

if TYPE_CHECKING:
    import numpy.typing as npt

_types = pa.types


def batch_bits(batch: pa.RecordBatch) -> npt.NDArray[np.int64]:
    """The bits of data in each row.

    Counted are the widths of fixed-width values, null or not, and the lengths of texts and
    lists; neither offsets nor validity bitmaps, which slicing and writing may change. So the sum
    is never more than ``batch.nbytes``.
    """
    fixed = 0
    total = np.zeros(batch.num_rows, dtype=np.int64)
    for column in batch.columns:
        bits = _bits(column)
        if isinstance(bits, int):
            fixed += bits
        else:
            total += bits
    return total + fixed


def _bits(array: pa.Array) -> npt.NDArray[np.int64] | int:  # noqa: PLR0911 - a table of cases
    """The bits of data in each value; one number where all are alike."""
    dtype = array.type
    if isinstance(dtype, pa.BaseExtensionType):
        return _bits(array.storage)
    if _types.is_null(dtype):
        return 0
    if _types.is_primitive(dtype) or _types.is_decimal(dtype) or _types.is_fixed_size_binary(dtype):
        return int(dtype.bit_width)
    if _types.is_fixed_size_list(dtype):
        return _fixed_size_list_bits(array)
    if _types.is_struct(dtype):
        return _sum([_bits(child) for child in array.flatten()])
    if _types.is_map(dtype):
        return _list_bits(array, array.keys, array.items)
    if _types.is_list(dtype) or _types.is_large_list(dtype):
        return _list_bits(array, array.values)
    if _is_text(dtype):
        lengths = pc.fill_null(pc.binary_length(array), 0).to_numpy(zero_copy_only=False)
        return np.asarray(lengths, dtype=np.int64) * 8
    return 8  # A union: its type code is all that is sure.


def _is_text(dtype: pa.DataType) -> bool:
    return bool(
        _types.is_string(dtype)
        or _types.is_large_string(dtype)
        or _types.is_binary(dtype)
        or _types.is_large_binary(dtype)
    )


def _sum(parts: list[npt.NDArray[np.int64] | int]) -> npt.NDArray[np.int64] | int:
    total: npt.NDArray[np.int64] | int = 0
    for part in parts:
        total = total + part
    return total


def _list_bits(array: pa.Array, *children: pa.Array) -> npt.NDArray[np.int64]:
    offsets = array.offsets.to_numpy().astype(np.int64)
    first, last = int(offsets[0]), int(offsets[-1])
    inner = _sum([_bits(child.slice(first, last - first)) for child in children])
    if isinstance(inner, int):
        return _without_nulls(array, np.diff(offsets) * inner)
    before = np.concatenate(([0], np.cumsum(inner)))
    return _without_nulls(array, np.diff(before[offsets - first]))


def _fixed_size_list_bits(array: pa.Array) -> npt.NDArray[np.int64] | int:
    size = int(array.type.list_size)
    # Unlike flatten(), slicing the values keeps those of null lists, so that rows stay aligned.
    inner = _bits(array.values.slice(array.offset * size, len(array) * size))
    if isinstance(inner, int):
        return inner * size
    if size == 0:
        return 0
    sums: npt.NDArray[np.int64] = inner.reshape(-1, size).sum(axis=1)
    return _without_nulls(array, sums)


def _without_nulls(array: pa.Array, bits: npt.NDArray[np.int64]) -> npt.NDArray[np.int64]:
    if array.null_count:
        valid = np.asarray(array.is_valid().to_numpy(zero_copy_only=False), dtype=bool)
        bits = bits * valid.astype(np.int64)
    return bits


def rows_within(bits: list[npt.NDArray[np.int64]], max_bytes: int) -> int:
    """How many of the first rows, whose bits these are, stay within so many bytes together."""
    rows, room = 0, max_bytes * 8
    for piece in bits:
        ends = np.cumsum(piece)
        fitting = int(np.searchsorted(ends, room, side="right"))
        rows += fitting
        if fitting < len(piece):
            break
        room -= int(ends[-1]) if len(ends) else 0
    return rows
