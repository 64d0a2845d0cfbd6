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
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pyarrow as pa
import pyarrow.parquet as pq

from batchscore.errors import InputError, OutputError, UsageError
from batchscore.job import told
from batchscore.readers.identity import identify
from batchscore.sinks.sealed import open_sealed, record_batches

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Mapping, Sequence

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
    """A whole output, and what it tells of its job.

    Attributes:
        path, output_format: the file.
        schema: its columns, the last of which is the error; none where it is text.
        options: the ``output_options`` of its job.
        input_summary: the input of its job, see ``Job.input_summary``.
        fingerprint: of the specification that the rows were scored with.
        counted: what became of the rows, where a look at them is not needed to tell.
        address: where it is, if that is no path.
        modified_ns: when it was written, where that is not told by the path.
    """

    path: Path
    output_format: str
    schema: pa.Schema
    options: dict[str, object]
    input_summary: dict[str, object]
    fingerprint: str
    counted: RowCounts | None = None
    address: str | None = None
    modified_ns: int | None = None

    @classmethod
    def read(cls, path: Path, output_format: str) -> FinishedOutput | None:
        """The output at a path; None where nothing tells what job wrote it.

        Raises:
            OSError, pa.ArrowException: it cannot be read.
        """
        schema, counted = pa.schema([]), None
        if output_format in {"arrow", "parquet"}:
            schema = _schema(path, output_format)
            described = _metadata(schema)
        else:
            described = _attribute(path)
            if described is not None:
                counted = RowCounts(described["rows"], Counter(described["failed"]))
        if described is None:
            return None
        options, summary, fingerprint = (described[name] for name in _METADATA)
        return cls(path, output_format, schema, options, summary, str(fingerprint), counted)

    @classmethod
    def noted(
        cls, note: Mapping[str, Any], shown: str, output_format: str, modified_ns: int
    ) -> FinishedOutput | None:
        """The output that a note stands beside, see ``note``; None where it is none.

        Args:
            note: what was left with an object, or in a folder of parts.
            shown: where that is.
            output_format: of the output.
            modified_ns: when it was written.
        """
        if not {*_METADATA, "rows", "failed"} <= note.keys():
            return None
        options, summary, fingerprint = (note[name] for name in _METADATA)
        counted = RowCounts(note["rows"], Counter(note["failed"]))
        empty = pa.schema([])
        return cls(
            Path(), output_format, empty, options, summary, fingerprint, counted, shown, modified_ns
        )

    @property
    def shown(self) -> str:
        """Where it is, for messages."""
        return self.address or str(self.path)

    @property
    def error(self) -> str:
        """The name of the error column."""
        return str(self.schema.names[-1])

    @property
    def untyped(self) -> tuple[str, ...]:
        """The kept columns that are text without a type."""
        return tuple(json.loads((self.schema.metadata or {}).get(b"batchscore.untyped", b"[]")))

    def differences(self, job: Job) -> list[str]:
        """What makes it the output of another job, in words."""
        written_ns = self.modified_ns or self.path.stat().st_mtime_ns
        return job.differences_from_output(self.options, self.input_summary, written_ns)

    def refused(self, differences: Sequence[str]) -> UsageError:
        """The error where it is the output of another job."""
        return UsageError(
            f"--output: {self.shown!r} is of another job: {told(differences)}; "
            "--overwrite replaces it"
        )

    def counts(self) -> RowCounts:
        """What became of the rows; reads the error column.

        Raises:
            OutputError: the file cannot be read.
        """
        if self.counted is not None:
            return self.counted
        try:
            return RowCounts.of(self._errors())
        except (OSError, pa.ArrowException) as error:
            reason = str(error).splitlines()[0]
            raise OutputError(
                f"cannot read '{self.path}': {reason}"
                "; once that is mended, run the same command again"
            ) from error

    def _errors(self) -> Iterator[pa.Array]:
        if self.output_format == "parquet":
            with pq.ParquetFile(self.path) as file:
                for batch in file.iter_batches(columns=[self.error]):
                    yield batch.column(0)
            return
        with open_sealed(self.path, columns=[len(self.schema) - 1]) as reader:
            for batch in record_batches(reader):
                yield batch.column(0)


def describe(path: Path, schema: pa.Schema, counts: RowCounts) -> None:
    """Attach to a text file what a schema's metadata tells; does nothing where that cannot be."""
    described = note(schema, counts) | {"content": _content(path)}
    # Resuming can do without: it refuses then, and says why.
    with contextlib.suppress(OSError, AttributeError):
        os.setxattr(path, _ATTRIBUTE, json.dumps(described).encode())


def note(schema: pa.Schema, counts: RowCounts) -> dict[str, Any]:
    """What a schema's metadata tells of the job, and what became of its rows, as JSON values."""
    described = _metadata(schema) or {}
    return described | {"rows": counts.rows, "failed": dict(counts.failed)}


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


def _schema(path: Path, output_format: str) -> pa.Schema:
    if output_format == "parquet":
        return pq.read_schema(path)
    with open_sealed(path) as reader:
        return reader.schema


def _metadata(schema: pa.Schema) -> dict[str, Any] | None:
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
