"""Array inputs: tensors, lists, ``.npy`` files and JSON text as float32 on the wire."""

from __future__ import annotations

import json
from dataclasses import dataclass
from math import prod
from typing import TYPE_CHECKING, Any

import msgspec
import numpy as np
import orjson
import pyarrow as pa
import pyarrow.compute as pc

from batchscore.codecs.base import EncodedColumn, PieceColumn, TextColumn
from batchscore.codecs.columns import (
    is_bytes,
    is_numeric,
    is_text,
    is_untyped,
    named,
    nulls,
    plain,
    plain_type,
    quoted,
    shown,
    texts,
    wrong_type,
)
from batchscore.codecs.datauri import uri_pieces
from batchscore.codecs.folder import NO_FOLDER, ImageFolder
from batchscore.codecs.npy import NPY_MEDIA_TYPE, npy_header, read_npy
from batchscore.codecs.tensor_values import flat_numbers, float32_of, numbers_of, shape_text
from batchscore.errors import EncodeError, InputError

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from batchscore.schema import FeatureSpec

    Floats = NDArray[np.float32]
    Numbers = NDArray[Any]


def tensor_input(
    spec: FeatureSpec, field: pa.Field, *, tensor_json: bool, folder: ImageFolder | None
) -> TensorInput:
    """The codec of an array column.

    Raises:
        InputError: the column's type can never hold arrays of the feature's shape.
    """
    shape = spec.shape or (1,)
    if any(size < 0 for size in shape):
        raise wrong_type(
            spec, field, "arrays of one shape: cast the column to fixed-size lists, or say it"
        )
    type_ = plain_type(field.type)
    dims: tuple[int, ...] = ()
    if isinstance(type_, pa.FixedShapeTensorType):
        if not is_numeric(type_.value_type) or _logical_shape(type_) != shape:
            raise wrong_type(spec, field, f"tensors of shape {shape_text(shape)}")
    elif _is_list(type_):
        dims = _list_dims(spec, field, type_, shape)
    elif is_text(type_) and folder is None and not is_untyped(field):
        raise InputError(f"column {field.name!r} holds paths of .npy files, but {NO_FOLDER}")
    elif not (
        is_text(type_)
        or is_bytes(type_)
        or pa.types.is_null(type_)
        or (is_numeric(type_) and prod(shape) == 1)
    ):
        raise wrong_type(spec, field, "tensors, lists of numbers, or paths of .npy files")
    as_json = tensor_json and spec.dtype != "numpy"
    return TensorInput(field, shape, dims, as_json, folder)


def _is_list(type_: pa.DataType) -> bool:
    return bool(
        pa.types.is_list(type_)
        or pa.types.is_large_list(type_)
        or pa.types.is_fixed_size_list(type_)
    )


def _logical_shape(type_: pa.FixedShapeTensorType) -> tuple[int, ...]:
    order = type_.permutation or range(len(type_.shape))
    return tuple(type_.shape[axis] for axis in order)


def _list_dims(
    spec: FeatureSpec, field: pa.Field, type_: pa.DataType, shape: tuple[int, ...]
) -> tuple[int, ...]:
    """The length of the lists at each level: the shape, or all values in one flat list."""
    sizes: list[int | None] = []
    while _is_list(type_):
        sizes.append(type_.list_size if pa.types.is_fixed_size_list(type_) else None)
        type_ = plain_type(type_.value_type)
    for dims in (shape, (prod(shape),)):
        if len(dims) == len(sizes) and all(
            size is None or size == dim for size, dim in zip(sizes, dims, strict=True)
        ):
            break
    else:
        raise wrong_type(spec, field, f"lists of shape {shape_text(shape)} or {prod(shape)} values")
    if not (is_numeric(type_) or pa.types.is_null(type_)):
        raise wrong_type(spec, field, "lists of numbers")
    return dims


