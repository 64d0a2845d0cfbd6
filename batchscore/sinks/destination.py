"""Where an output appears: a local file, a local folder of parts, an object store."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any, Protocol

import pyarrow as pa

from batchscore.errors import UsageError
from batchscore.partial import commit, partial_folder
from batchscore.sinks.finished import FinishedOutput

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping

    from batchscore.partial import Disk
    from batchscore.stores import StoredFile


class Product(Protocol):
    """An output whose rows are all there, in the work in progress: what a destination takes of it.

    Attributes:
        disk: changes the files.
        overwrite: whether what is in the place is replaced.
    """

    @property
    def disk(self) -> Disk: ...

    @property
    def overwrite(self) -> bool: ...

    def whole(self) -> Path:
        """One file in the output's format, in the folder of the work in progress."""
        ...

    def parts(self, folder: Path) -> Iterator[Path]:
        """Files in the output's format, made in a folder one after the other; at least one."""
        ...

    def note(self) -> Mapping[str, Any]:
        """What tells of the job, for a later run of it."""
        ...

    def check_open(self) -> None:
        """Raise ``OutputError`` where the run has ended, and nothing may appear any more."""
        ...


class Destination(Protocol):
    """Where one output appears. All calls but for the attributes may block.

    ``check`` comes before anything else, ``reach`` next, from a worker thread; ``deliver`` last.
    ``forget`` comes before work begins anew, or is thrown away.

    Attributes:
        shown: for messages.
        work: the folder of the work in progress.
        is_remote: whether delivering it is long work of its own, which can fail by itself.
        own: files, folders and addresses that are no input though they lie where input is.
    """

    shown: str
    work: Path
    is_remote: bool
    own: tuple[Path | str, ...]

    def check(self) -> None:
        """Raise ``UsageError`` where nothing can be written there."""
        ...

    def reach(self) -> None:
        """The same, for what takes a network to find out."""
        ...

    def exists(self) -> bool: ...

    def finished(self, output_format: str) -> FinishedOutput | None:
        """What is there, None where nothing tells what job wrote it."""
        ...

    def is_file(self, file: Path | StoredFile) -> bool:
        """Whether a file of the input is the output."""
        ...

    def forget(self) -> None:
        """Tidy away what an earlier run left on the way."""
        ...

    def deliver(self, product: Product) -> None:
        """Let the output appear, whole, and remove the work in progress.

        Raises:
            UsageError: something is there by now, and is not to be replaced.
            OutputError: it cannot be written; the work in progress stays.
        """
        ...


class LocalFile:
    """A file on a disk: the ``Destination`` of most jobs."""

    is_remote = False

    def __init__(self, out: Path, work_dir: Path | None) -> None:
        self._out, self.shown = out, str(out)
        self.work = partial_folder(out, work_dir)
        self.own: tuple[Path | str, ...] = (out,)

    def check(self) -> None:
        """See ``Destination``."""
        out = self._out
        if out.is_symlink() and not out.exists():
            raise UsageError(
                f"--output: {self.shown!r} is a link to what does not exist"
                "; remove it, or name another file"
            )
        if self.work.exists() and not self.work.is_dir():
            raise UsageError(f"{str(self.work)!r} is in the way of the work in progress; move it")
        if out.is_dir():
            raise UsageError(
                f"--output: {self.shown!r} is a folder, not a file; end it with / for a folder of "
                "parts"
            )
        if out.exists() and not out.is_file():
            # It would not be written to but replaced: a device would be gone.
            raise UsageError(f"--output: {self.shown!r} is no regular file; - is standard output")
        check_folders(out, self.work)

    def reach(self) -> None:
        """See ``Destination``."""

    def exists(self) -> bool:
        """See ``Destination``."""
        return self._out.exists()

    def finished(self, output_format: str) -> FinishedOutput | None:
        """See ``Destination``."""
        try:
            return FinishedOutput.read(self._out, output_format)
        except (OSError, pa.ArrowException):
            return None

    def is_file(self, file: Path | StoredFile) -> bool:
        """See ``Destination``."""
        is_there = isinstance(file, Path) and self._out.exists() and file.exists()
        return is_there and isinstance(file, Path) and file.samefile(self._out)

    def forget(self) -> None:
        """See ``Destination``."""

    def deliver(self, product: Product) -> None:
        """See ``Destination``."""
        whole = product.whole()
        product.check_open()
        commit(product.disk, whole, self._out, overwrite=product.overwrite)


def check_folders(out: Path, work: Path) -> None:
    """Raise ``UsageError`` where a folder to write in is not there."""
    for option, folder in (("output", out.parent), ("work-dir", work.parent)):
        if not folder.is_dir():
            raise UsageError(
                f"--{option}: there is no folder {str(folder)!r}; make it, or name another"
            )
