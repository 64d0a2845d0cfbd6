"""Bytes from files: opened, decompressed, spooled, and turned into UTF-8."""

from __future__ import annotations

import codecs
import shutil
import sys
import tempfile
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import TYPE_CHECKING, Any, Protocol

import pyarrow as pa

from batchscore.errors import InputError, OutputError, ShortageError
from batchscore.readers.discover import STDIN, InputFile
from batchscore.stores.remote_file import AHEAD_BYTES

if TYPE_CHECKING:
    from collections.abc import Iterator

_BOM = codecs.BOM_UTF8
_HEAD_BYTES = 16
_MAGIC = {
    b"PAR1": "a Parquet file",
    b"ARROW1": "an Arrow file",
    b"PK\x03\x04": "a ZIP or Excel file",
}
_INVALID = "batchscore.invalid"


class ByteStream(Protocol):
    """What a text format is read from."""

    def read(self, size: int, /) -> bytes:
        """At most so many bytes; none only at the end."""
        ...

    def close(self) -> None:
        """Let go of the file."""
        ...


@contextmanager
def blaming(name: str) -> Iterator[None]:
    """Turn what goes wrong in reading a file into an ``InputError`` that names it."""
    try:
        yield
    except MemoryError:
        raise
    except (OSError, EOFError, pa.ArrowException) as error:
        ShortageError.check(error)
        reason = getattr(error, "strerror", None) or str(error).strip() or "it is damaged"
        raise InputError(f"{name}: cannot be read: {reason.splitlines()[0]}") from error


def open_raw(file: InputFile) -> Any:
    """The bytes of a file as they are; the caller closes it."""
    if file.name == STDIN:
        if sys.stdin is None:
            raise InputError("-: standard input is closed; pipe a file into it, or name one")
        return sys.stdin.buffer
    if file.stored is not None:
        return file.stored.open(ahead_bytes=AHEAD_BYTES)
    with blaming(file.name):
        return Path(file.name).open("rb")


def head(file: InputFile, path: Path) -> bytes:
    """The first bytes of a file that is, or was stored, at the path, or is in a store.

    Raises:
        InputError: the file cannot be read, or is empty.
    """
    with blaming(file.name), file.stored.open() if file.stored else path.open("rb") as raw:
        first = raw.read(_HEAD_BYTES)
    if not first:
        raise InputError(f"{file.name}: the file is empty (0 bytes); remove it from the input")
    return first


def spool(file: InputFile, work_dir: Path | None) -> Path:
    """Store what can be read only once in a temporary file, for formats that go to and fro.

    Raises:
        OutputError: the temporary file cannot be written.
    """
    try:
        if work_dir is not None:
            work_dir.mkdir(parents=True, exist_ok=True)
        target = tempfile.NamedTemporaryFile(  # noqa: SIM115 - it outlives this function
            prefix=".batchscore-input-", dir=work_dir, delete=False
        )
    except OSError as error:
        raise OutputError(f"{file.name}: cannot be stored: {error}; say --work-dir") from error
    path = Path(target.name)
    source = open_raw(file)
    try:
        with target:
            shutil.copyfileobj(source, target, 2**20)
    except BaseException as error:
        path.unlink(missing_ok=True)
        if isinstance(error, OSError):
            raise OutputError(f"{file.name}: cannot be stored: {error}; say --work-dir") from error
        raise
    finally:
        if file.name != STDIN:
            source.close()
    return path


def open_text(
    file: InputFile, encoding: str, path: Path | None = None, *, as_it_comes: bool = False
) -> ByteStream:
    """A CSV or JSON Lines file as UTF-8, decompressed, without a byte order mark.

    Bytes that are not valid in ``encoding`` come out as bytes that are not valid UTF-8, so that
    whoever reads on meets them in the row where they stand.

    Args:
        file: the file; a stream is consumed.
        encoding: its encoding.
        path: where its bytes are, if elsewhere (spooled).
        as_it_comes: give what a pipe has, without waiting for more.
    """
    if path is None or file.stored is not None:
        raw = _Prefixed(open_raw(file), keep=file.name == STDIN, as_it_comes=as_it_comes)
    else:
        raw = _Prefixed(path.open("rb"), keep=False)
    try:
        with blaming(file.name):
            first = raw.peek()
        if not first:
            raise InputError(f"{file.name}: the input is empty (0 bytes)")
        compression = _check_compression(file, first)
        opened: ByteStream = raw
        if compression is not None:
            opened = _Decompressed(raw, compression)
        else:
            _check_not_binary(file, first)
        if codecs.lookup(encoding).name not in {"utf-8", "utf-8-sig"}:
            opened = _Transcoded(opened, encoding)
        elif first.startswith((codecs.BOM_UTF16_LE, codecs.BOM_UTF16_BE)):
            raise InputError(f"{file.name}: the file is UTF-16; say --encoding utf-16")
        return _Blamed(opened, file.name)
    except BaseException:
        raw.close()
        raise


