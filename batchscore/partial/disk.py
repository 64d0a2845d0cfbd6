"""Files that survive a crash: whole writes, syncs, moves at once, errors that say what to do."""

from __future__ import annotations

import contextlib
import errno
import filecmp
import os
import shutil
import sys
from typing import TYPE_CHECKING

from batchscore.errors import OutputError, UsageError

if TYPE_CHECKING:
    import io
    from collections.abc import Iterator
    from pathlib import Path

_COPY_BYTES = 2**20
_NO_SPACE = frozenset({errno.ENOSPC, errno.EDQUOT})
_NO_HANDLES = frozenset({errno.EMFILE, errno.ENFILE})
_TOO_LARGE = frozenset({errno.EFBIG})
_NOT_ALLOWED = frozenset({errno.EACCES, errno.EPERM, errno.EROFS})
_NO_LINKS = frozenset({errno.EPERM, errno.ENOTSUP, errno.EOPNOTSUPP, errno.ENOSYS, errno.EMLINK})


def output_error(path: Path, error: OSError) -> OutputError:
    """The error for the user when ``path`` cannot be written: what happened, what to do."""
    if error.errno in _NO_SPACE:
        advice = "free some and run the same command with --resume"
    elif error.errno in _NO_HANDLES:
        advice = "raise the limit (ulimit -n) and run the same command with --resume"
    elif error.errno in _TOO_LARGE:
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


def write_all(file: io.FileIO, data: bytes | memoryview) -> None:
    """Write every byte: one call to an unbuffered file may take only a part."""
    rest = memoryview(data)
    while rest:
        rest = rest[file.write(rest) :]


def sync_data(file: io.FileIO) -> None:
    """Make a file's bytes and length durable."""
    getattr(os, "fdatasync", os.fsync)(file.fileno())


def sync_folder(folder: Path) -> None:
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


def move_into_place(path: Path, out: Path, *, overwrite: bool) -> None:
    """Give a finished file its name at once, durably.

    Args:
        path: the finished file; it is gone afterwards.
        out: its place; on another file system it is first copied to a name beside it.
        overwrite: replace what is there.

    Raises:
        UsageError: ``out`` is there and ``overwrite`` is not set; ``path`` stays.
        OutputError: it cannot be written; ``path`` stays.
    """
    with writing(out):
        with path.open("rb+") as file:
            os.fsync(file)
        try:
            _move(path, out, overwrite=overwrite)
        except OSError as error:
            if error.errno != errno.EXDEV:
                raise
            _copy_and_move(path, out, overwrite=overwrite)
        sync_folder(out.parent)


def _move(path: Path, out: Path, *, overwrite: bool) -> None:
    if overwrite:
        path.replace(out)
        return
    try:
        # Unlike a rename, a link fails where the name is taken.
        out.hardlink_to(path)
    except FileExistsError:
        # A kill may have come when OUT was in its place and the rest was not yet removed.
        if not filecmp.cmp(path, out, shallow=False):
            raise _already_there(out) from None
        path.unlink()
    except OSError as error:
        if error.errno not in _NO_LINKS:
            raise
        if os.path.lexists(out):
            raise _already_there(out) from None
        path.rename(out)
    else:
        path.unlink()


def _already_there(out: Path) -> UsageError:
    return UsageError(
        f"'{out}' appeared while the job ran; move it away and run the same command with --resume"
    )


def _copy_and_move(path: Path, out: Path, *, overwrite: bool) -> None:
    beside = out.with_name(f".{out.name}.copying")
    try:
        with path.open("rb") as source, beside.open("wb") as copy:
            shutil.copyfileobj(source, copy, _COPY_BYTES)
            copy.flush()
            os.fsync(copy)
        # Also what an output's extended attributes tell of it.
        with contextlib.suppress(OSError):
            shutil.copystat(path, beside)
        _move(beside, out, overwrite=overwrite)
    finally:
        with contextlib.suppress(OSError):
            beside.unlink(missing_ok=True)
    path.unlink()
