"""The output file of a job: work in progress, then whole, never half."""

from __future__ import annotations

import shutil
import sys
import tempfile
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING

import pyarrow as pa

from batchscore.endpoint import redacted
from batchscore.errors import BatchscoreError, OutputError, StoppedError, UsageError
from batchscore.extensions import OUTPUT_FORMATS
from batchscore.finished import FinishedOutput, RowCounts, describe, finished_output
from batchscore.job import OTHER_SPECIFICATION, RESCORED, told
from batchscore.partial import PartialFile, commit, partial_folder
from batchscore.partial.disk import writing
from batchscore.partial.stored import is_sealed, stored_column, stored_schema
from batchscore.sinks import exporter, output_format_of

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator

    from batchscore.config import ScoreConfig
    from batchscore.job import Job
    from batchscore.runtime import Runtime
    from batchscore.sinks.base import Exporter

STANDARD_OUTPUT = "-"
# Formats that tell of their job themselves.
_DESCRIBED = {"arrow", "parquet"}


@dataclass(frozen=True)
class UnfinishedOutput:
    """Work in progress of the same job, as far as it can be told without the deployment.

    Attributes:
        schema: of the output; what was learned from answers is in its metadata.
        folder: where it is.
        go_on: opens it, cut where it is damaged, and tells what became of the rows in it.
        afresh: how the user begins without it.
    """

    schema: pa.Schema
    folder: Path
    go_on: Callable[[], RowCounts]
    afresh: str = "--overwrite without --resume"

    def check_specification(self, fingerprint: str) -> None:
        """Raise ``UsageError`` where the deployment's specification is another one now."""
        metadata = self.schema.metadata or {}
        if metadata.get(b"batchscore.fingerprint", b"").decode() != fingerprint:
            raise self.refused([OTHER_SPECIFICATION])

    def refused(self, differences: list[str]) -> UsageError:
        """The error for work in progress that turns out to be another job's."""
        return another_job(self.folder, differences, self.afresh)


def another_job(
    folder: Path, differences: list[str], afresh: str = "--overwrite without --resume"
) -> UsageError:
    """The error for work in progress that is not this job's."""
    return UsageError(
        f"{str(folder)!r} holds the work of another job: {told(differences)}; "
        f"{afresh} starts afresh"
    )


