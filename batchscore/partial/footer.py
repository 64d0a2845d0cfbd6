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

_FOOTER_RECORD_BATCHES = 3


def uint32(buffer: bytes | bytearray | memoryview, position: int) -> int:
    """The unsigned number at a position."""
    return int(struct.unpack_from("<I", buffer, position)[0])


def field_position(buffer: bytes | bytearray | memoryview, table: int, field: int) -> int | None:
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
    reference = field_position(footer, uint32(footer, 0), _FOOTER_RECORD_BATCHES)
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
