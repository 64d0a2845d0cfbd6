"""What tells one input from another: sizes and hashes, quick also for large and many files."""

from __future__ import annotations

import hashlib
from dataclasses import dataclass
from typing import TYPE_CHECKING

from batchscore.readers.sources import blaming

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
        digest: a hash of its content, or of samples of it.
        modified_ns: when it was last written to, where only samples were hashed; else None.
        name: its name, where that shows in the output; else None.
    """

    size: int
    digest: str
    modified_ns: int | None = None
    name: str | None = None


def identify(files: Sequence[Path], *, with_names: bool) -> tuple[FileIdentity, ...]:
    """The identity of each file; blocks.

    A file up to 16 MiB is hashed as a whole, of a larger one 64 blocks of 64 KiB that are spread
    evenly. Where all files together are over 1 GiB, only samples of each are read, 1 GiB at most.

    Raises:
        InputError: a file cannot be read.
    """
    stats = []
    for file in files:
        with blaming(str(file)):
            stats.append(file.stat())
    whole = sum(min(stat.st_size, WHOLE_BYTES) for stat in stats) <= _TOTAL_WHOLE_BYTES
    blocks = max(1, min(_BLOCKS, _TOTAL_BLOCKS // max(1, len(files))))
    return tuple(
        _identity(file, stat, whole and stat.st_size <= WHOLE_BYTES, blocks, with_names)
        for file, stat in zip(files, stats, strict=True)
    )


def _identity(
    file: Path, stat: os.stat_result, whole: bool, blocks: int, with_name: bool
) -> FileIdentity:
    content = hashlib.sha256()
    with blaming(str(file)), file.open("rb", buffering=0) as opened:
        for part in _parts(opened, stat.st_size, 0 if whole else blocks):
            content.update(part)
    return FileIdentity(
        size=stat.st_size,
        digest=content.hexdigest()[:16],
        modified_ns=None if whole else stat.st_mtime_ns,
        name=str(file) if with_name else None,
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
