"""Rows that an engine has itself, as batches of Arrow: their options and their reader."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from batchscore.batches import RowBatch
from batchscore.config import EndpointConfig, ScoreConfig, Token, configured
from batchscore.errors import UsageError
from batchscore.readers.columns import as_schema, plain_schema, select, sliced
from batchscore.readers.formats import Skip

if TYPE_CHECKING:
    from collections.abc import Collection, Iterable, Iterator, Mapping

    import pyarrow as pa

    from batchscore.engine_options import EngineName

NAME = "the rows"
"""What messages call them."""

_OF_ROWS = {
    *EndpointConfig.model_fields,
    "map", "image_root", "keep", "drop", "probs", "prefix", "batch_size", "max_batch_bytes",
    "concurrency", "rate_limit", "max_attempts", "max_outage", "retry", "workers",
}  # fmt: skip
"""What can be said of rows that come in parts; all else is of files, or of the whole input."""


def rows_config(
    function: str, engine: EngineName, options: Mapping[str, Any], *, url: str, token: Token
) -> ScoreConfig:
    """The configuration of a job whose rows an engine has, and whose output it gets.

    Args:
        function: what the user called.
        engine: which one.
        options: as of ``batchscore.score_table``.
        url: the deployment's address.
        token: its token, or what gives it.

    Raises:
        UsageError: an option is wrong, or means nothing there.
    """
    for name in options:
        if name in ScoreConfig.model_fields and name not in _OF_ROWS:
            raise UsageError(
                f"{function} has no option {name!r}: a worker has a part of the rows, and no file"
            )
    fixed = {"inputs": ["<rows>"], "output": "-", "engine": engine}
    return configured(ScoreConfig, {**fixed, "url": url, "token": token, **options})


class GivenRows:
    """``Reader`` of the batches that an engine gives: each brought to the same columns."""

    num_rows: int | None = None

    def __init__(self, schema: pa.Schema, batches: Iterable[pa.RecordBatch]) -> None:
        """Take batches whose columns are, or become, those of a schema.

        Raises:
            InputError: two columns have one name, or a type is not supported.
        """
        self._schema, self._batches = plain_schema(schema, NAME), batches

    @property
    def schema(self) -> pa.Schema:
        """The columns, with plain types."""
        return self._schema

    def batches(
        self, start_row: int = 0, columns: Collection[str] | None = None
    ) -> Iterator[RowBatch]:
        """See ``Reader``; the batches can be gone through only once."""
        skip = Skip(start_row)
        wanted = select(self._schema, columns)
        for batch in self._batches:
            rest = batch.slice(skip.take(batch.num_rows))
            for rows in sliced(RowBatch(rest)):
                yield RowBatch(as_schema(rows.columns, wanted, NAME))
