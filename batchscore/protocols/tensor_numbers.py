"""Numbers in the datatype of a tensor: those that do not fit are told, never bent."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING, Any

import numpy as np
import pyarrow as pa

from batchscore.codecs.columns import is_numeric, plain_type

if TYPE_CHECKING:
    from numpy.typing import NDArray

    Numbers = NDArray[Any]

_INTEGER = re.compile(r"[+-]?[0-9]+")
_NUMBER = re.compile(r"[+-]?([0-9]+(\.[0-9]*)?|\.[0-9]+)([eE][+-]?[0-9]+)?")
_NONFINITE = re.compile(r"[+-]?(nan|inf|infinity)", re.IGNORECASE)


def own_dtype(type_: pa.DataType) -> np.dtype[Any]:
    """The type of a column's numbers; float64 where it has none of NumPy's."""
    type_ = plain_type(type_)
    if isinstance(type_, pa.FixedShapeTensorType):
        return own_dtype(type_.value_type)
    if pa.types.is_nested(type_) and not pa.types.is_struct(type_):
        return own_dtype(type_.value_type)
    if is_numeric(type_) and not pa.types.is_decimal(type_):
        found: np.dtype[Any] = np.dtype(type_.to_pandas_dtype())
        return found
    return np.dtype(np.float64)


def in_datatype(numbers: Numbers, dtype: np.dtype[Any]) -> tuple[Numbers, NDArray[np.bool_] | None]:
    """Numbers in a datatype, and which of them it has not; None: it has all.

    Fractions are no integers, 2 is no boolean, and what is too great for a float is not infinite.
    """
    if numbers.dtype == dtype:
        return numbers, None
    source = numbers.dtype.kind
    bad: NDArray[np.bool_] | None = None
    if dtype.kind == "b":
        bad = (numbers != 0) & (numbers != 1)
    elif dtype.kind in "iu" and source in "iu" and not np.can_cast(numbers.dtype, dtype):
        limits = np.iinfo(dtype)
        bad = (numbers < int(limits.min)) | (numbers > int(limits.max))
    elif dtype.kind in "iu" and source == "f":
        limits = np.iinfo(dtype)
        # The greatest integer may have no float of its own, the one above it always has.
        is_inside = (numbers >= float(limits.min)) & (numbers < float(int(limits.max) + 1))
        bad = ~is_inside | (np.trunc(numbers) != numbers)
    elif dtype.kind in "iub" and source == "O":
        raise OverflowError
    if bad is not None and bad.any():
        numbers = np.where(bad, 0, numbers)
    with np.errstate(over="ignore"):
        fitted = numbers.astype(dtype)
    if dtype.kind == "f":
        bad = np.isinf(fitted)
        if bad.any() and source == "f":
            bad &= np.isfinite(numbers)
    return fitted, bad if bad is not None and bad.any() else None


def parsed_number(cell: Any) -> Any:
    """A cell's number; None where it is empty; ``ValueError`` where it holds none."""
    if cell is None or not isinstance(cell, str):
        return cell if cell is None or cell != cell.to_integral_value() else int(cell)
    cell = cell.strip()
    if not cell:
        return None
    if _INTEGER.fullmatch(cell):
        return int(cell)
    if _NUMBER.fullmatch(cell) or _NONFINITE.fullmatch(cell):
        return float(cell)
    raise ValueError(cell)
