"""Work in progress: rows on their way into an output, and the job that they belong to."""

from __future__ import annotations

from contextlib import contextmanager, suppress
from dataclasses import dataclass
from typing import TYPE_CHECKING

import pyarrow as pa

from batchscore.errors import OutputError, UsageError
from batchscore.job import OTHER_SPECIFICATION, told
from batchscore.partial import PartialFile
from batchscore.partial.disk import writing
from batchscore.partial.stored import stored_column, stored_schema
from batchscore.sinks.finished import RowCounts

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping, Sequence
    from pathlib import Path

    from batchscore.runtime import Runtime


@dataclass(frozen=True)
class UnfinishedOutput:
    """What an earlier run of the same job left, as far as it can be told without the deployment.

    Attributes:
        schema: of the output; what was learned from answers is in its metadata.
        folder: where it is.
        afresh: how the user begins without it.
    """

    schema: pa.Schema
    folder: Path
    afresh: str

    def check_specification(self, fingerprint: str) -> None:
        """Raise ``UsageError`` where the deployment's specification is another one now."""
        metadata = self.schema.metadata or {}
        if metadata.get(b"batchscore.fingerprint", b"").decode() != fingerprint:
            raise self.refused([OTHER_SPECIFICATION])

    def refused(self, differences: Sequence[str]) -> UsageError:
        """The error where it turns out to be another job's."""
        return _of_another_job(self.folder, differences, self.afresh)


class WorkInProgress:
    """A partial file, and the job that its rows belong to.

    A ``BatchSink`` but for ``check``. What becomes an output of it adds how it begins, which sets
    ``_identity``, and how it ends.

    Args:
        folder: where it is.
        runtime: its disk and clock.
        afresh: how the user begins without what is there.
    """

    def __init__(self, folder: Path, runtime: Runtime, *, afresh: str) -> None:
        self._disk = runtime.disk
        self._partial = PartialFile(folder, disk=runtime.disk, clock=runtime.clock)
        self._afresh = afresh
        self._identity: Mapping[str, object] = {}
        self._schema = pa.schema([])
        self._is_ours = self._is_closed = False

    def _earlier(self) -> UnfinishedOutput | None:
        """What is there, known to be this job's; None where nothing of it can be read."""
        self._is_ours = True
        schema = stored_schema(self._partial.rows_path)
        if schema is None:
            return None
        return UnfinishedOutput(schema, self._partial.folder, self._afresh)

    def _refused(self, differences: Sequence[str]) -> UsageError:
        return _of_another_job(self._partial.folder, differences, self._afresh)

    def open(self, schema: pa.Schema) -> None:
        """See ``BatchSink``."""
        self._partial.open(schema, self._identity)
        self._schema, self._is_ours = schema, True

    def go_on(self, schema: pa.Schema) -> RowCounts:
        """See ``BatchSink``.

        Raises:
            UsageError: another job began its work here meanwhile.
        """
        self._partial.reserve()
        if self._partial.identity() not in (None, self._identity):
            raise self._refused(["it was begun meanwhile"])
        self._partial.open(schema, self._identity, resume=True)
        self._schema = schema
        return RowCounts.of(stored_column(self._partial.rows_path, len(schema) - 1))

    def append(self, batch: pa.RecordBatch) -> None:
        """See ``BatchSink``."""
        self._partial.append(batch)

    @contextmanager
    def _fresh_file(self) -> Iterator[Path]:
        """A path to write what is made of the rows to; the file goes where that fails.

        Raises:
            OutputError: it cannot be written.
        """
        path = self._partial.export_path
        # It may be a second name of OUT, which is not to be written to.
        self._disk.unlink(path)
        try:
            with writing(path):
                yield path
        except BaseException:
            with suppress(OSError):
                self._disk.unlink(path)
            raise

    def check_open(self) -> None:
        """Nothing may appear after the run has ended: its last step may still go on in a thread."""
        if self._is_closed:
            raise OutputError(
                "the run ended while its output was being finished"
                "; the same command with --resume goes on"
            )

    def resumable(self) -> bool:
        """Whether there is work in progress of this job that can be gone on with."""
        return self._is_ours and self._partial.exists()

    def close(self) -> None:
        """Leave the work in progress durable; always comes last."""
        self._is_closed = True
        self._partial.close()


def _of_another_job(folder: Path, differences: Sequence[str], afresh: str) -> UsageError:
    return UsageError(
        f"{str(folder)!r} holds the work of another job: {told(differences)}; "
        f"{afresh} starts afresh"
    )
