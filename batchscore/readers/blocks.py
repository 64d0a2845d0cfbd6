"""A stream of text cut into blocks of whole records or lines."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING

import numpy as np

from batchscore.errors import InputError

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from batchscore.readers.sources import ByteStream

BLOCK_BYTES = 2**20
MAX_RECORD_BYTES = 2**29
_QUOTE = ord('"')
_NEWLINE = ord("\n")
_RETURN = ord("\r")


class UnfinishedRecordError(Exception):
    """Raised at the end of a stream in the middle of a record: a quote is not closed."""


def blocks(stream: ByteStream, end_of_last: Callable[[bytes], int], name: str) -> Iterator[bytes]:
    """The stream in blocks of about a MiB that end where a record ends.

    Args:
        stream: UTF-8 text.
        end_of_last: tells where the last whole record in some bytes ends; 0 if there is none.
        name: of the file, for errors.

    Raises:
        InputError: a record is longer than ``MAX_RECORD_BYTES``.
        UnfinishedRecordError: the last record is not whole; all before it were yielded.
    """
    rest = b""
    at_least = 1
    while data := _read(stream, at_least):
        rest += data
        end = end_of_last(rest)
        if end:
            yield rest[:end]
            rest = rest[end:]
            at_least = 1
        elif len(rest) > MAX_RECORD_BYTES:
            raise InputError(
                f"{name}: a record is longer than {MAX_RECORD_BYTES >> 20} MiB; "
                "is a quote left open?"
            )
        elif len(rest) >= BLOCK_BYTES:
            # Doubling keeps a record of many blocks from being searched again for each.
            at_least = len(rest)
    if rest:
        rest += b"" if rest.endswith(b"\n") else b"\n"
        end = end_of_last(rest)
        if end:
            yield rest[:end]
        if end < len(rest):
            raise UnfinishedRecordError


def _read(stream: ByteStream, at_least: int) -> bytes:
    """What the stream has, which of a pipe may be little, but so much unless it ends."""
    data = stream.read(max(BLOCK_BYTES, at_least))
    if len(data) >= at_least:
        return data
    pieces = [data]
    missing = at_least - len(data)
    while missing > 0 and (piece := stream.read(missing)):
        pieces.append(piece)
        missing -= len(piece)
    return b"".join(pieces)


def last_line_end(text: bytes) -> int:
    """Where the last whole line ends."""
    return text.rfind(b"\n") + 1


class RecordFormat:
    """How CSV text falls into records and fields, exactly as PyArrow reads it.

    A quote opens only at the start of a field; inside, two stand for one; what follows the
    closing quote up to the delimiter is text. Elsewhere a quote is a character like any other.
    """

    def __init__(self, delimiter: str) -> None:
        mark = re.escape(delimiter.encode())
        quoted = rb'"(?:[^"]++|"")*+"[^%b\r\n]*+' % mark
        plain = rb'(?!")[^%b\r\n]*+' % mark
        field = rb"(?:%b|%b)" % (quoted, plain)
        self.has_one_field = False
        """Whether each record has one field, so that a blank line is an empty one."""
        self._delimiter = delimiter.encode()
        self._before_quote = np.frombuffer(self._delimiter + b'\r\n"', dtype=np.uint8)
        self._record = re.compile(rb"(%b(?:%b%b)*+)(?:\r\n|\n|\r(?!\Z))" % (field, mark, field))
        self._field = re.compile(
            rb'(?:\A|%b)(?:"((?:[^"]++|"")*+)"([^%b\r\n]*+)|((?!")[^%b\r\n]*+))'
            % (mark, mark, mark)
        )

    def end_of_last(self, text: bytes) -> int:
        """Where the last whole record in the text ends; 0 if there is none.

        The text begins where a record begins.
        """
        if b'"' not in text:
            # A return at the very end may be half of a line end.
            return text.rfind(b"\n") + 1 or text.rfind(b"\r", 0, len(text) - 1) + 1
        codes = np.frombuffer(text, dtype=np.uint8)
        quotes = np.flatnonzero(codes == _QUOTE)
        opening = quotes[::2]
        before = codes[opening[1:] - 1 if opening[0] == 0 else opening - 1]
        if not np.isin(before, self._before_quote).all():
            return self._end_by_records(text)
        # Every quote opens, closes or is doubled: outside is where an even number stands before.
        ends = np.flatnonzero(codes == _NEWLINE)
        outside = ends[np.searchsorted(quotes, ends) % 2 == 0]
        if not len(outside):
            ends = np.flatnonzero(codes[:-1] == _RETURN)
            outside = ends[np.searchsorted(quotes, ends) % 2 == 0]
        return int(outside[-1]) + 1 if len(outside) else 0

    def _end_by_records(self, text: bytes) -> int:
        end = 0
        while match := self._record.match(text, end):
            end = match.end()
        return end

    def first_record(self, text: bytes) -> tuple[bytes, int]:
        """The first record that is no blank line, b"" if there is none, and where it ends."""
        end = 0
        while match := self._record.match(text, end):
            end = match.end()
            if match[1]:
                return match[1], end
        return text[end:].strip(b"\r\n"), len(text)

    def records(self, text: bytes) -> list[bytes]:
        """The records of a text that consists of whole ones, without line ends."""
        if b'"' in text:
            found = []
            end = 0
            while match := self._record.match(text, end):
                found.append(match[1])
                end = match.end()
            found.append(text[end:].rstrip(b"\r\n"))
        elif b"\r" in text:
            found = re.split(rb"\r\n|\n|\r", text)
        else:
            found = text.split(b"\n")
        if self.has_one_field:
            # What stands after the last line end is a record only where it is something.
            return found if found[-1] else found[:-1]
        return [record for record in found if record]

    def quick_count(self, text: bytes) -> int | None:
        """How many records whole records are, where counting line ends tells; else None."""
        if b'"' in text or b"\r" in text:
            return None
        if not self.has_one_field and (b"\n\n" in text or text.startswith(b"\n")):
            return None
        return text.count(b"\n")

    def count_fields(self, record: bytes) -> int:
        """How many fields a record has."""
        if b'"' in record:
            return len(self._field.findall(record))
        return record.count(self._delimiter) + 1

    def fields(self, record: bytes) -> list[tuple[bytes, bool]]:
        """The fields of a record, unquoted, each with whether it was quoted."""
        found = []
        for match in self._field.finditer(record):
            if match[3] is not None:
                found.append((match[3], False))
            else:
                found.append((match[1].replace(b'""', b'"') + match[2], True))
        return found
