"""Arrays as they stand in JSON values, in any of their forms, and as float32."""

from __future__ import annotations

from math import prod
from typing import TYPE_CHECKING, Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from batchscore.codecs.columns import shown
from batchscore.codecs.datauri import data_uri_bytes, media_type_of
from batchscore.codecs.npy import read_npy

if TYPE_CHECKING:
    from collections.abc import Sequence

    from numpy.typing import NDArray

    Floats = NDArray[np.float32]

_NUMERIC_KINDS = "biuf"


def shape_text(shape: Sequence[int]) -> str:
    """The shape as JSON writes it."""
    return str(list(shape))


def numbers_of(values: pa.Array) -> NDArray[Any]:
    """The numbers of an Arrow array in its own type, decimals as float64; they may be shared."""
    if pa.types.is_decimal(values.type):
        values = pc.cast(values, pa.float64())
    return np.asarray(values.to_numpy(zero_copy_only=False))


def float32_of(numbers: NDArray[Any]) -> Floats:
    """The numbers as float32, shared if they are; what is too great becomes infinite."""
    with np.errstate(over="ignore"):
        return numbers.astype(np.float32, copy=False)


def numeric_array(value: object, *, nulls_as_nan: bool = False) -> NDArray[Any]:
    """Nested lists of JSON numbers as an array.

    Raises:
        ValueError: ragged lists, or something in them is no number.
    """
    array = np.array(value)
    if array.dtype.kind in _NUMERIC_KINDS or not array.size:
        return array
    if array.dtype.kind == "O":  # nulls, or integers beyond 64 bits
        number = (int, float, type(None)) if nulls_as_nan else (int, float)
        if all(isinstance(item, number) for item in array.flat):
            try:
                return array.astype(np.float64)
            except OverflowError:
                raise ValueError("a number is beyond float64") from None
        if any(item is None for item in array.flat):
            raise ValueError("there is a null inside the array")
    raise ValueError("the array does not hold numbers only")


def flat_float32(value: object, shape: tuple[int, ...], *, nulls_as_nan: bool = False) -> Floats:
    """The same as ``flat_numbers``, as float32."""
    return float32_of(flat_numbers(value, shape, nulls_as_nan=nulls_as_nan))


def flat_numbers(
    value: object, shape: tuple[int, ...], *, nulls_as_nan: bool = False
) -> NDArray[Any]:
    """One array of this shape, row-major and flat, from any of its forms.

    Those are ``{"shape", "data"}``, a NumPy file in a data URI, a nested or flat list, and a
    number where there is but one.

    Raises:
        ValueError: no such form, another shape, or not numbers.
    """
    if isinstance(value, str):
        if media_type_of(value) is None:
            raise ValueError(f"{shown(value)} is no array")
        array = read_npy(data_uri_bytes(value))
    elif isinstance(value, dict):
        if "shape" not in value or "data" not in value:
            raise ValueError('"shape" or "data" is missing')
        array = numeric_array(value["data"], nulls_as_nan=nulls_as_nan)
        stated = value["shape"]
        if not isinstance(stated, list) or (tuple(stated) or (1,)) != shape:
            raise ValueError(f"its shape is {stated}, not {shape_text(shape)}")
    else:
        array = numeric_array(value, nulls_as_nan=nulls_as_nan)
    is_flat = array.ndim <= 1 and not (isinstance(value, str) and len(shape) > 1)
    if array.size != prod(shape) or not (is_flat or array.shape == shape):
        raise ValueError(f"its shape is {shape_text(array.shape)}, not {shape_text(shape)}")
    return array.ravel()


def matrix_of_equal_rows(
    values: Sequence[object], shape: tuple[int, ...], *, nulls_as_nan: bool
) -> Floats | None:
    """All arrays at once, a flat row each, where all have the same list form; else None."""
    lists: list[Any] = []
    wanted = list(shape)
    for value in values:
        if type(value) is list:
            lists.append(value)
        elif type(value) is dict and value.get("shape") == wanted and "data" in value:
            lists.append(value["data"])
        else:
            return None
    try:
        array = numeric_array(lists, nulls_as_nan=nulls_as_nan)
    except ValueError:
        return None
    if array.shape not in ((len(lists), *shape), (len(lists), prod(shape))):
        return None
    return float32_of(array).reshape(len(lists), prod(shape))
