"""Outputs that are whole: which job wrote them, and what became of its rows.

Arrow and Parquet hold both in themselves. CSV and JSON Lines have no place for it, so there it is
in an extended attribute of the file, where the file system keeps such things.
"""

from __future__ import annotations

import contextlib
import json
import os
from collections import Counter
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

import pyarrow as pa
import pyarrow.parquet as pq

from batchscore.errors import InputError, OutputError
from batchscore.readers.identity import identify

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Mapping
    from pathlib import Path

    from batchscore.job import Job

_ATTRIBUTE = "user.batchscore.job"
_METADATA = ("options", "input", "fingerprint")


@dataclass
class RowCounts:
    """Rows that an earlier run decided.

    Attributes:
        rows: all of them.
        failed: those that were not scored, by code.
    """

    rows: int = 0
    failed: Counter[str] = field(default_factory=Counter)

    @classmethod
    def of(cls, errors: Iterable[pa.Array]) -> RowCounts:
        """Count the cells of the error column."""
        counts = cls()
        for array in errors:
            counts.rows += len(array)
            if array.null_count < len(array):
                counts.failed.update(
                    text.partition(":")[0] for text in array.drop_null().to_pylist()
                )
        return counts


@dataclass(frozen=True)
class FinishedOutput:
    """A whole output.

    Attributes:
        specification: the fingerprint of the deployment's specification then.
        differences: what makes it the output of another job, in words.
        path, output_format: the file.
        counted: what became of the rows, where the file itself does not tell.
    """

    specification: str
    differences: list[str]
    path: Path
    output_format: str
    counted: RowCounts | None = None

    def counts(self) -> RowCounts:
        """What became of the rows; reads the error column.

        Raises:
            OutputError: the file cannot be read.
        """
        if self.counted is not None:
            return self.counted
        try:
            if self.output_format == "parquet":
                return RowCounts.of(_parquet_errors(self.path))
            return RowCounts.of(_arrow_errors(self.path))
        except (OSError, pa.ArrowException) as error:
            reason = str(error).splitlines()[0]
            raise OutputError(f"cannot read '{self.path}': {reason}") from error


def finished_output(path: Path, output_format: str, job: Job) -> FinishedOutput | None:
    """The output at a path held against a job; None where nothing tells what job wrote it."""
    counted = None
    if output_format in {"arrow", "parquet"}:
        described = _metadata(path, output_format)
    else:
        described = _attribute(path)
        if described is not None:
            counted = RowCounts(described["rows"], Counter(described["failed"]))
    if described is None:
        return None
    written_ns = path.stat().st_mtime_ns
    differences = job.differences_from_output(described["options"], described["input"], written_ns)
    return FinishedOutput(str(described["fingerprint"]), differences, path, output_format, counted)


def describe(path: Path, schema: pa.Schema, counts: RowCounts) -> None:
    """Attach to a text file what a schema's metadata tells; does nothing where that cannot be."""
    described = job_metadata(schema) or {}
    described |= {"rows": counts.rows, "failed": dict(counts.failed), "content": _content(path)}
    # Resuming can do without: it refuses then, and says why.
    with contextlib.suppress(OSError, AttributeError):
        os.setxattr(path, _ATTRIBUTE, json.dumps(described).encode())


def _attribute(path: Path) -> dict[str, Any] | None:
    try:
        described = json.loads(os.getxattr(path, _ATTRIBUTE))
    except (OSError, AttributeError, ValueError):
        return None
    complete = isinstance(described, dict) and {*_METADATA, "rows", "failed"} <= described.keys()
    # Whoever edits a file in place leaves its attributes as they are.
    return described if complete and described.get("content") == _content(path) else None


def _content(path: Path) -> list[object]:
    try:
        (found,) = identify([path], with_names=False)
    except InputError as error:
        raise OutputError(str(error)) from error
    return [found.size, found.digest]


def _metadata(path: Path, output_format: str) -> dict[str, Any] | None:
    try:
        if output_format == "parquet":
            return job_metadata(pq.read_schema(path))
        with pa.OSFile(str(path)) as file, pa.ipc.open_file(file) as reader:
            return job_metadata(reader.schema)
    except (OSError, pa.ArrowException):
        return None


def job_metadata(schema: pa.Schema) -> dict[str, Any] | None:
    """What an output's schema tells of its job: options, input and specification."""
    metadata: Mapping[bytes, bytes] = schema.metadata or {}
    try:
        texts = {name: metadata[f"batchscore.{name}".encode()].decode() for name in _METADATA}
        return {
            "options": json.loads(texts["options"]),
            "input": json.loads(texts["input"]),
            "fingerprint": texts["fingerprint"],
        }
    except (KeyError, ValueError):
        return None


def _parquet_errors(path: Path) -> Iterator[pa.Array]:
    with pq.ParquetFile(path) as file:
        for batch in file.iter_batches(columns=[file.schema_arrow.names[-1]]):
            yield batch.column(0)


def _arrow_errors(path: Path) -> Iterator[pa.Array]:
    with pa.OSFile(str(path)) as file, pa.ipc.open_file(file) as reader:
        last = len(reader.schema) - 1
    options = pa.ipc.IpcReadOptions(included_fields=[last])
    with pa.OSFile(str(path)) as file, pa.ipc.open_file(file, options=options) as reader:
        for index in range(reader.num_record_batches):
            yield reader.get_batch(index).column(0)
