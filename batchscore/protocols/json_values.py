"""Typed columns as JSON text, without a Python object a cell where a library can do without."""

from __future__ import annotations

from math import prod
from typing import TYPE_CHECKING, Any, Literal

import msgspec
import numpy as np
import orjson
import pyarrow as pa
import pyarrow.compute as pc
import pybase64

from batchscore.codecs.base import PieceColumn, TextColumn
from batchscore.codecs.columns import (
    byte_strings,
    bytes_and_ends,
    is_bytes,
    is_list,
    is_text,
    plain,
)
from batchscore.codecs.number import NumberInput
from batchscore.codecs.text import TextInput

if TYPE_CHECKING:
    from collections.abc import Sequence

    from numpy.typing import NDArray

    from batchscore.codecs.base import WholeColumn

PictureForm = Literal["b64", "base64", "data-uri"]

_BRACKET = ord("]")
_PNG_START = b"\x89PNG"
_JSON = msgspec.json.Encoder(decimal_format="number")


def json_column(column: pa.Array, pictures: PictureForm) -> WholeColumn:
    """The JSON text of each value: NaN and infinities as null, booleans as true and false.

    Args:
        column: as a ``TypedInput`` makes it, of at least one row.
        pictures: how bytes are written: ``{"b64": "..."}``, the base64 alone, or a data URI.
    """
    type_ = column.type
    if is_bytes(type_):
        return _pictures(column, pictures)
    if is_list(type_):
        return _lists(column)
    if is_text(type_) or pa.types.is_timestamp(type_):
        text = TextInput(pa.field("", type_))
        return text.encode_whole(column) or _lines(text.encode(column).values)
    if pa.types.is_boolean(type_) or (pa.types.is_integer(type_) and column.null_count):
        return _unquoted(pc.fill_null(pc.cast(column, pa.string()), "null"))
    numbers = NumberInput(pa.field("", type_))
    return numbers.encode_whole(column) or _lines(numbers.encode(column).values)


def _lines(values: Sequence[object], nonfinite: int = 0) -> TextColumn:
    # JSON text holds no raw line break, so a line break always ends a value.
    lines = np.frombuffer(_JSON.encode_lines(values), np.uint8)
    ends = np.flatnonzero(lines == ord("\n")) + 1
    return TextColumn(lines, ends, has_spare=True, nonfinite=nonfinite)


def _unquoted(column: pa.Array) -> TextColumn:
    return TextColumn(*bytes_and_ends(column))


def _pictures(column: pa.Array, form: PictureForm) -> PieceColumn:
    opening, closing = {"b64": (b'{"b64":"', b'"}'), "base64": (b'"', b'"')}.get(form, (b"", b'"'))

    def pieces(data: bytes | None) -> tuple[bytes, ...]:
        if data is None:
            return (b"null",)
        before = opening
        if form == "data-uri":
            kind = b"png" if data.startswith(_PNG_START) else b"jpeg"
            before = b'"data:image/%b;base64,' % kind
        return before, pybase64.b64encode(data), closing

    return PieceColumn([pieces(data) for data in byte_strings(column)])


def _lists(column: pa.Array) -> WholeColumn:
    """Nested lists: arrays of one shape are written in one call, others value by value."""
    sizes, numbers = _levels(column)
    nonfinite = 0
    if pa.types.is_floating(numbers.type):
        finite = pc.sum(pc.is_finite(numbers)).as_py() or 0
        nonfinite = len(numbers) - numbers.null_count - int(finite)
    shape = [size for size in sizes if size]
    if column.null_count or len(shape) < len(sizes) or numbers.null_count:
        return _lines(column.to_pylist(), nonfinite)
    values: NDArray[Any] = numbers.to_numpy(zero_copy_only=False)
    if values.dtype == np.float16:
        values = values.astype(np.float32)
    json = orjson.dumps(values.reshape(len(column), *shape), option=orjson.OPT_SERIALIZE_NUMPY)
    # The brackets around all arrays are left out; the first becomes no text, and the last the
    # spare byte that is a comma behind the other arrays.
    data = np.frombuffer(json, np.uint8)[1:]
    brackets = sum(prod(shape[:depth]) for depth in range(len(shape)))
    closing = np.flatnonzero(data[:-1] == _BRACKET)
    ends = closing[brackets - 1 :: brackets] + 2
    return TextColumn(data, ends, has_spare=True, nonfinite=nonfinite)


def _levels(column: pa.Array) -> tuple[list[int | None], pa.Array]:
    """The length of the lists at each level (None: of different lengths), and what is in them."""
    sizes: list[int | None] = []
    level = column
    while is_list(level.type):
        is_fixed = pa.types.is_fixed_size_list(level.type)
        sizes.append(level.type.list_size if is_fixed else None)
        level = plain(pc.list_flatten(level))
    return sizes, level
