"""The journal of a partial file: a line for each message in the file of rows."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from isal.isal_zlib import crc32

if TYPE_CHECKING:
    import io
    from collections.abc import Iterator

_READ_BYTES = 2**20


@dataclass(frozen=True, slots=True)
class Entry:
    """One line of the journal: a message in the file of rows. The first is the file's head."""

    offset: int
    metadata_bytes: int
    body_bytes: int
    rows: int
    crc: int

    @property
    def end(self) -> int:
        return self.offset + self.metadata_bytes + self.body_bytes

    def line(self) -> bytes:
        """Fixed width, and a checksum of itself at the end."""
        fields = (
            f"{self.offset:016x} {self.metadata_bytes:016x} {self.body_bytes:016x} "
            f"{self.rows:016x} {self.crc:08x}"
        ).encode()
        return fields + b" %08x\n" % crc32(fields)


LINE_BYTES = len(Entry(0, 0, 0, 0, 0).line())


def entries(journal: bytes) -> Iterator[Entry]:
    """The lines of a journal up to the first that does not check."""
    for start in range(0, len(journal) - LINE_BYTES + 1, LINE_BYTES):
        line = journal[start : start + LINE_BYTES]
        try:
            offset, metadata_bytes, body_bytes, rows, crc, _ = (
                int(field, 16) for field in line.split(b" ")
            )
        except ValueError:
            return
        entry = Entry(offset, metadata_bytes, body_bytes, rows, crc)
        if entry.line() != line:
            return
        yield entry


def next_crc(file: io.FileIO, entry: Entry) -> int | None:
    """The checksum of the next bytes of the file, None if they are not all there."""
    left, crc = entry.metadata_bytes + entry.body_bytes, 0
    while left:
        data = file.read(min(left, _READ_BYTES))
        if not data:
            return None
        crc = crc32(data, crc)
        left -= len(data)
    return crc
