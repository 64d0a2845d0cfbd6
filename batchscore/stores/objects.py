"""Objects that are there: one, all below a folder, or those that a glob means."""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from batchscore.errors import InputError
from batchscore.stores.failures import reaching
from batchscore.stores.filesystem import filesystem_of
from batchscore.stores.remote_file import RemoteFile, fetched

if TYPE_CHECKING:
    from collections.abc import Iterator

    from batchscore.stores.options import StoreOptions
    from batchscore.stores.uri import StoreURI

_WILDCARD = re.compile(r"[*?[]")


@dataclass(frozen=True, slots=True)
class StoredFile:
    """An object that was there when the input was looked for.

    Attributes:
        uri: its address.
        size: its length in bytes.
        modified_ns: when it was written, as the store tells; 0 where it does not.
        options: how its store is reached.
    """

    uri: StoreURI
    size: int
    modified_ns: int
    options: StoreOptions

    def open(self, *, ahead_bytes: int = 0) -> RemoteFile:
        """The object, to be read at any place.

        Args:
            ahead_bytes: how much to ask for at least, which serves what is read front to back.
        """
        uri, options = self.uri, self.options
        return RemoteFile(str(uri), self.size, lambda: _open(uri, options), ahead_bytes=ahead_bytes)

    def __str__(self) -> str:
        return str(self.uri)


def _open(uri: StoreURI, options: StoreOptions) -> Any:
    # Asked for anew at each opening: credentials of hours ago may be no good any more.
    files, path = filesystem_of(uri, options)
    return files.open_input_file(path)


def find(uri: StoreURI, options: StoreOptions) -> StoredFile | None:
    """The object of an address, None where there is none; blocks.

    Raises:
        InputError, StoreError: the store refuses, or does not answer.
    """
    files, path = filesystem_of(uri, options)
    with reaching(str(uri)):
        info = files.get_file_info(path)
    if not info.is_file or (not uri.bucket and info.size is None):
        return None
    return _stored(uri, info, options)


def read_whole(uri: StoreURI, options: StoreOptions) -> bytes:
    """All of an object that nobody looked for before; blocks.

    Raises:
        InputError: it is not there, or the store refuses.
        StoreError: the store does not answer.
    """
    return fetched(str(uri), lambda: _whole(uri, options))


def _whole(uri: StoreURI, options: StoreOptions) -> bytes:
    with _open(uri, options) as file:
        size = file.size()
        data = bytes(file.read_at(size, 0))
    if len(data) < size:
        raise OSError(f"{len(data):,} bytes came instead of {size:,}")
    return data


def find_below(folder: StoreURI, options: StoreOptions) -> list[StoredFile]:
    """All objects below a folder, in byte order of key, however their names begin; blocks.

    Raises:
        InputError, StoreError: the store refuses, or does not answer.
    """
    from pyarrow import fs  # noqa: PLC0415 (most jobs are quicker without)

    files, path = filesystem_of(folder, options)
    with reaching(str(folder)):
        infos = files.get_file_info(fs.FileSelector(path, allow_not_found=True, recursive=True))
    found = [_stored(_below(folder, path, info.path), info, options) for info in _files(infos)]
    return sorted(found, key=lambda file: file.uri.key.encode())


def find_matching(pattern: StoreURI, options: StoreOptions) -> tuple[StoreURI, list[StoredFile]]:
    """The folder before the first wildcard, and the objects whose whole key a glob means."""
    parts = pattern.key.split("/")
    first = next(i for i, part in enumerate(parts) if _WILDCARD.search(part))
    fixed = pattern.with_key("".join(f"{part}/" for part in parts[:first]))
    wanted = re.compile(_as_regex(parts))
    found = find_below(fixed, options)
    return fixed, [file for file in found if wanted.fullmatch(file.uri.key)]


def has_wildcard(uri: StoreURI) -> bool:
    """Whether an address is a glob."""
    return bool(_WILDCARD.search(uri.key.partition("://")[2] if not uri.bucket else uri.key))


def _files(infos: list[Any]) -> Iterator[Any]:
    for info in infos:
        # A key that ends in a slash is how some tools say that a folder is there.
        if info.is_file and not info.path.endswith("/"):
            yield info


def _below(folder: StoreURI, path: str, found: str) -> StoreURI:
    if folder.bucket:
        return folder.with_key(found.partition("/")[2])
    return folder.with_key(folder.key.rstrip("/") + found.removeprefix(path.rstrip("/")))


def _stored(uri: StoreURI, info: Any, options: StoreOptions) -> StoredFile:
    if info.size is None:
        raise InputError(f"{uri}: the store does not tell its size; copy it here first")
    return StoredFile(uri, int(info.size), int(info.mtime_ns or 0), options)


def _as_regex(parts: list[str]) -> str:
    """A glob as ``glob`` of Python means it: ``*`` stays within a part, ``**`` does not."""
    regex = ""
    for place, part in enumerate(parts):
        is_last = place == len(parts) - 1
        if part == "**":
            regex += ".*" if is_last else "(?:[^/]+/)*"
            continue
        regex += _part_as_regex(part) + ("" if is_last else "/")
    return regex


def _part_as_regex(part: str) -> str:
    regex, at = "", 0
    while at < len(part):
        char = part[at]
        at += 1
        if char == "*":
            regex += "[^/]*"
        elif char == "?":
            regex += "[^/]"
        elif char == "[" and (end := part.find("]", at + 1)) > 0:
            inside = part[at:end].replace("\\", "\\\\").replace("[", "\\[")
            regex += f"[^{inside[1:]}]" if inside.startswith("!") else f"[{inside}]"
            at = end + 1
        else:
            regex += re.escape(char)
    return regex
