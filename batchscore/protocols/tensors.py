"""Tensors of the Open Inference Protocol: their datatypes, and answers read into Arrow columns.

In JSON a tensor's numbers stand in a list, in the binary form its bytes follow the JSON:
https://github.com/triton-inference-server/server/blob/main/docs/protocol/extension_binary_data.md
"""

from __future__ import annotations

import struct
from dataclasses import dataclass, replace
from math import prod
from typing import TYPE_CHECKING, Any

import msgspec
import numpy as np
import pyarrow as pa

from batchscore.codecs.category import category_output
from batchscore.codecs.tensor_output import tensor_array
from batchscore.errors import DecodeError
from batchscore.protocols.untrusted import beginning, check_values, most_values, parse_json
from batchscore.schema import FeatureSpec

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from numpy.typing import NDArray

    from batchscore.config import Probs
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


def output_spec(
    name: str, datatype: str, shape: tuple[int, ...], classes: Sequence[str]
) -> FeatureSpec:
    """An output by what is said of its tensor.

    Args:
        name: its name.
        datatype: of the tensor.
        shape: of what a row has of it.
        classes: what the columns of a matrix stand for, if the user says so.

    Raises:
        ValueError: the datatype is not known here.
    """
    known = numpy_name(datatype)
    shape = shape or (1,)
    if known == "bytes":
        return FeatureSpec(name, "text", shape, datatype=known)
    if classes and known.startswith("float") and shape == (len(classes),):
        return FeatureSpec(name, "categorical", shape, tuple(sorted(classes)), datatype=known)
    return FeatureSpec(name, "numeric", shape, datatype=known)


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
    texts: list[memoryview] = []
    position = 0
    while position < len(raw) and len(texts) <= count:
        start = position + _LENGTH.size
        if start > len(raw):
            raise DecodeError(f"output {name!r} is cut off")
        position = start + _LENGTH.unpack_from(raw, position)[0]
        texts.append(raw[start:position])
    if position > len(raw):
        raise DecodeError(f"output {name!r} is cut off")
    if len(texts) != count:
        raise _wrong_count(name, len(texts), count)
    try:
        return pa.array(list(map(bytes, texts)), pa.binary()).cast(pa.string())
    except pa.ArrowInvalid:
        raise DecodeError(f"output {name!r} has bytes that are no UTF-8 text") from None


class TensorDecoder:
    """Makes columns of answers; see ``AnswerDecoder``."""

    def __init__(
        self,
        specs: Sequence[FeatureSpec],
        classes: Sequence[str],
        probs: Probs,
        on_binary: Callable[[], None],
    ) -> None:
        """Decode answers with these outputs.

        Args:
            specs: the outputs.
            classes: what the columns of a matrix of probabilities stand for, in their order.
            probs: the form of probabilities.
            on_binary: called where an answer has the binary form.
        """
        self._specs = tuple(specs)
        self._columns = [_column(spec, classes, probs) for spec in specs]
        self._on_binary = on_binary
        self.fields = tuple(
            suffix.with_name(spec.name + suffix.name)
            for spec, column in zip(specs, self._columns, strict=True)
            for suffix in column.fields
        )

    def decode(self, response: Response, num_rows: int) -> tuple[pa.Array, ...]:
        """See ``AnswerDecoder.decode``."""
        tensors = read_answer(response, num_rows, self._specs)
        arrays: list[pa.Array] = []
        for spec, column in zip(self._specs, self._columns, strict=True):
            if spec.name not in tensors:
                found = ", ".join(map(repr, tensors)) or "none"
                raise DecodeError(f"the answer has no output {spec.name!r}, only {found}")
            arrays += column.arrays(_checked(tensors[spec.name], spec))
        if is_binary(response):
            self._on_binary()
        return tuple(arrays)


def _checked(tensor: Tensor, spec: FeatureSpec) -> Tensor:
    """The tensor in the datatype that its output has; ``DecodeError`` where that cannot be."""
    came = numpy_name(tensor.datatype)
    wanted = spec.datatype or came
    if came != wanted:
        if "bytes" in {came, wanted} or not np.can_cast(came, wanted, "safe"):
            raise DecodeError(
                f"output {spec.name!r} came as {tensor.datatype}, but is to be "
                f"{NAMES.get(wanted, BYTES)}, says the deployment's own metadata"
            )
        tensor = replace(tensor, values=tensor.values.astype(wanted))
    shape = tensor.shape[1:]
    if shape != spec.shape and not (prod(shape) == 1 == prod(spec.shape)):
        raise DecodeError(
            f"output {spec.name!r} came in the shape {list(tensor.shape)}; a row of it is to be "
            f"{list(spec.shape)}"
        )
    return tensor


def _column(
    spec: FeatureSpec, classes: Sequence[str], probs: Probs
) -> _Numbers | _Texts | _Classes | _Arrays:
    if spec.kind == "category":
        return _Classes(spec, classes, probs)
    if spec.datatype == "bytes":
        return _Texts(spec)
    return _Numbers(spec) if spec.kind == "number" else _Arrays(spec)


class _Numbers:
    """One number a row."""

    def __init__(self, spec: FeatureSpec) -> None:
        self._type = pa.from_numpy_dtype(np.dtype(spec.datatype or "float64"))
        self.fields = (pa.field("", self._type),)

    def arrays(self, tensor: Tensor) -> tuple[pa.Array, ...]:
        return (pa.array(tensor.values, self._type, from_pandas=False),)


class _Texts:
    """One text a row, or a list of them."""

    def __init__(self, spec: FeatureSpec) -> None:
        self._width = None if prod(spec.shape) == 1 else prod(spec.shape)
        type_ = pa.string() if self._width is None else pa.list_(pa.string())
        self.fields = (pa.field("", type_),)

    def arrays(self, tensor: Tensor) -> tuple[pa.Array, ...]:
        if self._width is None:
            return (tensor.values,)
        offsets = np.arange(tensor.shape[0] + 1, dtype=np.int32) * self._width
        return (pa.ListArray.from_arrays(pa.array(offsets), tensor.values),)


class _Classes:
    """A probability a class."""

    def __init__(self, spec: FeatureSpec, classes: Sequence[str], probs: Probs) -> None:
        self._codec = category_output(spec, probs)
        self.fields = self._codec.fields
        place = {name: column for column, name in enumerate(classes)}
        self._order = [place[name] for name in self._codec.classes]

    def arrays(self, tensor: Tensor) -> tuple[pa.Array, ...]:
        matrix = tensor.values.reshape(tensor.shape[0], len(self._order))
        return self._codec.of_matrix(matrix[:, self._order].astype(np.float64, copy=False))


class _Arrays:
    """An array a row. Arrow's tensors have no bits, so those of BOOL are bytes, 0 and 1."""

    def __init__(self, spec: FeatureSpec) -> None:
        dtype = np.dtype(spec.datatype or "float64")
        self._dtype = np.dtype(np.uint8) if dtype.kind == "b" else dtype
        self._shape = spec.shape
        type_ = pa.from_numpy_dtype(self._dtype)
        is_known = not spec.is_open
        self.fields = (
            pa.field(
                "", pa.fixed_shape_tensor(type_, self._shape) if is_known else pa.list_(type_)
            ),
        )

    def arrays(self, tensor: Tensor) -> tuple[pa.Array, ...]:
        matrix = tensor.values.astype(self._dtype, copy=False)
        absent = np.zeros(tensor.shape[0], np.bool_)
        return (tensor_array(matrix.reshape(tensor.shape[0], -1), absent, self._shape),)
