"""Outputs in object stores: one object, or a folder of parts. The upload commits at its end."""

from __future__ import annotations

import hashlib
import json
import os
import sys
from contextlib import suppress
from pathlib import Path
from typing import TYPE_CHECKING, Any

from batchscore.errors import OutputError, UsageError
from batchscore.partial.disk import writing
from batchscore.partial.folder import remove_files
from batchscore.sinks.appearing import ClaimedError, PartsInStore
from batchscore.sinks.finished import FinishedOutput
from batchscore.sinks.parts import success_note
from batchscore.stores import StoredFile, StoreOptions, StoreURI, find
from batchscore.stores.choice import uploads_to
from batchscore.stores.failures import reaching
from batchscore.stores.uploads import OccupiedError, UploadJournal

if TYPE_CHECKING:
    from collections.abc import Mapping

    from batchscore.partial import Disk
    from batchscore.sinks.destination import Product
    from batchscore.stores.uploads import Pending, Uploads

_PARTS = "parts"


def work_folder(uri: StoreURI, work_dir: Path | None) -> Path:
    """Where the work on an address lives: the same place whenever it is asked for.

    Without ``--work-dir`` that is among the things that programs keep for a user, wherever the
    command is started.

    Raises:
        UsageError: the folder is not there, or cannot be made.
    """
    key = hashlib.sha256(str(uri).encode()).hexdigest()[:12]
    name = f"{(uri.name or uri.bucket)[:80]}-{key}.partial"
    if work_dir is not None:
        if not work_dir.is_dir():
            raise UsageError(
                f"--work-dir: there is no folder {str(work_dir)!r}; make it, or name another"
            )
        return work_dir / name
    folder = _state_folder() / "batchscore"
    try:
        folder.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise UsageError(
            f"{str(folder)!r} cannot be made: {error.strerror}; name a folder for the work in "
            "progress with --work-dir"
        ) from error
    return folder / name


def _state_folder() -> Path:
    if given := os.environ.get("XDG_STATE_HOME"):
        return Path(given)
    if sys.platform == "win32":
        return Path(os.environ.get("LOCALAPPDATA", Path.home() / "AppData" / "Local"))
    if sys.platform == "darwin":
        return Path.home() / "Library" / "Application Support"
    return Path.home() / ".local" / "state"


class _Stored:
    """What both destinations in a store have in common."""

    is_remote = True

    def __init__(
        self, uri: StoreURI, options: StoreOptions, work_dir: Path | None, disk: Disk
    ) -> None:
        self._uri, self._options, self._disk = uri, options, disk
        self.shown = str(uri)
        self.own: tuple[Path | str, ...] = (self.shown,)
        self._uploads: Uploads = uploads_to(uri, options)
        self.work = work_folder(uri, work_dir)

    def check(self) -> None:
        """See ``Destination``."""
        if self.work.exists() and not self.work.is_dir():
            raise UsageError(f"{str(self.work)!r} is in the way of the work in progress; move it")

    def is_file(self, file: Path | StoredFile) -> bool:
        """See ``Destination``."""
        return isinstance(file, StoredFile) and self._is_own(str(file))

    def _is_own(self, address: str) -> bool:
        return address == self.shown

    def forget(self) -> None:
        """See ``Destination``; what cannot be reached stays in the journal."""
        if not self.work.is_dir():
            return
        journal = UploadJournal(self.work, self._disk)
        for key, upload_id in journal.uploads.items():
            self._uploads.abandon(self._uri.with_key(key), upload_id)
            journal.ended(key)
        _empty(self.work / _PARTS)

    def _clean_up(self) -> None:
        with writing(self.work):
            UploadJournal(self.work, self._disk).remove()
            remove_files(self._disk, self.work)

    def _occupied(self) -> UsageError:
        return UsageError(
            f"{self.shown} appeared while the job ran; all rows are kept in {str(self.work)!r}: "
            "move it away and run the same command with --resume, or replace it with --overwrite "
            "--resume"
        )


