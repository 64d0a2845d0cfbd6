"""Parts in an object store: workers upload them unseen, the driver lets them appear."""

from __future__ import annotations

import json
import logging
import tempfile
import threading
import uuid
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from batchscore.engines.parts import digits_for, format_of_parts, name_of_part, written
from batchscore.engines.upload_records import UploadRecords, WorkerJournal, jobs_at
from batchscore.errors import BatchscoreError, OutputError, UsageError
from batchscore.sinks.appearing import ClaimedError, PartsInStore
from batchscore.stores import StoredFile, StoreOptions, StoreURI
from batchscore.stores.choice import uploads_to
from batchscore.stores.uploads import OccupiedError, UploadFailedError

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator

    import pyarrow as pa

    from batchscore.config import ScoreConfig

_log = logging.getLogger("batchscore")


@dataclass(frozen=True)
class StoredPartWriter:
    """A ``PartWriter``: a part is made in a file of the worker's own, and uploaded unseen.

    Credentials are none of it: each worker finds its own, as the store's tools do.

    Attributes:
        uri: of the folder.
        options: how the store is reached.
        token: of the job.
        work_dir: where the file is made; None: the worker's folder for temporary files.
        output_format: of each part.
        digits: of the number in a part's name.
    """

    uri: StoreURI
    options: StoreOptions
    token: str
    work_dir: Path | None
    output_format: str
    digits: int

    def write(self, number: int, schema: pa.Schema, batches: Iterable[pa.RecordBatch]) -> None:
        """See ``PartWriter``."""
        name = name_of_part(number, self.output_format, self.digits)
        folder = self.work_dir or Path(tempfile.gettempdir())
        with written(folder, name, self.output_format, schema, batches) as whole:
            self._upload(name, whole)

    def _upload(self, name: str, whole: Path) -> None:
        uploads = uploads_to(self.uri, self.options)
        folder = PartsInStore(self.uri, self.options, uploads)
        records, uri = UploadRecords(folder, self.token), folder.place(name)
        journal = WorkerJournal(records, name)
        with _for_the_driver(uri):
            pending = uploads.begin(uri, whole, {"token": self.token}, journal, lambda: False)
            journal.uploaded(pending)
            # Whoever ends the job says so first, and looks for uploads then.
            if not records.is_open():
                uploads.abandon(uri, pending.upload_id or "")
                journal.ended(uri.key)
                raise OutputError(f"the job ended before {uri} was there; run it again")


class StoredParts:
    """A ``PartsOutput``: OUT appears as the folder of a local run does, under the same claim."""

    def __init__(self, config: ScoreConfig) -> None:
        """Take the address apart; ``reach`` looks at what is there.

        Raises:
            UsageError: it is none that workers could write to.
        """
        out = config.output
        uri = StoreURI.parse(out if out.endswith("/") else f"{out}/")
        self._options = StoreOptions(config.store_endpoint, config.store_region)
        uploads = uploads_to(uri, self._options)
        if uri.scheme != "s3":
            raise UsageError(
                f"--output: {uri}: with --engine, parts go to s3:// or to a folder that all "
                f"workers share; {uri.scheme}:// cannot hold them unseen until all are there"
            )
        self.output_format = format_of_parts(config)
        self.own: tuple[Path | str, ...] = (str(uri),)
        self._overwrite, self._work_dir = config.overwrite, config.work_dir
        self._uri, self._token = uri, uuid.uuid4().hex
        self._folder = PartsInStore(uri, self._options, uploads)
        self._records = UploadRecords(self._folder, self._token)
        self._is_begun = self._is_ending = False
        # Closing waits for a commit that is given up.
        self._lock = threading.Lock()

    def reach(self) -> None:
        """See ``PartsOutput``."""
        folder, shown = self._folder, self._uri
        with _for_the_driver(shown):
            folder.reach()
            if folder.uploads.placed(folder.claim) is not None:
                raise self._claimed()
            if self._overwrite:
                return
            if folder.files():
                raise UsageError(f"--output: {shown} exists; --overwrite replaces it")
            if jobs_at(folder):
                raise UsageError(
                    f"--output: another run is at work on {shown}, or was killed at it; choose "
                    "another folder, or --overwrite, which removes what that run has uploaded"
                )

    def check_apart_from(self, files: Iterable[Path | StoredFile | str]) -> None:
        """See ``PartsOutput``."""
        for file in files:
            if isinstance(file, StoredFile) and str(file).startswith(str(self._uri)):
                raise UsageError(
                    f"--output: {self._uri} holds the input {file}; name another folder"
                )

    def begin(self, parts: int) -> StoredPartWriter:
        """See ``PartsOutput``."""
        with self._lock, _for_the_driver(self._uri):
            self._check_open()
            for token in jobs_at(self._folder):
                UploadRecords(self._folder, token).tidy()
            self._is_begun = True
            self._records.open()
        return StoredPartWriter(
            self._uri,
            self._options,
            self._token,
            self._work_dir and self._work_dir.absolute(),
            self.output_format,
            digits_for(parts),
        )

    def commit(self, parts: int) -> None:
        """See ``PartsOutput``."""
        note = {"token": self._token}
        with self._lock, _for_the_driver(self._uri):
            whole = {r.name: r for r in self._records.read() if r.etags is not None}
            pending = []
            for number in range(parts):
                name = name_of_part(number, self.output_format, digits_for(parts))
                if name not in whole:
                    raise OutputError(
                        f"{self._folder.place(name)} was not uploaded, or another run removed it "
                        "with --overwrite: run the same command again"
                    )
                pending.append(whole[name].pending(self._folder, note))
            success = json.dumps(note).encode() + b"\n"
            try:
                self._folder.commit(
                    pending,
                    note,
                    success,
                    overwrite=self._overwrite,
                    check_open=self._check_open,
                )
            except ClaimedError:
                raise self._claimed() from None
            except OccupiedError:
                raise UsageError(
                    f"{self._uri} appeared while the job ran; choose another folder, or run it "
                    "again with --overwrite"
                ) from None

    def _check_open(self) -> None:
        if self._is_ending:
            raise OutputError(f"the run ended before {self._uri} was whole; run it again")

    def _claimed(self) -> UsageError:
        return UsageError(
            f"{self._uri}: another run is committing its parts, or died at it; run the same "
            f"command again when it has ended, or remove {self._folder.claim} where no run is at "
            "work"
        )

    def close(self) -> None:
        """See ``PartsOutput``; what was committed stays."""
        self._is_ending = True
        with self._lock:
            if not self._is_begun:
                return
            try:
                self._records.tidy()
            except BatchscoreError as error:
                _log.warning(
                    "uploads may be left below %s: %s; a lifecycle rule for incomplete uploads "
                    "removes them", self._uri, _what(error),
                )  # fmt: skip


def _what(error: BatchscoreError) -> str:
    return error.reason if isinstance(error, UploadFailedError) else str(error)


@contextmanager
def _for_the_driver(uri: StoreURI) -> Iterator[None]:
    """Say what to do next where nothing can be resumed."""
    try:
        yield
    except UploadFailedError as error:
        raise OutputError(
            f"cannot write {uri}: {error.reason}; once that is mended for driver and workers, run "
            "the same command again"
        ) from error
