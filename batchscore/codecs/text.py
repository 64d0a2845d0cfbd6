"""Text, and the text that stands for numbers, dates and times."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import pyarrow as pa
import pyarrow.compute as pc

from batchscore.codecs.base import EncodedColumn, TextColumn
from batchscore.codecs.columns import (
    bytes_and_ends,
    is_bytes,
    is_numeric,
    is_text,
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

    import numpy as np
    from numpy.typing import NDArray

    from batchscore.schema import FeatureSpec

_INT64_END = 2.0**63


def text_input(spec: FeatureSpec, field: pa.Field) -> TextInput:
    """The codec of a text or category column; text may also be UTF-8 in a binary column.

    Raises:
        InputError: the column's type has no text.
    """
    type_ = plain_type(field.type)
    is_time = pa.types.is_date(type_) or pa.types.is_timestamp(type_) or pa.types.is_time(type_)
    if not (
        is_text(type_)
        or (is_bytes(type_) and spec.kind == "text")
        or is_numeric(type_)
        or is_time
        or pa.types.is_null(type_)
    ):
        raise wrong_type(spec, field, "strings, numbers, booleans, dates or times")
    return TextInput(field)


@dataclass(frozen=True, slots=True)
class TextInput:
    """Strings as they are; numbers, dates and times as their text."""

    field: pa.Field
    blocks: bool = False

    def encode(self, column: pa.Array) -> EncodedColumn:
        """The texts; empty text stays empty text."""
        column = plain(column)
        if pa.types.is_null(column.type):
            return EncodedColumn(nulls(column))
        column, nonfinite = text_of(column)
        values, failures = texts(column)
        return EncodedColumn(values, named(self.field, failures), nonfinite)

    def encode_whole(self, column: pa.Array) -> TextColumn | None:
        """Strings in which JSON escapes nothing, and no null."""
        column = plain(column)
        if not is_text(column.type) or column.null_count or not len(column):
            return None
        data, ends = bytes_and_ends(column)
        if _needs_escape(data):
            return None
        try:
            column.validate(full=True)  # that all of it is UTF-8
        except pa.ArrowInvalid:
            return None
        return TextColumn(data, ends, b'"', b'"')

    def wire_bytes(self, column: pa.Array) -> int:
        """The text and its quotes; numbers are longer as text than in memory."""
        type_ = plain_type(column.type)
        if is_text(type_) or is_bytes(type_):
            # Its bytes and offsets, which are as long as quotes and comma.
            return int(plain(column).nbytes)
        return wire_bytes_of_values(column) + 3 * len(column)


def text_of(column: pa.Array) -> tuple[pa.Array, int]:
    """A plain column as strings (bytes stay bytes), and how many numbers became null."""
    type_ = column.type
    if pa.types.is_floating(type_):
        return _text_of_floats(column)
    if pa.types.is_timestamp(type_):
        return _text_of_timestamps(column), 0
    if is_text(type_) or is_bytes(type_):
        return column, 0
    return pc.cast(column, pa.string()), 0


def _needs_escape(data: NDArray[np.uint8]) -> bool:
    """Whether there is a control character, a quote or a backslash."""
    return bool(((data < 0x20) | (data == ord('"')) | (data == ord("\\"))).any())


def _text_of_floats(column: pa.Array) -> tuple[pa.Array, int]:
    """The shortest text of each number that reads back as the same; null for NaN, infinities."""
    if pa.types.is_float16(column.type):
        column = pc.cast(column, pa.float32())
    finite = pc.is_finite(column)
    nonfinite = len(column) - column.null_count - int(pc.sum(finite).as_py() or 0)
    column = pc.if_else(finite, column, pa.scalar(None, column.type))
    # pandas turns integers with missing values to floats, so 3.0 was the integer (the label) 3.
    wide = pc.cast(column, pa.float64())
    whole = pc.and_(pc.equal(wide, pc.trunc(wide)), pc.less(pc.abs(wide), _INT64_END))
    integers = pc.cast(pc.if_else(whole, wide, pa.scalar(None, pa.float64())), pa.int64())
    text = pc.coalesce(pc.cast(integers, pa.string()), pc.cast(column, pa.string()))
    return text, nonfinite


def _text_of_timestamps(column: pa.Array) -> pa.Array:
    """ISO 8601: ``2024-07-01T12:30:00``, with fraction and zone where there are any."""
    text = pc.replace_substring(pc.cast(column, pa.string()), " ", "T", max_replacements=1)
    text = pc.replace_substring_regex(text, r"\.0+(Z|[+-]|$)", r"\1")
    return (
        pc.replace_substring_regex(text, r"([+-]\d\d)(\d\d)$", r"\1:\2")
        if (column.type.tz)
        else text
    )


@dataclass(frozen=True, slots=True)
class TextOutput:
    """Text as a string column."""

    spec: FeatureSpec
    fields: tuple[pa.Field, ...] = (pa.field("", pa.string()),)

    def decode(self, values: Sequence[object]) -> tuple[pa.Array, ...]:
        """One string column; null where the answer says null."""
        for value in values:
            if not (value is None or isinstance(value, str)):
                raise DecodeError(f"output {self.spec.name!r}: {shown(value)} is no text")
        try:
            return (pa.array(values, pa.string()),)
        except UnicodeEncodeError:
            raise DecodeError(f"output {self.spec.name!r}: a text is not valid Unicode") from None
