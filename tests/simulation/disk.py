"""A disk that forgets what was not synced, that can stop at any write, and that can be full.

Real files in a real folder stand for what the running system sees. Beside them this disk keeps
what has reached the platter: the bytes of each file when it was last synced, and the names of each
folder when that was. A kill leaves what the system sees. A power loss leaves the platter's, with
some of what came later: some of the names, in order, and of each file any blocks, new, old or zero.
"""

from __future__ import annotations

import contextlib
import errno
import io
import os
import shutil
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from batchscore.partial import Disk

if TYPE_CHECKING:
    import random
    from collections.abc import Callable, Iterator
    from pathlib import Path

_BLOCK_BYTES = 512
FOLDER = -1


class CrashedError(BaseException):
    """Raised into a job when the machine it runs on has stopped. Nobody can handle that."""


@dataclass(frozen=True)
class Image:
    """What is on a disk after a crash: which file or folder each name means, and each file."""

    names: dict[Path, int]
    contents: dict[int, bytes]
    attributes: dict[int, dict[str, bytes]] = field(default_factory=dict)


@dataclass(frozen=True)
class _Named:
    """A change of names: ``target`` means a file from now on, ``source`` nothing any more."""

    target: Path | None
    file: int
    source: Path | None = None


class SimulatedDisk(Disk):
    """See the module.

    Args:
        root: the folder whose content is simulated.
        random: decides what becomes of the writes that no sync has covered.
        on_sync: told after each sync of a file what its name is.
    """

    def __init__(
        self, root: Path, random: random.Random, on_sync: Callable[[str], None] = lambda _: None
    ) -> None:
        self._root = root
        self._random = random
        self._on_sync = on_sync
        self._seen: dict[Path, int] = {}
        self._names: dict[Path, int] = {}
        self._contents: dict[int, bytes] = {}
        self._unlinked: dict[int, bytes] = {}
        self._pending: list[_Named] = []
        self._last = 0
        self._stop: tuple[int, bool] | None = None
        self._full_at: int | None = None
        self.image: Image | None = None
        self.steps = 0
        for path in _walk(root):
            self._names[path] = self._found(path)
            if not path.is_dir():
                self._contents[self._names[path]] = path.read_bytes()
        self._pending.clear()

    def stop_at(self, step: int, *, power: bool) -> None:
        """Stop the machine at the n-th change from now."""
        self._stop = (self.steps + step, power)

    def full_at(self, step: int) -> None:
        """Have no space left from the n-th change from now."""
        self._full_at = self.steps + step

    def crash(self, *, power: bool) -> None:
        """The machine stops: what is left is ``image``, and every later change fails."""
        if self.image is None:
            self.image = self._after_power_loss() if power else self._after_kill()

    # The interface of Disk.

    def open(self, path: Path, mode: str) -> io.FileIO:
        opened: list[_File] = []
        try:
            with self._step(needs_space=mode != "r+b"):
                opened.append(_File(self, path, mode))
                opened[0].number = self._found(path)
        except CrashedError:
            for file in opened:
                file.close()
            raise
        return opened[0]

    def sync(self, file: io.FileIO) -> None:
        assert isinstance(file, _File)
        with self._step():
            # What has lost its name is still synced.
            number = file.number
            self._contents[number] = self._read(number)
            self._on_sync(file.path.name)

    def sync_folder(self, folder: Path) -> None:
        with self._step():
            left = []
            for change in self._pending:
                if any(
                    p is not None and p.parent == folder for p in (change.target, change.source)
                ):
                    _apply(self._names, change)
                else:
                    left.append(change)
            self._pending = left

    def replace(self, path: Path, target: Path) -> None:
        with self._step():
            number = self._found(path)
            self._keep(target)
            path.replace(target)
            self._change(_Named(target, number, source=path))

    def link(self, path: Path, target: Path) -> None:
        with self._step():
            number = self._found(path)
            target.hardlink_to(path)
            self._change(_Named(target, number))

    def unlink(self, path: Path) -> None:
        with self._step():
            if os.path.lexists(path):
                number = self._found(path)
                self._keep(path)
                path.unlink()
                self._change(_Named(None, number, source=path))

    def make_folder(self, folder: Path) -> None:
        with self._step(needs_space=True):
            folder.mkdir(exist_ok=True)
            self._found(folder)

    def remove_folder(self, folder: Path) -> None:
        with self._step():
            folder.rmdir()
            self._change(_Named(None, FOLDER, source=folder))

    # What files tell.

    def write(self, file: _File, data: bytes | memoryview) -> int:
        """Some of the bytes, as the system may; at a stop any number of them."""
        with self._step(torn=lambda: file.pass_on(data[: self._random.randrange(len(data) + 1)])):
            if self._is_full():
                file.pass_on(data[: self._random.randrange(len(data) + 1)])
                raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
            if len(data) > 1 and self._random.random() < 0.05:
                data = data[: self._random.randrange(1, len(data))]
            return file.pass_on(data)

    def truncate(self, file: _File, size: int) -> int:
        with self._step():
            return file.pass_on_size(size)

    def _is_full(self) -> bool:
        return self._full_at is not None and self.steps >= self._full_at

    @contextlib.contextmanager
    def _step(
        self, *, needs_space: bool = False, torn: Callable[[], object] | None = None
    ) -> Iterator[None]:
        """One change, before, after or in the middle of which the machine may stop."""
        if self.image is not None:
            raise CrashedError
        if needs_space and self._is_full():
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
        self.steps += 1
        stops = self._stop is not None and self.steps >= self._stop[0]
        if stops and self._random.random() < 0.5:
            if torn is not None:
                torn()
            self._stop_now()
        yield
        if stops:
            self._stop_now()

    def _stop_now(self) -> None:
        assert self._stop is not None
        self.crash(power=self._stop[1])
        raise CrashedError

    # What is where.

    def _found(self, path: Path) -> int:
        """The file of a name; one that was made past this disk is new."""
        if path not in self._seen:
            self._last += 1
            number = FOLDER if path.is_dir() else self._last
            self._seen[path] = number
            self._pending.append(_Named(path, number))
        return self._seen[path]

    def _change(self, change: _Named) -> None:
        _apply(self._seen, change)
        self._pending.append(change)

    def _keep(self, path: Path) -> None:
        """A file is about to lose a name; the platter may still have it."""
        number = self._seen.get(path)
        if number is not None and list(self._seen.values()).count(number) == 1:
            self._unlinked[number] = path.read_bytes()

    def _read(self, number: int) -> bytes:
        for path, other in self._seen.items():
            if other == number:
                return path.read_bytes()
        return self._unlinked[number]

    # What a crash leaves.

    def _after_kill(self) -> Image:
        for path in _walk(self._root):
            self._found(path)
        # Whatever was removed past this disk is gone.
        names = {path: n for path, n in self._seen.items() if os.path.lexists(path)}
        contents = {n: path.read_bytes() for path, n in names.items() if n != FOLDER}
        return Image(names, contents, {n: _attributes(p) for p, n in names.items() if n != FOLDER})

    def _after_power_loss(self) -> Image:
        seen = self._after_kill()
        names = dict(self._names)
        for change in self._pending[: self._random.randrange(len(self._pending) + 1)]:
            _apply(names, change)
        names = {path: n for path, n in names.items() if self._is_reached(path, names)}
        contents = {}
        for number in sorted({n for n in names.values() if n != FOLDER}):
            now = seen.contents.get(number, self._unlinked.get(number, b""))
            contents[number] = self._torn(self._contents.get(number, b""), now)
        return Image(names, contents, seen.attributes)

    def _is_reached(self, path: Path, names: dict[Path, int]) -> bool:
        return path.parent == self._root or names.get(path.parent) == FOLDER

    def _torn(self, old: bytes, new: bytes) -> bytes:
        """What a file is when some of its blocks have been written and others not."""
        if old == new:
            return new
        dice = self._random.random()
        if dice < 0.25:
            return old
        if dice < 0.5:
            return new
        length = self._random.choice(
            [len(old), len(new), self._random.randint(*sorted((len(old), len(new))))]
        )
        share = self._random.random()
        blocks = []
        for start in range(0, length, _BLOCK_BYTES):
            source = new if self._random.random() < share else old
            block = source[start : start + _BLOCK_BYTES]
            blocks.append(block.ljust(min(_BLOCK_BYTES, length - start), b"\0"))
        return b"".join(blocks)[:length]


