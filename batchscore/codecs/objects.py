"""Python objects in the place of columns: what the ``Deployment`` client takes and gives.

Images are PIL images, arrays NumPy arrays, categories labels going in and a mapping of class to
probability coming out.
"""

from __future__ import annotations

from decimal import Decimal
from math import prod
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import pyarrow as pa
from PIL import Image, ImageFile

from batchscore.codecs.columns import plain, shown
from batchscore.codecs.picture import opened, png_bytes
from batchscore.codecs.tensor_output import tensor_array
from batchscore.codecs.tensor_values import float32_of, numeric_array, shape_text
from batchscore.errors import EncodeError, InputError

if TYPE_CHECKING:
    from collections.abc import Sequence

    from batchscore.schema import FeatureSpec


def column_from_objects(spec: FeatureSpec, values: Sequence[object]) -> pa.Array:
    """The objects as a column that ``input_codec`` takes for this feature; None is null.

    Args:
        spec: the input feature.
        values: numbers; labels or ``{label: number}``; strings; PIL images, encoded bytes or
            paths; array-likes of the feature's shape.

    Raises:
        InputError: an object is of a type that the feature does not take.
    """
    match spec.kind:
        case "number":
            return _number_column(spec, values)
        case "category":
            return _strings(spec, [_label(spec, value) for value in values])
        case "text":
            # Where text and pictures are both bytes to the model, the objects say which it is.
            if spec.datatype == "bytes" and not all(_is_text(value) for value in values):
                return pa.array([_picture(spec, value) for value in values], pa.binary())
            for value in values:
                if not _is_text(value):
                    raise _not_taken(spec, value, "a string")
            return _strings(spec, values)
        case "image":
            return pa.array([_picture(spec, value) for value in values], pa.binary())
        case "array":
            return _tensor_column(spec, values)


def objects_from_columns(spec: FeatureSpec, arrays: Sequence[pa.Array]) -> list[Any]:
    """The columns that ``output_codec`` made of this output, as Python objects; null is None.

    Raises:
        EncodeError: a picture does not open, or is too large to be opened safely.
    """
    column = arrays[0]
    match spec.kind:
        case "number" | "text":
            return list(column.to_pylist())
        case "category":
            return list(column.to_pylist()) if len(arrays) == 1 else _probabilities(arrays[1])
        case "image":
            return [None if data is None else _opened(data) for data in column.to_pylist()]
        case "array":
            return _arrays(column)


def _is_text(value: object) -> bool:
    return value is None or isinstance(value, str)


def _not_taken(spec: FeatureSpec, value: object, wanted: str) -> InputError:
    return InputError(
        f"feature {spec.name!r} ({spec.dtype}) takes {wanted}, "
        f"not {shown(value)} ({type(value).__name__})"
    )


def _strings(spec: FeatureSpec, values: Sequence[object]) -> pa.Array:
    try:
        return pa.array(values, pa.string())
    except UnicodeEncodeError:
        raise InputError(f"feature {spec.name!r}: a text is not valid Unicode") from None


def _number_column(spec: FeatureSpec, values: Sequence[object]) -> pa.Array:
    numbers: list[Any] = []
    for value in values:
        number = value
        if isinstance(value, (np.generic, np.ndarray)) and value.size == 1:
            number = value.item()
        if not (number is None or isinstance(number, (int, float, Decimal))):
            raise _not_taken(spec, value, "a number")
        numbers.append(int(number) if isinstance(number, bool) else number)
    given = [number for number in numbers if number is not None]
    if not given:
        return pa.nulls(len(numbers), pa.float64())
    try:
        if all(isinstance(n, int) for n in given) or all(isinstance(n, Decimal) for n in given):
            return _exact_column(numbers)
        return pa.array([None if n is None else float(n) for n in numbers], pa.float64())
    except (pa.ArrowInvalid, OverflowError):
        raise InputError(
            f"feature {spec.name!r}: a number has too many digits to be sent"
        ) from None


def _exact_column(numbers: list[Any]) -> pa.Array:
    try:
        return pa.array(numbers)
    except (pa.ArrowInvalid, OverflowError):  # integers beyond 64 bits have a place in decimals
        return pa.array([None if n is None else Decimal(n) for n in numbers])


