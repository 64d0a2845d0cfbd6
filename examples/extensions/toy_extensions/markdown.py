"""Output format ``.md``: a Markdown table."""

from __future__ import annotations

from typing import TYPE_CHECKING, BinaryIO

from batchscore.extending import FormatWriter

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator

    import pyarrow as pa


class MarkdownWriter(FormatWriter):
    """Writes a line a row; null is an empty cell."""

    def write(self, schema: pa.Schema, batches: Iterator[pa.RecordBatch], file: BinaryIO) -> None:
        """Write the header and the rows."""
        file.write(line(schema.names))
        file.write(line("---" for _ in schema.names))
        for batch in batches:
            rows = batch.to_pylist()
            file.writelines(line(map(text, row.values())) for row in rows)


def text(value: object) -> str:
    """A cell's text; null has none."""
    return "" if value is None else str(value)


def line(cells: Iterable[str]) -> bytes:
    """One line of the table; what would end a cell or the line is written otherwise."""
    safe = (cell.replace("|", r"\|").replace("\n", "<br>") for cell in cells)
    return f"| {' | '.join(safe)} |\n".encode()
