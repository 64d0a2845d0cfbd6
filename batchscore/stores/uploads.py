"""Uploads that appear whole, on a condition, or not at all: what every store's must do."""

from __future__ import annotations

import base64
import json
import uuid
import zlib
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Protocol

from batchscore.errors import OutputError
from batchscore.partial.disk import Disk, write_file, writing
from batchscore.partial.folder import UPLOAD

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping
    from pathlib import Path

    from batchscore.stores.uri import StoreURI

NOTE_KEY = "batchscore"
_MAX_NOTE_BYTES = 1900


@dataclass(frozen=True, slots=True)
class Placed:
    """An object that is there.

    Attributes:
        size: its length in bytes.
        modified_ns: when it was written.
        note: what the run that wrote it left with it; empty where nothing can be read.
    """

    size: int
    modified_ns: int
    note: Mapping[str, Any]


@dataclass(frozen=True, slots=True)
class Pending:
    """A file on its way: nobody sees it before ``Uploads.complete``.

    Attributes:
        uri: where it will appear.
        path: the file.
        note: what is left with it.
        size: its length in bytes.
        upload_id: what the store calls the upload, where its bytes are there already.
        etags: of the pieces that are there.
    """

    uri: StoreURI
    path: Path
    note: Mapping[str, Any]
    size: int
    upload_id: str | None = None
    etags: tuple[str, ...] = ()


class OccupiedError(Exception):
    """Raised when another run's object is in the place; becomes an error with the address."""


class Uploads(Protocol):
    """Writes to one store. All calls block, from one thread at a time.

    A file goes through ``begin`` and ``complete``, or ``abandon``; ``put`` is for a few bytes. What
    fails for good is ``UsageError`` where the user has to mend something before a row is scored
    (``check``, ``placed``), ``OutputError`` later on.

    Attributes:
        put_bytes: a lone file up to this length is best given to ``put``.
    """

    put_bytes: int

    def check(self, uri: StoreURI) -> None:
        """Find out before the first row whether an object may be written; leaves nothing."""
        ...

    def placed(self, uri: StoreURI) -> Placed | None:
        """What is there."""
        ...

    def begin(
        self,
        uri: StoreURI,
        path: Path,
        note: Mapping[str, Any],
        journal: Noting,
        stopped: Callable[[], bool],
    ) -> Pending:
        """Bring a file's bytes to the store where it can hold them unseen.

        Where that fails, or ``stopped`` says so, nothing of it stays there.
        """
        ...

    def complete(self, pending: Pending, *, if_absent: bool) -> None:
        """Let the object appear, at once and whole.

        Raises:
            OccupiedError: ``if_absent``, and an object of another run is there.
        """
        ...

    def abandon(self, uri: StoreURI, upload_id: str) -> None:
        """Remove what the store holds of an upload; nothing where there is none."""
        ...

    def put(self, uri: StoreURI, data: bytes, note: Mapping[str, Any], *, if_absent: bool) -> None:
        """Write a small object.

        Raises:
            OccupiedError: as in ``complete``.
        """
        ...

    def delete(self, uri: StoreURI) -> None:
        """Remove an object; nothing where there is none."""
        ...


class Noting(Protocol):
    """Is told of uploads by whoever makes them, so that they can be tidied away."""

    def began(self, key: str, upload_id: str) -> None:
        """An upload was begun, and no byte of it sent."""
        ...

    def ended(self, key: str) -> None:
        """Nothing is left of it."""
        ...


class UploadJournal:
    """What a run has begun to upload, beside its work in progress: a later one tidies it away.

    Attributes:
        token: tells the objects of this work from those of others; made when first asked for.
    """

    def __init__(self, folder: Path, disk: Disk) -> None:
        self._path, self._disk = folder / UPLOAD, disk
        self.token, self._uploads = self._read()

    def _read(self) -> tuple[str, dict[str, str]]:
        try:
            found = json.loads(self._path.read_bytes())
            return str(found["token"]), {str(k): str(v) for k, v in found["uploads"].items()}
        except (OSError, ValueError, KeyError, TypeError, AttributeError):
            return uuid.uuid4().hex, {}

    @property
    def uploads(self) -> Mapping[str, str]:
        """The upload of each key that was begun and, for all that is known, not ended."""
        return dict(self._uploads)

    def keep(self) -> None:
        """Make it durable: before anything that carries the token appears."""
        text = json.dumps({"token": self.token, "uploads": self._uploads})
        with writing(self._path):
            write_file(self._disk, self._path, text.encode())
            self._disk.sync_folder(self._path.parent)

    def began(self, key: str, upload_id: str) -> None:
        self._uploads[key] = upload_id
        self.keep()

    def ended(self, key: str) -> None:
        if self._uploads.pop(key, None) is not None:
            self.keep()

    def remove(self) -> None:
        """Forget everything; where uploads are left, they are nobody's from now on."""
        self._uploads.clear()
        with writing(self._path):
            self._disk.unlink(self._path)


def packed(note: Mapping[str, Any]) -> str:
    """A note as one header value; of one that is too long only what tells whose it is."""
    text = base64.b64encode(zlib.compress(json.dumps(note).encode(), 9)).decode()
    if len(text) <= _MAX_NOTE_BYTES:
        return text
    return packed({"token": note.get("token")})


def unpacked(text: str | None) -> Mapping[str, Any]:
    """The note in a header value; empty where it is none."""
    try:
        found = json.loads(zlib.decompress(base64.b64decode(text or "")))
    except (ValueError, zlib.error):
        return {}
    return found if isinstance(found, dict) else {}


class UploadFailedError(OutputError):
    """Raised when an upload has failed for good.

    Attributes:
        reason: why, without what to do next, which is not the same for all jobs.
    """

    reason: str = ""


def upload_failed(uri: StoreURI, reason: str) -> UploadFailedError:
    """The error for the user when an upload has failed for good."""
    error = UploadFailedError(
        f"cannot write {uri}: {reason}; all rows are kept: once that is mended, the same command "
        "with --resume uploads them"
    )
    error.reason = reason
    return error


def run_ended(uri: StoreURI) -> OutputError:
    """The error where the run was ended in the middle of an upload."""
    return OutputError(
        f"the run ended while {uri} was being uploaded; the same command with --resume uploads it"
    )
