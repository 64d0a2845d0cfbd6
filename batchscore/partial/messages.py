"""Record batches as Arrow IPC messages: made here or in a worker, checked before writing."""

from __future__ import annotations

import struct
from functools import lru_cache

import pyarrow as pa

from batchscore.partial.footer import field_position, uint32

_CONTINUATION = b"\xff\xff\xff\xff"
_PREFIX_BYTES = 8  # the continuation marker and the length of the metadata
_MESSAGE_HEADER_TYPE, _MESSAGE_HEADER, _MESSAGE_BODY_LENGTH = 1, 2, 3
_BATCH_LENGTH = 0
_HEADER_IS_RECORD_BATCH = 3


def serialize_batch(batch: pa.RecordBatch) -> bytes:
    """The bytes of a record batch as ``PartialFile.append_serialized`` takes them.

    A slice takes its own bytes only, not those of the batch it was cut from.
    """
    return bytes(batch_message(batch))


def batch_message(batch: pa.RecordBatch) -> memoryview:
    """The same, where they were put first."""
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


def batch_message_parts(message: bytes | memoryview, rows: int) -> tuple[int, int]:
    """The lengths of metadata (prefix included) and body of a serialized record batch.

    Raises:
        ValueError: the bytes are not one whole, aligned message of a record batch of these rows.
    """
    try:
        metadata_bytes = _PREFIX_BYTES + uint32(message, 4)
        metadata = message[_PREFIX_BYTES:metadata_bytes]
        table = uint32(metadata, 0)
        header_type = field_position(metadata, table, _MESSAGE_HEADER_TYPE)
        header = field_position(metadata, table, _MESSAGE_HEADER)
        body = field_position(metadata, table, _MESSAGE_BODY_LENGTH)
        if message[:4] != _CONTINUATION or header_type is None or header is None:
            raise ValueError("the bytes are not an Arrow message")
        if metadata[header_type] != _HEADER_IS_RECORD_BATCH:
            raise ValueError("the Arrow message is not a record batch")
        length = field_position(metadata, header + uint32(metadata, header), _BATCH_LENGTH)
        body_bytes = int(struct.unpack_from("<q", metadata, body)[0]) if body is not None else 0
        found = int(struct.unpack_from("<q", metadata, length)[0]) if length is not None else 0
    except (struct.error, IndexError):
        raise ValueError("the bytes are not an Arrow message") from None
    if metadata_bytes + body_bytes != len(message) or metadata_bytes % 8 or body_bytes % 8:
        raise ValueError("the Arrow message is not whole")
    if found != rows:
        raise ValueError(f"the record batch has {found} rows, not {rows}")
    return metadata_bytes, body_bytes