def _check_compression(file: InputFile, first: bytes) -> str | None:
    """The compression that the first bytes show, held against the suffix where that counts."""
    found = None
    if first.startswith(b"\x1f\x8b"):
        found = "gzip"
    elif first.startswith(b"BZh") and first[4:10] in {b"1AY&SY", b"\x17rE8P\x90"}:
        found = "bz2"
    elif first.startswith(b"\x28\xb5\x2f\xfd"):
        found = "zstd"
    if file.by_suffix and found != file.compression:
        if file.compression is not None:
            raise InputError(f"{file.name}: the file is not {file.compression}; rename it")
        ending = {"gzip": ".gz", "bz2": ".bz2", "zstd": ".zst"}[str(found)]
        raise InputError(f"{file.name}: the file is {found}; rename it to {file.name}{ending}")
    return found


def _check_not_binary(file: InputFile, first: bytes) -> None:
    for magic, what in _MAGIC.items():
        if first.startswith(magic):
            raise InputError(
                f"{file.name}: the file is {what}, not {file.format}; rename it, convert it or "
                "say another --input-format"
            )


class _Prefixed:
    """A file whose first bytes can be looked at. PyArrow reads through it, so it acts as a file."""

    def __init__(self, raw: Any, *, keep: bool, as_it_comes: bool = False) -> None:
        self._raw = raw
        self._read = raw.read1 if as_it_comes else raw.read
        self._keep = keep
        self._first = b""
        self.closed = False

    def peek(self) -> bytes:
        # No format is known by a line end: after one there is nothing more to wait for.
        while len(self._first) < _HEAD_BYTES and b"\n" not in self._first:
            more = self._read(_HEAD_BYTES)
            if not more:
                break
            self._first += more
        return self._first

    def readable(self) -> bool:
        return True

    def read(self, size: int = -1, /) -> bytes:
        if not self._first:
            return bytes(self._read(size))
        first, self._first = self._first, b""
        if 0 <= size < len(first):
            first, self._first = first[:size], first[size:]
        return first

    def close(self) -> None:
        self.closed = True
        if not self._keep:
            self._raw.close()


class _Decompressed:
    def __init__(self, raw: _Prefixed, compression: str) -> None:
        self._raw = raw
        self._stream = pa.CompressedInputStream(pa.PythonFile(raw, mode="r"), compression)

    def read(self, size: int, /) -> bytes:
        return bytes(self._stream.read(size))

    def close(self) -> None:
        with suppress(OSError, pa.ArrowException):
            self._stream.close()
        self._raw.close()


def _mark_invalid(error: UnicodeError) -> tuple[str | bytes, int]:
    if isinstance(error, UnicodeDecodeError):
        return "\udcff", error.end
    if isinstance(error, UnicodeEncodeError):
        return b"\xff", error.end
    raise error


codecs.register_error(_INVALID, _mark_invalid)


class _Transcoded:
    """Another encoding as UTF-8; what cannot be decoded becomes the byte 0xFF."""

    def __init__(self, raw: ByteStream, encoding: str) -> None:
        self._raw = raw
        self._decoder = codecs.getincrementaldecoder(encoding)(errors=_INVALID)
        self._ended = False

    def read(self, size: int, /) -> bytes:
        while not self._ended:
            data = self._raw.read(size)
            self._ended = not data
            text = self._decoder.decode(data, final=self._ended)
            if text:
                return text.encode("utf-8", errors=_INVALID)
        return b""

    def close(self) -> None:
        self._raw.close()


class _Blamed:
    """The last layer: drops a byte order mark, names the file in every error."""

    def __init__(self, raw: ByteStream, name: str) -> None:
        self._raw = raw
        self._name = name
        self._at_start = True

    def read(self, size: int, /) -> bytes:
        with blaming(self._name):
            data = self._raw.read(size)
            if self._at_start:
                while len(data) < len(_BOM) and (more := self._raw.read(size)):
                    data += more
                self._at_start = False
                if data.startswith(_BOM):
                    # A file of nothing but the mark must not look as if it ended here.
                    data = data[len(_BOM) :] or self._raw.read(size)
            return data

    def close(self) -> None:
        self._raw.close()
