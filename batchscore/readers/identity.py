"""What tells one input from another: sizes and hashes, quick also for large and many files."""

from __future__ import annotations

import hashlib
from dataclasses import dataclass
from typing import TYPE_CHECKING

from batchscore.readers.sources import blaming
from batchscore.stores import StoredFile

if TYPE_CHECKING:
    import os
    from collections.abc import Iterator, Sequence
    from pathlib import Path
    from typing import BinaryIO

WHOLE_BYTES = 16 * 2**20
"""Up to this size a file is hashed as a whole."""

_TOTAL_WHOLE_BYTES = 2**30
_BLOCK_BYTES = 2**16
_BLOCKS = 64
_TOTAL_BLOCKS = 2**14


@dataclass(frozen=True, slots=True)
class FileIdentity:
    """One file of the input.

    Attributes:
        size: its length in bytes.
        digest: a hash of its content, or of samples of it; of an object in a store one of its
            address and when it was written.
        modified_ns: when it was last written to, where only samples were hashed; else None.
        name: its name, or what its folders tell of its rows, where that shows in the output; else
            None.
    """

    size: int
    digest: str
    modified_ns: int | None = None
    name: str | None = None


def identify(
    files: Sequence[Path | StoredFile],
    *,
    with_names: bool,
    partitions: Sequence[str | None] = (),
) -> tuple[FileIdentity, ...]:
    """The identity of each file; blocks.

    Of an object in a store nothing is read: it is known by its address, its size and when it was
    written, which the store told when it was found.

    Args:
        files: the files.
        with_names: whether their names show in the output.
        partitions: what shows of the name of each file where the whole name does not.

    A file up to 16 MiB is hashed as a whole, of a larger one 64 blocks of 64 KiB that are spread
    evenly. Where all files together are over 1 GiB, only samples of each are read, 1 GiB at most.

    Raises:
        InputError: a file cannot be read.
    """
    stats: dict[Path, os.stat_result] = {}
    for file in files:
        if not isinstance(file, StoredFile):
            with blaming(str(file)):
                stats[file] = file.stat()
    sizes = [min(stat.st_size, WHOLE_BYTES) for stat in stats.values()]
    whole = sum(sizes) <= _TOTAL_WHOLE_BYTES
    blocks = max(1, min(_BLOCKS, _TOTAL_BLOCKS // max(1, len(files))))

    def identity(file: Path | StoredFile, name: str | None) -> FileIdentity:
        if isinstance(file, StoredFile):
            return _stored_identity(file, name)
        stat = stats[file]
        return _identity(file, stat, whole and stat.st_size <= WHOLE_BYTES, blocks, name)

    names = [str(file) for file in files] if with_names else partitions or [None] * len(files)
    return tuple(map(identity, files, names))


def _stored_identity(file: StoredFile, name: str | None) -> FileIdentity:
    told = hashlib.sha256(f"{file} {file.modified_ns}".encode()).hexdigest()
    return FileIdentity(size=file.size, digest=told[:16], name=name)


def _identity(
    file: Path, stat: os.stat_result, whole: bool, blocks: int, name: str | None
) -> FileIdentity:
    content = hashlib.sha256()
    with blaming(str(file)), file.open("rb", buffering=0) as opened:
        for part in _parts(opened, stat.st_size, 0 if whole else blocks):
            content.update(part)
    return FileIdentity(
        size=stat.st_size,
        digest=content.hexdigest()[:16],
        modified_ns=None if whole else stat.st_mtime_ns,
        name=name,
    )


def _parts(file: BinaryIO, size: int, blocks: int) -> Iterator[bytes]:
    """The whole file, or so many blocks of it: the first and the last and those between."""
    if not blocks or size <= blocks * _BLOCK_BYTES:
        while part := file.read(2**20):
            yield part
        return
    for block in range(blocks):
        file.seek((size - _BLOCK_BYTES) * block // max(1, blocks - 1))
        yield file.read(_BLOCK_BYTES)
