"""What an exporter is: from the finished partial file to the user's format."""

from __future__ import annotations

from abc import ABC, abstractmethod
from typing import TYPE_CHECKING, BinaryIO, Protocol

from batchscore.sinks.sealed import open_sealed, record_batches

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    import pyarrow as pa


class Exporter(Protocol):
    """Writes a sealed Arrow IPC file in another format, one record batch at a time.

    ``check_schema`` is called before anything is sent. ``export`` is called once, from a worker
    thread, after the last row. ``out`` is a fresh file in the folder of the work in progress; the
    caller syncs it and renames it into place. May raise ``OSError``, which the caller turns into
    ``OutputError``.

    Attributes:
        is_text: whether it may be written to a terminal.
    """

    @property
    def is_text(self) -> bool: ...

    def check_schema(self, schema: pa.Schema) -> None:
        """Find out before the first request what the format could not hold after the last.

        Raises:
            UsageError: a column is of a type that the format does not have.
        """
        ...

    def export(self, partial: Path, out: Path) -> None: ...


class FormatWriter(ABC):
    """Base of what writes an output format front to back: ``write`` is all that is needed.

    An ``Exporter``, made without arguments. Equal rows should give equal bytes: no times, no
    chance.
    """

    is_text = True

    def check_schema(self, schema: pa.Schema) -> None:  # noqa: B027 - most hold everything
        """Refuse a column that the format cannot hold with ``UsageError``; none is by default."""

    @abstractmethod
    def write(self, schema: pa.Schema, batches: Iterator[pa.RecordBatch], file: BinaryIO) -> None:
        """Write the whole output.

        Args:
            schema: its columns; the last one tells why a row was not scored. There may be no
                batch.
            batches: its rows in order; no more than one batch should be held.
            file: where to write; the caller closes it.
        """

    def export(self, partial: Path, out: Path) -> None:
        """See ``Exporter``."""
        with open_sealed(partial) as reader, out.open("wb") as file:
            self.write(reader.schema, record_batches(reader), file)
