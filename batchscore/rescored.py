"""An output whose failed rows are scored again: what it tells of its job, and the work on it."""

from __future__ import annotations

import json
import os
import shutil
from contextlib import suppress
from dataclasses import asdict, dataclass
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING

import pyarrow as pa
import pyarrow.parquet as pq

from batchscore.endpoint import redacted
from batchscore.errors import InputError, OutputError, UsageError
from batchscore.finished import FinishedOutput, RowCounts, job_metadata
from batchscore.job import FORMAT, RESCORED
from batchscore.layout import error_column
from batchscore.output import UnfinishedOutput
from batchscore.partial import PartialFile, commit, partial_folder
from batchscore.partial.disk import writing
from batchscore.partial.stored import stored_column, stored_schema
from batchscore.readers.identity import identify
from batchscore.sinks.merge import fits, merge

if TYPE_CHECKING:
    from batchscore.config import RescoreConfig
    from batchscore.runtime import Runtime

_MAGIC = {b"ARROW1": "arrow", b"PAR1": "parquet"}
_TEXT = {".csv", ".tsv", ".jsonl", ".ndjson"}
_OUTPUTS = b"batchscore.outputs"


@dataclass(frozen=True)
class ScoredFile:
    """An output of ``score``, and what its metadata tells.

    Attributes:
        path, output_format: the file.
        schema: of the output; its last columns are the predictions and the error.
        options: the ``output_options`` of its job.
        input_summary: the input of its job, see ``Job.input_summary``.
        fingerprint: of the specification that the rows were scored with.
        untyped: the kept columns that are text without a type.
    """

    path: Path
    output_format: str
    schema: pa.Schema
    options: dict[str, object]
    input_summary: dict[str, object]
    fingerprint: str
    untyped: tuple[str, ...]

    @classmethod
    def open(cls, out: str) -> ScoredFile:
        """Read what an output tells of itself; blocks.

        Raises:
            UsageError: there is no such file, or ``rescore`` cannot work on it.
        """
        path = Path(out)
        output_format = _format_of(out, path)
        try:
            if output_format == "parquet":
                schema = pq.read_schema(path)
            else:
                with pa.OSFile(str(path)) as file, pa.ipc.open_file(file) as reader:
                    schema = reader.schema
        except (OSError, pa.ArrowException) as error:
            raise UsageError(f"{out}: cannot be read: {str(error).splitlines()[0]}") from error
        told = job_metadata(schema)
        if told is None or not isinstance(told["options"], dict):
            raise UsageError(
                f"{out}: nothing in it tells which job wrote it; rescore works on an .arrow or "
                ".parquet file as score wrote it"
            )
        column = error_column(str(told["options"].get("prefix")))
        if schema.names[-1:] != [column] or schema.types[-1] != pa.string():
            raise UsageError(
                f"{out}: its last column is not {column!r}; rescore works on a file as score wrote "
                "it, so score again"
            )
        untyped = tuple(json.loads(schema.metadata.get(b"batchscore.untyped", b"[]")))
        return cls(
            path, output_format, schema, told["options"], told["input"], told["fingerprint"],
            untyped,
        )  # fmt: skip

    @property
    def error(self) -> str:
        """The name of the error column."""
        return str(self.schema.names[-1])

    def counts(self) -> RowCounts:
        """What became of the rows; reads the error column."""
        return FinishedOutput(self.fingerprint, [], self.path, self.output_format).counts()


def _format_of(out: str, path: Path) -> str:
    if out == "-" or "://" in out:
        raise UsageError(f"{redacted(out)}: rescore works on a local file, which it replaces")
    if not path.exists():
        raise UsageError(f"{out}: no such file; score writes one")
    if not path.is_file():
        raise UsageError(f"{out}: is no file; name one that score wrote")
    try:
        with path.open("rb") as file:
            head = file.read(6)
    except OSError as error:
        raise UsageError(f"{out}: cannot be read: {error.strerror}") from error
    for magic, output_format in _MAGIC.items():
        if head.startswith(magic):
            return output_format
    kind = "a text file does" if path.suffix.lower() in _TEXT else "other files do"
    raise UsageError(
        f"{out}: rescore works on .arrow and .parquet; {kind} not tell how the rows were scored, "
        "so score again, with one of these as the output"
    )


