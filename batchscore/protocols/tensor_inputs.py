"""Columns as tensors of the Open Inference Protocol, in JSON or as raw bytes.

A tensor has no nulls: a row with an empty cell fails, unsent. Numbers go out in the datatype that
the model declares, else in that of the column; one that does not fit fails its row.
"""

from __future__ import annotations

from base64 import b64encode
from dataclasses import dataclass, field
from itertools import accumulate
from math import prod
from typing import TYPE_CHECKING, Any, Protocol

import numpy as np
import orjson
import pyarrow as pa
import pyarrow.compute as pc

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
    wire_bytes_of_values,
    wrong_type,
)
from batchscore.codecs.tensor import tensor_input
from batchscore.codecs.tensor_values import numbers_of
from batchscore.codecs.text import text_input, text_of
from batchscore.codecs.typed import arrow_type
from batchscore.errors import InputError
from batchscore.protocols.tensor_bytes import Encoded, ends_of_numbers, json_texts, with_lengths
from batchscore.protocols.tensor_numbers import in_datatype, own_dtype, parsed_number
from batchscore.protocols.tensors import BYTES, DATATYPES, NAMES

if TYPE_CHECKING:
    from collections.abc import Sequence

    from numpy.typing import NDArray

    from batchscore.codecs import ImageFolder
    from batchscore.schema import FeatureSpec

    Numbers = NDArray[Any]
    Rows = NDArray[np.int64]

_EMPTY = "the cell is empty; a tensor has no nulls"
_PLAIN_NUMBER = r"^-?[0-9]+(\.[0-9]+)?([eE][+-]?[0-9]+)?$"
_PLAIN_INTEGER = r"^-?[0-9]{1,18}$"
_JSON_NUMBER_BYTES = 20


@dataclass(frozen=True)
class Cells:
    """The rows of one tensor, before it is known which of them are sent.

    Attributes:
        values: a row each: numbers of NumPy, an array of Arrow, or a list of byte strings.
        failures: why a row cannot be sent; its value means nothing.
    """

    values: Any
    failures: dict[int, str] = field(default_factory=dict)


class TensorColumn(Protocol):
    """One input.

    Attributes:
        name, datatype: of the tensor.
        row_shape: the shape of what a row has of it, as the server wants it.
        content_type: what MLServer is told of its texts, where it may have to be told.
        blocks: whether reading waits for files or unpacks pictures.
        needs_binary: JSON has no form for it.
    """

    name: str
    datatype: str
    row_shape: tuple[int, ...]
    content_type: str | None
    blocks: bool
    needs_binary: bool

    def read(self, column: pa.Array) -> Cells: ...

    def write(self, cells: Cells, rows: Rows | None, *, binary: bool) -> tuple[Encoded, int]:
        """Some rows (None: all), and how many numbers of them went out as null."""
        ...

    def wire_bytes(self, column: pa.Array, *, binary: bool) -> int: ...


def tensor_column(
    spec: FeatureSpec, column: pa.Field, folder: ImageFolder | None, *, is_raw: bool
) -> TensorColumn:
    """What makes the tensor of an input of a column.

    Args:
        spec: the input.
        column: its column.
        folder: where the files are that cells name.
        is_raw: the server is known to take raw bytes before anything is sent. Else some rows may
            go out as JSON, so all are sent what JSON can hold: pictures as base64 text, infinities
            as NaN.

    Raises:
        InputError: the column can never serve the input.
    """
    if spec.kind in {"text", "category", "image"}:
        if prod(spec.shape) != 1:
            raise InputError(
                f"the input {spec.name!r} takes {list(spec.shape)} texts a row; only one is "
                "supported"
            )
        if spec.kind == "image":
            return _Pictures(spec, column, folder, is_raw=is_raw)
        return _Texts(spec, column)
    type_ = plain_type(column.type)
    is_list = not (is_numeric(type_) or pa.types.is_null(type_) or is_text(type_))
    if spec.kind == "array" or is_list:
        return _Arrays(spec, column, folder, is_raw=is_raw)
    if not (is_numeric(type_) or pa.types.is_null(type_) or is_untyped(column)):
        raise wrong_type(spec, column, "numbers or booleans")
    return _Scalars(spec, column, is_raw=is_raw)


