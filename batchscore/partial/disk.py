"""Files that survive a crash: whole writes, syncs, moves at once, errors that say what to do."""

from __future__ import annotations

import contextlib
import errno
import filecmp
import os
import shutil
import sys
from typing import TYPE_CHECKING, Literal

from batchscore.errors import SHORTAGES, OutputError, UsageError

if TYPE_CHECKING:
    import io
    from collections.abc import Callable, Iterator
    from pathlib import Path

_COPY_BYTES = 2**20
_NOT_ALLOWED = frozenset({errno.EACCES, errno.EPERM, errno.EROFS})
# EINVAL is what Windows says of a drive without them.
_NO_LINKS = frozenset(
    {errno.EPERM, errno.ENOTSUP, errno.EOPNOTSUPP, errno.ENOSYS, errno.EMLINK, errno.EINVAL}
)


def _full_sync() -> Callable[[int], object] | None:
    """What macOS has to empty the drive's own cache too, which its ``fsync`` does not."""
    try:
        import fcntl  # noqa: PLC0415 - not on every system
    except ImportError:
        return None
    command = getattr(fcntl, "F_FULLFSYNC", None)
    return None if command is None else lambda handle: fcntl.fcntl(handle, command)


_FULL_SYNC = _full_sync()


def output_error(path: Path, error: OSError) -> OutputError:
    """The error for the user when ``path`` cannot be written: what happened, what to do."""
    if error.errno in SHORTAGES:
        _, remedy = SHORTAGES[error.errno]
        advice = f"{remedy} and run the same command with --resume"
    elif error.errno == errno.EFBIG:
        advice = "raise the limit (ulimit -f) and run the same command with --resume"
    elif error.errno in _NOT_ALLOWED:
        advice = "allow it, or choose another place for the output"
    else:
        advice = "once that is mended, run the same command with --resume"
    return OutputError(f"cannot write '{path}': {error.strerror or error}; {advice}")


@contextlib.contextmanager
def writing(path: Path) -> Iterator[None]:
    """Turn an ``OSError`` into an ``OutputError`` that names ``path``."""
    try:
        yield
    except OSError as error:
        raise output_error(path, error) from error


class Disk:
    """Changes to files, a system call each; a simulation of the disk takes its place in tests.

    A write is lasting once its file was synced, a name once its folder was. Reading is done past
    this class, by path.
    """

    def open(self, path: Path, mode: Literal["xb", "wb", "r+b"]) -> io.FileIO:
        """A file to write to, unbuffered."""
        return path.open(mode, buffering=0)

    def sync(self, file: io.FileIO) -> None:
        """Make a file's bytes and length durable."""
        if _FULL_SYNC is not None:
            # Network drives refuse it, and do with the common one.
            with contextlib.suppress(OSError):
                _FULL_SYNC(file.fileno())
                return
        getattr(os, "fdatasync", os.fsync)(file.fileno())

    def sync_folder(self, folder: Path) -> None:
        """Make the names in a folder durable, where the system has a way to."""
        if sys.platform == "win32":
            return
        handle = os.open(folder, os.O_RDONLY)
        try:
            os.fsync(handle)
        except OSError as error:
            if error.errno not in {errno.EINVAL, errno.ENOTSUP}:
                raise
        finally:
            os.close(handle)

    def replace(self, path: Path, target: Path) -> None:
        """Give a file another name, whoever has it now."""
        path.replace(target)

    def link(self, path: Path, target: Path) -> None:
        """Give a file a second name. Unlike a new name, it fails where the name is taken."""
        target.hardlink_to(path)

    def unlink(self, path: Path) -> None:
        """Take a name away, if it is there."""
        path.unlink(missing_ok=True)

    def make_folder(self, folder: Path) -> None:
        """Make a folder, if it is not there."""
        folder.mkdir(exist_ok=True)

    def remove_folder(self, folder: Path) -> None:
        """Remove an empty folder."""
        folder.rmdir()


def write_all(file: io.FileIO, data: bytes | memoryview) -> None:
    """Write every byte: one call to an unbuffered file may take only a part."""
    rest = memoryview(data)
    while rest:
        rest = rest[file.write(rest) :]


def write_file(disk: Disk, path: Path, data: bytes) -> None:
    """Write a small file, durably, in the place of one that may be there."""
    unfinished = path.with_name(f"{path.name}.tmp")
    with disk.open(unfinished, "wb") as file:
        write_all(file, data)
        disk.sync(file)
    disk.replace(unfinished, path)


def move_into_place(disk: Disk, path: Path, out: Path, *, overwrite: bool) -> None:
    """Give a finished file its name at once, durably.

    Args:
        disk: changes the files.
        path: the finished file; it is gone afterwards.
        out: its place; on another file system it is first copied to a name beside it.
        overwrite: replace what is there.

    Raises:
        UsageError: ``out`` is there and ``overwrite`` is not set; ``path`` stays.
        OutputError: it cannot be written; ``path`` stays.
    """
    with writing(out):
        with disk.open(path, "r+b") as file:
            disk.sync(file)
        try:
            _move(disk, path, out, overwrite=overwrite)
        except OSError as error:
            if error.errno != errno.EXDEV:
                raise
            _copy_and_move(disk, path, out, overwrite=overwrite)
        disk.sync_folder(out.parent)


def _move(disk: Disk, path: Path, out: Path, *, overwrite: bool) -> None:
    if overwrite:
        disk.replace(path, out)
        return
    try:
        disk.link(path, out)
    except FileExistsError:
        # A kill may have come when OUT was in its place and the rest was not yet removed.
        if not filecmp.cmp(path, out, shallow=False):
            raise _already_there(out) from None
        disk.unlink(path)
    except OSError as error:
        if error.errno not in _NO_LINKS:
            raise
        if os.path.lexists(out):
            raise _already_there(out) from None
        disk.replace(path, out)
    else:
        disk.unlink(path)


def _already_there(out: Path) -> UsageError:
    return UsageError(
        f"'{out}' appeared while the job ran; move it away and run the same command with --resume"
    )


def copy_file(disk: Disk, path: Path, copy: Path) -> None:
    """Copy a file's bytes, durably."""
    with path.open("rb") as source, disk.open(copy, "wb") as file:
        while data := source.read(_COPY_BYTES):
            write_all(file, data)
        disk.sync(file)


def _copy_and_move(disk: Disk, path: Path, out: Path, *, overwrite: bool) -> None:
    beside = out.with_name(f".{out.name}.copying")
    try:
        copy_file(disk, path, beside)
        # Also what an output's extended attributes tell of it.
        with contextlib.suppress(OSError):
            shutil.copystat(path, beside)
        _move(disk, beside, out, overwrite=overwrite)
    finally:
        with contextlib.suppress(OSError):
            disk.unlink(beside)
    disk.unlink(path)
