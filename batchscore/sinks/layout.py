"""The output's columns: names, order, collisions, metadata."""

from __future__ import annotations

import json
from dataclasses import dataclass
from typing import TYPE_CHECKING

import pyarrow as pa

from batchscore.errors import UsageError
from batchscore.schema import UNTYPED_KEY

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from batchscore.batches import RowFailure, ScoredBatch

DEFAULT_PREFIX = "predicted_"


@dataclass(frozen=True, slots=True)
class OutputLayout:
    """The schema of the output, and how a scored batch is laid out in it.

    The kept input columns, then the prediction columns, then the error column.

    Attributes:
        kept: names of the input columns that are carried through, in input order.
        schema: the whole output schema, metadata included.
    """

    kept: tuple[str, ...]
    schema: pa.Schema

    @classmethod
    def make(
        cls,
        input_schema: pa.Schema,
        kept: Sequence[str],
        predictions: Sequence[pa.Field],
        *,
        prefix: str,
        metadata: Mapping[str, object],
    ) -> OutputLayout:
        """Lay out the output of a job whose prediction columns are known in full.

        Raises:
            UsageError: two columns would have one name, which only an answer may have shown.
        """
        check_collisions(kept, [field.name for field in predictions], prefix)
        fields = [_plain(input_schema.field(name)) for name in kept]
        fields += [
            field.with_name(prefix + field.name).with_nullable(True) for field in predictions
        ]
        fields.append(pa.field(error_column(prefix), pa.string()))
        encoded = {
            f"batchscore.{key}": value if isinstance(value, str) else json.dumps(value)
            for key, value in metadata.items()
        }
        return cls(tuple(kept), pa.schema(fields, metadata=encoded))

    def assemble(self, scored: ScoredBatch) -> pa.RecordBatch:
        """One record batch of the output from one scored chunk."""
        columns = scored.chunk.rows.columns
        num_rows = columns.num_rows
        arrays = [columns.column(name) for name in self.kept]
        if scored.predictions is None:
            unscored = self.schema.types[len(self.kept) : -1]
            arrays += [pa.nulls(num_rows, dtype) for dtype in unscored]
        else:
            arrays += scored.predictions
        arrays.append(_errors(scored.failures, num_rows))
        return pa.RecordBatch.from_arrays(arrays, schema=self.schema)


def error_column(prefix: str) -> str:
    """The name of the column that tells why a row was not scored."""
    return "prediction_error" if prefix == DEFAULT_PREFIX else f"{prefix}error"


def check_collisions(kept: Sequence[str], outputs: Sequence[str], prefix: str) -> None:
    """Refuse output columns of the same name, before anything is sent.

    Args:
        kept: the input columns that are carried through.
        outputs: the prediction columns without prefix.
        prefix: the user's prefix.

    Raises:
        UsageError: two output columns would have one name.
    """
    names = [prefix + output for output in outputs] + [error_column(prefix)]
    for name in names:
        if name in kept:
            raise UsageError(
                f"the input column {name!r} has the name of an output column; "
                f"drop it (--drop {name}) or choose other names (--prefix TEXT)"
            )
        if names.count(name) > 1:
            raise UsageError(
                f"two outputs of the deployment would both be written to {name!r}; "
                "choose other names (--prefix TEXT) or leave probabilities out (--probs none)"
            )


def _errors(failures: Mapping[int, RowFailure], num_rows: int) -> pa.Array:
    if not failures:
        return pa.nulls(num_rows, pa.string())
    texts: list[str | None] = [None] * num_rows
    for row, failure in failures.items():
        texts[row] = str(failure)
    return pa.array(texts, pa.string())


def _plain(field: pa.Field) -> pa.Field:
    """A kept column as it is written: a row that could not be read may be null in it."""
    metadata = {key: value for key, value in (field.metadata or {}).items() if key != UNTYPED_KEY}
    return field.with_nullable(True).with_metadata(metadata or None)