class _File(io.FileIO):
    """A file whose writes are the disk's steps."""

    def __init__(self, disk: SimulatedDisk, path: Path, mode: str) -> None:
        super().__init__(path, mode)
        self._disk = disk
        self.path = path
        self.number = 0

    def write(self, data: bytes | memoryview) -> int:  # type: ignore[override]
        return self._disk.write(self, data)

    def truncate(self, size: int | None = None) -> int:
        return self._disk.truncate(self, self.tell() if size is None else size)

    def pass_on(self, data: bytes | memoryview) -> int:
        return super().write(data)

    def pass_on_size(self, size: int) -> int:
        return super().truncate(size)


def restore(root: Path, image: Image) -> None:
    """Make a folder what a crash left of it."""
    for path in root.iterdir():
        shutil.rmtree(path) if path.is_dir() else path.unlink()
    first: dict[int, Path] = {}
    for path, number in sorted(image.names.items()):
        if number == FOLDER:
            path.mkdir()
        elif number in first:
            path.hardlink_to(first[number])
        else:
            path.write_bytes(image.contents[number])
            for name, value in image.attributes.get(number, {}).items():
                os.setxattr(path, name, value)
            first[number] = path


def _apply(names: dict[Path, int], change: _Named) -> None:
    if change.source is not None:
        names.pop(change.source, None)
    if change.target is not None:
        names[change.target] = change.file


def _walk(root: Path) -> Iterator[Path]:
    for path in sorted(root.iterdir()):
        yield path
        if path.is_dir():
            yield from _walk(path)


def _attributes(path: Path) -> dict[str, bytes]:
    return {
        name: os.getxattr(path, name) for name in os.listxattr(path) if name.startswith("user.")
    }