@dataclass(frozen=True, slots=True)
class TensorInput:
    """Arrays as ``{"shape", "data"}``, or as NumPy files in data URIs.

    Attributes:
        shape: the shape of each array.
        dims: the length of the lists at each level of a list column.
        as_json: the first of the two wire forms.
    """

    field: pa.Field
    shape: tuple[int, ...]
    dims: tuple[int, ...]
    as_json: bool
    folder: ImageFolder | None

    @property
    def blocks(self) -> bool:
        """Whether the cells are paths of files."""
        return self.folder is not None and is_text(plain_type(self.field.type))

    def encode(self, column: pa.Array) -> EncodedColumn:
        """The arrays as float32, row-major; NaN and infinities are counted in both forms."""
        column = plain(column)
        values = nulls(column)
        if pa.types.is_null(column.type):
            return EncodedColumn(values)
        numbers, rows, failures = self.read(column)
        matrix = float32_of(numbers)
        nonfinite = matrix.size - int(np.count_nonzero(np.isfinite(matrix)))
        for row, value in zip(rows.tolist(), self._values(matrix), strict=True):
            values[row] = value
        if not self.as_json:
            # NaN has a form in a NumPy file: nothing is lost, so there is nothing to count.
            nonfinite = 0
        return EncodedColumn(values, named(self.field, failures), nonfinite)

    def encode_whole(self, column: pa.Array) -> TextColumn | PieceColumn | None:
        """Tensors and lists without nulls and bad rows.

        In JSON a number has as many digits as tell it from all other float32.
        """
        column = plain(column)
        is_array = _is_list(column.type) or isinstance(column.type, pa.FixedShapeTensorType)
        if not is_array or column.null_count or not len(column):
            return None
        numbers, rows, _ = self.read(column)
        if len(rows) < len(column):
            return None
        matrix = float32_of(numbers)
        if not self.as_json:
            return PieceColumn(quoted(self._wire(matrix)))
        nonfinite = matrix.size - int(np.count_nonzero(np.isfinite(matrix)))
        json = orjson.dumps(matrix, option=orjson.OPT_SERIALIZE_NUMPY)
        # The brackets around all arrays are left out; the first becomes no text, and the last
        # the spare byte that is a comma behind the other arrays.
        data = np.frombuffer(json, np.uint8)[1:]
        ends = np.array(_ends_of_lists(json, len(column)))
        opening = b'{"shape":' + msgspec.json.encode(self.shape) + b',"data":'
        return TextColumn(data, ends, opening, b"}", has_spare=True, nonfinite=nonfinite)

    def _values(self, matrix: Floats) -> list[Any]:
        if self.as_json:
            shape = list(self.shape)
            return [{"shape": shape, "data": data} for data in matrix.tolist()]
        return [b"".join(uri).decode("ascii") for uri in self._wire(matrix)]

    def _wire(self, matrix: Floats) -> list[tuple[bytes, bytes]]:
        header = npy_header(self.shape)
        little = matrix.astype("<f4", copy=False)
        return [uri_pieces(NPY_MEDIA_TYPE, header + row.tobytes()) for row in little]

    def read(self, column: pa.Array) -> tuple[Numbers, NDArray[np.int64], dict[int, str]]:
        """The arrays of the good rows of a plain column, in the type that they have there.

        Returns:
            The numbers, one flat row each; where the good rows stand; why others are bad. Rows in
            neither are null.
        """
        if is_text(column.type) or is_bytes(column.type):
            return self._read_cells(column)
        rows = np.flatnonzero(column.is_valid().to_numpy(zero_copy_only=False))
        if isinstance(column.type, pa.FixedShapeTensorType):
            type_, column = column.type, column.storage
            matrix, bad = self._matrix(column.drop_null(), (prod(type_.shape),))
            if list(type_.permutation or ()) != sorted(type_.permutation or ()):
                axes = [0, *(axis + 1 for axis in type_.permutation)]
                tensors = matrix.reshape(len(matrix), *type_.shape).transpose(axes)
                matrix = np.ascontiguousarray(tensors).reshape(matrix.shape)
        else:
            matrix, bad = self._matrix(column.drop_null(), self.dims)
        failures = {row: self._why(column[row].as_py()) for row in rows[bad].tolist()}
        return matrix, rows[~bad], failures

    def _matrix(self, lists: pa.Array, dims: tuple[int, ...]) -> tuple[Numbers, NDArray[np.bool_]]:
        """The good rows of lists without nulls, and which rows are bad."""
        flat, bad = _flatten(lists, dims)
        if bad.any():
            flat, _ = _flatten(lists.filter(pa.array(~bad)), dims)
        return numbers_of(flat).reshape(int((~bad).sum()), prod(self.shape)), bad

    def _why(self, value: Any) -> str:
        try:
            shape = np.shape(value)
        except ValueError:
            return f"its lists are of different lengths, not of shape {shape_text(self.shape)}"
        if shape not in (self.shape, (prod(self.shape),)):
            return f"its shape is {shape_text(shape)}, not {shape_text(self.shape)}"
        return "there is a null inside the array"

    def _read_cells(self, column: pa.Array) -> tuple[Numbers, NDArray[np.int64], dict[int, str]]:
        cells: list[Any]
        failures: dict[int, str] = {}
        if is_text(column.type):
            cells, failures = texts(column)
        else:
            cells = column.to_pylist()
        arrays: list[Numbers] = []
        rows: list[int] = []
        untyped = is_untyped(self.field)
        for row, cell in enumerate(cells):
            if cell is None or row in failures or (untyped and not cell.strip()):
                continue
            try:
                arrays.append(self._array(cell, untyped=untyped))
                rows.append(row)
            except (EncodeError, ValueError) as error:
                where = f"{shown(cell)}: " if isinstance(cell, str) else ""
                failures[row] = f"{'' if where[:-2] in str(error) else where}{error}"
        matrix = np.array(arrays).reshape(len(arrays), prod(self.shape))
        return matrix, np.array(rows, np.int64), failures

    def _array(self, cell: str | bytes, *, untyped: bool) -> Numbers:
        if isinstance(cell, str) and untyped and cell.lstrip()[:1] in {"[", "{"}:
            return flat_numbers(_json(cell), self.shape)
        if isinstance(cell, str):
            if self.folder is None:
                raise EncodeError(f"{shown(cell)}: {NO_FOLDER}")
            cell = self.folder.read(cell)
        array = read_npy(cell)
        if array.shape != self.shape and not (array.shape == () and self.shape == (1,)):
            raise ValueError(
                f"its shape is {shape_text(array.shape)}, not {shape_text(self.shape)}"
            )
        return array.ravel()

    def wire_bytes(self, column: pa.Array) -> int:
        """A number takes about 20 characters in JSON and 16/3 in base64."""
        each = prod(self.shape) * (20 if self.as_json else 16 / 3) + 160
        column = plain(column)
        if is_text(column.type) and self.folder is not None and not is_untyped(self.field):
            cells, _ = texts(column)
            found = sum(1 for cell in cells if cell and self.folder.file_size(cell))
            return int(found * each)
        return int((len(column) - column.null_count) * each)


