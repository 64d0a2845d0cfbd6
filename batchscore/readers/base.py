"""What a reader is: the interface between a file format and the pipeline."""

from __future__ import annotations

from typing import TYPE_CHECKING, Protocol

if TYPE_CHECKING:
    from collections.abc import Collection, Iterator

    import pyarrow as pa

    from batchscore.batches import RowBatch


class Reader(Protocol):
    """Yields the rows of one or more files, in order, a batch at a time.

    The scorer asks for ``schema`` and ``num_rows`` first, then iterates ``batches`` once, from a
    worker thread (reading may block). A reader never holds a whole file. Trouble with the file
    raises ``InputError`` that names the file; trouble with one row or cell is a ``RowFailure``
    of that row in the batch, and reading goes on.
    """

    @property
    def schema(self) -> pa.Schema:
        """The columns, dictionary types decoded; text without a type carries ``UNTYPED_KEY``."""
        ...

    @property
    def num_rows(self) -> int | None:
        """How many rows there are, where the format tells without reading them all."""
        ...

    def batches(
        self, start_row: int = 0, columns: Collection[str] | None = None
    ) -> Iterator[RowBatch]:
        """The rows from ``start_row`` on, with the named columns (None: all) in schema order.

        Batch sizes are the reader's choice, a few MiB at most; empty batches are allowed.
        """
        ...
