"""Text cells as typed values: the types of ``--type``, and columns converted to them."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING
from zoneinfo import ZoneInfo, available_timezones

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from batchscore.errors import UsageError
from batchscore.nearest import nearest

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

_TYPES: dict[str, pa.DataType] = {
    **{f"{sign}int{bits}": getattr(pa, f"{sign}int{bits}")()
       for sign in ("", "u") for bits in (8, 16, 32, 64)},
    "int": pa.int64(),
    "float": pa.float64(), "float32": pa.float32(), "float64": pa.float64(),
    "double": pa.float64(),
    "bool": pa.bool_(),
    "str": pa.string(), "string": pa.string(),
    "date": pa.date32(), "date32": pa.date32(),
    "datetime": pa.timestamp("us"), "timestamp": pa.timestamp("us"),
}  # fmt: skip
_TIMESTAMP = re.compile(r"timestamp\[(s|ms|us|ns)(?:,\s*(?:tz=)?([^\]]+))?\]")
_DECIMAL = re.compile(r"decimal(?:128|256)?\((\d+),\s*(-?\d+)\)")
_OFFSET = re.compile(r"[+-]\d\d:\d\d")
_DATE_AND_TIME = re.compile(r"\d{4}-\d\d-\d\d[T ]\d\d:\d\d[\d:.]*(Z|[+-]\d\d(?::?\d\d)?)?")
_MAX_SHOWN_CHARS = 80


def parse_types(types: Mapping[str, str]) -> dict[str, pa.DataType]:
    """The Arrow types of ``COLUMN=TYPE`` options.

    Raises:
        UsageError: a type is not known.
    """
    return {column: _parse_type(column, text) for column, text in types.items()}


def _parse_type(column: str, text: str) -> pa.DataType:
    name = text.strip().lower()
    if found := _TYPES.get(name):
        return found
    try:
        if match := _TIMESTAMP.fullmatch(text.strip()):
            _check_zone(match[2])
            return pa.timestamp(match[1], match[2])
        if match := _DECIMAL.fullmatch(name):
            precision, scale = int(match[1]), int(match[2])
            return (pa.decimal128 if precision <= 38 else pa.decimal256)(precision, scale)
    except (ValueError, pa.ArrowException) as error:
        raise UsageError(f"--type {column}={text}: {error}") from None
    known = (
        "int, float, bool, string, date, datetime, timestamp[us, tz=UTC], decimal(P,S), "
        "int8 to uint64"
    )
    examples = [*_TYPES, "timestamp[us]", "decimal(10,2)"]
    hint = nearest(name, examples) or f"; it may be {known}"
    raise UsageError(f"--type {column}={text}: unknown type{hint}")


def _check_zone(zone: str | None) -> None:
    """Raise ``ValueError`` for a zone that nobody who reads the output would know."""
    if zone is None or _OFFSET.fullmatch(zone):
        return
    try:
        ZoneInfo(zone)
    except (LookupError, ValueError):
        # A computer may know no zones at all; then Arrow has to take what is said.
        if zones := available_timezones():
            hint = nearest(zone, zones) or "; write UTC, Europe/Berlin or +02:00"
            raise ValueError(f"{zone!r} is no time zone{hint}") from None


def check_columns(types: Mapping[str, object], columns: Sequence[str]) -> None:
    """Refuse types of columns that there are not.

    Raises:
        UsageError: naming the column, and the nearest that there is.
    """
    for column in types:
        if column not in columns:
            hint = nearest(column, columns, "; did you mean {!r}?")
            hint = hint or f"; there are {_listed(columns)}"
            raise UsageError(f"--type {column}=...: the CSV input has no such column{hint}")


def _listed(columns: Sequence[str]) -> str:
    shown = ", ".join(map(repr, columns[:10]))
    return shown if len(columns) <= 10 else f"{shown}, ..."


def convert(cells: pa.Array, dtype: pa.DataType) -> tuple[pa.Array, dict[int, str]]:
    """Text as values of a type: empty cells are null (but "" for text), and so are bad ones.

    Returns:
        The values, and of each cell that cannot be converted its row and what it is.
    """
    if pa.types.is_string(dtype):
        return cells, {}
    trimmed = pc.utf8_trim_whitespace(cells)
    given = pc.if_else(pc.equal(pc.binary_length(trimmed), 0), None, trimmed)
    try:
        return given.cast(dtype), {}
    except pa.ArrowException:
        pass
    # Bad cells are often the same few texts, so each distinct one is tried only once.
    encoded = given.dictionary_encode()
    pieces: list[pa.Array] = []
    _cast_in_halves(encoded.dictionary, dtype, pieces)
    values = pa.concat_arrays(pieces)
    column = values.take(encoded.indices)
    failed = pc.and_(given.is_valid(), column.is_null()).to_numpy(zero_copy_only=False)
    return column, {
        int(row): _unfit(given[int(row)].as_py(), dtype) for row in np.flatnonzero(failed)
    }


def _unfit(text: str, dtype: pa.DataType) -> str:
    moment = _DATE_AND_TIME.fullmatch(text) if pa.types.is_timestamp(dtype) else None
    if moment and moment[1] and dtype.tz is None:
        return f"{_shown(text)} has a time zone, {dtype} none; timestamp[{dtype.unit}, tz=UTC] has"
    if moment and not moment[1] and dtype.tz is not None:
        return f"{_shown(text)} lacks the time zone, Z or +02:00, that {dtype} needs"
    return f"{_shown(text)} is no {dtype}"


def _cast_in_halves(texts: pa.Array, dtype: pa.DataType, pieces: list[pa.Array]) -> None:
    try:
        pieces.append(texts.cast(dtype))
    except pa.ArrowException:
        if len(texts) == 1:
            pieces.append(pa.nulls(1, dtype))
            return
        half = len(texts) // 2
        _cast_in_halves(texts.slice(0, half), dtype, pieces)
        _cast_in_halves(texts.slice(half), dtype, pieces)


def _shown(text: str) -> str:
    return repr(text if len(text) <= _MAX_SHOWN_CHARS else text[: _MAX_SHOWN_CHARS - 1] + "…")
