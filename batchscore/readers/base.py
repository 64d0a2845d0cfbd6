"""What a reader is: the interface between a file format and the pipeline."""

from __future__ import annotations

from abc import ABC, abstractmethod
from typing import TYPE_CHECKING, Protocol

import pyarrow as pa

from batchscore.schema import UNTYPED_KEY

if TYPE_CHECKING:
    from collections.abc import Collection, Iterator
    from pathlib import Path

    from batchscore.batches import RowBatch
    from batchscore.readers.options import ReadOptions


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


class FormatReader(ABC):
    """Base of the reader of an input format that another package brings: reads one file.

    Made when the input is opened; then ``read_schema`` is called once, and ``batches`` once, in a
    worker thread, so both may block. The same file has to give the same rows again, else a job
    cannot be resumed. Any error names the file and ends the job; raise ``ValueError`` with the
    reason. A row that cannot be read is no error but a ``RowFailure`` in a ``RowBatch``.

    Attributes:
        path: the file; of standard input a copy.
        options: what the user said of the input: ``encoding``, ``null``, ...
        num_rows: how many rows there are, where ``read_schema`` could tell.
    """

    num_rows: int | None = None

    def __init__(self, path: Path, options: ReadOptions) -> None:
        self.path, self.options = path, options

    @abstractmethod
    def read_schema(self) -> pa.Schema:
        """The columns and their types; ``text_field`` for text that has no type of its own."""

    @abstractmethod
    def batches(self) -> Iterator[pa.RecordBatch | RowBatch]:
        """All rows in order, some thousand at a time, with the columns of the schema."""


def text_field(name: str) -> pa.Field:
    """A column of text as in CSV: where the deployment wants a number, it is read as one.

    A column of the type string never serves a numeric feature.
    """
    return pa.field(name, pa.string(), metadata={UNTYPED_KEY: b"1"})
