"""Record batches as Arrow IPC messages."""

from __future__ import annotations

from functools import lru_cache

import pyarrow as pa

from batchscore.partial.footer import uint32

_PREFIX_BYTES = 8  # a marker, then the length of the metadata
_LENGTH = 4


def serialize_batch(batch: pa.RecordBatch) -> memoryview:
    """The bytes of a record batch as they stand in an Arrow IPC file.

    A slice takes its own bytes only, not those of the batch it was cut from.
    """
    return memoryview(_compacted(batch).serialize()).cast("B")


def _compacted(batch: pa.RecordBatch) -> pa.RecordBatch:
    if not _has_views(batch.schema):
        return batch
    columns = [_compact(column) for column in batch.columns]
    return pa.RecordBatch.from_arrays(columns, schema=batch.schema)


@lru_cache(maxsize=8)
def _has_views(schema: pa.Schema) -> bool:
    return any(_without_views(kind) != kind for kind in schema.types)


def _compact(column: pa.Array) -> pa.Array:
    """Views into shared text are written with all of that text, so give them text of their own."""
    own = _without_views(column.type)
    if own == column.type:
        return column
    # Joining one array is a copy of it that has no more children than the slice.
    return pa.concat_arrays([column]).cast(own).cast(column.type)


_WITHOUT_VIEWS = {pa.string_view(): pa.large_string(), pa.binary_view(): pa.large_binary()}


def _without_views(kind: pa.DataType) -> pa.DataType:
    """The type with text in place of views into text, at any depth."""

    def inner(field: pa.Field) -> pa.Field:
        return field.with_type(_without_views(field.type))

    if pa.types.is_struct(kind):
        return pa.struct([inner(kind.field(i)) for i in range(kind.num_fields)])
    if pa.types.is_list(kind):
        return pa.list_(inner(kind.value_field))
    if pa.types.is_large_list(kind):
        return pa.large_list(inner(kind.value_field))
    if pa.types.is_fixed_size_list(kind):
        return pa.list_(inner(kind.value_field), kind.list_size)
    if pa.types.is_map(kind):
        return pa.map_(inner(kind.key_field), inner(kind.item_field), keys_sorted=kind.keys_sorted)
    return _WITHOUT_VIEWS.get(kind, kind)


def has_dictionary(kind: pa.DataType) -> bool:
    """Whether a dictionary stands anywhere in the type."""
    if isinstance(kind, pa.BaseExtensionType):
        return has_dictionary(kind.storage_type)
    return pa.types.is_dictionary(kind) or any(
        has_dictionary(kind.field(i).type) for i in range(kind.num_fields)
    )


def message_parts(message: memoryview) -> tuple[int, int]:
    """The lengths of metadata (prefix included) and body of a serialized record batch."""
    metadata_bytes = _PREFIX_BYTES + uint32(message, _LENGTH)
    return metadata_bytes, len(message) - metadata_bytes
