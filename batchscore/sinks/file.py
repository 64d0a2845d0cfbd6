"""The output of a job: work in progress, then whole, never half."""

from __future__ import annotations

import shutil
import sys
import tempfile
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any

from batchscore.errors import BatchscoreError, OutputError, StoppedError, UsageError
from batchscore.extensions import OUTPUT_FORMATS
from batchscore.job import RESCORED
from batchscore.partial.stored import is_sealed
from batchscore.sinks import exporter, output_format_of
from batchscore.sinks.destination import Destination, LocalFile
from batchscore.sinks.finished import FinishedOutput, RowCounts, describe, note
from batchscore.sinks.parts import LocalFolder, written_parts
from batchscore.sinks.stored import StoredFolder, StoredObject
from batchscore.sinks.work import WorkInProgress
from batchscore.stores import StoreOptions, StoreURI, has_wildcard, is_uri

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Mapping

    import pyarrow as pa

    from batchscore.config import ScoreConfig
    from batchscore.job import Job
    from batchscore.partial import Disk
    from batchscore.runtime import Runtime
    from batchscore.sinks.base import Exporter
    from batchscore.sinks.work import UnfinishedOutput
    from batchscore.stores import StoredFile

STANDARD_OUTPUT = "-"
# Formats that tell of their job themselves.
_DESCRIBED = {"arrow", "parquet"}


