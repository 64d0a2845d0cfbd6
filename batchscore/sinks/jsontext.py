"""Any Arrow value as JSON text: what CSV cells with nested values and JSON Lines are made of.

Numbers keep every digit (NaN and infinities, which JSON does not have, are null), times are
ISO 8601 with every digit, bytes are data URIs. A column is done at a time, its children first.
"""

from __future__ import annotations

import base64
from typing import TYPE_CHECKING

import msgspec
import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

if TYPE_CHECKING:
    from collections.abc import Callable

_TEXT = pa.large_string()
_COMMA = pa.scalar(",", _TEXT)
_UNITS_A_SECOND = {"s": 1, "ms": 10**3, "us": 10**6, "ns": 10**9}
_DIGITS = {"s": 0, "ms": 3, "us": 6, "ns": 9}
_NEEDS_ESCAPE = r'["\\\x00-\x1f]'

_MEDIA_TYPES = (
    (b"\x89PNG\r\n\x1a\n", "image/png"),
    (b"\xff\xd8\xff", "image/jpeg"),
    (b"GIF87a", "image/gif"),
    (b"GIF89a", "image/gif"),
    (b"II*\x00", "image/tiff"),
    (b"MM\x00*", "image/tiff"),
    (b"\x93NUMPY", "application/x.peltarion.npy"),
)


def json_texts(array: pa.Array) -> pa.LargeStringArray:
    """The JSON text of each value; a null is the text ``null``, so no element is null.

    Every Arrow type has one: structs are objects; maps are objects where their keys are text,
    else lists of pairs; tensors are lists nested in their shape; an extension is its storage.
    """
    if len(array) == 0:
        return pa.array([], _TEXT)
    array = _plain(array)
    texts = _nested(array)
    if texts is None:
        texts = _quoted(array, scalar_texts(array))
    return pc.fill_null(texts, "null")


def scalar_texts(array: pa.Array) -> pa.LargeStringArray | None:
    """Values as bare text, without quotes; nulls stay null. None where the type is nested.

    Text is itself, bytes are data URIs, all else is as in JSON but for NaN and infinities, which
    are ``nan``, ``inf`` and ``-inf``.
    """
    array = _plain(array)
    for is_kind, text in _SCALARS:
        if is_kind(array.type):
            return text(array)
    return None


def joined(*parts: pa.Array | str) -> pa.LargeStringArray:
    """The parts side by side, a string the same for every value; null where one of them is."""
    texts = (pa.scalar(part, _TEXT) if isinstance(part, str) else part for part in parts)
    return pc.binary_join_element_wise(*texts, pa.scalar("", _TEXT))


def row_bytes(*parts: pa.Array | str) -> memoryview:
    """The same as the text of a file, one row after another; no part may have nulls."""
    # That is how they stand in the array's buffer.
    return memoryview(joined(*parts).buffers()[2])


def media_type(data: bytes) -> str:
    """The media type that the first bytes tell, ``application/octet-stream`` if they do not."""
    for magic, name in _MEDIA_TYPES:
        if data.startswith(magic):
            return name
    if data[:4] == b"RIFF" and data[8:12] == b"WEBP":
        return "image/webp"
    if data[:2] == b"BM" and data[6:10] == bytes(4) and len(data) > 26:
        return "image/bmp"
    return "application/octet-stream"


def data_uri(data: bytes) -> str:
    """Bytes as ``data:<media type>;base64,...``."""
    return f"data:{media_type(data)};base64,{base64.b64encode(data).decode()}"


def _plain(array: pa.Array) -> pa.Array:
    """The array without encodings and extensions that do not show in the text."""
    kind = array.type
    if isinstance(kind, pa.BaseExtensionType) and not isinstance(kind, pa.FixedShapeTensorType):
        return _plain(array.storage)
    if pa.types.is_dictionary(kind):
        return _plain(array.dictionary_decode())
    if pa.types.is_run_end_encoded(kind):
        return _plain(pc.run_end_decode(array))
    return array


# Scalars: an array to its bare text, null where the value is null.


def _cast(array: pa.Array) -> pa.Array:
    return array.cast(_TEXT)


def _float(array: pa.Array) -> pa.Array:
    if pa.types.is_float16(array.type):
        array = array.cast(pa.float64())
    texts = array.cast(_TEXT)
    if not pc.any(pc.equal(array, pc.trunc(array))).as_py():
        return texts
    # 3.0 and not 3: whoever guesses types from the first rows should not take it for an integer.
    return pc.replace_substring_regex(texts, pattern=r"^(-?[0-9]+)$", replacement=r"\1.0")


