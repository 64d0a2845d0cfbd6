"""Picture files as a table: a row a file, with its path."""

from __future__ import annotations

from copy import copy
from typing import TYPE_CHECKING

import pyarrow as pa

from batchscore.batches import RowBatch
from batchscore.errors import InputError
from batchscore.readers.columns import select
from batchscore.readers.options import MAX_BATCH_ROWS

if TYPE_CHECKING:
    from collections.abc import Collection, Iterator, Sequence

PATH_COLUMN = "path"


class PictureReader:
    """The paths of picture files in the string column ``path``; the files are not opened.

    Attributes:
        paths: of the files, in order.
    """

    def __init__(self, paths: Sequence[str], source_column: str | None) -> None:
        if source_column == PATH_COLUMN:
            raise InputError(
                f"pictures already have a column {PATH_COLUMN!r}; choose another --source-column"
            )
        self.paths = paths
        names = [PATH_COLUMN] if source_column is None else [PATH_COLUMN, source_column]
        self._schema = pa.schema([pa.field(name, pa.string()) for name in names])

    @property
    def schema(self) -> pa.Schema:
        """The column ``path``, and the source column with the same where it is asked for."""
        return self._schema

    def of_files(self, start: int, stop: int) -> PictureReader:
        """The rows of some of the files."""
        part = copy(self)
        part.paths = self.paths[start:stop]
        return part

    @property
    def num_rows(self) -> int | None:
        """How many pictures there are."""
        return len(self.paths)

    def batches(
        self, start_row: int = 0, columns: Collection[str] | None = None
    ) -> Iterator[RowBatch]:
        """The paths from ``start_row`` on."""
        wanted = select(self._schema, columns)
        for start in range(start_row, len(self.paths), MAX_BATCH_ROWS):
            paths = pa.array(self.paths[start : start + MAX_BATCH_ROWS], pa.string())
            rows = pa.RecordBatch.from_arrays([paths] * len(self._schema), schema=self._schema)
            yield RowBatch(rows.select(wanted.names))
