"""Looking at what an earlier run left, without changing it."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pyarrow as pa

from batchscore.partial.disk import writing

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

_MAGIC = b"ARROW1"
_HEAD_BYTES = 8


def stored_schema(rows: Path) -> pa.Schema | None:
    """The schema of a file of rows, None where even its head is damaged."""
    try:
        with pa.OSFile(str(rows)) as file:
            file.seek(_HEAD_BYTES)
            return pa.ipc.read_schema(file)
    except (OSError, pa.ArrowException):
        return None


def stored_column(rows: Path, column: int) -> Iterator[pa.Array]:
    """One column of an undamaged file of rows, batch by batch, sealed or not.

    Raises:
        OutputError: it cannot be read.
    """
    options = pa.ipc.IpcReadOptions(included_fields=[column])
    with writing(rows), pa.OSFile(str(rows)) as file:
        # Behind its first bytes the format of files is that of streams, up to the footer.
        file.seek(_HEAD_BYTES)
        with pa.ipc.open_stream(file, options=options) as reader:
            for batch in reader:
                yield batch.column(0)


def is_sealed(rows: Path) -> bool:
    """Whether the file of rows has its end: all rows of the job are in it."""
    try:
        with rows.open("rb") as file:
            file.seek(-len(_MAGIC), 2)
            return file.read() == _MAGIC
    except OSError:
        return False
