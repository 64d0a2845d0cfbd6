"""An output with the rows that failed replaced by what came back for them."""

from __future__ import annotations

from typing import TYPE_CHECKING, Protocol

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

from batchscore.partial import serialize_batch
from batchscore.partial.footer import BLOCK, file_head, file_tail
from batchscore.partial.messages import message_parts
from batchscore.sinks.parquet import parquet_writer
from batchscore.sinks.sealed import open_sealed, record_batches

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence
    from pathlib import Path


def merge(output_format: str, old: Path, again: Path, new: Path, schema: pa.Schema) -> None:
    """Write an output anew, one record batch or row group in memory at a time.

    Args:
        output_format: ``arrow`` or ``parquet``.
        old: the output. Its last column tells which rows failed.
        again: a sealed Arrow IPC file of those rows in their order, with the output's last
            columns. A struct of class probabilities may be there where the output has a list.
        new: the file to write; record batches and row groups are those of ``old``.
        schema: the schema to write, metadata included; fields are those of ``old``.

    Raises:
        OSError: a file cannot be read or written.
        ValueError: ``again`` has not as many rows as failed.
    """
    with open_sealed(again) as reader:
        merger = _Merger(reader, schema)
        _FORMATS[output_format](old, new, schema, merger)
        merger.check_end()


def fits(found: pa.DataType, wanted: pa.DataType) -> bool:
    """Whether a column of one type can be merged into one of the other."""
    return bool(found == wanted or (pa.types.is_struct(found) and pa.types.is_list(wanted)))


class _Merge(Protocol):
    def __call__(self, old: Path, new: Path, schema: pa.Schema, merger: _Merger) -> None: ...


class _Merger:
    """Replaces columns, taking the rows that come back in their order."""

    def __init__(self, reader: pa.ipc.RecordBatchFileReader, schema: pa.Schema) -> None:
        self._batches: Iterator[pa.RecordBatch] = record_batches(reader)
        self._held: pa.RecordBatch | None = None
        self.num_columns = len(reader.schema)
        self._types = schema.types[-self.num_columns :]

    def columns(self, columns: Sequence[pa.Array]) -> list[pa.Array]:
        """The columns of some rows with what came back for those that failed."""
        failed = np.flatnonzero(columns[-1].is_valid().to_numpy(zero_copy_only=False))
        if not len(failed):
            return list(columns)
        order = np.arange(len(columns[-1]))
        order[failed] = len(order) + np.arange(len(failed))
        parts = self._take(len(failed))
        first = len(columns) - self.num_columns
        merged = [
            _joined([column, *(_as(part.column(place), dtype) for part in parts)], dtype, order)
            for place, (column, dtype) in enumerate(zip(columns[first:], self._types, strict=True))
        ]
        return [*columns[:first], *merged]

    def _take(self, count: int) -> list[pa.RecordBatch]:
        parts = []
        while count:
            if self._held is None or not self._held.num_rows:
                self._held = next(self._batches, None)
                if self._held is None:
                    raise ValueError("fewer rows came back than failed")
            parts.append(self._held.slice(0, count))
            self._held = self._held.slice(parts[-1].num_rows)
            count -= parts[-1].num_rows
        return parts

    def check_end(self) -> None:
        """Raise ``ValueError`` where rows are left over."""
        rest = [self._held] if self._held is not None else []
        if any(batch.num_rows for batch in (*rest, *self._batches)):
            raise ValueError("more rows came back than failed")


def _merge_arrow(old: Path, new: Path, schema: pa.Schema, merger: _Merger) -> None:
    """As ``PartialFile`` writes, so that the bytes are those of a job in which no row failed."""
    blocks, offset = bytearray(), 0
    with open_sealed(old) as reader, new.open("wb") as file:
        offset += file.write(file_head(schema))
        for batch in record_batches(reader):
            merged = merger.columns(batch.columns)
            message = serialize_batch(pa.RecordBatch.from_arrays(merged, schema=schema))
            blocks += BLOCK.pack(offset, *message_parts(message))
            offset += file.write(message)
        file.write(file_tail(schema, blocks))


def _merge_parquet(old: Path, new: Path, schema: pa.Schema, merger: _Merger) -> None:
    with pq.ParquetFile(old, pre_buffer=False) as file, parquet_writer(new, schema) as writer:
        for group in range(file.num_row_groups):
            table = file.read_row_group(group, use_threads=False)
            kept = table.num_columns - merger.num_columns
            tail = [pa.concat_arrays(column.chunks) for column in table.columns[kept:]]
            merged = [*table.columns[:kept], *merger.columns(tail)]
            writer.write_table(
                pa.Table.from_arrays(merged, schema=schema), row_group_size=table.num_rows
            )


_FORMATS: dict[str, _Merge] = {"arrow": _merge_arrow, "parquet": _merge_parquet}


def _joined(parts: Sequence[pa.Array], dtype: pa.DataType, order: np.ndarray) -> pa.Array:
    """The values of all parts in this order."""
    if isinstance(dtype, pa.BaseExtensionType):
        storage = [part.storage for part in parts]
        return pa.ExtensionArray.from_storage(dtype, pa.concat_arrays(storage).take(order))
    whole = pa.concat_arrays(parts).take(order)
    return whole if whole.null_count < len(whole) else pa.nulls(len(whole), dtype)


def _as(column: pa.Array, dtype: pa.DataType) -> pa.Array:
    """Class probabilities as a list, where the output has them so: none of its rows was scored."""
    if column.type == dtype or not pa.types.is_struct(column.type):
        return column
    rows, classes = len(column), [field.name for field in column.type]
    probs = [column.field(place) for place in range(len(classes))]
    order = np.arange(rows * len(classes)).reshape(len(classes), rows).T.ravel()
    labels = pa.array(classes, pa.string()).take(np.tile(np.arange(len(classes)), rows))
    pairs = pa.StructArray.from_arrays(
        [labels, pa.concat_arrays(probs).take(order)], fields=list(dtype.value_type)
    )
    offsets = pa.array(np.arange(rows + 1) * len(classes), pa.int32())
    return pa.ListArray.from_arrays(offsets, pairs, type=dtype, mask=column.is_null())
