"""Columns as Spark holds them: the nearest type where it has none, and no value changed."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pyarrow as pa
from pyspark.errors import PySparkException
from pyspark.sql.pandas.types import from_arrow_type, to_arrow_schema
from pyspark.sql.types import StructField, StructType

from batchscore.errors import InputError, UsageError

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

_WIDER = {
    pa.uint8(): pa.int16(),
    pa.uint16(): pa.int32(),
    pa.uint32(): pa.int64(),
    pa.uint64(): pa.decimal128(20, 0),
    pa.float16(): pa.float32(),
    pa.large_string(): pa.string(),
    pa.large_binary(): pa.binary(),
}


def held_type(dtype: pa.DataType) -> pa.DataType:
    """The Arrow type that Spark reads in the place of a prediction's own.

    Unsigned integers get the next wider type, those of 64 bits a decimal; float16 becomes float;
    a tensor becomes lists as deep as it has dimensions.
    """
    if isinstance(dtype, pa.FixedShapeTensorType):
        nested = held_type(dtype.value_type)
        for _ in dtype.shape:
            nested = pa.list_(nested)
        return nested
    if pa.types.is_struct(dtype):
        return pa.struct([field.with_type(held_type(field.type)) for field in dtype])
    if (
        pa.types.is_list(dtype)
        or pa.types.is_large_list(dtype)
        or pa.types.is_fixed_size_list(dtype)
    ):
        return pa.list_(held_type(dtype.value_type))
    return _WIDER.get(dtype, dtype)


def held(array: pa.Array, dtype: pa.DataType) -> pa.Array:
    """The values of a prediction as the type that ``held_type`` gives."""
    if isinstance(array.type, pa.FixedShapeTensorType):
        array = _nested(array)
    return array if array.type == dtype else array.cast(dtype)


def _nested(tensors: pa.ExtensionArray) -> pa.Array:
    """Tensors as lists of lists, which are what they are to Spark."""
    shape, storage = tensors.type.shape, tensors.storage
    size = storage.type.list_size
    values = storage.values.slice(storage.offset * size, len(storage) * size)
    for length in reversed(shape[1:]):
        values = pa.FixedSizeListArray.from_arrays(values, length)
    return pa.FixedSizeListArray.from_arrays(values, shape[0], mask=storage.is_null())


def arrow_schema(rows: StructType) -> pa.Schema:
    """The columns of a DataFrame, as its partitions have them.

    Raises:
        InputError: a column has a type that Arrow has not, or two columns have one name.
    """
    names = rows.names
    for name in names:
        if names.count(name) > 1:
            raise InputError(
                f"two columns of the DataFrame are called {name!r}; rename one (withColumnRenamed) "
                "or select those that are needed"
            )
    return pa.schema([_arrow_field(field) for field in rows.fields])


def _arrow_field(field: StructField) -> pa.Field:
    try:
        found = to_arrow_schema(StructType([field]), timezone="UTC").field(0)
    except PySparkException:
        found = None
    # PyArrow knows of these intervals, and has no array of them.
    if found is None or "month_interval" in str(found.type):
        raise InputError(
            f"the column {field.name!r} of the DataFrame has the type "
            f"{field.dataType.simpleString()}, which Python workers cannot be given; cast it, or "
            f"leave it out (df.drop({field.name!r}))"
        )
    return found


def output_fields(
    output: pa.Schema, rows: StructType, kept: Sequence[str], *, is_case_sensitive: bool
) -> StructType:
    """The columns of the scored DataFrame: the kept ones unchanged, then what is predicted.

    Raises:
        UsageError: Spark takes the names of two of them for the same.
    """
    fields = [rows[name] for name in kept]
    fields += [
        StructField(field.name, from_arrow_type(held_type(field.type)), nullable=True)
        for field in list(output)[len(kept) :]
    ]
    if not is_case_sensitive:
        _check_names([field.name for field in fields], "columns", "choose other names (prefix=...)")
        for field in output:
            if pa.types.is_struct(field.type) and field.name not in kept:
                names = [inner.name for inner in field.type]
                _check_names(names, f"fields of {field.name!r}", "say probs='list'")
    return StructType(fields)


def _check_names(names: Iterable[str], what: str, remedy: str) -> None:
    seen: dict[str, str] = {}
    for name in names:
        other = seen.setdefault(name.lower(), name)
        if other != name:
            raise UsageError(
                f"Spark takes {other!r} and {name!r} for one name among the {what}; {remedy}, or "
                "set spark.sql.caseSensitive to true"
            )
