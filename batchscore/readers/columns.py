"""Columns brought into the form that the rest of the program knows."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from batchscore.errors import InputError
from batchscore.readers.options import MAX_BATCH_ROWS, TARGET_BATCH_BYTES

if TYPE_CHECKING:
    from collections.abc import Iterator

    from batchscore.batches import RowBatch

_FORGOTTEN = {b"PARQUET:field_id"}


def plain_type(dtype: pa.DataType) -> pa.DataType:  # noqa: C901, PLR0911 - a table of cases
    """The type with dictionaries, run-end encoding and views taken out, at any depth.

    Raises:
        InputError: an extension type is stored in one of these, or a list view is inside another
            type.
    """
    types = pa.types
    if types.is_dictionary(dtype) or types.is_run_end_encoded(dtype):
        return plain_type(dtype.value_type)
    if isinstance(dtype, pa.BaseExtensionType):
        if plain_type(dtype.storage_type) != dtype.storage_type:
            raise InputError(f"the type {dtype} is stored in a dictionary; write it without")
        return dtype
    if types.is_map(dtype):
        return pa.map_(plain_type(dtype.key_type), plain_type(dtype.item_type), dtype.keys_sorted)
    if types.is_struct(dtype):
        return pa.struct([plain_field(child) for child in dtype.fields])
    if types.is_list(dtype):
        return pa.list_(plain_field(dtype.value_field))
    if types.is_large_list(dtype):
        return pa.large_list(plain_field(dtype.value_field))
    if types.is_fixed_size_list(dtype):
        return pa.list_(plain_field(dtype.value_field), dtype.list_size)
    if _is_list_view(dtype):
        # PyArrow's cast reads beyond the end of the last list, see _plain_array.
        raise InputError(f"the type {dtype} inside another is not supported; write it as a list")
    if dtype == pa.string_view():
        return pa.string()
    return pa.binary() if dtype == pa.binary_view() else dtype


def _is_list_view(dtype: pa.DataType) -> bool:
    return bool(pa.types.is_list_view(dtype) or pa.types.is_large_list_view(dtype))


def plain_field(field: pa.Field) -> pa.Field:
    """The field with its plain type, without metadata that belongs to its file format."""
    kept = {k: v for k, v in (field.metadata or {}).items() if k not in _FORGOTTEN}
    return field.with_type(plain_type(field.type)).with_metadata(kept or None)


def plain_schema(schema: pa.Schema, name: str) -> pa.Schema:
    """The schema with plain fields and no metadata.

    Raises:
        InputError: two columns have one name, or a type is not supported; names the file.
    """
    check_names(schema.names, name)
    fields = []
    for field in schema:
        try:
            if _is_list_view(field.type):
                field = field.with_type(_list_like(field.type))  # noqa: PLW2901
            fields.append(plain_field(field))
        except InputError as error:
            raise InputError(f"{name}: column {field.name!r}: {error}") from None
    return pa.schema(fields)


def check_names(names: list[str], file: str) -> None:
    """Refuse two columns of one name.

    Raises:
        InputError: naming the file and the columns.
    """
    if len(set(names)) < len(names):
        twice = [column for column in dict.fromkeys(names) if names.count(column) > 1]
        raise InputError(
            f"{file}: several columns are named {', '.join(map(repr, twice))}; rename them"
        )


def _plain_array(array: pa.Array) -> pa.Array:
    if pa.types.is_dictionary(array.type):
        # Words first: PyArrow cannot take from a dictionary of views, as Polars makes them.
        words = _plain_array(array.dictionary)
        if words.type != plain_type(words.type):
            words = words.cast(plain_type(words.type))
        return pa.DictionaryArray.from_arrays(array.indices, words).dictionary_decode()
    if pa.types.is_run_end_encoded(array.type):
        return _plain_array(pc.run_end_decode(array))
    if _is_list_view(array.type):
        lengths = pc.fill_null(pc.list_value_length(array), 0).to_numpy(zero_copy_only=False)
        dtype = _list_like(array.type)
        is_large = pa.types.is_large_list(dtype)
        kind = pa.LargeListArray if is_large else pa.ListArray
        ends = np.concatenate(([0], np.cumsum(lengths)))
        offsets = pa.array(ends, pa.int64() if is_large else pa.int32())
        return kind.from_arrays(offsets, array.flatten(), type=dtype, mask=array.is_null())
    return array


def _list_like(view: pa.DataType) -> pa.DataType:
    """The list type with the same items as a type of list views."""
    is_large = pa.types.is_large_list_view(view)
    return pa.large_list(view.value_field) if is_large else pa.list_(view.value_field)


def as_schema(batch: pa.RecordBatch, schema: pa.Schema, file: str) -> pa.RecordBatch:
    """The batch with the columns of ``schema``: cast, reordered, null where it lacks one.

    Raises:
        InputError: a value does not fit the type; names the file and the column.
    """
    if batch.schema.equals(schema, check_metadata=True):
        return batch
    index = {name: i for i, name in enumerate(batch.schema.names)}
    arrays = []
    for field in schema:
        if field.name not in index:
            arrays.append(pa.nulls(batch.num_rows, field.type))
            continue
        array = batch.column(index[field.name])
        if array.type != field.type:
            try:
                array = _plain_array(array)
                array = array if array.type == field.type else array.cast(field.type)
            except (pa.ArrowException, TypeError) as error:
                raise InputError(
                    f"{file}: column {field.name!r}: {array.type} cannot become {field.type}: "
                    f"{str(error).splitlines()[0]}"
                ) from error
        arrays.append(array)
    if not arrays:
        return batch.select([])
    return pa.RecordBatch.from_arrays(arrays, schema=schema)


def select(schema: pa.Schema, columns: object) -> pa.Schema:
    """The named columns of a schema in its own order; None names all."""
    if columns is None:
        return schema
    return pa.schema([field for field in schema if field.name in columns])  # type: ignore[operator]


def _plain_nbytes(array: pa.Array) -> int:
    """About how many bytes a column takes once it is plain."""
    if pa.types.is_dictionary(array.type):
        words = array.dictionary
        if len(words) and array.null_count < len(array):
            if pa.types.is_string(words.type) or pa.types.is_binary(words.type):
                return int(pc.sum(pc.binary_length(words).take(array.indices)).as_py() or 0)
            return len(array) * int(words.nbytes) // len(words)
    try:
        return int(array.nbytes)
    except pa.ArrowTypeError:
        # Older PyArrow cannot tell it of views, only how large the whole buffers are.
        return int(array.get_total_buffer_size())


def sliced(rows: RowBatch) -> Iterator[RowBatch]:
    """The rows in pieces of a few MiB, and not too many rows."""
    num_rows = rows.num_rows
    nbytes = sum(map(_plain_nbytes, rows.columns.columns))
    size = min(max(1, TARGET_BATCH_BYTES * num_rows // max(1, nbytes)), MAX_BATCH_ROWS)
    if num_rows <= size:
        yield rows
        return
    for start in range(0, num_rows, size):
        yield rows.slice(start, min(start + size, num_rows))
