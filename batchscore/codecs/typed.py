"""Inputs as Arrow columns of the very types that a model takes.

For protocols that send values as they are, and not as the Deployment API writes them: numbers of
the declared datatype, booleans, text, moments, arrays in the type of their numbers, and the bytes
of pictures. What a cell cannot become fails its row.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from batchscore.codecs.base import TypedColumn
from batchscore.codecs.columns import (
    is_text,
    is_untyped,
    named,
    plain,
    plain_type,
    shown,
    texts,
    wrong_type,
)
from batchscore.codecs.number import number_input
from batchscore.codecs.text import text_input
from batchscore.codecs.typed_array import array_input
from batchscore.errors import InputError

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from batchscore.codecs.base import TypedInput
    from batchscore.codecs.folder import ImageFolder
    from batchscore.codecs.image import ImageInput
    from batchscore.codecs.number import NumberInput
    from batchscore.codecs.text import TextInput
    from batchscore.schema import FeatureSpec

MOMENT = "datetime"
"""The datatype of text that is a date and time."""

_NUMBER = r"^[+-]?([0-9]+(\.[0-9]*)?|\.[0-9]+)([eE][+-]?[0-9]+)?$|^[+-]?(?i:nan|inf|infinity)$"
_INTEGER = r"^[+-]?[0-9]+$"
# More than any type of integers has.
_MAX_DIGITS = 40
_TRUTHS = {"true": True, "false": False, "1": True, "0": False, "1.0": True, "0.0": False}


def typed_input(spec: FeatureSpec, column: pa.Field, folder: ImageFolder | None) -> TypedInput:
    """What makes the values of this feature from that column.

    Raises:
        InputError: the column's type can never serve the feature, or its datatype is not known.
    """
    if spec.kind == "number" or (spec.dtype == "numpy" and spec.shape == ()):
        return _Numbers(column, number_input(spec, column), arrow_type(spec))
    match spec.kind:
        case "image":
            from batchscore.codecs.image import image_input  # noqa: PLC0415 (Pillow is large)

            return _Pictures(column, image_input(spec, column, folder))
        case "array":
            return array_input(spec, column, arrow_type(spec), folder)
    if spec.datatype == MOMENT:
        return _Moments.of(spec, column)
    return _Texts(column, text_input(spec, column))


def arrow_type(spec: FeatureSpec) -> pa.DataType | None:
    """The type of the feature's numbers, where it is declared.

    Raises:
        InputError: NumPy has no numbers of that name.
    """
    if spec.datatype is None:
        return None
    try:
        dtype = np.dtype(spec.datatype)
    except TypeError:
        dtype = np.dtype(object)
    if dtype.kind not in "biuf" or dtype.itemsize > 8:
        raise InputError(
            f"the feature {spec.name!r} is declared with the datatype {spec.datatype!r}; it takes "
            "bool, int8 to int64, uint8 to uint64, float16, float32 or float64"
        )
    return pa.from_numpy_dtype(dtype)


@dataclass(frozen=True, slots=True)
class _Numbers:
    """Numbers and booleans, in the declared type or else their own."""

    field: pa.Field
    codec: NumberInput
    wanted: pa.DataType | None
    blocks: bool = False

    def column(self, cells: pa.Array) -> TypedColumn:
        """See ``TypedInput``. Text is integers where all of its cells are, else doubles."""
        cells = plain(cells)
        failures: dict[int, str] = {}
        nonfinite = 0
        if is_text(cells.type):
            cells, failures = _parsed(cells, self.wanted)
            if self.wanted is not None and pa.types.is_integer(self.wanted) and is_text(cells.type):
                cells, found, nonfinite = _whole_numbers(cells, self.wanted)
                failures = found | failures
        if pa.types.is_null(cells.type):
            return TypedColumn(pa.nulls(len(cells), self.wanted or pa.float64()))
        if self.wanted is None or cells.type == self.wanted:
            return TypedColumn(cells, named(self.field, failures), nonfinite)
        array, found, nonfinite = _cast(cells, self.wanted)
        return TypedColumn(array, named(self.field, found | failures), nonfinite)

    def wire_bytes(self, cells: pa.Array) -> int:
        """See ``TypedInput``."""
        return self.codec.wire_bytes(cells)


def _parsed(cells: pa.Array, wanted: pa.DataType | None) -> tuple[pa.Array, dict[int, str]]:
    """Numbers of text, and the rows in which there is none; empty text is null.

    Where integers are wanted and not all of them are as plain as that, text stays text.
    """
    failures: dict[int, str] = {}
    try:
        cells.validate(full=True)  # that all of it is UTF-8
    except pa.ArrowInvalid:
        values, failures = texts(cells)
        cells = pa.array(values, pa.string())
    trimmed = pc.utf8_trim_whitespace(cells)
    trimmed = pc.if_else(pc.equal(trimmed, ""), pa.scalar(None, trimmed.type), trimmed)
    if wanted is not None and pa.types.is_boolean(wanted):
        lower = pc.utf8_lower(trimmed)
        place = pc.index_in(lower, pa.array(_TRUTHS, lower.type))
        good = pc.or_kleene(pc.is_valid(place), pc.is_null(trimmed))
        numbers = pa.array(list(_TRUTHS.values())).take(place)
    else:
        good = pc.fill_null(pc.match_substring_regex(trimmed, _NUMBER), True)
        number = pc.utf8_ltrim(pc.if_else(good, trimmed, None), "+")
        numbers = _integers(number)
        if numbers is None and wanted is not None and pa.types.is_integer(wanted):
            numbers = number
        elif numbers is None:
            numbers = pc.cast(number, pa.float64())
    for row in _rows(pc.invert(good)):
        what = "is neither true nor false" if pa.types.is_boolean(numbers.type) else "is no number"
        failures.setdefault(row, f"{shown(trimmed[row].as_py())} {what}")
    return numbers, failures


def _integers(texts_: pa.Array) -> pa.Array | None:
    if pc.all(pc.match_substring_regex(texts_, _INTEGER)).as_py() is False:
        return None
    try:
        return pc.cast(texts_, pa.int64())
    except pa.ArrowInvalid:  # beyond 64 bits
        return None


def _whole_numbers(cells: pa.Array, wanted: pa.DataType) -> tuple[pa.Array, dict[int, str], int]:
    """Integers of text in which there may be a fraction that is none, as ``3.0``; see ``_cast``."""
    info = np.iinfo(wanted.to_pandas_dtype())
    values: list[int | None] = []
    failures: dict[int, str] = {}
    nonfinite = 0
    for row, text in enumerate(cells.to_pylist()):
        value: float | int | None = None
        if text is not None:
            is_whole = text.lstrip("-").isdigit()
            value = int(text) if is_whole and len(text) <= _MAX_DIGITS else float(text)
            if not is_whole and not math.isfinite(value):
                value, nonfinite = None, nonfinite + 1
            elif not (info.min <= value <= info.max and value == int(value)):
                failures[row], value = f"{shown(text)} is no {wanted}", None
        values.append(None if value is None else int(value))
    return pa.array(values, wanted), failures, nonfinite


def _cast(cells: pa.Array, wanted: pa.DataType) -> tuple[pa.Array, dict[int, str], int]:
    """Numbers in another type, the rows that have no place in it, and what became null."""
    if pa.types.is_boolean(cells.type):
        return pc.cast(pc.cast(cells, pa.uint8()), wanted), {}, 0
    if pa.types.is_floating(wanted):
        floats = _float(cells, wanted)
        # What is too great for the type is not infinite.
        bad = pc.and_(pc.is_inf(pc.cast(floats, pa.float64())), _are_finite(cells))
        beyond = {row: f"{shown(cells[row].as_py())} is beyond {wanted}" for row in _rows(bad)}
        return floats, beyond, 0
    nonfinite = 0
    if pa.types.is_decimal(cells.type):
        try:
            cells = pc.cast(cells, pa.int64())
        except pa.ArrowInvalid:
            cells = pc.cast(cells, pa.float64())
    if pa.types.is_floating(cells.type):
        cells = _float(cells, pa.float64())
        finite = pc.is_finite(cells)
        nonfinite = len(cells) - cells.null_count - int(pc.sum(finite).as_py() or 0)
        cells = pc.if_else(finite, cells, None)
    bad = ~_fits(pc.fill_null(cells, 0).to_numpy(zero_copy_only=False), wanted)
    failures = {
        row: f"{shown(cells[row].as_py())} is no {wanted}" for row in np.flatnonzero(bad).tolist()
    }
    return pc.cast(pc.if_else(pa.array(bad), None, cells), wanted), failures, nonfinite


def _fits(numbers: NDArray[Any], wanted: pa.DataType) -> NDArray[np.bool_]:
    """Which of the numbers are among those of an integer type, or of a boolean."""
    low, high = 0, 1
    if not pa.types.is_boolean(wanted):
        info = np.iinfo(wanted.to_pandas_dtype())
        low, high = int(info.min), int(info.max)
    if numbers.dtype.kind == "f":
        # The greatest 64-bit integer is no double; the one after it is.
        is_whole: NDArray[np.bool_] = np.trunc(numbers) == numbers
        return is_whole & (numbers >= low) & (numbers < float(high + 1))
    inside: NDArray[np.bool_] = (numbers >= low) & (numbers <= high)
    return inside


def _are_finite(cells: pa.Array) -> pa.Array:
    return pc.fill_null(pc.is_finite(_float(cells, pa.float64())), False)


def _float(cells: pa.Array, wanted: pa.DataType) -> pa.Array:
    if pa.types.is_decimal(cells.type) or pa.types.is_float16(wanted):
        cells = pc.cast(cells, pa.float64())
    if not pa.types.is_float16(wanted):
        return pc.cast(cells, wanted, safe=False)
    valid = cells.is_valid().to_numpy(zero_copy_only=False)
    with np.errstate(over="ignore"):
        numbers = cells.to_numpy(zero_copy_only=False).astype(np.float16)
    return pa.array(numbers, wanted, mask=~valid)


def _rows(mask: pa.Array) -> list[int]:
    known = pc.fill_null(mask, False)
    return [int(row) for row in np.flatnonzero(known.to_numpy(zero_copy_only=False))]


@dataclass(frozen=True, slots=True)
class _Texts:
    """Strings as they are; numbers, dates and times as their text."""

    field: pa.Field
    codec: TextInput
    blocks: bool = False

    def column(self, cells: pa.Array) -> TypedColumn:
        """See ``TypedInput``."""
        cells = plain(cells)
        if is_text(cells.type):
            try:
                cells.validate(full=True)  # that all of it is UTF-8
            except pa.ArrowInvalid:
                pass
            else:
                return TypedColumn(cells)
        encoded = self.codec.encode(cells)
        array = pa.array(encoded.values, pa.string())
        return TypedColumn(array, encoded.failures, encoded.nonfinite)

    def wire_bytes(self, cells: pa.Array) -> int:
        """See ``TypedInput``."""
        return self.codec.wire_bytes(cells)


@dataclass(frozen=True, slots=True)
class _Moments:
    """Dates and times without a zone; those that have one are told in UTC."""

    field: pa.Field
    blocks: bool = False

    @classmethod
    def of(cls, spec: FeatureSpec, column: pa.Field) -> _Moments:
        type_ = plain_type(column.type)
        if not (
            is_text(type_)
            or pa.types.is_timestamp(type_)
            or pa.types.is_date(type_)
            or pa.types.is_null(type_)
        ):
            raise wrong_type(spec, column, "dates, times, or their text as in 2024-07-01T12:30:00")
        return cls(column)

    def column(self, cells: pa.Array) -> TypedColumn:
        """See ``TypedInput``."""
        cells = plain(cells)
        if not is_text(cells.type):
            type_ = cells.type
            unit = type_.unit if pa.types.is_timestamp(type_) else "us"
            # Without its zone a moment is what stands in memory: UTC.
            return TypedColumn(pc.cast(cells, pa.timestamp(unit)))
        values, failures = texts(cells)
        moments: list[datetime | None] = [None] * len(values)
        for row, value in enumerate(values):
            text = (value or "").strip()
            if not text and (value is None or is_untyped(self.field)):
                continue
            try:
                moment = datetime.fromisoformat(text)
            except ValueError:
                failures[row] = f"{shown(text)} is no date and time as in 2024-07-01T12:30:00"
                continue
            moments[row] = moment.astimezone(UTC).replace(tzinfo=None) if moment.tzinfo else moment
        return TypedColumn(pa.array(moments, pa.timestamp("us")), named(self.field, failures))

    def wire_bytes(self, cells: pa.Array) -> int:
        """See ``TypedInput``."""
        return 28 * len(cells)


@dataclass(frozen=True, slots=True)
class _Pictures:
    """The bytes of PNG and JPEG files."""

    field: pa.Field
    codec: ImageInput
    blocks: bool = True

    def column(self, cells: pa.Array) -> TypedColumn:
        """See ``TypedInput``."""
        pictures, failures = self.codec.pictures(plain(cells))
        data = [None if found is None else found[1] for found in pictures]
        return TypedColumn(pa.array(data, pa.binary()), failures)

    def wire_bytes(self, cells: pa.Array) -> int:
        """See ``TypedInput``."""
        return self.codec.wire_bytes(cells)