def _ends_of_lists(json: bytes, count: int) -> list[int]:
    """Where so many lists of numbers and a byte behind each end, counted from the first."""
    ends = [0]
    for _ in range(count):
        # Quicker than to look for all of them at once: long lists are passed over by memchr.
        ends.append(json.index(b"]", ends[-1] + 1) + 1)
    return ends[1:]


def _json(cell: str) -> object:
    try:
        return msgspec.json.decode(cell)
    except (msgspec.DecodeError, RecursionError):
        pass
    try:
        return json.loads(cell)  # knows NaN and Infinity, as Python writes them
    except (ValueError, RecursionError):
        raise ValueError(f"{shown(cell)} is no JSON array") from None


def _flatten(lists: pa.Array, dims: tuple[int, ...]) -> tuple[pa.Array, NDArray[np.bool_]]:
    """All values in a row, and which of the outermost lists are not of these lengths or hold nulls.

    The values are in order; those of bad rows are among them.
    """
    bad = np.zeros(len(lists), np.bool_)
    outer: list[NDArray[np.int64]] = []
    level = lists
    for dim in dims:
        level = plain(level)
        lengths = pc.fill_null(pc.list_value_length(level), -1).to_numpy(zero_copy_only=False)
        if (is_other := lengths != dim).any():
            bad[_owners(outer, len(lists))[is_other]] = True
        outer.append(np.maximum(lengths, 0))
        level = pc.list_flatten(level)
    level = plain(level)
    if level.null_count:
        bad[_owners(outer, len(lists))[level.is_null().to_numpy(zero_copy_only=False)]] = True
    return level, bad


def _owners(lengths: list[NDArray[np.int64]], count: int) -> NDArray[np.int64]:
    """For each value inside so many lists of lists, which of the outermost it stands in."""
    owners = np.arange(count)
    for each in lengths:
        owners = np.repeat(owners, each)
    return owners
