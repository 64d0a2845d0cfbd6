"""Input formats that other packages register."""

from __future__ import annotations

from collections.abc import Callable, Generator
from contextlib import contextmanager
from typing import TYPE_CHECKING, cast

import pyarrow as pa

from batchscore.batches import RowBatch
from batchscore.errors import BatchscoreError, InputError, UsageError
from batchscore.extensions import INPUT_FORMATS
from batchscore.readers.columns import plain_schema
from batchscore.readers.sources import blaming

if TYPE_CHECKING:
    from collections.abc import Collection, Iterator
    from pathlib import Path

    from batchscore.readers.base import FormatReader
    from batchscore.readers.discover import InputFile
    from batchscore.readers.formats import Skip
    from batchscore.readers.options import ReadOptions

    Make = Callable[[Path, ReadOptions], FormatReader]

_METHODS = ("read_schema", "batches")
_END = object()


class RegisteredReader:
    """One file of a registered format: a ``FileReader`` around its ``FormatReader``."""

    def __init__(self, file: InputFile, path: Path, options: ReadOptions) -> None:
        found, self._where = INPUT_FORMATS.load(file.format)
        if isinstance(found, type) or not callable(found):
            INPUT_FORMATS.check(found, self._where, _METHODS)
        self.name, self._format = file.name, file.format
        with self._blaming():
            self._reader = cast("Make", found)(path, options)
        INPUT_FORMATS.check(self._reader, self._where, _METHODS)
        with self._blaming():
            schema = self._reader.read_schema()
        if not isinstance(schema, pa.Schema):
            raise UsageError(
                f"{self._where}: read_schema() gave a {type(schema).__name__}, no pyarrow.Schema"
                "; mend that package"
            )
        self.schema = plain_schema(schema, self.name)
        self.num_rows: int | None = getattr(self._reader, "num_rows", None)

    def scan(self, skip: Skip, columns: Collection[str] | None) -> Iterator[RowBatch]:
        """See ``FileReader.scan``; the format always reads from the first row on."""
        with self._blaming():
            batches = iter(self._reader.batches())
        count = 0
        try:
            while True:
                with self._blaming():
                    batch = next(batches, _END)
                if batch is _END:
                    break
                rows = self._checked(batch)
                count += rows.num_rows
                yield rows.slice(skip.take(rows.num_rows), rows.num_rows)
        finally:
            if isinstance(batches, Generator):
                batches.close()
        if self.num_rows is not None and count != self.num_rows:
            raise InputError(
                f"{self.name}: {self._format} told {self.num_rows} rows, but {count} were read; "
                "was the file changed while it was read?"
            )

    def _checked(self, batch: object) -> RowBatch:
        rows = RowBatch(batch) if isinstance(batch, pa.RecordBatch) else batch
        if not isinstance(rows, RowBatch):
            raise UsageError(
                f"{self._where}: batches() gave a {type(batch).__name__}, no pyarrow.RecordBatch "
                "or RowBatch"
            )
        # What lacks would be taken for null.
        lacking = set(self.schema.names).difference(rows.columns.schema.names)
        if lacking:
            raise InputError(
                f"{self.name}: a batch of {self._format} lacks the column {min(lacking)!r} of its "
                "schema"
            )
        return rows

    @contextmanager
    def _blaming(self) -> Generator[None]:
        """Whatever the format's own code raises is trouble with the file."""
        try:
            with blaming(self.name):
                yield
        except (BatchscoreError, MemoryError):
            raise
        except Exception as error:
            kind = "" if isinstance(error, ValueError) else f"{type(error).__name__}: "
            raise InputError(
                f"{self.name}: cannot be read as {self._format}: {kind}{error}"
            ) from error
