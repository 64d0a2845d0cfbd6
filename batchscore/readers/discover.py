"""From what the user typed to the files there are: folders, globs, suffixes."""

from __future__ import annotations

import glob
import os
import re
import stat
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import TYPE_CHECKING

from batchscore.errors import InputError, UsageError
from batchscore.extensions import INPUT_FORMATS

if TYPE_CHECKING:
    from collections.abc import Callable

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
_URI = re.compile(r"[A-Za-z][A-Za-z0-9+.-]+://")


@dataclass(frozen=True, slots=True)
class InputFile:
    """One file of the input.

    Attributes:
        name: the path as the user would write it, or ``-``.
        format: one of ``INPUT_FORMATS``, or a registered one.
        compression: what the suffix says: ``gzip``, ``bz2``, ``zstd``, or None.
        by_suffix: whether the suffix told the format, so that it has to be true.
        is_stream: whether it can be read only once (standard input, a pipe).
    """

    name: str
    format: str
    compression: str | None = None
    by_suffix: bool = True
    is_stream: bool = False


@dataclass(frozen=True, slots=True)
class FoundInput:
    """All files of the input, in order.

    Attributes:
        files: the files, at least one; all pictures or none.
        root: the folder that holds them: of pictures the folder that was typed, of tables that
            of the first file.
    """

    files: tuple[InputFile, ...]
    root: Path

    @property
    def is_pictures(self) -> bool:
        """Whether the rows are picture files."""
        return self.files[0].format == "images"


def discover(
    inputs: tuple[str, ...], input_format: str | None, not_input: tuple[Path, ...] = ()
) -> FoundInput:
    """The files behind what was typed, without those of ``not_input`` that nobody typed.

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
    own = frozenset(os.path.realpath(path) for path in not_input)
    # Looked up once, and only where a suffix is met that is not built in.
    registered = cache(INPUT_FORMATS.registered)
    files: list[InputFile] = []
    roots: list[str] = []
    for typed in inputs:
        names, root = _expand(typed, own)
        files += [_classify(name, input_format, typed, registered) for name in names]
        roots.append(root)
    pictures = [file for file in files if file.format == "images"]
    if pictures and len(pictures) < len(files):
        table = next(file for file in files if file.format != "images")
        raise InputError(
            f"the input mixes pictures ({pictures[0].name}) and tables ({table.name}); "
            "score them in two runs"
        )
    if pictures:
        return FoundInput(tuple(files), _common_folder(roots))
    first = files[0]
    folder = Path() if first.is_stream else Path(first.name).parent
    return FoundInput(tuple(files), folder.absolute())


def _common_folder(roots: list[str]) -> Path:
    try:
        return Path(os.path.commonpath(roots))
    except ValueError as error:  # on Windows
        raise InputError(
            f"the folders {roots[0]!r} and {roots[-1]!r} are on two drives; score them in two runs"
        ) from error


def _expand(typed: str, own: frozenset[str]) -> tuple[list[str], str]:
    """The names that one input stands for, and its folder."""
    if typed == STDIN:
        return [STDIN], str(Path.cwd())
    if _URI.match(typed):
        # Neither the user part nor the query is shown: they may hold a secret.
        shown = re.sub(r"//[^/]*@", "//", typed.partition("?")[0])
        raise InputError(f"{shown}: only local files can be read; copy it here first")
    path = Path(typed)
    if path.is_dir():
        names = _walk(typed, own)
        if not names:
            raise InputError(
                f"{typed}: the folder holds no input; names that begin with _ or . are skipped"
            )
        return sorted(names, key=os.fsencode), str(path.absolute())
    if os.path.lexists(typed):
        return [typed], str(path.parent.absolute())
    if _WILDCARD.search(typed):
        return _glob(typed, own)
    raise InputError(f"{typed}: no such file or folder")


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
        raise InputError(f"{folder}: the folder cannot be read: {error.strerror}") from error
    return names


def _glob(pattern: str, own: frozenset[str]) -> tuple[list[str], str]:
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
        raise InputError(f"{pattern}: no file matches")
    return sorted(names, key=os.fsencode), str(Path(fixed).absolute())


def _fixed_part(pattern: str) -> str:
    """The folder before the first part with a wildcard."""
    parts = Path(pattern).parts
    first = next(i for i, part in enumerate(parts) if _WILDCARD.search(part))
    return str(Path(*parts[:first]))


def _classify(
    name: str, input_format: str | None, typed: str, registered: Callable[[], tuple[str, ...]]
) -> InputFile:
    try:
        name.encode()
    except UnicodeEncodeError:
        raise InputError(f"{name!a}: the file's name is not valid UTF-8; rename it") from None
    suffix = Path(name).suffix.lower()
    compression = COMPRESSIONS.get(suffix)
    if input_format is not None:
        return InputFile(name, input_format, compression, False, _is_stream(name))
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
    return InputFile(name, found, compression, True, _is_stream(name))


def _is_stream(name: str) -> bool:
    if name == STDIN:
        return True
    try:
        return not stat.S_ISREG(Path(name).stat().st_mode)
    except OSError as error:
        raise InputError(f"{name}: cannot be read: {error.strerror}") from error
