"""Several files, also of different formats, as one table."""

from __future__ import annotations

from bisect import bisect_right
from copy import copy
from itertools import chain
from typing import TYPE_CHECKING

import pyarrow as pa

from batchscore.batches import RowBatch
from batchscore.errors import InputError
from batchscore.readers.columns import as_schema, select, sliced
from batchscore.readers.formats import FileReader, Skip
from batchscore.schema import UNTYPED_KEY

if TYPE_CHECKING:
    from collections.abc import Collection, Iterator, Sequence


class UnionReader:
    """The rows of the files one after the other, with the columns of all.

    The columns stand in the order in which the files first have them; a column that a file
    lacks is null there. ``source_column`` is the last column: the file of each row.

    Attributes:
        files: the files in order.
    """

    def __init__(self, files: Sequence[FileReader], source_column: str | None) -> None:
        self.files = files
        self._data_schema = _unified(files)
        self._source_column = source_column
        self._schema = self._data_schema
        self._begun: list[tuple[int, str]] = []
        if source_column is not None:
            if source_column in self._schema.names:
                raise InputError(
                    f"the input already has a column {source_column!r}; "
                    "choose another --source-column"
                )
            self._schema = self._schema.append(pa.field(source_column, pa.string()))

    def of_files(self, start: int, stop: int) -> UnionReader:
        """The rows of some of the files, with the columns of all."""
        part = copy(self)
        part.files = self.files[start:stop]
        return part

    @property
    def schema(self) -> pa.Schema:
        """The columns of all files, unified."""
        return self._schema

    @property
    def num_rows(self) -> int | None:
        """The sum over the files where each knows its own."""
        counts = [file.num_rows for file in self.files]
        return None if None in counts else sum(count for count in counts if count is not None)

    def batches(
        self, start_row: int = 0, columns: Collection[str] | None = None
    ) -> Iterator[RowBatch]:
        """The rows from ``start_row`` on, file by file."""
        skip = Skip(start_row)
        wanted = select(self._data_schema, columns)
        has_source = columns is None or self._source_column in columns
        self._begun, yielded = [], 0
        for file in self.files:
            self._begun.append((start_row - skip.rows + yielded, file.name))
            if file.num_rows is not None and skip.rows >= file.num_rows:
                skip.take(file.num_rows)
                continue
            for batch in chain.from_iterable(map(sliced, file.scan(skip, wanted.names))):
                rows = as_schema(batch.columns, wanted, file.name)
                if self._source_column is not None and has_source:
                    names = pa.repeat(file.name, rows.num_rows)
                    rows = rows.append_column(self._schema.field(self._source_column), names)
                yielded += rows.num_rows
                yield RowBatch(rows, batch.failures)

    def place_of(self, row: int) -> tuple[str, int]:
        """The file of a row that was read, and its place there; both count from 1."""
        begun = self._begun[bisect_right(self._begun, row - 1, key=lambda each: each[0]) - 1]
        return begun[1], row - begun[0]


def _unified(files: Sequence[FileReader]) -> pa.Schema:
    fields: dict[str, pa.Field] = {}
    first_file: dict[str, str] = {}
    seen: dict[str, int] = {}
    for file in files:
        for field in file.schema:
            known = fields.get(field.name)
            if known is None:
                fields[field.name] = field
                first_file[field.name] = file.name
            elif not known.equals(field, check_metadata=True):
                fields[field.name] = _merged(known, field, first_file[field.name], file.name)
            seen[field.name] = seen.get(field.name, 0) + 1
    # What one file lacks is null there, whatever the other files promise.
    return pa.schema(
        [f if seen[name] == len(files) else f.with_nullable(True) for name, f in fields.items()]
    )


def _merged(known: pa.Field, new: pa.Field, first_file: str, file: str) -> pa.Field:
    try:
        schemas = [pa.schema([known.remove_metadata()]), pa.schema([new.remove_metadata()])]
        merged = pa.unify_schemas(schemas, promote_options="permissive").field(0)
    except pa.ArrowException as error:
        raise InputError(
            f"{file}: column {new.name!r} is {new.type}, but {known.type} in {first_file}; "
            "write one type to all files, or name the CSV type with --type"
        ) from error
    # Only where no file gives the text a type does it stay without one.
    with_values = [f for f in (known, new) if not pa.types.is_null(f.type)]
    if with_values and all(is_untyped(field) for field in with_values):
        return merged.with_metadata({UNTYPED_KEY: b"1"})
    kept = {k: v for k, v in (known.metadata or {}).items() if k != UNTYPED_KEY}
    return merged.with_metadata(kept or None)


def is_untyped(field: pa.Field) -> bool:
    """Whether a column is text without a type of its own."""
    return UNTYPED_KEY in (field.metadata or {})
