"""An output whose failed rows are scored again: what it tells of its job, and the work on it."""

from __future__ import annotations

import os
import shutil
from contextlib import suppress
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING

import pyarrow as pa

from batchscore.endpoint import redacted
from batchscore.errors import InputError, OutputError, UsageError
from batchscore.job import FORMAT, RESCORED
from batchscore.partial import commit, partial_folder
from batchscore.partial.disk import writing
from batchscore.readers.identity import identify
from batchscore.sinks.finished import FinishedOutput
from batchscore.sinks.layout import error_column
from batchscore.sinks.merge import fits, merge
from batchscore.sinks.work import WorkInProgress

if TYPE_CHECKING:
    from batchscore.config import RescoreConfig
    from batchscore.runtime import Runtime
    from batchscore.sinks.work import UnfinishedOutput

_MAGIC = {b"ARROW1": "arrow", b"PAR1": "parquet"}
_TEXT = {".csv", ".tsv", ".jsonl", ".ndjson"}
_OUTPUTS = b"batchscore.outputs"


def scored_file(out: str) -> FinishedOutput:
    """An output of ``score``, as far as ``rescore`` can work on it; blocks.

    Raises:
        UsageError: there is no such file, or ``rescore`` cannot work on it.
    """
    path = Path(out)
    output_format = _format_of(out, path)
    try:
        found = FinishedOutput.read(path, output_format)
    except (OSError, pa.ArrowException) as error:
        raise UsageError(
            f"{out}: cannot be read: {str(error).splitlines()[0]}; name a file as score wrote it"
        ) from error
    if found is None or not isinstance(found.options, dict):
        raise UsageError(
            f"{out}: nothing in it tells which job wrote it; rescore works on an .arrow or "
            ".parquet file as score wrote it"
        )
    column = error_column(str(found.options.get("prefix")))
    if found.schema.names[-1:] != [column] or found.schema.types[-1] != pa.string():
        raise UsageError(
            f"{out}: its last column is not {column!r}; rescore works on a file as score wrote "
            "it, so score again"
        )
    return found


def _format_of(out: str, path: Path) -> str:
    if out == "-" or "://" in out:
        raise UsageError(
            f"{redacted(out)}: rescore works on a local file, which it replaces; copy it here first"
        )
    if not path.exists():
        raise UsageError(f"{out}: no such file; score writes one")
    if not path.is_file():
        raise UsageError(f"{out}: is no file; name one that score wrote")
    try:
        with path.open("rb") as file:
            head = file.read(6)
    except OSError as error:
        raise UsageError(
            f"{out}: cannot be read: {error.strerror}; name a file as score wrote it"
        ) from error
    for magic, output_format in _MAGIC.items():
        if head.startswith(magic):
            return output_format
    kind = "a text file does" if path.suffix.lower() in _TEXT else "other files do"
    raise UsageError(
        f"{out}: rescore works on .arrow and .parquet; {kind} not tell how the rows were scored, "
        "so score again, with one of these as the output"
    )


class RescoredOutput(WorkInProgress):
    """Collects what comes back for the failed rows; ``finish`` merges it into the output.

    A ``BatchSink``, whose batches are of failed rows alone. First ``reserve`` and ``begin``; then
    ``open``, or ``go_on`` with what ``begin`` found; ``close`` always comes last. The work in
    progress is where that of ``score`` would be, so that only one of the two can be at work on an
    output.
    """

    def __init__(self, config: RescoreConfig, runtime: Runtime) -> None:
        self._typed, self._out, self._resume = config.output, Path(config.output), config.resume
        if config.work_dir is not None and not config.work_dir.is_dir():
            raise UsageError(
                f"--work-dir: there is no folder {str(config.work_dir)!r}; make it, or name another"
            )
        folder = partial_folder(self._out, config.work_dir)
        super().__init__(folder, runtime, afresh="--no-resume")
        self._is_reserved = False

    def reserve(self) -> FinishedOutput:
        """Keep other runs away from the output, and read what it tells; blocks.

        Raises:
            UsageError: it cannot be rescored, or another run is at work on it.
            OutputError: the folder of the work in progress cannot be made.
        """
        scored_file(self._typed)
        self._partial.reserve()
        self._is_reserved = True
        # Once more: until now another run may have replaced it.
        self._file = scored_file(self._typed)
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
        (now,) = identify([self._out], with_names=False)
        self._identity = {"format": FORMAT, RESCORED: asdict(now)}
        if not self._partial.exists():
            return None
        found = self._partial.identity() or {}
        if RESCORED not in found:
            if not failed:
                return None
            raise UsageError(
                f"{str(self._partial.folder)!r} holds the work of score on this output; go on "
                "with it (score --resume), or remove the folder"
            )
        if failed and self._resume and found == self._identity:
            earlier = self._earlier()
            if earlier is not None:
                return earlier
        self._partial.discard()
        self._partial.reserve()
        return None

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
        super().open(schema)

    def finish(self) -> None:
        """Merge what came back into a copy of the output, and put that in its place in one step.

        Raises:
            OutputError: it cannot be written, or the output was changed meanwhile.
        """
        self._check_unchanged()
        again, schema = self._partial.seal(), self._merged_schema()
        try:
            with self._fresh_file() as whole:
                merge(self._file.output_format, self._out, again, whole, schema)
                shutil.copymode(self._out, whole)
        except BaseException as error:
            self._check_unchanged()
            if isinstance(error, pa.ArrowException):
                raise InputError(
                    f"{self._out}: cannot be read: {error}; was it changed meanwhile?"
                ) from error
            raise
        self.check_open()
        self._check_unchanged()
        # Where it is a link, the file is replaced and not the link.
        self._is_reserved = False
        commit(self._disk, whole, Path(os.path.realpath(self._out)), overwrite=True)

    def _merged_schema(self) -> pa.Schema:
        """That of the output, with what was learned now of outputs that were never scored."""
        metadata, again = dict(self._file.schema.metadata), self._schema.metadata or {}
        if _OUTPUTS in again:
            metadata[_OUTPUTS] = again[_OUTPUTS]
        return self._file.schema.with_metadata(metadata)

    def _check_unchanged(self) -> None:
        if self._stat_now() != self._stat:
            raise OutputError(f"{self._out} was changed meanwhile; run the same command again")

    def _stat_now(self) -> tuple[int, ...]:
        with writing(self._out):
            found = self._out.stat()
        return found.st_dev, found.st_ino, found.st_size, found.st_mtime_ns

    def close(self) -> None:
        """Leave the work in progress durable."""
        if self._is_reserved:
            # Its folder is there from the beginning, to be locked; perhaps nothing came into it.
            with suppress(OSError):
                self._disk.remove_folder(self._partial.folder)
        super().close()
