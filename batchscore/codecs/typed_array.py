"""Arrays in the type of their own numbers, or of those that the model takes."""

from __future__ import annotations

import json
from dataclasses import dataclass
from math import prod
from typing import TYPE_CHECKING, Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from batchscore.codecs.base import TypedColumn
from batchscore.codecs.columns import (
    is_bytes,
    is_numeric,
    is_text,
    is_untyped,
    named,
    plain,
    plain_type,
    shown,
    texts,
    wrong_type,
)
from batchscore.codecs.folder import NO_FOLDER, ImageFolder
from batchscore.codecs.npy import read_npy
from batchscore.codecs.tensor_values import numeric_array, shape_text
from batchscore.errors import EncodeError, InputError

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from batchscore.schema import FeatureSpec

_ANY = -1
_NUMBER_CHARS = 20


def array_input(
    spec: FeatureSpec, column: pa.Field, wanted: pa.DataType | None, folder: ImageFolder | None
) -> ArrayInput:
    """What makes arrays of a column; a length of -1 in the shape is any length.

    Raises:
        InputError: the column's type can never hold arrays of the feature's shape.
    """
    shape = spec.shape or (1,)
    type_ = plain_type(column.type)
    if isinstance(type_, pa.FixedShapeTensorType):
        order = type_.permutation or range(len(type_.shape))
        if not _agree(tuple(type_.shape[axis] for axis in order), shape):
            raise wrong_type(spec, column, f"tensors of shape {shape_text(shape)}")
        numbers = type_.value_type
    elif _is_list(type_):
        sizes, numbers = _sizes(type_)
        is_flat = len(sizes) == 1 and _agree(sizes, (prod(shape),)) and _ANY not in shape
        if not (is_flat or _agree(sizes, shape)):
            raise wrong_type(spec, column, f"lists of shape {shape_text(shape)}")
    elif is_text(type_) and folder is None and not is_untyped(column):
        raise InputError(f"column {column.name!r} holds paths of .npy files, but {NO_FOLDER}")
    elif is_numeric(type_) and shape == (1,):
        numbers = type_
    elif is_text(type_) or is_bytes(type_) or pa.types.is_null(type_):
        numbers = None
    else:
        raise wrong_type(spec, column, "tensors, lists of numbers, or paths of .npy files")
    if numbers is not None and not (is_numeric(numbers) or pa.types.is_null(numbers)):
        raise wrong_type(spec, column, "tensors, lists of numbers, or paths of .npy files")
    return ArrayInput(column, shape, wanted, folder)


def _is_list(type_: pa.DataType) -> bool:
    return bool(
        pa.types.is_list(type_)
        or pa.types.is_large_list(type_)
        or pa.types.is_fixed_size_list(type_)
    )


def _sizes(type_: pa.DataType) -> tuple[tuple[int, ...], pa.DataType]:
    """The length of the lists at each level, and the type of what is in the innermost."""
    sizes: list[int] = []
    while _is_list(type_):
        sizes.append(type_.list_size if pa.types.is_fixed_size_list(type_) else _ANY)
        type_ = plain_type(type_.value_type)
    return tuple(sizes), type_


def _agree(sizes: tuple[int, ...], shape: tuple[int, ...]) -> bool:
    return len(sizes) == len(shape) and all(
        _ANY in pair or pair[0] == pair[1] for pair in zip(sizes, shape, strict=True)
    )


