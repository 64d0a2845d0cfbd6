"""The folder of an object store that cells name files in, and never leave."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from posixpath import normpath

from batchscore.codecs.columns import shown
from batchscore.codecs.folder import ImageFolder
from batchscore.errors import EncodeError, InputError, StoreError, UsageError
from batchscore.stores import StoreOptions, StoreURI, find, is_uri, read_whole


@dataclass(frozen=True)
class StoredImageFolder(ImageFolder):
    """Where the files that cells name are read, in a store.

    Attributes:
        base, root: not used.
        uri: the folder that relative keys start from, and that no key leaves.
        options: how the store is reached.
    """

    uri: StoreURI
    options: StoreOptions

    @classmethod
    def of(cls, root: StoreURI, options: StoreOptions) -> StoredImageFolder:
        """The folder of an address, with or without a slash at its end."""
        folder = root if root.is_folder else root.with_key(f"{root.key}/")
        return cls(Path(), Path(), folder, options)

    def find(self, cell: str) -> StoreURI:
        """The object that the cell names, by a key or a whole address.

        Raises:
            EncodeError: it leads out of the folder, or can be no key.
        """
        if not cell or "\0" in cell:
            raise EncodeError(f"{shown(cell)} is not a path")
        root = self.uri
        try:
            named = StoreURI.parse(cell) if is_uri(cell) else root.with_key(root.key + cell)
        except UsageError as error:
            raise EncodeError(str(error)) from None
        # Keys are no paths, and yet nobody writes ".." but to climb.
        key = normpath(named.key) if named.bucket else named.key
        is_inside = (
            (named.scheme, named.bucket, named.account) == (root.scheme, root.bucket, root.account)
            and not cell.startswith("/")
            and f"{key}/".startswith(normpath(root.key) + "/" if root.key.strip("/") else "")
            and key != ".."
            and not key.startswith(("../", "/"))
        )
        if not is_inside:
            raise EncodeError(f"{shown(cell)} is outside the image root {str(root)!r}")
        return root.with_key(key)

    def read(self, cell: str) -> bytes:
        """The bytes of the object that the cell names.

        Raises:
            EncodeError: it is outside the folder, not there or not readable.
            StoreError: the store does not answer.
        """
        uri = self.find(cell)
        try:
            return read_whole(uri, self.options)
        except InputError as error:
            raise EncodeError(str(error)) from None

    def file_size(self, cell: str) -> int:
        """How many bytes the object has; 0 where it cannot be told."""
        try:
            found = find(self.find(cell), self.options)
        except (EncodeError, InputError, StoreError):
            return 0
        return 0 if found is None else found.size