class _Numbers:
    """What scalars and arrays of numbers have in common."""

    content_type: str | None = None

    def __init__(self, spec: FeatureSpec, column: pa.Field, *, is_raw: bool) -> None:
        self._field = column
        self.name = spec.name
        self.row_shape = spec.shape
        self._dtype = _declared(spec) or own_dtype(column.type)
        self.datatype = NAMES[self._dtype.name]
        self._width = prod(spec.shape)
        self.needs_binary = self._dtype == np.float16
        self._is_raw = is_raw or self.needs_binary

    def write(self, cells: Cells, rows: Rows | None, *, binary: bool) -> tuple[Encoded, int]:
        numbers: Numbers = cells.values if rows is None else cells.values[rows]
        numbers = np.ascontiguousarray(numbers.ravel())
        nonfinite = 0
        if self._dtype.kind == "f" and not (binary and self._is_raw):
            lost = np.isinf(numbers) if binary else ~np.isfinite(numbers)
            nonfinite = int(np.count_nonzero(lost))
            if nonfinite and binary:
                numbers = np.where(lost, np.nan, numbers).astype(self._dtype)
        if binary:
            little = numbers.astype(self._dtype.newbyteorder("<"), copy=False)
            data = memoryview(little.view(np.uint8).data)
            return Encoded(data, self._width * self._dtype.itemsize), nonfinite
        json = memoryview(orjson.dumps(numbers, option=orjson.OPT_SERIALIZE_NUMPY))[1:-1]
        return Encoded(json, lambda: ends_of_numbers(json, self._width), 1), nonfinite

    def _fitted(self, numbers: Numbers, absent: NDArray[np.bool_] | None) -> Cells:
        """Numbers in the tensor's datatype; a row a number, or a flat row each."""
        fitted, bad = in_datatype(numbers, self._dtype)
        failures: dict[int, str] = {}
        if bad is not None:
            by_row = bad if bad.ndim == 1 else bad.any(axis=1)
            for row in np.flatnonzero(by_row).tolist():
                number = numbers[row] if bad.ndim == 1 else numbers[row][bad[row]][0]
                failures[row] = f"{number} is no {self.datatype}"
        if absent is not None:
            failures.update(dict.fromkeys(np.flatnonzero(absent).tolist(), _EMPTY))
        return Cells(fitted, failures)

    def _json_bytes(self) -> int:
        return self._width * min(_JSON_NUMBER_BYTES, 3 * self._dtype.itemsize + 2)


class _Scalars(_Numbers):
    """A number a row."""

    blocks = False

    def read(self, column: pa.Array) -> Cells:
        column = plain(column)
        if pa.types.is_null(column.type):
            cells = Cells(
                np.zeros(len(column), self._dtype), dict.fromkeys(range(len(column)), _EMPTY)
            )
        elif is_text(column.type):
            cells = self._parsed(column)
        elif pa.types.is_decimal(column.type) and self._dtype.kind != "f":
            cells = self._one_by_one(column.to_pylist())
        else:
            absent = None
            if pa.types.is_decimal(column.type):
                column = pc.cast(column, pa.float64())
            if column.null_count:
                absent = column.is_null().to_numpy(zero_copy_only=False)
                column = pc.fill_null(column, pa.scalar(0).cast(column.type))
            cells = self._fitted(numbers_of(column), absent)
        return Cells(cells.values, named(self._field, cells.failures))

    def _parsed(self, column: pa.Array) -> Cells:
        """Numbers written as text."""
        cells, undecoded = texts(column)
        if not undecoded and not column.null_count:
            is_whole = self._dtype.kind in "iu"
            pattern = _PLAIN_INTEGER if is_whole else _PLAIN_NUMBER
            if pc.all(pc.match_substring_regex(column, pattern)).as_py():
                numbers = pc.cast(column, pa.int64() if is_whole else pa.float64())
                return self._fitted(numbers_of(numbers), None)
        parsed = self._one_by_one(cells)
        return Cells(parsed.values, parsed.failures | undecoded)

    def _one_by_one(self, cells: Sequence[Any]) -> Cells:
        values = np.zeros(len(cells), self._dtype)
        failures: dict[int, str] = {}
        for row, cell in enumerate(cells):
            try:
                number = parsed_number(cell)
                if number is None:
                    failures[row] = _EMPTY
                    continue
                fitted, bad = in_datatype(np.array([number]), self._dtype)
            except ValueError:
                failures[row] = f"{shown(cell)} is no number"
                continue
            except OverflowError:
                failures[row] = f"{shown(cell)} is no {self.datatype}"
                continue
            if bad is not None and bad[0]:
                failures[row] = f"{shown(cell)} is no {self.datatype}"
            values[row] = fitted[0]
        return Cells(values, failures)

    def wire_bytes(self, column: pa.Array, *, binary: bool) -> int:
        return len(column) * (self._dtype.itemsize if binary else self._json_bytes())


