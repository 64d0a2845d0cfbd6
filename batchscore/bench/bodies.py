"""The user's rows as bodies of requests, ready before the load begins."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from batchscore.errors import InputError
from batchscore.readers.chunks import chunks, leave

if TYPE_CHECKING:
    from collections.abc import Iterator

    from batchscore.protocols.base import Body, EncodedRows, RowEncoder
    from batchscore.readers.base import Reader
    from batchscore.scoring.features import Features

MAX_BODIES = 100_000
MAX_BYTES = 256 * 2**20
_ROWS_AT_ONCE = 1024


@dataclass
class Bodies:
    """Bodies of so many rows each, given out one after another, from the beginning at the end.

    Attributes:
        rows: rows of each.
        items: the bodies.
        given: how many were given out; beyond ``len(items)`` rows come again.
        failed_rows: rows that cannot be sent, and are in none of them.
    """

    rows: int
    items: list[Body]
    given: int = 0
    failed_rows: int = 0

    def take(self) -> Body:
        """The next one."""
        body = self.items[self.given % len(self.items)]
        self.given += 1
        return body

    def same(self) -> Bodies:
        """Those that have the same rows each time."""
        return Bodies(self.rows, self.items[:1])


def encoded_rows(
    reader: Reader, encoder: RowEncoder, features: Features, batch_rows: int, limit: int | None
) -> Iterator[EncodedRows]:
    """The input on the wire, in runs of some thousand rows; blocks."""
    at_once = batch_rows * max(1, _ROWS_AT_ONCE // batch_rows)
    columns = {*features.columns.names}
    groups = chunks(reader, batch_rows=at_once, columns=columns, limit=limit)
    try:
        for group in groups:
            for chunk in group:
                yield encoder.encode(chunk.rows)
    finally:
        leave(groups)


def make_bodies(runs: Iterator[EncodedRows], batch_rows: int) -> Bodies:
    """Bodies of the encoded rows, as many as the bounds allow; blocks.

    Rows that cannot be encoded are left out, and so are those that do not fill the last body.

    Raises:
        InputError: there are not enough rows for one.
    """
    items: list[Body] = []
    rows = failed = nbytes = 0
    for encoded in runs:
        good = len(encoded.positions)
        rows, failed = rows + good, failed + len(encoded.failures)
        for start in range(0, good - batch_rows + 1, batch_rows):
            items.append(encoded.body(start, start + batch_rows))
            nbytes += encoded.size(start, start + batch_rows)
        if len(items) >= MAX_BODIES or nbytes >= MAX_BYTES:
            break
    if not items:
        unsent = f" ({failed} more cannot be sent)" if failed else ""
        raise InputError(
            f"--batch-size {batch_rows}: the input has only {rows} row{'' if rows == 1 else 's'}"
            f"{unsent}; ask for smaller requests, or give more rows"
        )
    return Bodies(batch_rows, items, failed_rows=failed)