class RescoredOutput:
    """Collects what comes back for the failed rows; ``finish`` merges it into the output.

    A ``BatchSink``, whose batches are of failed rows alone. First ``begin``; then ``open``, or
    ``go_on`` of what ``begin`` found; ``close`` always comes last. The work in progress is where
    that of ``score`` would be, so that only one of the two can be at work on an output.
    """

    def __init__(self, config: RescoreConfig, runtime: Runtime) -> None:
        self._typed, self._out, self._resume = config.output, Path(config.output), config.resume
        self._disk = runtime.disk
        folder = partial_folder(self._out, config.work_dir)
        if config.work_dir is not None and not config.work_dir.is_dir():
            raise UsageError(f"--work-dir: there is no folder {str(config.work_dir)!r}")
        self._partial = PartialFile(folder, disk=runtime.disk, clock=runtime.clock)
        self._identity: dict[str, object] = {}
        self._is_closed = self._is_ours = self._is_reserved = False

    def reserve(self) -> ScoredFile:
        """Keep other runs away from the output, and read what it tells; blocks.

        Raises:
            UsageError: it cannot be rescored, or another run is at work on it.
            OutputError: the folder of the work in progress cannot be made.
        """
        ScoredFile.open(self._typed)
        self._partial.reserve()
        self._is_reserved = True
        # Once more: until now another run may have replaced it.
        self._file = ScoredFile.open(self._typed)
        self._stat = self._stat_now()
        return self._file

    def begin(self, failed: int) -> UnfinishedOutput | None:
        """Find what an earlier run left of the work on these failed rows; blocks.

        Returns:
            None where there is nothing to go on with: what there is of the work on an output
            that was replaced since is removed.

        Raises:
            UsageError: there is work in progress of ``score``.
        """
        (found,) = identify([self._out], with_names=False)
        self._identity = {"format": FORMAT, RESCORED: asdict(found)}
        if not self._partial.exists():
            return None
        earlier = self._partial.identity() or {}
        if RESCORED not in earlier:
            if not failed:
                return None
            raise UsageError(
                f"{str(self._partial.folder)!r} holds the work of score on this output; go on "
                "with it (score --resume), or remove the folder"
            )
        is_same = json.loads(json.dumps(self._identity)) == earlier
        schema = stored_schema(self._partial.rows_path) if is_same and self._resume else None
        if schema is None or not failed:
            self._partial.discard()
            self._partial.reserve()
            return None
        self._is_ours = True
        return UnfinishedOutput(
            schema, self._partial.folder, partial(self._go_on, schema), "--no-resume"
        )

    def _go_on(self, schema: pa.Schema) -> RowCounts:
        self._partial.open(schema, self._identity, resume=True)
        return RowCounts.of(stored_column(self._partial.rows_path, len(schema) - 1))

    def check(self, schema: pa.Schema) -> None:
        """See ``BatchSink``; what the output holds already can be written to it again."""

    def open(self, schema: pa.Schema) -> None:
        """See ``BatchSink``."""
        here = pa.schema(list(self._file.schema)[-len(schema) :])
        for found, wanted in zip(schema, here, strict=True):
            if not fits(found.type, wanted.type):
                raise UsageError(
                    f"{self._out}: column {wanted.name!r} is {wanted.type}, but what comes back "
                    f"is {found.type}; score again"
                )
        self._partial.open(schema, self._identity)
        self._is_ours = True

    def append(self, batch: pa.RecordBatch) -> None:
        """See ``BatchSink``."""
        self._partial.append(batch)

    def finish(self) -> None:
        """Merge what came back into a copy of the output, and put that in its place in one step.

        Raises:
            OutputError: it cannot be written, or the output was changed meanwhile.
        """
        self._check_unchanged()
        again, whole = self._partial.seal(), self._partial.export_path
        schema = self._schema(stored_schema(again))
        self._disk.unlink(whole)
        try:
            with writing(whole):
                merge(self._file.output_format, self._out, again, whole, schema)
                shutil.copymode(self._out, whole)
        except BaseException as error:
            with suppress(OSError):
                self._disk.unlink(whole)
            self._check_unchanged()
            if isinstance(error, pa.ArrowException):
                raise InputError(f"{self._out}: cannot be read: {error}") from error
            raise
        if self._is_closed:
            raise OutputError("the run ended while its output was being finished")
        self._check_unchanged()
        # Where it is a link, the file is replaced and not the link.
        self._is_reserved = False
        commit(self._disk, whole, Path(os.path.realpath(self._out)), overwrite=True)

    def _schema(self, again: pa.Schema | None) -> pa.Schema:
        """That of the output, with what was learned now of outputs that were never scored."""
        metadata = dict(self._file.schema.metadata)
        if again is not None and _OUTPUTS in (again.metadata or {}):
            metadata[_OUTPUTS] = again.metadata[_OUTPUTS]
        return self._file.schema.with_metadata(metadata)

    def _check_unchanged(self) -> None:
        if self._stat_now() != self._stat:
            raise OutputError(f"{self._out} was changed meanwhile; run the same command again")

    def _stat_now(self) -> tuple[int, ...]:
        with writing(self._out):
            found = self._out.stat()
        return found.st_dev, found.st_ino, found.st_size, found.st_mtime_ns

    def resumable(self) -> bool:
        """Whether there is work in progress that can be gone on with."""
        return self._is_ours and self._partial.exists()

    def close(self) -> None:
        """Leave the work in progress durable."""
        self._is_closed = True
        if self._is_reserved:
            # Its folder is there from the beginning, to be locked; perhaps nothing came into it.
            with suppress(OSError):
                self._disk.remove_folder(self._partial.folder)
        self._partial.close()