@dataclass(frozen=True, slots=True)
class ArrayInput:
    """Arrays as nested lists: of fixed size where the feature's shape is."""

    field: pa.Field
    shape: tuple[int, ...]
    wanted: pa.DataType | None
    folder: ImageFolder | None

    @property
    def blocks(self) -> bool:
        """Whether the cells are paths of files."""
        return self.folder is not None and is_text(plain_type(self.field.type))

    def column(self, cells: pa.Array) -> TypedColumn:
        """See ``TypedInput``."""
        cells = plain(cells)
        if isinstance(cells.type, pa.FixedShapeTensorType):
            return self._tensors(cells)
        if is_text(cells.type) or is_bytes(cells.type):
            return self._read(cells)
        if pa.types.is_null(cells.type):
            sizes = [max(size, 1) for size in self.shape]
            return self._of_matrix(np.zeros((len(cells), *sizes)), np.ones(len(cells), bool), {})
        if not _is_list(cells.type):
            cells = pa.FixedSizeListArray.from_arrays(cells, 1)
        return self._lists(cells)

    def _tensors(self, cells: pa.Array) -> TypedColumn:
        type_, valid = cells.type, cells.is_valid().to_numpy(zero_copy_only=False)
        flat = cells.storage.drop_null().flatten()
        array = _numpy(flat).reshape(-1, *type_.shape)
        if type_.permutation is not None:
            array = array.transpose([0, *(axis + 1 for axis in type_.permutation)])
        matrix = np.zeros((len(cells), *array.shape[1:]), array.dtype)
        matrix[valid] = array
        return self._of_matrix(matrix, ~valid, {})

    def _lists(self, cells: pa.Array) -> TypedColumn:
        """Lists as they lie in memory, where they are as they should be."""
        sizes, _ = _sizes(cells.type)
        shape = self.shape if len(sizes) == len(self.shape) else (prod(self.shape),)
        absent = cells.is_null().to_numpy(zero_copy_only=False)
        bad, values = _checked(cells, shape)
        failures = {row: self._why(cells[row].as_py()) for row in np.flatnonzero(bad).tolist()}
        if _ANY in shape:
            return TypedColumn(self._any_length(cells), named(self.field, failures))
        good = ~(bad | absent)
        if not good.all():
            _, values = _checked(cells.filter(pa.array(good)), shape)
        matrix = np.zeros((len(cells), prod(shape)), _numpy(values[:0]).dtype)
        matrix[good] = _numpy(values).reshape(-1, prod(shape))
        return self._of_matrix(matrix, absent, failures)

    def _any_length(self, cells: pa.Array) -> pa.Array:
        if self.wanted is None:
            return cells
        type_ = self.wanted
        for _ in self.shape:
            type_ = pa.list_(type_)
        return pc.cast(cells, type_, safe=False)

    def _why(self, value: Any) -> str:
        try:
            shape = np.shape(value)
        except ValueError:
            shape = None
        if shape is None and _ANY not in self.shape:
            return f"its lists are of different lengths, not of shape {shape_text(self.shape)}"
        if shape is not None and not _agree(shape, self.shape) and shape != (prod(self.shape),):
            return f"its shape is {shape_text(shape)}, not {shape_text(self.shape)}"
        return "there is a null inside the array"

    def _read(self, cells: pa.Array) -> TypedColumn:
        """Arrays of files, or of JSON in text without a type of its own."""
        values: list[Any]
        values, failures = texts(cells) if is_text(cells.type) else (cells.to_pylist(), {})
        arrays: list[NDArray[Any] | None] = [None] * len(values)
        untyped = is_untyped(self.field)
        for row, cell in enumerate(values):
            if cell is None or row in failures or (untyped and not cell.strip()):
                continue
            try:
                arrays[row] = self._array(cell, is_json=untyped and cell.lstrip()[:1] == "[")
            except (EncodeError, ValueError) as error:
                where = f"{shown(cell)}: " if isinstance(cell, str) else ""
                failures[row] = f"{'' if where[:-2] in str(error) else where}{error}"
        present = [array for array in arrays if array is not None]
        absent = np.array([array is None for array in arrays], np.bool_)
        if _ANY in self.shape:
            type_ = self.wanted or pa.float64()
            for _ in self.shape:
                type_ = pa.list_(type_)
            lists = [None if array is None else array.tolist() for array in arrays]
            return TypedColumn(pa.array(lists, type_), named(self.field, failures))
        dtype = (
            np.result_type(*{array.dtype for array in present}) if present else np.dtype(np.float64)
        )
        matrix = np.zeros((len(values), *self.shape), dtype)
        if present:
            matrix[~absent] = present
        return self._of_matrix(matrix, absent, failures)

    def _array(self, cell: str | bytes, *, is_json: bool) -> NDArray[Any]:
        if isinstance(cell, str) and is_json:
            try:
                array = numeric_array(json.loads(cell))
            except RecursionError:
                raise ValueError(f"{shown(cell)} is no JSON array") from None
        else:
            if isinstance(cell, str):
                if self.folder is None:
                    raise EncodeError(f"{shown(cell)}: {NO_FOLDER}")
                cell = self.folder.read(cell)
            array = read_npy(cell)
        if _agree(array.shape, self.shape):
            return array
        if array.ndim <= 1 and _ANY not in self.shape and array.size == prod(self.shape):
            return array.reshape(self.shape)
        raise ValueError(f"its shape is {shape_text(array.shape)}, not {shape_text(self.shape)}")

    def _of_matrix(
        self, matrix: NDArray[Any], absent: NDArray[np.bool_], failures: dict[int, str]
    ) -> TypedColumn:
        """Nested lists of fixed sizes; null where absent."""
        matrix = matrix.reshape(len(matrix), -1)
        if self.wanted is not None and self.wanted.to_pandas_dtype() != matrix.dtype:
            with np.errstate(over="ignore", invalid="ignore"):
                exact, matrix = matrix, matrix.astype(self.wanted.to_pandas_dtype())
            if matrix.dtype.kind != "f":
                for row in np.flatnonzero((matrix != exact).any(axis=1)).tolist():
                    failures.setdefault(row, f"a number of the array is no {self.wanted}")
        array = pa.array(np.ascontiguousarray(matrix).ravel(), from_pandas=False)
        sizes = [max(size, 1) for size in self.shape]
        for size in reversed(sizes[1:]):
            array = pa.FixedSizeListArray.from_arrays(array, size)
        mask = pa.array(absent) if absent.any() else None
        array = pa.FixedSizeListArray.from_arrays(array, sizes[0], mask=mask)
        return TypedColumn(array, named(self.field, failures))

    def wire_bytes(self, cells: pa.Array) -> int:
        """See ``TypedInput``."""
        if _ANY not in self.shape:
            return int(prod(self.shape) * _NUMBER_CHARS * (len(cells) - cells.null_count))
        return int(cells.nbytes * 5 // 2)


def _numpy(numbers: pa.Array) -> NDArray[Any]:
    if pa.types.is_decimal(numbers.type) or pa.types.is_null(numbers.type):
        numbers = pc.cast(numbers, pa.float64())
    array: NDArray[Any] = numbers.to_numpy(zero_copy_only=False)
    return array


def _checked(lists: pa.Array, shape: tuple[int, ...]) -> tuple[NDArray[np.bool_], pa.Array]:
    """Which of the outermost lists are not of this shape or hold a null, and all that is in them.

    A list that is itself null is none of them.
    """
    bad = np.zeros(len(lists), np.bool_)
    owners = np.flatnonzero(lists.is_valid().to_numpy(zero_copy_only=False))
    level = lists.drop_null()
    for size in shape:
        level = plain(level)
        if level.null_count:
            bad[owners[level.is_null().to_numpy(zero_copy_only=False)]] = True
        lengths = pc.fill_null(pc.list_value_length(level), 0).to_numpy(zero_copy_only=False)
        if size != _ANY:
            bad[owners[lengths != size]] = True
        owners = np.repeat(owners, lengths)
        level = pc.list_flatten(level)
    level = plain(level)
    if level.null_count:
        bad[owners[level.is_null().to_numpy(zero_copy_only=False)]] = True
    return bad, level
