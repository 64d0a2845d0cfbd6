"""NumPy's file format, version 1 and 2: numbers only, nothing is ever unpickled."""

from __future__ import annotations

import ast
from functools import lru_cache
from io import BytesIO
from math import prod
from typing import TYPE_CHECKING, Any

import numpy as np

if TYPE_CHECKING:
    from numpy.typing import NDArray

NPY_MEDIA_TYPE = "application/x.peltarion.npy"
_MAGIC = b"\x93NUMPY"
_HEADER_MAX_BYTES = 4096


@lru_cache(maxsize=64)
def npy_header(shape: tuple[int, ...]) -> bytes:
    """What ``numpy.save`` writes before the numbers of a float32 array of this shape."""
    buffer = BytesIO()
    header = {"descr": "<f4", "fortran_order": False, "shape": shape}
    np.lib.format.write_array_header_1_0(buffer, header)
    return buffer.getvalue()


def read_npy(data: bytes) -> NDArray[Any]:
    """The array of a ``.npy`` file, in its own type.

    Raises:
        ValueError: not such a file, cut off, or its values are no numbers.
    """
    if data[:6] != _MAGIC or len(data) < 12 or data[6] not in (1, 2):
        raise ValueError("not a .npy file")
    start = 10 if data[6] == 1 else 12
    length = int.from_bytes(data[8:start], "little")
    if length > _HEADER_MAX_BYTES:
        raise ValueError("not a .npy file of numbers: its header is too long")
    dtype, is_fortran, shape = _parsed(data[start : start + length])
    # The header is believed only as far as there are bytes: it may promise terabytes.
    count = prod(shape)
    body = memoryview(data)[start + length :]
    if len(body) < count * dtype.itemsize:
        raise ValueError("the .npy file is cut off")
    numbers = np.frombuffer(body, dtype, count)
    return numbers.reshape(shape, order="F" if is_fortran else "C")


@lru_cache(maxsize=64)
def _parsed(header: bytes) -> tuple[np.dtype[Any], bool, tuple[int, ...]]:
    try:
        fields = ast.literal_eval(header.decode("latin-1").strip())
        descr, is_fortran, shape = fields["descr"], fields["fortran_order"], fields["shape"]
        dtype = np.dtype(descr) if isinstance(descr, str) else None
        shape = tuple(int(size) for size in shape)
    except (ValueError, SyntaxError, TypeError, KeyError, RecursionError, MemoryError):
        raise ValueError("not a .npy file: its header is broken") from None
    if dtype is None or dtype.kind not in "biuf" or any(size < 0 for size in shape):
        raise ValueError("the .npy file does not hold numbers")
    return dtype, bool(is_fortran), shape
