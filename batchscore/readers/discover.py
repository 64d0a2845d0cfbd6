"""From what the user typed to the files there are: folders, globs, suffixes."""

from __future__ import annotations

import glob
import os
import re
import stat
from dataclasses import dataclass, field, replace
from functools import cache
from pathlib import Path
from typing import TYPE_CHECKING

from batchscore.errors import InputError, UsageError
from batchscore.extensions import INPUT_FORMATS
from batchscore.readers.partitions import partitions_of
from batchscore.stores import (
    StoredFile,
    StoreOptions,
    StoreURI,
    find,
    find_below,
    find_matching,
    has_wildcard,
    is_uri,
)

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Mapping

    from batchscore.readers.partitions import Partition

STDIN = "-"

COMPRESSIONS = {".gz": "gzip", ".bz2": "bz2", ".zst": "zstd"}
_SUFFIXES = {
    ".parquet": "parquet", ".pq": "parquet",
    ".csv": "csv", ".tsv": "tsv",
    ".arrow": "arrow", ".ipc": "arrow", ".feather": "arrow", ".arrows": "arrow",
    ".jsonl": "jsonl", ".ndjson": "jsonl",
    ".png": "images", ".jpg": "images", ".jpeg": "images", ".gif": "images",
    ".bmp": "images", ".webp": "images", ".tif": "images", ".tiff": "images",
}  # fmt: skip
_TEXT_FORMATS = {"csv", "tsv", "jsonl"}
_WILDCARD = re.compile(r"[*?[]")


@dataclass(frozen=True, slots=True)
class InputFile:
    """One file of the input.

    Attributes:
        name: the path as the user would write it, or ``-``.
        format: one of ``INPUT_FORMATS``, or a registered one.
        compression: what the suffix says: ``gzip``, ``bz2``, ``zstd``, or None.
        by_suffix: whether the suffix told the format, so that it has to be true.
        is_stream: whether it can be read only once (standard input, a pipe).
        stored: the object, where it is in a store.
        partition: what its folders tell of its rows, outermost first.
    """

    name: str
    format: str
    compression: str | None = None
    by_suffix: bool = True
    is_stream: bool = False
    stored: StoredFile | None = None
    partition: Partition = ()


@dataclass(frozen=True, slots=True)
class FoundInput:
    """All files of the input, in order.

    Attributes:
        files: the files, at least one; all pictures or none.
        root: the folder that holds them: of pictures the folder that was typed, of tables that
            of the first file.
    """

    files: tuple[InputFile, ...]
    root: Path | StoreURI

    @property
    def is_pictures(self) -> bool:
        """Whether the rows are picture files."""
        return self.files[0].format == "images"


@dataclass(frozen=True, slots=True)
class _Expanded:
    """What one input stands for.

    Attributes:
        names: the files.
        root: the folder that holds them.
        typed_root: the same, as the names begin with it; None for a lone file.
        stored: the objects by name.
    """

    names: list[str]
    root: str | StoreURI
    typed_root: str | None = None
    stored: Mapping[str, StoredFile] = field(default_factory=dict)


def discover(
    inputs: tuple[str, ...],
    input_format: str | None,
    not_input: tuple[Path | str, ...] = (),
    *,
    store: StoreOptions | None = None,
    hive: bool = False,
) -> FoundInput:
    """The files behind what was typed, without those of ``not_input`` that nobody typed.

    Args:
        inputs: what was typed.
        input_format: of all of it; None: the suffixes tell.
        not_input: files, folders and addresses that are the job's own.
        store: how object stores are reached.
        hive: whether key=value folders tell something of the rows.

    Raises:
        UsageError: ``input_format`` is none of the formats.
        InputError: an input does not exist, holds nothing, or has no known format.
    """
    if input_format is not None and not INPUT_FORMATS.is_known(input_format):
        choice = INPUT_FORMATS.choice(input_format)
        raise UsageError(f"input format {input_format!r}: it must be one of {choice}")
    if not inputs:
        raise InputError("no input is given; name files, folders, globs, or - for standard input")
    if inputs.count(STDIN) > 1:
        raise InputError("-: standard input can be read only once; give - once")
    own = frozenset(
        str(path) if is_uri(str(path)) else os.path.realpath(path) for path in not_input
    )
    # Looked up once, and only where a suffix is met that is not built in.
    registered = cache(INPUT_FORMATS.registered)
    files: list[InputFile] = []
    roots: list[str | StoreURI] = []
    for typed in inputs:
        found = _expand(typed, own, store or StoreOptions())
        classified = [_classify(name, input_format, typed, registered, found.stored)
                      for name in found.names]  # fmt: skip
        if hive and found.typed_root is not None:
            partitions = partitions_of(found.names, found.typed_root)
            classified = [
                replace(file, partition=partition)
                for file, partition in zip(classified, partitions, strict=True)
            ]
        files += classified
        roots.append(found.root)
    pictures = [file for file in files if file.format == "images"]
    if pictures and len(pictures) < len(files):
        table = next(file for file in files if file.format != "images")
        raise InputError(
            f"the input mixes pictures ({pictures[0].name}) and tables ({table.name}); "
            "score them in two runs"
        )
    if pictures:
        return FoundInput(tuple(files), _common(roots))
    first = files[0]
    if first.stored is not None:
        uri = first.stored.uri
        return FoundInput(tuple(files), uri.with_key(uri.key[: uri.key.rfind("/") + 1]))
    folder = Path() if first.is_stream else Path(first.name).parent
    return FoundInput(tuple(files), folder.absolute())


