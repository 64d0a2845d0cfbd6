"""How the parts of a folder in a store appear: under a claim, one after the other, all or none."""

from __future__ import annotations

from contextlib import suppress
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from batchscore.errors import OutputError, UsageError
from batchscore.sinks.parts import SUCCESS
from batchscore.stores import StoredFile, StoreOptions, StoreURI, find_below
from batchscore.stores.uploads import OccupiedError

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence

    from batchscore.stores.uploads import Pending, Uploads

CLAIM = "_COMMITTING"
UPLOADS = "_uploads/"
"""Below it, the workers of an engine tell what they have uploaded and nobody sees yet."""


class ClaimedError(Exception):
    """Raised when another run's claim is there; becomes an error with the address."""


@dataclass
class PartsInStore:
    """A folder of a store in which parts appear.

    Attributes:
        uri: of the folder; its key ends in a slash.
        options: how the store is reached.
        uploads: writes to it.
        appeared: the parts that ``commit`` has let appear.
    """

    uri: StoreURI
    options: StoreOptions
    uploads: Uploads
    appeared: list[StoreURI] = field(default_factory=list)

    def place(self, name: str) -> StoreURI:
        """The address of a name in the folder."""
        return self.uri.with_key(self.uri.key + name)

    @property
    def success(self) -> StoreURI:
        """What is written last."""
        return self.place(SUCCESS)

    @property
    def claim(self) -> StoreURI:
        """What keeps others out while parts appear; no reader sees it, for its name."""
        return self.place(CLAIM)

    def files(self) -> list[StoredFile]:
        """All that is there, but for what workers of an engine tell of their uploads."""
        private = self.uri.key + UPLOADS
        found = find_below(self.uri, self.options)
        return [file for file in found if not file.uri.key.startswith(private)]

    def reach(self) -> None:
        """Find out, before the first row, whether it may be written, and is no folder of others.

        Raises:
            UsageError: it may not, or holds what no output has.
        """
        self.uploads.check(self.success)
        for file in self.files():
            name = file.uri.key.removeprefix(self.uri.key)
            if name not in {SUCCESS, CLAIM} and (not name.startswith("part-") or "/" in name):
                raise UsageError(
                    f"--output: {self.uri} holds {name!r}, which no output has; choose another "
                    "folder"
                )

    def token_of(self, uri: StoreURI) -> object:
        """What tells the run that wrote an object; None where nothing does."""
        there = self.uploads.placed(uri)
        return None if there is None else there.note.get("token")

    def commit(
        self,
        pending: Sequence[Pending],
        note: Mapping[str, Any],
        success: bytes,
        *,
        overwrite: bool,
        check_open: Callable[[], None] = lambda: None,
    ) -> None:
        """Let all parts appear, and what says that they are whole; where that fails, none.

        Args:
            pending: the parts, uploaded.
            note: with the token of this run.
            success: what ``_SUCCESS`` shall hold.
            overwrite: replace what is there.
            check_open: raises ``OutputError`` where nothing may appear any more.

        Raises:
            ClaimedError: another run is committing.
            OccupiedError: an output is there, and is not to be replaced.
            OutputError: the store fails.
        """
        uploads = self.uploads
        self.appeared.clear()
        try:
            self._take(note)
            if overwrite:
                uploads.delete(self.success)
            elif any(file.uri.key != self.claim.key for file in self.files()):
                raise OccupiedError
            for begun in pending:
                check_open()
                uploads.complete(begun, if_absent=not overwrite)
                self.appeared.append(begun.uri)
            self._keep_only(pending)
            check_open()
            uploads.put(self.success, success, note, if_absent=not overwrite)
            uploads.delete(self.claim)
        except BaseException:
            with suppress(OutputError):
                for uri in self.appeared:
                    uploads.delete(uri)
                if self.token_of(self.claim) == note["token"]:
                    uploads.delete(self.claim)
            raise

    def _take(self, note: Mapping[str, Any]) -> None:
        """Keep other runs from committing until this one has."""
        try:
            self.uploads.put(self.claim, b"", note, if_absent=True)
        except OccupiedError:
            raise ClaimedError from None

    def _keep_only(self, parts: Sequence[Pending]) -> None:
        """Remove parts of the output that was replaced, which had more; these are all there."""
        missing = {part.uri.key: part for part in parts}
        for file in self.files():
            part = missing.pop(file.uri.key, None)
            if part is not None:
                if file.size != part.size:
                    raise _disturbed(part, f"{file.size:,} bytes instead of {part.size:,}")
            elif file.uri.key != self.claim.key:
                self.uploads.delete(file.uri)
        for part in missing.values():
            raise _disturbed(part, "gone")


def _disturbed(part: Pending, what: str) -> OutputError:
    return OutputError(
        f"{part.uri} was written, and is {what}: does another program write to this folder? "
        "Choose another one, or run the same command again"
    )
