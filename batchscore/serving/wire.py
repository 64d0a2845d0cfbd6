"""Rows between JSON and Python, as a deployment reads and writes them.

The client's codecs are not used here, so that one side checks the other.
"""

from __future__ import annotations

import base64
import binascii
import io
from collections.abc import Mapping, Sequence
from operator import itemgetter
from types import NoneType
from typing import TYPE_CHECKING, Any

import numpy as np
from PIL import Image, UnidentifiedImageError

from batchscore.serving.models import Row, RowError

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable

    import numpy.typing as npt

    from batchscore.schema import FeatureSpec, Kind

NPY_MEDIA_TYPE = "application/x.peltarion.npy"

_MODES = {"PNG": {"1", "L", "LA", "P", "RGB", "RGBA", "I;16"}, "JPEG": {"L", "RGB", "CMYK"}}


class AnswerError(ValueError):
    """Raised when the model's answer is not what its outputs promise."""


class _CellError(ValueError):
    """Raised when one value does not fit its feature; becomes a RowError that says where."""


def decode_rows(rows: Sequence[object], inputs: Iterable[FeatureSpec]) -> list[Row]:
    """The rows of a request as the model takes them.

    Raises:
        RowError: a row is no object, a feature is missing, or a value does not fit its type.
    """
    for position, row in enumerate(rows):
        if type(row) is not dict:
            raise RowError(position, None, f"an object is expected, not {_json_name(row)}")
    table: list[Row] = rows  # type: ignore[assignment]  # every row has just been looked at
    specs = tuple(inputs)
    # Column by column: most columns need no work at all, and say so as a whole.
    columns = [_decode_column(_column(table, spec.name), spec) for spec in specs]
    names = [spec.name for spec in specs]
    return [dict(zip(names, values, strict=True)) for values in zip(*columns, strict=True)]


def encode_rows(
    answers: object, outputs: Iterable[FeatureSpec], *, num_rows: int, tensor_json: bool
) -> list[Row]:
    """The model's answers, ready for a JSON encoder that writes NaN as null.

    Raises:
        AnswerError: they are not one mapping a row with every output in its type and shape.
    """
    if isinstance(answers, (str, bytes)) or not isinstance(answers, Sequence):
        raise AnswerError(f"predict returned {type(answers).__name__}, not a list of dicts")
    if len(answers) != num_rows:
        raise AnswerError(f"predict returned {len(answers)} rows for {num_rows}")
    for position, answer in enumerate(answers):
        if not isinstance(answer, Mapping):
            raise AnswerError(f"answer {position} is {type(answer).__name__}, not a dict")
    specs = tuple(outputs)
    columns = [_encode_column(answers, spec, tensor_json=tensor_json) for spec in specs]
    names = [spec.name for spec in specs]
    return [dict(zip(names, values, strict=True)) for values in zip(*columns, strict=True)]


def _column(rows: Sequence[Mapping[str, Any]], name: str) -> list[Any]:
    try:
        return list(map(itemgetter(name), rows))
    except KeyError:
        missing = next(position for position, row in enumerate(rows) if name not in row)
        raise RowError(missing, name, "missing") from None


def _decode_column(values: list[Any], spec: FeatureSpec) -> list[Any]:
    types = set(map(type, values))
    if types <= _DECODED_TYPES.get(spec.kind, set()):
        return values
    decode = _DECODERS[spec.kind]
    decoded: list[Any] = []
    for position, value in enumerate(values):
        try:
            decoded.append(None if value is None else decode(value, spec))
        except _CellError as error:
            raise RowError(position, spec.name, str(error)) from error
    return decoded


def _json_name(value: object) -> str:
    match value:
        case None:
            return "null"
        case bool():
            return "a boolean"
        case int() | float():
            return "a number"
        case str():
            return "a string"
        case list():
            return "an array"
    return "an object"


def _decode_number(value: object, _: FeatureSpec) -> float:
    if not isinstance(value, (int, float)):
        raise _CellError(f"a number is expected, not {_json_name(value)}")
    try:
        return float(value)
    except OverflowError:
        raise _CellError("the number is too large for a float") from None


def _decode_text(value: object, _: FeatureSpec) -> str:
    if not isinstance(value, str):
        raise _CellError(f"a string is expected, not {_json_name(value)}")
    return value


def _decode_category(value: object, spec: FeatureSpec) -> str:
    """The label; of ``{label: number}`` the one with the largest number."""
    if not isinstance(value, dict):
        return _decode_text(value, spec)
    if not value or not all(isinstance(number, (int, float)) for number in value.values()):
        raise _CellError("a label, or an object of label and number, is expected")
    return str(max(value, key=value.__getitem__))


def _decode_image(value: object, _: FeatureSpec) -> Image.Image:
    data = _data_uri(value, "an image")
    try:
        image = Image.open(io.BytesIO(data))
        image.load()
    except (OSError, SyntaxError, ValueError, Image.DecompressionBombError) as error:
        # Pillow's own words name a BytesIO object, which tells nobody anything.
        why = "of no known format" if isinstance(error, UnidentifiedImageError) else error
        raise _CellError(f"the image does not open: {why}") from error
    return image


