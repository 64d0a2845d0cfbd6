"""The output file of a job: work in progress, then whole, never half."""

from __future__ import annotations

import shutil
import sys
import tempfile
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING

import pyarrow as pa

from batchscore.endpoint import redacted
from batchscore.errors import BatchscoreError, OutputError, StoppedError, UsageError
from batchscore.extensions import OUTPUT_FORMATS
from batchscore.job import RESCORED
from batchscore.partial import commit, partial_folder
from batchscore.partial.stored import is_sealed
from batchscore.sinks import exporter, output_format_of
from batchscore.sinks.finished import FinishedOutput, RowCounts, describe
from batchscore.sinks.work import WorkInProgress

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Mapping

    from batchscore.config import ScoreConfig
    from batchscore.job import Job
    from batchscore.runtime import Runtime
    from batchscore.sinks.base import Exporter
    from batchscore.sinks.work import UnfinishedOutput

STANDARD_OUTPUT = "-"
# Formats that tell of their job themselves.
_DESCRIBED = {"arrow", "parquet"}


class FileOutput(WorkInProgress):
    """Appends to the partial file beside OUT; ``finish`` makes OUT appear, whole.

    A ``BatchSink``. First ``begin``; then ``open``, or ``go_on`` with what ``begin`` found;
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
        self._temporary: Path | None = None
        self._out: Path | None = None
        if config.output == STANDARD_OUTPUT:
            self._temporary = self._temporary_folder(config)
            folder = self._temporary / "output.partial"
        else:
            if "://" in config.output:
                raise UsageError(
                    f"--output: {redacted(config.output)!r} is an address, which cannot be written "
                    "to yet; name a file"
                )
            self._out = Path(config.output)
            folder = partial_folder(self._out, config.work_dir)
        super().__init__(folder, runtime, afresh="--overwrite without --resume")
        if self._out is not None:
            self._check_place(self._out)

    def _temporary_folder(self, config: ScoreConfig) -> Path:
        if config.resume:
            raise UsageError("--resume: standard output cannot be resumed; write to a file")
        if sys.stdout.isatty() and (self._exporter is None or not self._exporter.is_text):
            raise UsageError(
                f"{self._format} is not for a terminal; redirect it, or --output-format csv"
            )
        if config.work_dir is not None and not config.work_dir.is_dir():
            raise UsageError(f"--work-dir: there is no folder {str(config.work_dir)!r}")
        work_dir = None if config.work_dir is None else str(config.work_dir)
        return Path(tempfile.mkdtemp(prefix="batchscore-", dir=work_dir))

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
        found = self._partial.identity() or {}
        # The rescoring of OUT leaves OUT what it is.
        is_rescored = RESCORED in found
        unfinished = None if is_rescored else self._unfinished(job, found)
        if not self._out.exists():
            return unfinished
        is_complete = is_sealed(self._partial.rows_path)
        finished = self._finished(self._out)
        if finished is None:
            if self._overwrite or (unfinished is not None and is_complete):
                return unfinished
            raise UsageError(
                f"--output: {str(self._out)!r} exists, and nothing tells that this job wrote it; "
                "--overwrite replaces it"
            )
        if differences := finished.differences(job):
            if self._overwrite:
                return unfinished
            raise finished.refused(differences)
        if unfinished is not None and self._overwrite:
            return unfinished
        if not is_rescored and (unfinished is None or is_complete):
            # A kill came between OUT's appearing and the end of the work that led to it.
            self._partial.discard()
        return finished

    def _unfinished(self, job: Job, found: Mapping[str, object]) -> UnfinishedOutput | None:
        if not self._partial.exists():
            return None
        if differences := job.differences(found):
            raise self._refused(differences)
        return self._earlier()

    def _finished(self, out: Path) -> FinishedOutput | None:
        try:
            return FinishedOutput.read(out, self._format)
        except (OSError, pa.ArrowException):
            return None

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
        self._check_open()
        if self._out is not None:
            commit(self._disk, whole, self._out, overwrite=self._overwrite)
            return
        try:
            with whole.open("rb") as file:
                shutil.copyfileobj(file, sys.stdout.buffer)
            sys.stdout.buffer.flush()
        except OSError as error:
            raise OutputError(f"cannot write to standard output: {error.strerror}") from error

    def _exported(self, export: Exporter, whole: Path, counts: RowCounts) -> Path:
        with self._fresh_file() as path, self._blaming_format():
            export.export(whole, path)
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
        is_input_kept = self._identity.get("input") is not None
        return self._temporary is None and is_input_kept and super().resumable()

    def close(self) -> None:
        """Leave the work in progress durable; that of standard output is removed."""
        super().close()
        if self._temporary is not None:
            shutil.rmtree(self._temporary, ignore_errors=True)