def _label(spec: FeatureSpec, value: object) -> str | None:
    if isinstance(value, np.generic):
        value = value.item()
    if isinstance(value, dict) and value:
        try:
            value = max(value, key=value.__getitem__)
        except TypeError:
            raise _not_taken(spec, value, "a label or {label: number}") from None
    if isinstance(value, bool):
        return "true" if value else "false"
    if isinstance(value, int):
        return str(value)
    if not (value is None or isinstance(value, str)):
        raise _not_taken(spec, value, "a label or {label: number}")
    return value


def _picture(spec: FeatureSpec, value: object) -> bytes | None:
    if value is None:
        return None
    if isinstance(value, (bytes, bytearray, memoryview)):
        return bytes(value)
    try:
        if isinstance(value, Path):
            return value.read_bytes()
        if isinstance(value, Image.Image):
            return _own_bytes(value) or png_bytes(value)
    except OSError as error:
        raise InputError(
            f"feature {spec.name!r}: {str(value)!r} cannot be read: {error.strerror or error}"
        ) from None
    except EncodeError as error:
        raise InputError(f"feature {spec.name!r}: {error}") from None
    raise _not_taken(spec, value, "a PIL image, encoded bytes or a pathlib.Path")


def _own_bytes(image: Image.Image) -> bytes | None:
    """The bytes of the file behind an image that is still as it was opened.

    Once its pixels are loaded they may have been changed in place, so then there are none.
    """
    source = image.fp if isinstance(image, ImageFile.ImageFile) and image.tile else None
    if source is None or image.format not in {"PNG", "JPEG", "MPO"} or image.tell() != 0:
        return None
    position = source.tell()
    source.seek(0)
    try:
        return bytes(source.read())
    finally:
        source.seek(position)


def _opened(data: bytes) -> Image.Image:
    with opened(data) as image:
        copy = image.copy()
    # A copy has no file to keep open, but the user may want to know what it was.
    copy.format = image.format
    return copy


def _tensor_column(spec: FeatureSpec, values: Sequence[object]) -> pa.Array:
    """Arrays as float32, or in a type of their own that is made the declared one where it fits."""
    shape = _shape_of_first(spec, values)
    arrays: list[np.ndarray[Any, Any]] = []
    for value in values:
        if value is None:
            continue
        try:
            array = numeric_array(value)
        except ValueError:
            raise _not_taken(spec, value, f"an array of shape {shape_text(shape)}") from None
        if array.shape != shape and not (array.size == 1 and shape == (1,)):
            raise InputError(
                f"feature {spec.name!r} takes arrays of shape {shape_text(shape)}, "
                f"not {shape_text(array.shape)}"
            )
        arrays.append(float32_of(array.ravel()) if spec.datatype is None else array.ravel())
    absent = np.fromiter((value is None for value in values), np.bool_, len(values))
    dtype = np.result_type(*arrays) if arrays else np.dtype(np.float32)
    # Arrow's tensors have no bits.
    matrix = np.zeros((len(values), prod(shape)), np.uint8 if dtype.kind == "b" else dtype)
    if arrays:
        matrix[~absent] = arrays
    return tensor_array(matrix, absent, shape)


def _shape_of_first(spec: FeatureSpec, values: Sequence[object]) -> tuple[int, ...]:
    """The feature's shape; a size that it leaves open is that of the first value."""
    shape = spec.shape or (1,)
    first = next((value for value in values if value is not None), None)
    if not spec.is_open or first is None:
        return tuple(abs(size) for size in shape)
    try:
        sizes = numeric_array(first).shape
    except ValueError:
        raise _not_taken(spec, first, f"an array of {len(shape)} dimensions") from None
    if len(sizes) != len(shape):
        raise _not_taken(spec, first, f"an array of {len(shape)} dimensions")
    return tuple(size if known < 0 else known for known, size in zip(shape, sizes, strict=True))


def _arrays(column: pa.Array) -> list[np.ndarray[Any, Any] | None]:
    storage = column.storage
    shape = tuple(column.type.shape)
    flat = storage.drop_null().flatten().to_numpy(zero_copy_only=False)
    # A copy, so that each array can be written to and does not keep the others in memory.
    found = iter(flat.reshape(-1, *shape))
    return [next(found).copy() if ok else None for ok in storage.is_valid().to_pylist()]


def _probabilities(column: pa.Array) -> list[dict[str, float | None] | None]:
    rows = plain(column).to_pylist()
    if pa.types.is_struct(column.type):
        return list(rows)
    return [row if row is None else {pair["label"]: pair["prob"] for pair in row} for row in rows]