def _common(roots: list[str | StoreURI]) -> Path | StoreURI:
    """The folder that holds all pictures."""
    paths = [root for root in roots if isinstance(root, str)]
    if len(paths) == len(roots):
        return _common_folder(paths)
    addresses = {str(root) for root in roots}
    if len(addresses) > 1 or isinstance(roots[0], str):
        raise InputError(
            f"pictures of {' and '.join(sorted(addresses)[:2])} have no folder in common; score "
            "them in two runs"
        )
    return roots[0]


def _common_folder(roots: list[str]) -> Path:
    try:
        return Path(os.path.commonpath(roots))
    except ValueError as error:  # on Windows
        raise InputError(
            f"the folders {roots[0]!r} and {roots[-1]!r} are on two drives; score them in two runs"
        ) from error


def _expand(typed: str, own: frozenset[str], store: StoreOptions) -> _Expanded:
    """The names that one input stands for, and its folder."""
    if typed == STDIN:
        return _Expanded([STDIN], str(Path.cwd()))
    if is_uri(typed):
        return _expand_uri(typed, own, store)
    path = Path(typed)
    if path.is_dir():
        names = sorted(_walk(typed, own), key=os.fsencode)
        if not names:
            raise _empty_folder(typed)
        return _Expanded(names, str(path.absolute()), _as_names_begin(path))
    if os.path.lexists(typed):
        return _Expanded([typed], str(path.parent.absolute()))
    if _WILDCARD.search(typed):
        return _glob(typed, own)
    raise InputError(f"{typed}: no such file or folder; is the path right, from this folder?")


def _empty_folder(shown: str) -> InputError:
    return InputError(
        f"{shown}: the folder holds no input; names that begin with _ or . are skipped"
    )


def _as_names_begin(folder: Path) -> str:
    return "" if folder == Path() else str(folder / "x")[:-1]


def _expand_uri(typed: str, own: frozenset[str], store: StoreOptions) -> _Expanded:
    """An object, else what lies below it as a folder, else what a glob means."""
    try:
        uri = StoreURI.parse(typed)
    except UsageError as error:
        raise InputError(str(error)) from None
    if not uri.is_folder and (file := find(uri, store)) is not None:
        key = uri.key[: uri.key.rfind("/") + 1]
        return _Expanded([str(file)], uri.with_key(key), None, {str(file): file})
    if has_wildcard(uri):
        root, files = find_matching(uri, store)
        files = list(_shown(files, root, own, asked=uri.name[:1]))
        missing = InputError(f"{uri}: no object matches; is the pattern right?")
    else:
        root = uri if uri.is_folder else uri.with_key(f"{uri.key}/")
        found = find_below(root, store)
        files = list(_shown(found, root, own))
        missing = (
            _empty_folder(str(uri))
            if found
            else InputError(f"{uri}: no such object or bucket; is the address right?")
        )
    if not files:
        raise missing
    by_name = {str(file): file for file in files}
    return _Expanded(list(by_name), root, str(root), by_name)