def _binary(array: pa.Array) -> pa.Array:
    values = array.to_pylist()
    return pa.array([None if value is None else data_uri(value) for value in values], _TEXT)


def _timestamp(array: pa.Array) -> pa.Array:
    naive = array.cast(pa.timestamp(array.type.unit))
    if array.type.tz is None:
        return _iso(naive.cast(_TEXT))
    try:
        shift = pc.subtract(pc.local_timestamp(array).cast(pa.int64()), naive.cast(pa.int64()))
    except pa.ArrowInvalid:
        shift = None  # a zone that is not known here; the instant is right in UTC too
    a_minute = 60 * _UNITS_A_SECOND[array.type.unit]
    if shift is None or any(value % a_minute for value in pc.unique(shift.drop_null()).to_pylist()):
        # ISO 8601 has no seconds in an offset, as local mean times of long ago would need.
        return joined(_iso(naive.cast(_TEXT)), "Z")
    with_colon = pc.replace_substring_regex(
        array.cast(_TEXT), pattern=r"([+-]\d\d)(\d\d)$", replacement=r"\1:\2"
    )
    return _iso(with_colon)


def _iso(texts: pa.Array) -> pa.Array:
    return pc.replace_substring(texts, " ", "T")


def _duration(array: pa.Array) -> pa.Array:
    unit = array.type.unit
    values = array.cast(pa.int64()).to_pylist()
    return pa.array([None if v is None else _duration_text(v, unit) for v in values], _TEXT)


def _duration_text(value: int, unit: str) -> str:
    seconds, part = divmod(abs(value), _UNITS_A_SECOND[unit])
    fraction = f".{part:0{_DIGITS[unit]}d}" if _DIGITS[unit] else ""
    return f"{'-' if value < 0 else ''}PT{seconds}{fraction}S"


def _interval(array: pa.Array) -> pa.Array:
    return pa.array([None if v is None else _interval_text(*v) for v in array.to_pylist()], _TEXT)


def _interval_text(months: int, days: int, nanoseconds: int) -> str:
    time = _duration_text(nanoseconds, "ns")
    sign, time = ("-", time[1:]) if time.startswith("-") else ("", time)
    return f"P{months}M{days}DT{sign}{time.removeprefix('PT')}"


_SCALARS: tuple[tuple[Callable[[pa.DataType], bool], Callable[[pa.Array], pa.Array]], ...] = (
    (pa.types.is_string, _cast),
    (pa.types.is_large_string, _cast),
    (pa.types.is_string_view, _cast),
    (pa.types.is_floating, _float),
    (pa.types.is_integer, _cast),
    (pa.types.is_boolean, _cast),
    (pa.types.is_decimal, _cast),
    (pa.types.is_null, _cast),
    (pa.types.is_timestamp, _timestamp),
    (pa.types.is_date, _cast),
    (pa.types.is_time, _cast),
    (pa.types.is_duration, _duration),
    (pa.types.is_interval, _interval),
    (pa.types.is_binary, _binary),
    (pa.types.is_large_binary, _binary),
    (pa.types.is_binary_view, _binary),
    (pa.types.is_fixed_size_binary, _binary),
)


def _quoted(array: pa.Array, texts: pa.Array) -> pa.Array:
    """Bare text as JSON: quoted and escaped unless it is a number, ``true`` or ``false``."""
    kind = array.type
    if pa.types.is_floating(kind):
        finite = pc.is_finite(array.cast(pa.float64()))
        return pc.if_else(finite, texts, pa.scalar(None, _TEXT))
    if pa.types.is_integer(kind) or pa.types.is_boolean(kind) or pa.types.is_decimal(kind):
        return texts
    if pc.any(pc.match_substring_regex(texts, _NEEDS_ESCAPE)).as_py():
        encode = msgspec.json.Encoder().encode
        return pa.array([encode(text).decode() for text in texts.to_pylist()], _TEXT)
    return joined('"', texts, '"')


# Nested types: the texts of all children at once, then joined value by value.


