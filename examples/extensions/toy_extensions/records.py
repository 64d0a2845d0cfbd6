"""Input format ``.records``: each row a block of ``name: value`` lines, a blank line between."""

from __future__ import annotations

from itertools import groupby
from typing import TYPE_CHECKING

import pyarrow as pa

from batchscore.extending import FormatReader, RowBatch, RowFailure, text_field

if TYPE_CHECKING:
    from collections.abc import Iterator

ROWS_AT_ONCE = 1000


class RecordReader(FormatReader):
    """Reads one ``.records`` file."""

    def read_schema(self) -> pa.Schema:
        """All names in the file. No type stands there, so the cells are text as in CSV."""
        names = {name: None for block in self._blocks() for name, _ in fields(block)}
        if not names:
            raise ValueError("there is no line of the form 'name: value'")
        return pa.schema([text_field(name) for name in names])

    def batches(self) -> Iterator[RowBatch]:
        """The rows, some at a time; a block with a line that cannot be read is a failed row."""
        schema = self.read_schema()
        rows: list[dict[str, str]] = []
        failures: dict[int, RowFailure] = {}
        for block in self._blocks():
            for line in block:
                if ": " not in line:
                    failures[len(rows)] = RowFailure("invalid_input", f"no 'name: value': {line}")
            rows.append(dict(fields(block)))
            if len(rows) == ROWS_AT_ONCE:
                yield RowBatch(pa.RecordBatch.from_pylist(rows, schema), failures)
                rows, failures = [], {}
        yield RowBatch(pa.RecordBatch.from_pylist(rows, schema), failures)

    def _blocks(self) -> Iterator[list[str]]:
        with self.path.open(encoding=self.options.encoding) as file:
            lines = (line.strip() for line in file)
            for has_text, block in groupby(lines, key=bool):
                if has_text:
                    yield list(block)


def fields(block: list[str]) -> Iterator[tuple[str, str]]:
    """Name and value of each line that has them."""
    for line in block:
        name, colon, value = line.partition(": ")
        if colon:
            yield name, value