def _shown(
    files: Iterable[StoredFile], root: StoreURI, own: frozenset[str], asked: str = ""
) -> Iterable[StoredFile]:
    """The objects that nothing hides."""
    for file in files:
        *folders, name = file.uri.key[len(root.key) :].split("/")
        if any(map(_hidden, folders)) or (_hidden(name) and name[0] != asked):
            continue
        if not any(str(file) == place or str(file).startswith(f"{place.rstrip('/')}/")
                   for place in own):  # fmt: skip
            yield file


def _hidden(name: str) -> bool:
    return name.startswith(("_", "."))


def _walk(folder: str, passed: frozenset[str]) -> list[str]:
    """The files below a folder, links followed, but for what ``passed`` names.

    The folders on the way are passed too, which breaks circles of links.
    """
    real = os.path.realpath(folder)
    if real in passed:
        return []
    names: list[str] = []
    try:
        with os.scandir(folder) as entries:
            for entry in entries:
                if _hidden(entry.name):
                    continue
                name = str(Path(folder, entry.name))
                if entry.is_dir():
                    names += _walk(name, passed | {real})
                elif os.path.join(real, entry.name) not in passed:  # noqa: PTH118 (quicker)
                    names.append(name)
    except OSError as error:
        raise InputError(
            f"{folder}: the folder cannot be read: {error.strerror}; allow it, or name the files"
        ) from error
    return names


def _glob(pattern: str, own: frozenset[str]) -> _Expanded:
    fixed = _fixed_part(pattern)
    shown = len(Path(fixed).parts)
    # A last part that is itself written with _ or . asks for such names.
    asked = Path(pattern).name[:1]
    names: set[str] = set()
    real = cache(os.path.realpath)
    # Not Path.glob: it knows no absolute pattern, and "**" as the last part only as folders.
    for match in glob.iglob(  # noqa: PTH207
        pattern, recursive=True, include_hidden=_hidden(asked)
    ):
        *folders, name = Path(match).parts[shown:] or (Path(match).name,)
        if any(map(_hidden, folders)) or (_hidden(name) and name[0] != asked):
            continue
        folder = real(str(Path(match).parent))
        if folder in own or str(Path(folder, name)) in own:
            continue
        if not Path(match).is_dir():
            names.add(str(Path(match)))
        elif "**" not in pattern:
            names.update(_walk(match, own))
    if not names:
        raise InputError(f"{pattern}: no file matches; is the pattern right, from this folder?")
    root = Path(fixed)
    return _Expanded(sorted(names, key=os.fsencode), str(root.absolute()), _as_names_begin(root))


def _fixed_part(pattern: str) -> str:
    """The folder before the first part with a wildcard."""
    parts = Path(pattern).parts
    first = next(i for i, part in enumerate(parts) if _WILDCARD.search(part))
    return str(Path(*parts[:first]))


def _classify(
    name: str,
    input_format: str | None,
    typed: str,
    registered: Callable[[], tuple[str, ...]],
    stored: Mapping[str, StoredFile],
) -> InputFile:
    try:
        name.encode()
    except UnicodeEncodeError:
        raise InputError(f"{name!a}: the file's name is not valid UTF-8; rename it") from None
    suffix = Path(name).suffix.lower()
    compression = COMPRESSIONS.get(suffix)
    file = stored.get(name)
    if input_format is not None:
        return InputFile(name, input_format, compression, False, _is_stream(name, file), file)
    if name == STDIN:
        raise InputError("-: standard input has no suffix to tell its format; say --input-format")
    inner = Path(name).with_suffix("").suffix.lower() if compression else suffix
    found = _SUFFIXES.get(inner)
    if found is None and not compression and suffix[1:] in registered():
        found = suffix[1:]
    if found is None or (compression and found not in _TEXT_FORMATS):
        shown = f"{inner}{suffix}" if compression else suffix
        place = "" if name == typed else " (or begin the name with _ to have it skipped)"
        what = f"the suffix {shown!r} tells no format" if shown else "no suffix tells the format"
        raise InputError(f"{name}: {what}; say --input-format{place}")
    return InputFile(name, found, compression, True, _is_stream(name, file), file)


def _is_stream(name: str, stored: StoredFile | None) -> bool:
    if name == STDIN or stored is not None:
        return name == STDIN
    try:
        return not stat.S_ISREG(Path(name).stat().st_mode)
    except OSError as error:
        raise InputError(f"{name}: cannot be read: {error.strerror}") from error