class _Arrays(_Numbers):
    """An array of numbers a row."""

    def __init__(
        self, spec: FeatureSpec, column: pa.Field, folder: ImageFolder | None, *, is_raw: bool
    ) -> None:
        super().__init__(spec, column, is_raw=is_raw)
        self._codec = tensor_input(spec, column, tensor_json=True, folder=folder)
        self.blocks = self._codec.blocks

    def read(self, column: pa.Array) -> Cells:
        column = plain(column)
        if pa.types.is_null(column.type):
            empty = dict.fromkeys(range(len(column)), _EMPTY)
            return Cells(
                np.zeros((len(column), self._width), self._dtype), named(self._field, empty)
            )
        numbers, rows, failures = self._codec.read(column)
        fitted = self._fitted(numbers, None)
        if len(rows) == len(column):
            return Cells(fitted.values, named(self._field, fitted.failures))
        values = np.zeros((len(column), self._width), self._dtype)
        values[rows] = fitted.values
        why = dict.fromkeys(set(range(len(column))).difference(rows.tolist()), _EMPTY)
        why |= {int(rows[row]): text for row, text in fitted.failures.items()} | failures
        return Cells(values, named(self._field, why))

    def wire_bytes(self, column: pa.Array, *, binary: bool) -> int:
        each = self._width * self._dtype.itemsize if binary else self._json_bytes()
        if self.blocks:
            # The codec looks which files there are, at 20 bytes a number and 160 a row.
            size: int = self._codec.wire_bytes(column)
            return size * each // (20 * self._width + 160)
        return int(len(column) - column.null_count) * each


class _Texts:
    """A text a row."""

    datatype = BYTES
    blocks = needs_binary = False

    def __init__(self, spec: FeatureSpec, column: pa.Field) -> None:
        self._field = column
        self.name = spec.name
        self.row_shape = spec.shape
        # MLServer takes BYTES for numbers unless somebody says otherwise; its metadata may.
        self.content_type = None if spec.datatype else "str"
        text_input(spec, column)  # refuses a column that has no text

    def read(self, column: pa.Array) -> Cells:
        column = plain(column)
        if pa.types.is_null(column.type):
            column = column.cast(pa.string())
        column, _ = text_of(column)
        failures = {}
        if column.null_count:
            absent = column.is_null().to_numpy(zero_copy_only=False)
            failures = dict.fromkeys(np.flatnonzero(absent).tolist(), _EMPTY)
        try:
            as_bytes = _as_bytes(column)
            pc.cast(as_bytes, pa.large_string() if _is_large(column.type) else pa.string())
        except pa.ArrowInvalid:
            failures |= texts(column)[1]
        return Cells(as_bytes, named(self._field, failures))

    def write(self, cells: Cells, rows: Rows | None, *, binary: bool) -> tuple[Encoded, int]:
        column: pa.Array = cells.values if rows is None else cells.values.take(pa.array(rows))
        if binary:
            return with_lengths(column), 0
        large = _is_large(column.type)
        strings = column.cast(pa.large_string() if large else pa.string()).to_pylist()
        return json_texts(strings), 0

    def wire_bytes(self, column: pa.Array, *, binary: bool) -> int:
        type_ = plain_type(column.type)
        if is_text(type_) or is_bytes(type_):
            return int(plain(column).nbytes)
        return int(wire_bytes_of_values(column)) + (4 if binary else 3) * len(column)


class _Pictures:
    """A picture a row: its own bytes, or base64 text."""

    datatype = BYTES
    blocks = True
    needs_binary = False

    def __init__(
        self, spec: FeatureSpec, column: pa.Field, folder: ImageFolder | None, *, is_raw: bool
    ) -> None:
        from batchscore.codecs.image import image_input  # noqa: PLC0415 (Pillow is large)

        self.name = spec.name
        self.row_shape = spec.shape
        self.content_type = None if is_raw else "base64"
        self._is_raw = is_raw
        self._field = column
        self._codec = image_input(spec, column, folder)

    def read(self, column: pa.Array) -> Cells:
        pictures, failures = self._codec.pictures(plain(column))
        empty = {row: _EMPTY for row, picture in enumerate(pictures) if picture is None}
        failures = named(self._field, empty) | failures
        found = [b"" if picture is None else picture[1] for picture in pictures]
        return Cells(found if self._is_raw else list(map(b64encode, found)), failures)

    def write(self, cells: Cells, rows: Rows | None, *, binary: bool) -> tuple[Encoded, int]:
        values: list[bytes] = cells.values
        if rows is not None:
            values = [values[row] for row in rows.tolist()]
        if binary:
            return with_lengths(pa.array(values, pa.large_binary())), 0
        data = b'"%b"' % b'","'.join(values) if values else b""
        ends = list(accumulate(len(value) + 3 for value in values))
        return Encoded(memoryview(data), lambda: np.array(ends, np.int64), 1), 0

    def wire_bytes(self, column: pa.Array, *, binary: bool) -> int:
        size: int = self._codec.wire_bytes(column)
        return size * 3 // 4 if self._is_raw and binary else size


def _declared(spec: FeatureSpec) -> np.dtype[Any] | None:
    """The input's datatype, in the words of NumPy or, in a file for --schema, of the protocol."""
    if spec.datatype in DATATYPES:
        return DATATYPES[spec.datatype]
    type_ = arrow_type(spec)
    return None if type_ is None else np.dtype(type_.to_pandas_dtype())


def _is_large(type_: pa.DataType) -> bool:
    return bool(pa.types.is_large_string(type_) or pa.types.is_large_binary(type_))


def _as_bytes(column: pa.Array) -> pa.Array:
    return column.cast(pa.large_binary() if _is_large(column.type) else pa.binary())