class FileOutput(WorkInProgress):
    """Appends to the partial file beside OUT; ``finish`` makes OUT appear, whole.

    A ``BatchSink``, and the ``Product`` that its destination takes. First ``reach`` and ``begin``;
    then ``open``, or ``go_on`` with what ``begin`` found; ``close`` always comes last. For standard
    output the work in progress is in a temporary folder, and what is whole is copied out at the
    end: a reader of the pipe never takes a half for a whole.
    """

    def __init__(self, config: ScoreConfig, runtime: Runtime) -> None:
        """Check that the output may be written, and write nothing yet.

        Raises:
            UsageError: it exists, its folder does not, or its format cannot be told.
        """
        self._temporary: Path | None = None
        self._destination: Destination | None = None
        self.disk: Disk = runtime.disk
        if config.output != STANDARD_OUTPUT:
            self._destination = _destination_of(config, runtime.disk)
        self._format = _format_of(config)
        self._exporter = exporter(self._format)
        self.overwrite, self._resume = config.overwrite, config.resume
        self._max_part_bytes = config.max_part_bytes
        self._counts = RowCounts()
        if self._destination is None:
            self._temporary = self._temporary_folder(config)
            folder = self._temporary / "output.partial"
        else:
            folder = self._destination.work
        super().__init__(folder, runtime, afresh="--overwrite without --resume")
        if self._destination is not None:
            self._destination.check()
            if not self._destination.is_remote:
                self._check_absent(self._destination)

    def reach(self) -> None:
        """Check of a store what takes the network; blocks.

        Raises:
            UsageError: as when it is made.
            OutputError: the store does not answer.
        """
        if self._destination is not None and self._destination.is_remote:
            self._destination.reach()
            self._check_absent(self._destination)

    def _temporary_folder(self, config: ScoreConfig) -> Path:
        if config.resume:
            raise UsageError("--resume: standard output cannot be resumed; write to a file")
        if sys.stdout.isatty() and (self._exporter is None or not self._exporter.is_text):
            raise UsageError(
                f"{self._format} is not for a terminal; redirect it, or --output-format csv"
            )
        if config.work_dir is not None and not config.work_dir.is_dir():
            raise UsageError(
                f"--work-dir: there is no folder {str(config.work_dir)!r}; make it, or name another"
            )
        work_dir = None if config.work_dir is None else str(config.work_dir)
        return Path(tempfile.mkdtemp(prefix="batchscore-", dir=work_dir))

    def _check_absent(self, destination: Destination) -> None:
        if self.overwrite or self._resume:
            return
        if destination.exists():
            raise UsageError(
                f"--output: {destination.shown!r} exists; --overwrite replaces it, --resume "
                "accepts it if this very job wrote it"
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
        if not self._resume or self._destination is None:
            return None
        found = self._partial.identity() or {}
        # The rescoring of OUT leaves OUT what it is.
        is_rescored = RESCORED in found
        unfinished = None if is_rescored else self._unfinished(job, found)
        if not self._destination.exists():
            return unfinished
        is_complete = is_sealed(self._partial.rows_path)
        finished = self._destination.finished(self._format)
        if finished is None:
            if self.overwrite or (unfinished is not None and is_complete):
                return unfinished
            raise UsageError(
                f"--output: {self._destination.shown!r} exists, and nothing tells that this job "
                "wrote it; --overwrite replaces it"
            )
        if differences := finished.differences(job):
            if self.overwrite:
                return unfinished
            raise finished.refused(differences)
        if unfinished is not None and self.overwrite:
            return unfinished
        if not is_rescored and (unfinished is None or is_complete):
            # A kill came between OUT's appearing and the end of the work that led to it.
            self._discard(self._destination)
        return finished

    def _unfinished(self, job: Job, found: Mapping[str, object]) -> UnfinishedOutput | None:
        if not self._partial.exists():
            return None
        if differences := job.differences(found):
            raise self._refused(differences)
        return self._earlier()

    def _discard(self, destination: Destination) -> None:
        if self._partial.folder.is_dir():
            self._partial.reserve()
            destination.forget()
        self._partial.discard()

    def open(self, schema: pa.Schema) -> None:
        """See ``BatchSink``."""
        if self._destination is not None:
            # In this order: the work of another run that is not over must not be touched.
            self._partial.reserve()
            self._destination.forget()
        super().open(schema)

    @property
    def places(self) -> tuple[Path | str, ...]:
        """What may lie in a folder of the input without being input: the work in progress.

        So may OUT where it can only be the end of this job; what is replaced must not be skipped.
        """
        if self._destination is None:
            return ()
        done = self._resume and not self.overwrite
        return (self._partial.folder, *(self._destination.own if done else ()))

    def check_apart_from(self, files: Iterable[Path | StoredFile | str]) -> None:
        """Refuse to write over what is read.

        Raises:
            UsageError: the output is one of the input's files.
        """
        for file in files:
            if (
                self._destination is not None
                and not isinstance(file, str)
                and self._destination.is_file(file)
            ):
                raise UsageError(
                    f"--output: {self._destination.shown!r} is the input itself; name another file"
                )

    @property
    def only_delivers(self) -> bool:
        """Whether the rows of an unfinished output are all there: only an upload failed."""
        is_remote = self._destination is not None and self._destination.is_remote
        return is_remote and is_sealed(self._partial.rows_path)

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
        self._counts = counts
        self._sealed = self._partial.seal()
        if self._destination is not None:
            self._destination.deliver(self)
            return
        whole = self.whole()
        self.check_open()
        try:
            with whole.open("rb") as file:
                shutil.copyfileobj(file, sys.stdout.buffer)
            sys.stdout.buffer.flush()
        except OSError as error:
            raise OutputError(f"cannot write to standard output: {error.strerror}") from error

    def whole(self) -> Path:
        """See ``Product``."""
        if self._exporter is None:
            return self._sealed
        return self._exported(self._exporter, self._sealed, self._counts)

    def parts(self, folder: Path) -> Iterator[Path]:
        """See ``Product``."""
        with self._blaming_format():
            yield from written_parts(
                self._sealed, folder, self._format, self._exporter, self._max_part_bytes
            )

    def note(self) -> Mapping[str, Any]:
        """See ``Product``."""
        return note(self._schema, self._counts)

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

    def stop(self) -> None:
        """End an upload that is under way: it has a moment to leave nothing in the store."""
        if self._destination is not None and self._destination.is_remote:
            self._is_closed = True

    def close(self) -> None:
        """Leave the work in progress durable; that of standard output is removed."""
        super().close()
        if self._temporary is not None:
            shutil.rmtree(self._temporary, ignore_errors=True)


def _destination_of(config: ScoreConfig, disk: Disk) -> Destination:
    out = config.output
    is_folder = out.endswith("/")
    if is_uri(out):
        uri, options = StoreURI.parse(out), StoreOptions(config.store_endpoint, config.store_region)
        if has_wildcard(uri):
            raise UsageError(f"--output: {uri}: what is written has no *, ? or [ in its name")
        if not uri.key:
            raise UsageError(f"--output: {uri} is a whole bucket; name an object or FOLDER/ in it")
        kind = StoredFolder if is_folder else StoredObject
        return kind(uri, options, config.work_dir, disk)
    if is_folder:
        return LocalFolder(Path(out), config.work_dir)
    return LocalFile(Path(out), config.work_dir)


def _format_of(config: ScoreConfig) -> str:
    """The format of the output; of parts in a folder, which has no suffix, it is Parquet."""
    if config.output.endswith("/") and config.output_format is None:
        return "parquet"
    return output_format_of(config.output, config.output_format)