def _nested(array: pa.Array) -> pa.Array | None:
    kind = array.type
    if isinstance(kind, pa.FixedShapeTensorType):
        texts = _tensor(array, kind)
    elif pa.types.is_struct(kind):
        texts = _struct(array)
    elif pa.types.is_map(kind):
        texts = _map(array)
    elif pa.types.is_list(kind) or pa.types.is_large_list(kind):
        texts = _list(array.offsets, array.values)
    elif pa.types.is_fixed_size_list(kind):
        texts = _groups(json_texts(_fixed_size_values(array)), kind.list_size, len(array))
    elif pa.types.is_list_view(kind) or pa.types.is_large_list_view(kind):
        texts = _list_view(array)
    elif pa.types.is_union(kind):
        texts = pa.array([_union_value(value) for value in array], _TEXT)
    else:
        return None
    return pc.if_else(array.is_valid(), texts, pa.scalar(None, _TEXT))


def _struct(array: pa.StructArray) -> pa.Array:
    parts: list[pa.Array | str] = []
    for position in range(array.type.num_fields):
        name = msgspec.json.encode(array.type.field(position).name).decode()
        parts += [f"{',' if position else ''}{name}:", json_texts(array.field(position))]
    if not parts:
        return pa.repeat(pa.scalar("{}", _TEXT), len(array))
    return joined("{", *parts, "}")


def _map(array: pa.MapArray) -> pa.Array:
    start, stop = array.offsets[0].as_py(), array.offsets[-1].as_py()
    keys = _plain(array.keys[start:stop])
    key_texts, item_texts = json_texts(keys), json_texts(array.items[start:stop])
    offsets = _from_zero(array.offsets)
    kind = keys.type
    if pa.types.is_string(kind) or pa.types.is_large_string(kind) or pa.types.is_string_view(kind):
        return _bracketed(offsets, joined(key_texts, ":", item_texts), "{", "}")
    pairs = joined("[", key_texts, ",", item_texts, "]")
    return _bracketed(offsets, pairs)


def _list(offsets: pa.Array, values: pa.Array) -> pa.Array:
    # A slice shares the values of the whole: take those between its first and last offset.
    start, stop = offsets[0].as_py(), offsets[-1].as_py()
    return _bracketed(_from_zero(offsets), json_texts(values[start:stop]))


def _from_zero(offsets: pa.Array) -> pa.Array:
    return pc.subtract(offsets.cast(pa.int64()), offsets[0].cast(pa.int64()))


def _list_view(array: pa.Array) -> pa.Array:
    # The lists may stand in any order and overlap, so gather their values one list after another.
    sizes = np.where(array.is_valid(), array.sizes, 0).astype(np.int64)
    ends = np.cumsum(sizes)
    starts = np.asarray(array.offsets).astype(np.int64)
    positions = np.arange(ends[-1] if len(ends) else 0) + np.repeat(starts - ends + sizes, sizes)
    return _list(pa.array(np.concatenate([[0], ends])), array.values.take(pa.array(positions)))


def _fixed_size_values(array: pa.FixedSizeListArray) -> pa.Array:
    size = array.type.list_size
    return array.values.slice(array.offset * size, len(array) * size)


def _tensor(array: pa.FixedShapeTensorArray, kind: pa.FixedShapeTensorType) -> pa.Array:
    values, shape = _fixed_size_values(array.storage), list(kind.shape)
    if kind.permutation is not None:
        # The shape is that of the data in memory, the permutation leads to the logical one.
        axes = [0, *(axis + 1 for axis in kind.permutation)]
        places = np.arange(len(values)).reshape(len(array), *shape).transpose(axes)
        values, shape = values.take(pa.array(places.ravel())), list(places.shape[1:])
    texts = json_texts(values)
    for axis in range(len(shape) - 1, -1, -1):
        texts = _groups(texts, shape[axis], len(array) * int(np.prod(shape[:axis])))
    return texts


def _groups(texts: pa.Array, size: int, count: int) -> pa.Array:
    """So many lists of so many texts each."""
    return _bracketed(pa.array(np.arange(count + 1, dtype=np.int64) * size), texts)


def _bracketed(offsets: pa.Array, texts: pa.Array, left: str = "[", right: str = "]") -> pa.Array:
    values = pc.binary_join(pa.LargeListArray.from_arrays(offsets, texts), _COMMA)
    return joined(left, values, right)


def _union_value(value: pa.UnionScalar) -> str:
    return str(json_texts(pa.repeat(value.value, 1))[0].as_py())
