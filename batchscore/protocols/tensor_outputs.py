"""Tensors of answers as Arrow columns, of the datatypes that the protocol states."""

from __future__ import annotations

from dataclasses import replace
from math import prod
from typing import TYPE_CHECKING, Any

import numpy as np
import pyarrow as pa

from batchscore.codecs.category import category_output
from batchscore.codecs.tensor_output import tensor_array
from batchscore.errors import DecodeError
from batchscore.protocols.tensors import BYTES, NAMES, is_binary, numpy_name, read_answer
from batchscore.schema import FeatureSpec

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from batchscore.config import Probs
    from batchscore.protocols.base import Response
    from batchscore.protocols.tensors import Tensor


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
        if "bytes" in {came, wanted} or not _holds(np.dtype(wanted), np.dtype(came)):
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


def _holds(wide: np.dtype[Any], narrow: np.dtype[Any]) -> bool:
    """Whether a datatype has all the numbers of another."""
    # NumPy takes float64 for wide enough; it has not every integer of 64 bits.
    lost = wide.kind == "f" and narrow.kind in "iu" and narrow.itemsize == wide.itemsize
    return np.can_cast(narrow, wide, "safe") and not lost


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
