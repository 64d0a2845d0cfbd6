"""The footer of an Arrow IPC file, made for record batches that are already in the file.

PyArrow writes a footer only together with the batches before it. Here it writes a file of none;
the footer of that file lists no blocks, and gets a list of ours. Both the footer and the messages
are FlatBuffers: a table begins with the distance back to its vtable, the vtable holds the place of
each field, and a field that is a table or a vector holds the distance forward to it.
"""

from __future__ import annotations

import struct

import pyarrow as pa

MAGIC = b"ARROW1"
END_OF_STREAM = b"\xff\xff\xff\xff\x00\x00\x00\x00"
BLOCK = struct.Struct("<qi4xq")
"""Where a message is: its offset in the file, the length of its metadata, that of its body."""

_CONTINUATION = b"\xff\xff\xff\xff"
_PREFIX_BYTES = 8  # the continuation marker and the length of the metadata
_FOOTER_RECORD_BATCHES = 3
_MESSAGE_HEADER_TYPE, _MESSAGE_HEADER, _MESSAGE_BODY_LENGTH = 1, 2, 3
_BATCH_LENGTH = 0
_HEADER_IS_RECORD_BATCH = 3


def _uint32(buffer: bytes | bytearray | memoryview, position: int) -> int:
    return int(struct.unpack_from("<I", buffer, position)[0])


def _field_position(buffer: bytes | bytearray | memoryview, table: int, field: int) -> int | None:
    """Where a field of the table stands, None where it has its default."""
    vtable = table - int(struct.unpack_from("<i", buffer, table)[0])
    vtable_bytes = int(struct.unpack_from("<H", buffer, vtable)[0])
    slot = 4 + 2 * field
    if slot + 2 > vtable_bytes:
        return None
    distance = int(struct.unpack_from("<H", buffer, vtable + slot)[0])
    return table + distance if distance else None


def file_head(schema: pa.Schema) -> bytes:
    """What stands before the first record batch: the magic bytes and the schema message."""
    whole = _file_of_no_batches(schema)
    return whole[: len(whole) - _tail_bytes(whole) - len(END_OF_STREAM)]


def file_tail(schema: pa.Schema, blocks: bytes | bytearray) -> bytes:
    """What stands after the last record batch: end marker, footer, its length, magic bytes.

    Args:
        schema: the schema of the file, equal to that of ``file_head``.
        blocks: a packed ``BLOCK`` for each record batch, in order.
    """
    whole = _file_of_no_batches(schema)
    footer = bytearray(whole[len(whole) - _tail_bytes(whole) : -4 - len(MAGIC)])
    reference = _field_position(footer, _uint32(footer, 0), _FOOTER_RECORD_BATCHES)
    if reference is None:
        raise ValueError("this PyArrow writes footers without a list of record batches")
    # The vector's length comes first; its elements must be aligned to 8.
    footer += bytes(-(len(footer) + 4) % 8)
    struct.pack_into("<I", footer, reference, len(footer) - reference)
    footer += struct.pack("<I", len(blocks) // BLOCK.size) + blocks
    return END_OF_STREAM + footer + struct.pack("<i", len(footer)) + MAGIC


def _file_of_no_batches(schema: pa.Schema) -> bytes:
    sink = pa.BufferOutputStream()
    pa.ipc.new_file(sink, schema).close()
    return bytes(sink.getvalue().to_pybytes())


def _tail_bytes(whole: bytes) -> int:
    """The length of footer, its length and the magic bytes at the end of a file."""
    (footer_bytes,) = struct.unpack_from("<i", whole, len(whole) - len(MAGIC) - 4)
    return int(footer_bytes) + 4 + len(MAGIC)


def batch_message_parts(message: bytes | memoryview, rows: int) -> tuple[int, int]:
    """The lengths of metadata (prefix included) and body of a serialized record batch.

    Raises:
        ValueError: the bytes are not one whole, aligned message of a record batch of these rows.
    """
    try:
        metadata_bytes = _PREFIX_BYTES + _uint32(message, 4)
        metadata = message[_PREFIX_BYTES:metadata_bytes]
        table = _uint32(metadata, 0)
        header_type = _field_position(metadata, table, _MESSAGE_HEADER_TYPE)
        header = _field_position(metadata, table, _MESSAGE_HEADER)
        body = _field_position(metadata, table, _MESSAGE_BODY_LENGTH)
        if message[:4] != _CONTINUATION or header_type is None or header is None:
            raise ValueError("the bytes are not an Arrow message")
        if metadata[header_type] != _HEADER_IS_RECORD_BATCH:
            raise ValueError("the Arrow message is not a record batch")
        length = _field_position(metadata, header + _uint32(metadata, header), _BATCH_LENGTH)
        body_bytes = int(struct.unpack_from("<q", metadata, body)[0]) if body is not None else 0
        found = int(struct.unpack_from("<q", metadata, length)[0]) if length is not None else 0
    except (struct.error, IndexError):
        raise ValueError("the bytes are not an Arrow message") from None
    if metadata_bytes + body_bytes != len(message) or metadata_bytes % 8 or body_bytes % 8:
        raise ValueError("the Arrow message is not whole")
    if found != rows:
        raise ValueError(f"the record batch has {found} rows, not {rows}")
    return metadata_bytes, body_bytes
