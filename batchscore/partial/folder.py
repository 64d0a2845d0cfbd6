"""The folder of the work in progress: its place, the names in it, and how it is left."""

from __future__ import annotations

import contextlib
from typing import TYPE_CHECKING

import pyarrow as pa

from batchscore.partial.disk import Disk, copy_file, move_into_place, writing

if TYPE_CHECKING:
    from pathlib import Path

ROWS = "rows.arrow"
JOURNAL = "journal"
JOB = "job.json"
EXPORT = "export"
UPLOAD = "upload.json"


def partial_folder(out: Path, work_dir: Path | None = None) -> Path:
    """Where the work in progress of ``out`` lives: beside it, or in ``work_dir``."""
    return (out.parent if work_dir is None else work_dir) / f"{out.name}.partial"


def commit(disk: Disk, path: Path, out: Path, *, overwrite: bool) -> None:
    """Move a finished file to its place at once, and remove the work in progress around it.

    Args:
        disk: changes the files.
        path: the sealed or exported file, in the folder of the work in progress.
        out: its place; on another file system it is first copied to a name beside it.
        overwrite: replace what is there.

    Raises:
        UsageError: ``out`` is there and ``overwrite`` is not set; the work in progress stays.
        OutputError: it cannot be written; the work in progress stays.
    """
    move_into_place(disk, path, out, overwrite=overwrite)
    with writing(path.parent):
        remove_files(disk, path.parent)


def remove_files(disk: Disk, folder: Path, *, keep_folder: bool = False) -> None:
    """Remove the work in progress; what is not ours stays."""
    # The identity goes first: without it, what a crash leaves of the rest is nobody's work.
    for name in (JOB, f"{JOB}.tmp", JOURNAL, ROWS, EXPORT, UPLOAD, f"{UPLOAD}.tmp"):
        disk.unlink(folder / name)
    if not keep_folder:
        with contextlib.suppress(OSError):
            disk.remove_folder(folder)


def own_inode(disk: Disk, path: Path) -> None:
    """Part from a committed OUT: a kill while moving can leave one file under both names."""
    if path.stat().st_nlink > 1:
        copy = path.with_name(EXPORT)
        copy_file(disk, path, copy)
        disk.replace(copy, path)


def is_of_schema(path: Path, head_bytes: int, schema: pa.Schema) -> bool:
    """Whether a file of rows begins with this schema."""
    with path.open("rb") as file:
        head = file.read(head_bytes)
    try:
        found = pa.ipc.read_schema(pa.py_buffer(head[8:]))
    except pa.ArrowException:
        return False
    return bool(found.equals(schema, check_metadata=True))