class FileOutput:
    """Appends to the partial file beside OUT; ``finish`` makes OUT appear, whole.

    A ``BatchSink``. First ``begin``; then ``open``, or ``go_on`` of what ``begin`` found;
    ``close`` always comes last. For standard output the work in progress is in a temporary
    folder, and what is whole is copied out at the end: a reader of the pipe never takes a half
    for a whole.
    """

    def __init__(self, config: ScoreConfig, runtime: Runtime) -> None:
        """Check that the output may be written, and write nothing yet.

        Raises:
            UsageError: it exists, its folder does not, or its format cannot be told.
        """
        self._format = output_format_of(config.output, config.output_format)
        self._exporter = exporter(self._format)
        self._overwrite, self._resume = config.overwrite, config.resume
        self._disk, self._clock = runtime.disk, runtime.clock
        self._temporary: Path | None = None
        self._is_closed = False
        self._out: Path | None = None
        self._identity: dict[str, object] = {}
        self._schema = pa.schema([])
        self._is_ours = False
        if config.output == STANDARD_OUTPUT:
            if config.resume:
                raise UsageError("--resume: standard output cannot be resumed; write to a file")
            if sys.stdout.isatty() and (self._exporter is None or not self._exporter.is_text):
                raise UsageError(
                    f"{self._format} is not for a terminal; redirect it, or --output-format csv"
                )
            if config.work_dir is not None and not config.work_dir.is_dir():
                raise UsageError(f"--work-dir: there is no folder {str(config.work_dir)!r}")
            work_dir = None if config.work_dir is None else str(config.work_dir)
            self._temporary = Path(tempfile.mkdtemp(prefix="batchscore-", dir=work_dir))
            self._partial = self._partial_file(self._temporary / "output.partial")
        else:
            if "://" in config.output:
                raise UsageError(
                    f"--output: {redacted(config.output)!r} is an address, which cannot be written "
                    "to yet; name a file"
                )
            self._out = Path(config.output)
            self._partial = self._partial_file(partial_folder(self._out, config.work_dir))
            self._check_place(self._out)

    def _partial_file(self, folder: Path) -> PartialFile:
        return PartialFile(folder, disk=self._disk, clock=self._clock)

    def _check_place(self, out: Path) -> None:
        if out.is_symlink() and not out.exists():
            raise UsageError(f"--output: {str(out)!r} is a link to what does not exist")
        if self._partial.folder.exists() and not self._partial.folder.is_dir():
            raise UsageError(
                f"{str(self._partial.folder)!r} is in the way of the work in progress; move it"
            )
        if out.is_dir():
            raise UsageError(f"--output: {str(out)!r} is a folder, not a file")
        if out.exists() and not out.is_file():
            # It would not be written to but replaced: a device would be gone.
            raise UsageError(f"--output: {str(out)!r} is no regular file; - is standard output")
        for option, folder in (("output", out.parent), ("work-dir", self._partial.folder.parent)):
            if not folder.is_dir():
                raise UsageError(f"--{option}: there is no folder {str(folder)!r}")
        if self._overwrite or self._resume:
            return
        if out.exists():
            raise UsageError(
                f"--output: {str(out)!r} exists; --overwrite replaces it, --resume accepts it if "
                "this very job wrote it"
            )
        if self._partial.exists():
            raise UsageError(
                f"{str(self._partial.folder)!r} holds the work of an earlier run; --resume goes "
                "on with it, --overwrite starts afresh"
            )

    def begin(self, job: Job) -> FinishedOutput | UnfinishedOutput | None:
        """Take note of the job, and find what an earlier run of it left; blocks.

        Returns:
            None where there is nothing to resume.

        Raises:
            UsageError: what is there belongs to another job.
        """
        self._identity = job.as_json()
        if not self._resume or self._out is None:
            return None
        unfinished = self._unfinished(job)
        if not self._out.exists():
            return unfinished
        found = finished_output(self._out, self._format, job)
        if found is not None and not found.differences:
            if unfinished is not None and self._overwrite:
                return unfinished
            if not self._is_rescored() and (unfinished is None or is_sealed(self._rows)):
                # A kill came between OUT's appearing and the end of the work that led to it.
                self._partial.discard()
            return found
        if self._overwrite:
            return unfinished
        if found is None and unfinished is not None and is_sealed(self._rows):
            return unfinished
        raise UsageError(self._refused(self._out, found))

    def _unfinished(self, job: Job) -> UnfinishedOutput | None:
        if not self._partial.exists() or self._is_rescored():
            return None
        differences = job.differences(self._partial.identity() or {})
        if differences:
            raise another_job(self._partial.folder, differences)
        self._is_ours = True
        schema = stored_schema(self._rows)
        if schema is None:
            return None
        return UnfinishedOutput(schema, self._partial.folder, partial(self._go_on, schema))

    def _is_rescored(self) -> bool:
        """Whether what is in progress is the rescoring of OUT, which leaves OUT what it is."""
        return RESCORED in (self._partial.identity() or {})

    def _refused(self, out: Path, found: FinishedOutput | None) -> str:
        if found is None:
            return (
                f"--output: {str(out)!r} exists, and nothing tells that this job wrote it; "
                "--overwrite replaces it"
            )
        return (
            f"--output: {str(out)!r} is of another job: {told(found.differences)}; "
            "--overwrite replaces it"
        )

    @property
    def _rows(self) -> Path:
        return self._partial.rows_path

    @property
    def places(self) -> tuple[Path, ...]:
        """What may lie in a folder of the input without being input: the work in progress.

        So may OUT where it can only be the end of this job; what is replaced must not be skipped.
        """
        if self._out is None:
            return ()
        done = self._resume and not self._overwrite
        return (self._partial.folder, *([self._out] if done else []))

    def check_apart_from(self, files: Iterable[Path | str]) -> None:
        """Refuse to write over what is read.

        Raises:
            UsageError: the output is one of the input's files.
        """
        if self._out is None or not self._out.exists():
            return
        for file in files:
            if isinstance(file, Path) and file.exists() and file.samefile(self._out):
                raise UsageError(f"--output: {str(self._out)!r} is the input itself")

    def check(self, schema: pa.Schema) -> None:
        """See ``BatchSink``."""
        if self._exporter is not None:
            self._exporter.check_schema(schema)

    def open(self, schema: pa.Schema) -> None:
        """See ``BatchSink``."""
        self._partial.open(schema, self._identity)
        self._schema, self._is_ours = schema, True

    def _go_on(self, schema: pa.Schema) -> RowCounts:
        self._partial.open(schema, self._identity, resume=True)
        self._schema, self._is_ours = schema, True
        return RowCounts.of(stored_column(self._rows, len(schema) - 1))

    def append(self, batch: pa.RecordBatch) -> None:
        """See ``BatchSink``."""
        self._partial.append(batch)

    def finish(self, counts: RowCounts) -> None:
        """Seal the work in progress, export it, and put it in OUT's place in one step.

        Args:
            counts: what became of the rows.

        Raises:
            OutputError: it cannot be written.
        """
        whole = self._partial.seal()
        if self._exporter is not None:
            whole = self._exported(self._exporter, whole, counts)
        if self._is_closed:
            raise OutputError("the run ended while its output was being finished")
        if self._out is not None:
            commit(self._disk, whole, self._out, overwrite=self._overwrite)
            return
        try:
            with whole.open("rb") as file:
                shutil.copyfileobj(file, sys.stdout.buffer)
            sys.stdout.buffer.flush()
        except OSError as error:
            raise OutputError(f"cannot write to standard output: {error.strerror}") from error

    def _exported(self, exporter: Exporter, whole: Path, counts: RowCounts) -> Path:
        path = self._partial.export_path
        # It may be a second name of OUT, which is not to be written to.
        self._disk.unlink(path)
        try:
            with writing(path), self._blaming_format():
                exporter.export(whole, path)
        except BaseException:
            with suppress(OSError):
                self._disk.unlink(path)
            raise
        if self._format not in _DESCRIBED:
            describe(path, self._schema, counts)
        return path

    @contextmanager
    def _blaming_format(self) -> Iterator[None]:
        """Where the code of a registered format fails, tell whose it is; no row is lost."""
        try:
            yield
        except (BatchscoreError, OSError, MemoryError):
            raise
        except Exception as error:
            if self._format in OUTPUT_FORMATS.built_in:
                raise
            raise StoppedError(
                f"the output format {self._format!r} failed: {type(error).__name__}: {error}; all "
                "rows are scored: mend it, then the same command with --resume writes them"
            ) from error

    def resumable(self) -> bool:
        """Whether there is work in progress of this job that can be gone on with."""
        return (
            self._temporary is None
            and self._is_ours
            and self._identity.get("input") is not None
            and self._partial.exists()
        )

    def close(self) -> None:
        """Leave the work in progress durable; that of standard output is removed."""
        self._is_closed = True
        self._partial.close()
        if self._temporary is not None:
            shutil.rmtree(self._temporary, ignore_errors=True)
