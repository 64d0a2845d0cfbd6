"""What an engine's workers tell of their uploads: small objects beside the parts, in the store.

The store is the one thing that driver and workers are sure to share, also where a worker is killed
before it could tell its driver anything. No reader sees the objects, for their names.
"""

from __future__ import annotations

import hashlib
import json
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from batchscore.sinks.appearing import UPLOADS
from batchscore.stores import StoredFile, find_below, read_whole
from batchscore.stores.uploads import Pending

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping

    from batchscore.sinks.appearing import PartsInStore
    from batchscore.stores import StoreURI

_JOB = "job"


@dataclass(frozen=True)
class UploadRecord:
    """One upload of one part.

    Attributes:
        name: of the part.
        upload_id: what the store calls the upload.
        etags: of its pieces; None until all of them are there.
        size: of the part in bytes.
    """

    name: str
    upload_id: str
    etags: tuple[str, ...] | None = None
    size: int = 0

    def pending(self, folder: PartsInStore, note: Mapping[str, Any]) -> Pending:
        """The upload, to be completed by whoever has no file of it."""
        uri = folder.place(self.name)
        return Pending(uri, Path(self.name), note, self.size, self.upload_id, self.etags or ())


class UploadRecords:
    """The records of one job. All calls block, and raise what ``Uploads`` and reading do.

    Args:
        folder: of the parts.
        token: of the job.
    """

    def __init__(self, folder: PartsInStore, token: str) -> None:
        self._folder, self._note = folder, {"token": token}
        self._below = f"{UPLOADS}{token}/"

    def open(self) -> None:
        """Begin the job: from now on workers may upload."""
        self._put(_JOB, b"")

    def is_open(self) -> bool:
        """Whether the job goes on; a worker may outlive it."""
        return self._folder.uploads.placed(self._place(_JOB)) is not None

    def close(self) -> None:
        """End the job: what a worker uploads from now on, it removes itself."""
        self._folder.uploads.delete(self._place(_JOB))

    def tell(self, record: UploadRecord) -> None:
        """Tell of an upload, or what has become of it."""
        told: dict[str, object] = {"part": record.name, "upload": record.upload_id}
        if record.etags is not None:
            told |= {"etags": record.etags, "size": record.size}
        self._put(self._name(record), json.dumps(told).encode())

    def forget(self, record: UploadRecord) -> None:
        """Remove a record: nothing is left of the upload, or it was completed."""
        self._folder.uploads.delete(self._place(self._name(record)))

    def read(self) -> Iterator[UploadRecord]:
        """All records of the job, in the order of the parts."""
        options = self._folder.options
        for file in find_below(self._place(""), options):
            if file.uri.name != _JOB:
                told = json.loads(read_whole(file.uri, options))
                etags = tuple(told["etags"]) if "etags" in told else None
                yield UploadRecord(told["part"], told["upload"], etags, told.get("size", 0))

    def tidy(self) -> None:
        """End the job, and leave nothing of its uploads but what was completed."""
        self.close()
        for record in self.read():
            self._folder.uploads.abandon(self._folder.place(record.name), record.upload_id)
            self.forget(record)

    def _place(self, name: str) -> StoreURI:
        return self._folder.place(self._below + name)

    def _put(self, name: str, data: bytes) -> None:
        self._folder.uploads.put(self._place(name), data, self._note, if_absent=False)

    def _name(self, record: UploadRecord) -> str:
        # Two workers may be at one part; what stores call uploads may be no key.
        return f"{record.name}.{hashlib.sha256(record.upload_id.encode()).hexdigest()[:16]}"


class WorkerJournal:
    """Tells the records of one upload as it goes on: ``Noting``."""

    def __init__(self, records: UploadRecords, name: str) -> None:
        self._records, self._name = records, name
        self._record: UploadRecord | None = None

    def began(self, _key: str, upload_id: str) -> None:
        """See ``Noting``."""
        self._record = UploadRecord(self._name, upload_id)
        self._records.tell(self._record)

    def ended(self, _key: str) -> None:
        """See ``Noting``."""
        if self._record is not None:
            self._records.forget(self._record)

    def uploaded(self, pending: Pending) -> None:
        """All pieces are in the store."""
        assert self._record is not None  # noqa: S101 - every upload was begun
        whole = replace(self._record, etags=pending.etags, size=pending.size)
        self._records.tell(whole)


def jobs_at(folder: PartsInStore) -> list[str]:
    """The tokens of jobs that are at work on a folder, or were killed at it."""
    root: StoreURI = folder.place(UPLOADS)
    found: list[StoredFile] = find_below(root, folder.options)
    keys = (file.uri.key.removeprefix(root.key) for file in found)
    return sorted({key.partition("/")[0] for key in keys})
