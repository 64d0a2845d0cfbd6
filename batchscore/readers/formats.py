"""What the readers of single files have in common."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Protocol

if TYPE_CHECKING:
    from collections.abc import Collection, Iterator

    import pyarrow as pa

    from batchscore.batches import RowBatch


@dataclass(slots=True)
class Skip:
    """How many rows are still to be passed over; goes from file to file."""

    rows: int = 0

    def take(self, num_rows: int) -> int:
        """Pass over at most so many rows; returns how many."""
        taken = min(self.rows, num_rows)
        self.rows -= taken
        return taken


class FileReader(Protocol):
    """Reads one file. Made when the input is opened, it then holds no open file.

    Attributes:
        name: the file as the user wrote it.
        schema: its columns, with plain types.
        num_rows: how many rows there are, where the format tells.
    """

    name: str
    schema: pa.Schema
    num_rows: int | None

    def scan(self, skip: Skip, columns: Collection[str] | None) -> Iterator[RowBatch]:
        """The rows after those to skip, counted down in ``skip``, with columns of ``schema``.

        A batch may have more columns than asked for, or types that are yet to be made plain.
        """
        ...
