"""Hive partitions: what ``.../date=2026-01-01/part.parquet`` says of the rows in it."""

from __future__ import annotations

import logging
from typing import TYPE_CHECKING
from urllib.parse import unquote

import pyarrow as pa

from batchscore.batches import RowBatch
from batchscore.errors import InputError
from batchscore.readers.base import text_field
from batchscore.readers.typed_text import convert

if TYPE_CHECKING:
    from collections.abc import Collection, Iterator, Mapping, Sequence

    from batchscore.readers.formats import FileReader, Skip

Partition = tuple[tuple[str, str | None], ...]

_NULL = "__HIVE_DEFAULT_PARTITION__"
_log = logging.getLogger("batchscore")


def partitions_of(names: Sequence[str], root: str) -> list[Partition]:
    """The key=value folders between a folder and each of its files.

    Args:
        names: the files.
        root: what all of them begin with.

    Returns:
        None of them where the files do not all have the same keys in the same order.
    """
    found = [_partition(name[len(root) :]) for name in names]
    keys = [tuple(key for key, _ in partition) for partition in found]
    other = next((place for place, own in enumerate(keys) if own != keys[0]), None)
    if other is None:
        return found
    _log.warning(
        "%s: its key=value folders are no columns, as not all files have the same: %s has %s, %s "
        "%s",
        root, names[0], _told(keys[0]), names[other], _told(keys[other]),
    )  # fmt: skip
    return [()] * len(names)


def _partition(path: str) -> Partition:
    found: dict[str, str | None] = {}
    for part in path.split("/")[:-1]:
        key, sign, value = part.partition("=")
        if key and sign:
            found[unquote(key)] = None if value == _NULL else unquote(value)
    return tuple(found.items())


def _told(keys: tuple[str, ...]) -> str:
    return ", ".join(map(repr, keys)) if keys else "none"


def shown_partition(partition: Partition) -> str | None:
    """A partition as it tells one file from another; None where there is none."""
    if not partition:
        return None
    return "/".join(f"{key}={_NULL if value is None else value}" for key, value in partition)


class PartitionedReader:
    """A file with the columns that its folders tell: a ``FileReader``.

    A column that the file has itself stays as it is: what is in the data counts.

    Attributes:
        file: without these columns.
    """

    def __init__(
        self, file: FileReader, partition: Partition, types: Mapping[str, pa.DataType]
    ) -> None:
        self.file = file
        self.name, self.num_rows = file.name, file.num_rows
        own = file.schema.names
        self._values = {
            key: _typed(self.name, key, value, types.get(key))
            for key, value in partition
            if key not in own
        }
        fields = [
            pa.field(key, value.type) if key in types else text_field(key)
            for key, value in self._values.items()
        ]
        self.schema = pa.schema([*file.schema, *fields], metadata=file.schema.metadata)

    def scan(self, skip: Skip, columns: Collection[str] | None) -> Iterator[RowBatch]:
        """See ``FileReader.scan``."""
        wanted = [key for key in self._values if columns is None or key in columns]
        for batch in self.file.scan(skip, columns):
            rows = batch.columns
            arrays = [pa.repeat(self._values[key], rows.num_rows) for key in wanted]
            fields = [self.schema.field(key) for key in wanted]
            schema = pa.schema([*rows.schema, *fields])
            whole = [*rows.columns, *arrays]
            if whole:
                rows = pa.RecordBatch.from_arrays(whole, schema=schema)
            yield RowBatch(rows, batch.failures)


def _typed(name: str, key: str, value: str | None, dtype: pa.DataType | None) -> pa.Scalar:
    if dtype is None:
        return pa.scalar(value, pa.string())
    converted, wrong = convert(pa.array([value], pa.string()), dtype)
    if wrong:
        raise InputError(
            f"{name}: the folder {key}={value} is no {dtype}, which --type says of {key!r}: "
            f"{wrong[0]}"
        )
    return converted[0]
