"""Arrays as nested lists, in the type of their own numbers or of those that the model takes."""

from __future__ import annotations

from dataclasses import dataclass
from math import prod
from typing import TYPE_CHECKING, Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from batchscore.codecs.base import TypedColumn
from batchscore.codecs.columns import (
    is_list,
    is_numeric,
    named,
    plain,
    plain_type,
    wire_bytes_of_values,
    wrong_type,
)
from batchscore.codecs.tensor import tensor_input

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from batchscore.codecs.base import TypedInput
    from batchscore.codecs.folder import ImageFolder
    from batchscore.codecs.tensor import TensorInput
    from batchscore.schema import FeatureSpec

_NUMBER_CHARS = 20


def array_input(
    spec: FeatureSpec, column: pa.Field, wanted: pa.DataType | None, folder: ImageFolder | None
) -> TypedInput:
    """What makes arrays of a column; a size of -1 in the shape is any length.

    Raises:
        InputError: the column's type can never hold arrays of the feature's shape.
    """
    if any(size < 0 for size in spec.shape):
        return _open_lists(spec, column, wanted)
    return ArrayInput(column, tensor_input(spec, column, tensor_json=False, folder=folder), wanted)


def _open_lists(spec: FeatureSpec, column: pa.Field, wanted: pa.DataType | None) -> OpenListInput:
    type_, depth = plain_type(column.type), 0
    while is_list(type_):
        type_, depth = plain_type(type_.value_type), depth + 1
    if depth != len(spec.shape) or not is_numeric(type_):
        raise wrong_type(spec, column, f"lists of numbers, {len(spec.shape)} deep")
    return OpenListInput(column, depth, wanted)


@dataclass(frozen=True, slots=True)
class ArrayInput:
    """Arrays of one shape, as lists of fixed size."""

    field: pa.Field
    codec: TensorInput
    wanted: pa.DataType | None

    @property
    def blocks(self) -> bool:
        """Whether the cells are paths of files."""
        return self.codec.blocks

    def column(self, cells: pa.Array) -> TypedColumn:
        """See ``TypedInput``."""
        cells, shape = plain(cells), self.codec.shape
        absent = cells.is_null().to_numpy(zero_copy_only=False).copy()
        numbers: NDArray[Any] = np.zeros((0, prod(shape)))
        rows, failures = np.zeros(0, np.int64), dict[int, str]()
        if not pa.types.is_null(cells.type):
            numbers, rows, failures = self.codec.read(cells)
        if len(rows) < len(cells):
            absent[:] = True
            absent[rows] = False
        if self.wanted is not None and self.wanted.to_pandas_dtype() != numbers.dtype:
            with np.errstate(over="ignore", invalid="ignore"):
                exact, numbers = numbers, numbers.astype(self.wanted.to_pandas_dtype())
            if numbers.dtype.kind != "f":
                for row in rows[(numbers != exact).any(axis=1)].tolist():
                    failures[row] = f"a number of the array is no {self.wanted}"
        if len(rows) < len(cells):
            matrix = np.zeros((len(cells), prod(shape)), numbers.dtype)
            matrix[rows] = numbers
            numbers = matrix
        array = pa.array(np.ascontiguousarray(numbers).ravel(), from_pandas=False)
        for size in reversed(shape[1:]):
            array = pa.FixedSizeListArray.from_arrays(array, size)
        mask = pa.array(absent) if absent.any() else None
        array = pa.FixedSizeListArray.from_arrays(array, shape[0], mask=mask)
        return TypedColumn(array, named(self.field, failures))

    def wire_bytes(self, cells: pa.Array) -> int:
        """See ``TypedInput``."""
        each = prod(self.codec.shape) * _NUMBER_CHARS
        return int(each * (len(cells) - cells.null_count))


@dataclass(frozen=True, slots=True)
class OpenListInput:
    """Lists of any length, as they are."""

    field: pa.Field
    depth: int
    wanted: pa.DataType | None
    blocks: bool = False

    def column(self, cells: pa.Array) -> TypedColumn:
        """See ``TypedInput``."""
        type_: Any = self.wanted
        if type_ is None:
            return TypedColumn(plain(cells))
        for _ in range(self.depth):
            type_ = pa.list_(type_)
        try:
            return TypedColumn(pc.cast(plain(cells), type_, safe=pa.types.is_integer(self.wanted)))
        except pa.ArrowInvalid:
            return self._one_by_one(plain(cells), type_)

    def _one_by_one(self, cells: pa.Array, type_: pa.DataType) -> TypedColumn:
        """The same where some rows hold numbers that are none of the wanted type."""
        parts: list[pa.Array] = []
        failures: dict[int, str] = {}
        for row in range(len(cells)):
            try:
                # A slice would have all the numbers of the column with it.
                parts.append(pc.cast(cells.take(pa.array([row])), type_))
            except pa.ArrowInvalid:
                parts.append(pa.nulls(1, type_))
                failures[row] = f"a number of the array is no {self.wanted}"
        return TypedColumn(pa.concat_arrays(parts), named(self.field, failures))

    def wire_bytes(self, cells: pa.Array) -> int:
        """See ``TypedInput``."""
        return wire_bytes_of_values(cells)