def _decode_array(value: object, spec: FeatureSpec) -> npt.NDArray[np.float32]:
    if isinstance(value, dict):
        if not isinstance(value.get("data"), list) or not isinstance(value.get("shape"), list):
            raise _CellError("an array is a list, {'shape', 'data'} or a NumPy file in a data URI")
        array = _from_list(value["data"])
        try:
            array = array.reshape([int(size) for size in value["shape"]])
        except (TypeError, ValueError) as error:
            raise _CellError(f"{array.size} numbers do not make shape {value['shape']}") from error
    elif isinstance(value, list):
        array = _from_list(value)
    else:
        data = _data_uri(value, "an array")
        try:
            array = np.load(io.BytesIO(data), allow_pickle=False)
        except (OSError, EOFError, ValueError) as error:
            raise _CellError("the data URI holds no NumPy file of numbers") from error
        if array.dtype.kind not in "fiub":
            raise _CellError(f"the array holds {array.dtype}, not numbers")
    if array.shape != spec.shape:
        raise _CellError(f"shape {list(spec.shape)} is expected, not {list(array.shape)}")
    return array.astype(np.float32)


def _from_list(data: list[Any]) -> npt.NDArray[Any]:
    try:
        array = np.array(data)
        if array.dtype == object:  # null, or a ragged list's leftovers
            if not all(item is None or isinstance(item, (int, float)) for item in array.flat):
                raise _CellError("not a number")
            array = array.astype(np.float64)
    except ValueError as error:
        raise _CellError("the array holds something other than rows of numbers") from error
    if array.dtype.kind not in "fiub":
        raise _CellError("the array holds something other than numbers")
    return array


def _data_uri(value: object, what: str) -> bytes:
    if not isinstance(value, str):
        raise _CellError(f"{what} is expected, not {_json_name(value)}")
    head, comma, tail = value.partition(",")
    if not comma or not head.startswith("data:") or not head.endswith(";base64"):
        raise _CellError(f"{what} is expected as a data URI: data:TYPE;base64,...")
    try:
        return base64.b64decode(tail, validate=True)
    except binascii.Error as error:
        raise _CellError("the data URI is not valid base64") from error


_DECODED_TYPES: dict[Kind, set[type]] = {
    "number": {float, NoneType},
    "text": {str, NoneType},
    "category": {str, NoneType},
}
_DECODERS: dict[Kind, Callable[[Any, FeatureSpec], Any]] = {
    "number": _decode_number,
    "text": _decode_text,
    "category": _decode_category,
    "image": _decode_image,
    "array": _decode_array,
}


def _encode_column(
    answers: Sequence[Mapping[str, Any]], spec: FeatureSpec, *, tensor_json: bool
) -> list[Any]:
    try:
        values = list(map(itemgetter(spec.name), answers))
    except KeyError:
        raise AnswerError(f"an answer of predict has no output {spec.name!r}") from None
    if set(map(type, values)) <= _DECODED_TYPES.get(spec.kind, set()) and spec.kind != "category":
        return values
    encode = _ENCODERS[spec.kind]
    if spec.kind == "array" and (spec.dtype == "numpy" or not tensor_json):
        encode = _encode_npy
    try:
        return [None if value is None else encode(value, spec) for value in values]
    except (OSError, TypeError, ValueError) as error:
        raise AnswerError(f"output {spec.name!r}: {error}") from error


def _encode_number(value: Any, _: FeatureSpec) -> float:
    if isinstance(value, str):
        raise TypeError(f"a number is expected, not {value!r}")
    return float(value)


def _encode_text(value: Any, _: FeatureSpec) -> str:
    if not isinstance(value, str):
        raise TypeError(f"a string is expected, not {type(value).__name__}")
    return str(value)  # a NumPy string is one, but no JSON encoder knows it


def _encode_category(value: Any, _: FeatureSpec) -> dict[str, float]:
    if not isinstance(value, Mapping):
        raise TypeError(f"a dict of class and probability is expected, not {type(value).__name__}")
    return {str(label): float(probability) for label, probability in value.items()}


def _float32(value: Any, spec: FeatureSpec) -> npt.NDArray[np.float32]:
    array = np.asarray(value, dtype=np.float32)
    if array.shape != spec.shape:
        raise ValueError(f"shape {list(spec.shape)} is promised, not {list(array.shape)}")
    return array


def _encode_tensor(value: Any, spec: FeatureSpec) -> dict[str, Any]:
    array = _float32(value, spec)
    return {"shape": list(array.shape), "data": array.ravel().tolist()}


def _encode_npy(value: Any, spec: FeatureSpec) -> str:
    buffer = io.BytesIO()
    np.save(buffer, _float32(value, spec), allow_pickle=False)
    return f"data:{NPY_MEDIA_TYPE};base64,{base64.b64encode(buffer.getvalue()).decode()}"


def _encode_image(value: Any, _: FeatureSpec) -> str:
    if not isinstance(value, Image.Image):
        raise TypeError(f"a PIL image is expected, not {type(value).__name__}")
    file_format = "JPEG" if value.format == "JPEG" else "PNG"
    if value.mode not in _MODES[file_format]:
        value = value.convert("I;16" if (file_format, value.mode) == ("PNG", "I") else "RGB")
    buffer = io.BytesIO()
    value.save(buffer, format=file_format)
    text = base64.b64encode(buffer.getvalue()).decode()
    return f"data:image/{file_format.lower()};base64,{text}"


_ENCODERS: dict[Kind, Callable[[Any, FeatureSpec], Any]] = {
    "number": _encode_number,
    "text": _encode_text,
    "category": _encode_category,
    "image": _encode_image,
    "array": _encode_tensor,
}
