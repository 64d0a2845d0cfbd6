"""Tensors of the Open Inference Protocol: their datatypes, and how they are read from answers.

In JSON a tensor's numbers stand in a list, in the binary form its bytes follow the JSON:
https://github.com/triton-inference-server/server/blob/main/docs/protocol/extension_binary_data.md
"""

from __future__ import annotations

import struct
from dataclasses import dataclass
from math import prod
from typing import TYPE_CHECKING, Any

import msgspec
import numpy as np
import pyarrow as pa

from batchscore.errors import DecodeError
from batchscore.protocols.untrusted import beginning, check_values, most_values, parse_json
from batchscore.schema import FeatureSpec

if TYPE_CHECKING:
    from collections.abc import Sequence

    from numpy.typing import NDArray

    from batchscore.protocols.base import Response

BYTES = "BYTES"
HEADER = "Inference-Header-Content-Length"
"""How many bytes of a body are JSON; the tensors follow. It shows that a message is binary."""

DATATYPES: dict[str, np.dtype[Any]] = {
    "BOOL": np.dtype(np.bool_),
    **{f"INT{bits}": np.dtype(f"int{bits}") for bits in (8, 16, 32, 64)},
    **{f"UINT{bits}": np.dtype(f"uint{bits}") for bits in (8, 16, 32, 64)},
    **{f"FP{bits}": np.dtype(f"float{bits}") for bits in (16, 32, 64)},
}
NAMES = {dtype.name: name for name, dtype in DATATYPES.items()}
_LENGTH = struct.Struct("<I")
# Values a row that an output may have whose shape nobody told.
_UNKNOWN_VALUES = 1000


def numpy_name(datatype: str) -> str:
    """A datatype in NumPy's words, or ``bytes``.

    Raises:
        ValueError: it is none that NumPy and Arrow have.
    """
    if datatype == BYTES:
        return "bytes"
    if datatype not in DATATYPES:
        known = ", ".join([*DATATYPES, BYTES])
        raise ValueError(f"the datatype {datatype!r}, which is none of {known}")
    return DATATYPES[datatype].name


@dataclass(frozen=True, slots=True)
class Tensor:
    """One output of an answer.

    Attributes:
        name: its name.
        datatype: one of ``DATATYPES``, or BYTES.
        shape: its whole shape, rows first.
        values: its values in row-major order: NumPy's, or strings of Arrow.
    """

    name: str
    datatype: str
    shape: tuple[int, ...]
    values: NDArray[Any] | pa.Array


class _Output(msgspec.Struct):
    name: str
    datatype: str
    shape: list[int]
    data: msgspec.Raw = msgspec.Raw()
    parameters: dict[str, Any] | None = None


class _Answer(msgspec.Struct):
    outputs: list[_Output]


_ANSWER = msgspec.json.Decoder(_Answer)
_LISTS: dict[str, msgspec.json.Decoder[Any]] = {
    "f": msgspec.json.Decoder(list[float | None]),
    "i": msgspec.json.Decoder(list[int]),
    "u": msgspec.json.Decoder(list[int]),
    "b": msgspec.json.Decoder(list[bool]),
    "S": msgspec.json.Decoder(list[str | None]),
}


def is_binary(response: Response) -> bool:
    """Whether an answer has the binary form."""
    return HEADER.lower() in response.headers


def read_answer(
    response: Response, num_rows: int, outputs: Sequence[FeatureSpec]
) -> dict[str, Tensor]:
    """The tensors of an answer by name.

    Args:
        response: the answer.
        num_rows: how many rows it is to have.
        outputs: what is known of the outputs; it bounds what is read.

    Raises:
        DecodeError: it is no answer for so many rows.
    """
    head, raw = _split(response)
    most = _most_values(outputs, num_rows)
    check_values(head, most)
    found: dict[str, Tensor] = {}
    position = 0
    for output in _outputs(head, most):
        shape = tuple(output.shape)
        _check(output.name, output.datatype, shape, num_rows)
        if output.datatype == BYTES and prod(shape) > most:
            raise DecodeError(f"output {output.name!r} has {prod(shape)} texts, too many")
        size = (output.parameters or {}).get("binary_data_size")
        if size is None:
            values = _from_json(output, prod(shape))
        else:
            if not isinstance(size, int) or not 0 <= size <= len(raw) - position:
                raise DecodeError(
                    f"output {output.name!r} is to have {size} bytes; {len(raw) - position} came"
                )
            values = _from_bytes(output, prod(shape), raw[position : position + size])
            position += size
        found[output.name] = Tensor(output.name, output.datatype, shape, values)
    return found


def _split(response: Response) -> tuple[bytes, memoryview]:
    """The JSON of an answer, and the bytes behind it."""
    length = response.headers.get(HEADER.lower())
    if length is None:
        return response.body, memoryview(b"")
    if not (length.isascii() and length.isdigit() and int(length) <= len(response.body)):
        raise DecodeError(f"the answer's header {HEADER} says {length!r}, which cannot be")
    return response.body[: int(length)], memoryview(response.body)[int(length) :]


def _most_values(outputs: Sequence[FeatureSpec], num_rows: int) -> int:
    unknown = FeatureSpec("", "numeric", (_UNKNOWN_VALUES,))
    return most_values(
        [unknown if spec.is_open else spec for spec in outputs] or [unknown], num_rows
    )


