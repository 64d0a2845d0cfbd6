"""Numbers: numeric scalars and probabilities."""

from __future__ import annotations

import math
import re
from dataclasses import dataclass
from typing import TYPE_CHECKING

import msgspec
import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from batchscore.codecs.base import EncodedColumn, NumberColumn
from batchscore.codecs.columns import (
    is_numeric,
    is_untyped,
    named,
    nulls,
    plain,
    plain_type,
    shown,
    texts,
    wire_bytes_of_values,
    wrong_type,
)
from batchscore.errors import DecodeError

if TYPE_CHECKING:
    from collections.abc import Sequence

    from batchscore.schema import FeatureSpec

_JSON_NUMBER = r"-?(?:0|[1-9][0-9]*)(?:\.[0-9]+)?"
_EXPONENT = re.compile(_JSON_NUMBER + r"[eE][+-]?[0-9]+")
_INTEGER = re.compile(r"[+-]?[0-9]+")
_NUMBER = re.compile(r"[+-]?(?:[0-9]+(?:\.[0-9]*)?|\.[0-9]+)(?:[eE][+-]?[0-9]+)?")
_NONFINITE = re.compile(r"[+-]?(?:nan|inf|infinity)", re.IGNORECASE)
# Longer numbers may not fit a double, which one look must decide; about 10**308 is its end.
_SURELY_FINITE_CHARS = 300

# The types whose numbers NumPy has too, and how they are written: with every digit.
_WIDE = {
    **dict.fromkeys((type_.id for type_ in (pa.float16(), pa.float32(), pa.float64())), np.float64),
    **dict.fromkeys(
        (
            type_.id
            for type_ in (
                *(pa.int8(), pa.int16(), pa.int32(), pa.int64()),
                *(pa.uint8(), pa.uint16(), pa.uint32(), pa.bool_()),
            )
        ),
        np.int64,
    ),
    pa.uint64().id: np.uint64,
}


def number_input(spec: FeatureSpec, field: pa.Field) -> NumberInput:
    """The codec of a number column.

    Raises:
        InputError: the column's type can never serve a number.
    """
    type_ = plain_type(field.type)
    if not (is_numeric(type_) or pa.types.is_null(type_) or is_untyped(field)):
        raise wrong_type(spec, field, "numbers or booleans")
    return NumberInput(field)


@dataclass(frozen=True, slots=True)
class NumberInput:
    """Numbers with every digit; booleans as 0 and 1."""

    field: pa.Field
    blocks: bool = False

    def encode(self, column: pa.Array) -> EncodedColumn:
        """The numbers; NaN and infinities stay floats, which the JSON encoder writes as null."""
        column = plain(column)
        type_ = column.type
        if pa.types.is_null(type_):
            return EncodedColumn(nulls(column))
        if pa.types.is_boolean(type_):
            return EncodedColumn(pc.cast(column, pa.uint8()).to_pylist())
        if pa.types.is_floating(type_):
            # Nulls become NaN here, so they are taken off the count.
            numbers = column.to_numpy(zero_copy_only=False)
            nonfinite = len(numbers) - int(np.count_nonzero(np.isfinite(numbers)))
            return EncodedColumn(column.to_pylist(), nonfinite=nonfinite - column.null_count)
        if is_numeric(type_):
            return EncodedColumn(column.to_pylist())
        return self._encode_text(column)

    def encode_whole(self, column: pa.Array) -> NumberColumn | None:
        """Floats with nulls as NaN, and integers without nulls."""
        wide = _WIDE.get(column.type.id)
        if wide is None or (column.null_count and wide is not np.float64):
            return None
        numbers = column.to_numpy(zero_copy_only=False)
        return NumberColumn(numbers.astype(wide, copy=False), column.null_count)

    def _encode_text(self, column: pa.Array) -> EncodedColumn:
        try:
            trimmed = pc.utf8_trim_whitespace(column)
            ready = pc.and_(
                pc.match_substring_regex(trimmed, f"^{_JSON_NUMBER}$"),
                pc.less_equal(pc.binary_length(trimmed), _SURELY_FINITE_CHARS),
            )
            cells = trimmed.to_pylist()
        except (pa.ArrowInvalid, UnicodeDecodeError):  # not UTF-8: look at each cell
            cells, undecoded = texts(column)
            values, failures, nonfinite = _numbers_of([c and c.strip() for c in cells], [])
            return EncodedColumn(values, named(self.field, failures | undecoded), nonfinite)
        if not column.null_count and pc.all(ready).as_py():
            return EncodedColumn(list(map(msgspec.Raw, cells)))
        values, failures, nonfinite = _numbers_of(cells, ready.to_pylist())
        return EncodedColumn(values, named(self.field, failures), nonfinite)

    def wire_bytes(self, column: pa.Array) -> int:
        """Floats take about 18 characters for their 8 bytes, integers fewer."""
        return wire_bytes_of_values(column) + len(column)


def _numbers_of(
    cells: Sequence[str | None], ready: Sequence[bool | None]
) -> tuple[list[object], dict[int, str], int]:
    """Values, failures by row and the count of what is not finite, of trimmed texts."""
    values: list[object] = []
    failures: dict[int, str] = {}
    nonfinite = 0
    ready = ready or [False] * len(cells)
    for row, (cell, is_json) in enumerate(zip(cells, ready, strict=True)):
        value: object = None
        if is_json:
            value = msgspec.Raw(cell)  # type: ignore[arg-type]  # null is never ready
        elif cell:
            if _NONFINITE.fullmatch(cell) or (
                _NUMBER.fullmatch(cell) and not math.isfinite(float(cell))
            ):
                nonfinite += 1
            elif _INTEGER.fullmatch(cell):
                value = int(cell)
            elif _EXPONENT.fullmatch(cell):
                value = msgspec.Raw(cell)
            elif _NUMBER.fullmatch(cell):
                value = float(cell)
            else:
                failures[row] = f"{shown(cell)} is no number"
        values.append(value)
    return values, failures, nonfinite


@dataclass(frozen=True, slots=True)
class NumberOutput:
    """Numbers as float64."""

    spec: FeatureSpec
    fields: tuple[pa.Field, ...] = (pa.field("", pa.float64()),)

    def decode(self, values: Sequence[object]) -> tuple[pa.Array, ...]:
        """One column of float64; null where the answer says null."""
        try:
            return (pa.array(values, pa.float64()),)
        except (pa.ArrowInvalid, pa.ArrowTypeError, TypeError, OverflowError):
            # Booleans, integers beyond 2**53 and wrapped numbers need a look at each value.
            return (pa.array([self._number(value) for value in values], pa.float64()),)

    def _number(self, value: object) -> float | None:
        inner = value
        if isinstance(inner, dict) and inner.get("shape") in ([], [1]):
            inner = inner.get("data")
        if isinstance(inner, list) and len(inner) == 1:
            inner = inner[0]
        if inner is None:
            return None
        if not isinstance(inner, (int, float)):
            raise DecodeError(f"output {self.spec.name!r}: {shown(value)} is no number")
        try:
            return float(inner)
        except OverflowError:
            raise DecodeError(
                f"output {self.spec.name!r}: {shown(value)} is beyond float64"
            ) from None
