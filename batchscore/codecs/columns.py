"""Arrow columns reduced to the few forms that the codecs read, and how their trouble is told."""

from __future__ import annotations

from itertools import pairwise
from typing import TYPE_CHECKING, Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from batchscore.errors import InputError
from batchscore.schema import UNTYPED_KEY

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Sequence

    from numpy.typing import NDArray

    from batchscore.schema import FeatureSpec

MAX_SHOWN_CHARS = 40


_SIMPLER: tuple[tuple[Callable[[pa.DataType], bool], Callable[[Any], pa.DataType]], ...] = (
    (pa.types.is_string_view, lambda _: pa.string()),
    (pa.types.is_binary_view, lambda _: pa.binary()),
    (pa.types.is_fixed_size_binary, lambda _: pa.binary()),
    (pa.types.is_list_view, lambda type_: pa.list_(type_.value_field)),
    (pa.types.is_large_list_view, lambda type_: pa.large_list(type_.value_field)),
)


def plain_type(type_: pa.DataType) -> pa.DataType:
    """The type that ``plain`` gives a column of this type."""
    if isinstance(type_, pa.FixedShapeTensorType):
        return type_
    if isinstance(type_, pa.BaseExtensionType):
        return plain_type(type_.storage_type)
    if pa.types.is_dictionary(type_) or pa.types.is_run_end_encoded(type_):
        return plain_type(type_.value_type)
    return next((simpler(type_) for is_kind, simpler in _SIMPLER if is_kind(type_)), type_)


def plain(column: pa.Array) -> pa.Array:
    """The column without dictionary, run ends, views and foreign extension types.

    Fixed-shape tensors stay what they are.
    """
    type_ = column.type
    wanted = plain_type(type_)
    if wanted == type_:
        return column
    if isinstance(type_, pa.BaseExtensionType):
        return plain(column.storage)
    if pa.types.is_dictionary(type_):
        return plain(column.dictionary_decode())
    if pa.types.is_run_end_encoded(type_):
        return plain(pc.run_end_decode(column))
    if pa.types.is_list(wanted) or pa.types.is_large_list(wanted):
        # Arrow's own cast from list views loses values (seen with 26.0).
        return pa.array(column.to_pylist(), wanted)
    return pc.cast(column, wanted)


def is_text(type_: pa.DataType) -> bool:
    """Whether a plain column of this type holds strings."""
    return bool(pa.types.is_string(type_) or pa.types.is_large_string(type_))


def is_bytes(type_: pa.DataType) -> bool:
    """Whether a plain column of this type holds byte strings."""
    return bool(pa.types.is_binary(type_) or pa.types.is_large_binary(type_))


def is_numeric(type_: pa.DataType) -> bool:
    """Whether a plain column of this type holds numbers or booleans."""
    return bool(
        pa.types.is_integer(type_)
        or pa.types.is_floating(type_)
        or pa.types.is_decimal(type_)
        or pa.types.is_boolean(type_)
    )


def is_list(type_: pa.DataType) -> bool:
    """Whether a plain column of this type holds lists."""
    return bool(
        pa.types.is_list(type_)
        or pa.types.is_large_list(type_)
        or pa.types.is_fixed_size_list(type_)
    )


def is_untyped(field: pa.Field) -> bool:
    """Whether the column is text without a type of its own (CSV)."""
    return UNTYPED_KEY in (field.metadata or {}) and is_text(plain_type(field.type))


def texts(column: pa.Array) -> tuple[list[str | None], dict[int, str]]:
    """The strings of a text or binary column, and why some rows have none.

    Arrow does not promise that strings are UTF-8, so those are checked here too.
    """
    try:
        if is_bytes(column.type):
            large = pa.types.is_large_binary(column.type)
            column = pc.cast(column, pa.large_string() if large else pa.string())
        return column.to_pylist(), {}
    except (pa.ArrowInvalid, UnicodeDecodeError):
        return _texts_one_by_one(column)


def wire_bytes_of_values(column: pa.Array) -> int:
    """About how many characters numbers, dates and times have as text, or longer text as itself."""
    try:
        return len(column) * int(column.type.bit_width) * 5 // 16
    except ValueError:  # not of one width
        return int(column.nbytes * 5 // 2)


def byte_strings(column: pa.Array) -> list[bytes | None]:
    """The cells of a column of byte strings or nulls, sooner than ``to_pylist`` gives them."""
    if not is_bytes(column.type) or not len(column):
        return [None] * len(column)
    data, ends = bytes_and_ends(column)
    view = memoryview(data.data)
    cells: list[bytes | None] = [
        bytes(view[start:end]) for start, end in pairwise([0, *ends.tolist()])
    ]
    if column.null_count:
        for row in np.flatnonzero(column.is_null().to_numpy(zero_copy_only=False)).tolist():
            cells[row] = None
    return cells


def bytes_and_ends(column: pa.Array) -> tuple[NDArray[np.uint8], NDArray[np.int64]]:
    """The bytes of a text or binary column that is not empty, and where each row's end."""
    _, offsets, data = column.buffers()
    is_large = pa.types.is_large_string(column.type) or pa.types.is_large_binary(column.type)
    bounds = np.frombuffer(offsets, np.int64 if is_large else np.int32)
    bounds = bounds[column.offset : column.offset + len(column) + 1]
    ends = np.subtract(bounds[1:], bounds[0], dtype=np.int64)
    if data is None:
        return np.zeros(0, np.uint8), ends
    return np.frombuffer(data, np.uint8)[bounds[0] : bounds[-1]], ends


def quoted(texts: Iterable[tuple[bytes, bytes] | None]) -> list[tuple[bytes, ...]]:
    """Texts in two pieces that need no escapes, as JSON strings in pieces; None is null."""
    return [(b"null",) if text is None else (b'"', *text, b'"') for text in texts]


def _texts_one_by_one(column: pa.Array) -> tuple[list[str | None], dict[int, str]]:
    if is_text(column.type):
        large = pa.types.is_large_string(column.type)
        column = column.view(pa.large_binary() if large else pa.binary())
    values: list[str | None] = []
    failures: dict[int, str] = {}
    for row, cell in enumerate(column.to_pylist()):
        value = None
        try:
            value = cell if cell is None else cell.decode()
        except UnicodeDecodeError as error:
            failures[row] = f"byte {error.start} of the cell is not UTF-8"
        values.append(value)
    return values, failures


def named(field: pa.Field, failures: dict[int, str]) -> dict[int, str]:
    """The failures with the column's name before each text."""
    return {row: f"column {field.name!r}: {text}" for row, text in failures.items()}


def shown(value: object) -> str:
    """The value as it stands in a message, cut to about 40 characters."""
    text = value if isinstance(value, str) else str(value)
    return repr(text if len(text) <= MAX_SHOWN_CHARS else text[: MAX_SHOWN_CHARS - 1] + "…")


def wrong_type(spec: FeatureSpec, field: pa.Field, wanted: str) -> InputError:
    """The error of a column whose type can never serve the feature."""
    shape = f" of shape {list(spec.shape)}" if spec.kind == "array" else ""
    return InputError(
        f"column {field.name!r} has type {field.type}, which cannot serve the feature "
        f"{spec.name!r} ({spec.dtype}{shape}); it takes {wanted}"
    )


def nulls(column: Sequence[object]) -> list[object]:
    """As many nulls as the column has rows."""
    return [None] * len(column)