def _outputs(head: bytes, most: int) -> list[_Output]:
    try:
        return _ANSWER.decode(head).outputs
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError):
        pass  # bare NaN, an error inside a 200: told apart below
    document = parse_json(head, most)
    try:
        # What was no JSON because of a bare NaN is read again without one.
        return _ANSWER.decode(msgspec.json.encode(document)).outputs
    except (msgspec.DecodeError, TypeError, ValueError, RecursionError):
        error = document.get("error") if isinstance(document, dict) else None
        if isinstance(error, str):
            raise DecodeError(error) from None
        raise DecodeError(f"the answer has no outputs: {beginning(head)}") from None


def _check(name: str, datatype: str, shape: tuple[int, ...], num_rows: int) -> None:
    if datatype != BYTES and datatype not in DATATYPES:
        raise DecodeError(f"output {name!r} has the datatype {datatype!r}, which is not known here")
    if not shape or any(size < 0 for size in shape):
        raise DecodeError(f"output {name!r} has the shape {list(shape)}, without rows")
    if shape[0] != num_rows:
        raise DecodeError(f"output {name!r} has {shape[0]} rows, {num_rows} were sent")


def _wrong_count(name: str, found: int, wanted: int) -> DecodeError:
    return DecodeError(f"output {name!r} has {found} values, its shape says {wanted}")


def _from_json(output: _Output, count: int) -> NDArray[Any] | pa.Array:
    """The values of a list, nested or flat."""
    dtype = DATATYPES.get(output.datatype)
    kind = "S" if dtype is None else dtype.kind
    try:
        values = _LISTS[kind].decode(output.data)
    except (msgspec.DecodeError, UnicodeDecodeError):
        values = _flat(output)
    if len(values) != count:
        raise _wrong_count(output.name, len(values), count)
    try:
        if dtype is None:
            return pa.array(values, pa.string())
        return _numbers(values, dtype)
    except (TypeError, ValueError, OverflowError, pa.ArrowInvalid, pa.ArrowTypeError):
        raise DecodeError(
            f"output {output.name!r} has values that are no {output.datatype}"
        ) from None


def _numbers(values: list[Any], dtype: np.dtype[Any]) -> NDArray[Any]:
    """Numbers of JSON in the datatype that they are to have; ``ValueError`` where they have not."""
    if dtype.kind == "f":
        # A null is how many servers write NaN.
        with np.errstate(over="ignore"):
            return np.array(values, np.float64).astype(dtype, copy=False)
    if all(type(value) is int for value in values):
        return np.array(values, dtype)  # refuses what is out of range
    found = np.array(values)
    numbers = found.astype(dtype)
    if found.dtype.kind not in "bf" or not (numbers == found).all():
        raise ValueError
    return numbers


def _flat(output: _Output) -> list[Any]:
    """The values of nested lists, one after another."""
    try:
        values = msgspec.json.decode(output.data)
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError):
        raise DecodeError(f"output {output.name!r} has no data") from None
    for _ in output.shape[1:]:
        if not (isinstance(values, list) and all(isinstance(item, list) for item in values)):
            break
        values = [value for item in values for value in item]
    if not isinstance(values, list):
        raise DecodeError(f"output {output.name!r} has data that is no list")
    return values


def _from_bytes(output: _Output, count: int, raw: memoryview) -> NDArray[Any] | pa.Array:
    """The values of raw little-endian bytes; numbers are not copied where they are aligned."""
    dtype = DATATYPES.get(output.datatype)
    if dtype is None:
        return _texts(output.name, count, raw)
    if len(raw) != count * dtype.itemsize:
        raise _wrong_count(output.name, len(raw) // dtype.itemsize, count)
    if dtype.kind == "b":
        return np.frombuffer(raw, np.uint8) != 0
    return np.require(np.frombuffer(raw, dtype.newbyteorder("<")), dtype, "A")


def _texts(name: str, count: int, raw: memoryview) -> pa.Array:
    """Texts, each behind its length."""
    lengths: list[int] = []
    position, end, length_at = 0, len(raw), _LENGTH.unpack_from
    while position + _LENGTH.size <= end and len(lengths) <= count:
        (length,) = length_at(raw, position)
        lengths.append(length)
        position += length + _LENGTH.size
    if position != end and len(lengths) <= count:
        raise DecodeError(f"output {name!r} is cut off")
    if len(lengths) != count:
        raise _wrong_count(name, len(lengths), count)
    offsets = np.append(0, np.cumsum(lengths, dtype=np.int64))
    # Where the bytes of each text begin, before the lengths between them are taken out.
    starts = offsets[:-1] + _LENGTH.size * np.arange(count)
    is_text = np.ones(end, np.bool_)
    is_text[(starts[:, None] + np.arange(_LENGTH.size)).ravel()] = False
    buffers = [None, pa.py_buffer(offsets), pa.py_buffer(np.frombuffer(raw, np.uint8)[is_text])]
    texts = pa.Array.from_buffers(pa.large_binary(), count, buffers)
    try:
        return texts.cast(pa.string())
    except pa.ArrowInvalid:
        raise DecodeError(f"output {name!r} has bytes that are no UTF-8 text") from None