class StoredObject(_Stored):
    """One object of a store: a ``Destination``."""

    def reach(self) -> None:
        """See ``Destination``."""
        self._uploads.check(self._uri)

    def exists(self) -> bool:
        """See ``Destination``."""
        return self._uploads.placed(self._uri) is not None

    def finished(self, output_format: str) -> FinishedOutput | None:
        """See ``Destination``."""
        there = self._uploads.placed(self._uri)
        if there is None:
            return None
        return FinishedOutput.noted(there.note, self.shown, output_format, there.modified_ns)

    def deliver(self, product: Product) -> None:
        """See ``Destination``."""
        self.forget()
        whole = product.whole()
        journal = UploadJournal(self.work, self._disk)
        journal.keep()
        note = {"token": journal.token, **product.note()}
        try:
            self._upload(product, whole, note, journal)
        except OccupiedError:
            raise self._occupied() from None
        self._clean_up()

    def _upload(
        self, product: Product, whole: Path, note: Mapping[str, Any], journal: UploadJournal
    ) -> None:
        uploads, if_absent = self._uploads, not product.overwrite
        if whole.stat().st_size <= uploads.put_bytes:
            product.check_open()
            uploads.put(self._uri, whole.read_bytes(), note, if_absent=if_absent)
            return
        pending = uploads.begin(self._uri, whole, note, journal, _stopped(product))
        try:
            product.check_open()
            uploads.complete(pending, if_absent=if_absent)
        except BaseException:
            _abandon(uploads, journal, [pending])
            raise


class StoredFolder(_Stored):
    """All objects below an address: a ``Destination``.

    Nobody sees a part before all parts are in the store, where it can hold them unseen; then they
    appear one after the other, and ``_SUCCESS`` when all are there.
    """

    def __init__(
        self, uri: StoreURI, options: StoreOptions, work_dir: Path | None, disk: Disk
    ) -> None:
        super().__init__(uri, options, work_dir, disk)
        self._folder = PartsInStore(uri, options, self._uploads)

    def reach(self) -> None:
        """See ``Destination``."""
        self._folder.reach()

    def exists(self) -> bool:
        """See ``Destination``; parts of this very work, cut off while they appeared, are not it."""
        files, success = self._folder.files(), self._folder.success
        if not files:
            return False
        if any(file.uri.key == success.key for file in files) or not self.work.is_dir():
            return True
        token = UploadJournal(self.work, self._disk).token
        return any(self._folder.token_of(file.uri) != token for file in files)

    def finished(self, output_format: str) -> FinishedOutput | None:
        """See ``Destination``."""
        file = find(self._folder.success, self._options)
        if file is None:
            return None
        with reaching(str(file)), file.open() as opened:
            note = success_note(opened.read())
        return FinishedOutput.noted(note, self.shown, output_format, file.modified_ns)

    def _is_own(self, address: str) -> bool:
        return address.startswith(self.shown)

    def deliver(self, product: Product) -> None:
        """See ``Destination``."""
        self.forget()
        journal = UploadJournal(self.work, self._disk)
        self._remove_parts_of(journal.token)
        journal.keep()
        note, parts = {"token": journal.token}, self._folder
        folder = self.work / _PARTS
        pending: list[Pending] = []
        try:
            with writing(folder):
                self._disk.make_folder(folder)
                for part in product.parts(folder):
                    uri = parts.place(part.name)
                    begun = self._uploads.begin(uri, part, note, journal, _stopped(product))
                    pending.append(begun)
                    if begun.upload_id is not None:
                        part.unlink()
            product.check_open()
            success = json.dumps({**note, **product.note()}).encode() + b"\n"
            parts.commit(pending, note, success, overwrite=product.overwrite)
        except BaseException as error:
            _abandon(self._uploads, journal, pending[len(parts.appeared) :])
            if isinstance(error, OccupiedError):
                raise self._occupied() from None
            if isinstance(error, ClaimedError):
                raise self._claimed() from None
            raise
        finally:
            _empty(folder)
        self._clean_up()

    def _claimed(self) -> UsageError:
        return UsageError(
            f"{self.shown}: another run is committing its parts, or died at it; all rows are "
            f"kept in {str(self.work)!r}: run the same command with --resume when it has "
            f"ended, or remove {self._folder.claim} where no run is at work"
        )

    def _remove_parts_of(self, token: str) -> None:
        """What a kill left of this work: parts that may have been cut at other rows."""
        for file in self._folder.files():
            if self._folder.token_of(file.uri) == token:
                self._uploads.delete(file.uri)


def _stopped(product: Product) -> Any:
    def stopped() -> bool:
        try:
            product.check_open()
        except OutputError:
            return True
        return False

    return stopped


def _abandon(uploads: Uploads, journal: UploadJournal, pending: list[Pending]) -> None:
    """Leave nothing of what did not appear; what cannot be reached stays in the journal."""
    for begun in pending:
        with suppress(OutputError):
            if begun.upload_id is not None:
                uploads.abandon(begun.uri, begun.upload_id)
            journal.ended(begun.uri.key)


def _empty(folder: Path) -> None:
    with suppress(OSError):
        for file in folder.iterdir():
            file.unlink()
        folder.rmdir()
