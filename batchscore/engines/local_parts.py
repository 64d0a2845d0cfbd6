"""Parts in a folder that all workers see."""

from __future__ import annotations

import os
import shutil
import uuid
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from batchscore.engines.parts import digits_for, format_of_parts, name_of_part, written
from batchscore.errors import OutputError, UsageError
from batchscore.partial.disk import writing
from batchscore.partial.folder import partial_folder
from batchscore.sinks.parts import SUCCESS

if TYPE_CHECKING:
    from collections.abc import Iterable

    import pyarrow as pa

    from batchscore.config import ScoreConfig
    from batchscore.stores import StoredFile


@dataclass(frozen=True)
class LocalPartWriter:
    """A ``PartWriter``: a part appears whole under its name, in the place of an earlier try.

    Attributes:
        folder: where the parts go.
        output_format: of each part.
        digits: of the number in a part's name.
    """

    folder: Path
    output_format: str
    digits: int

    def write(self, number: int, schema: pa.Schema, batches: Iterable[pa.RecordBatch]) -> None:
        """See ``PartWriter``."""
        name = name_of_part(number, self.output_format, self.digits)
        with (
            written(self.folder, name, self.output_format, schema, batches) as whole,
            writing(self.folder / name),
        ):
            with whole.open("rb+") as file:
                os.fsync(file.fileno())
            whole.replace(self.folder / name)


class LocalParts:
    """A ``PartsOutput``: parts are written beside OUT, and it appears by one rename."""

    def __init__(self, config: ScoreConfig) -> None:
        """Check that the output may be written, and write nothing yet.

        Raises:
            UsageError: it exists, its folder does not, or it is nothing that a folder can be.
        """
        self._out = out = Path(config.output).absolute()
        self.output_format = format_of_parts(config)
        self._folder = partial_folder(out, config.work_dir and config.work_dir.absolute())
        self.own: tuple[Path | str, ...] = (self._folder,)
        self._overwrite, self._is_begun = config.overwrite, False
        self._check()

    def _check(self) -> None:
        out, shown = self._out, str(self._out)
        if out.is_symlink() or (out.exists() and not out.is_dir()):
            raise UsageError(
                f"--output: {shown!r} is a file or a link; with --engine the output is a folder"
            )
        for option, folder in (("output", out.parent), ("work-dir", self._folder.parent)):
            if not folder.is_dir():
                raise UsageError(
                    f"--{option}: there is no folder {str(folder)!r}; make it, or name another"
                )
        if out.exists():
            if not self._overwrite:
                raise UsageError(f"--output: {shown!r} exists; --overwrite replaces it")
            if any(out.iterdir()) and not (out / SUCCESS).exists():
                raise UsageError(
                    f"--output: {shown!r} is no output of a run (it has no {SUCCESS}) and is not "
                    "replaced; remove it, or name another folder"
                )
        if self._folder.exists() and not self._overwrite:
            raise UsageError(
                f"{str(self._folder)!r} holds the work of an earlier run, which with --engine "
                "cannot be gone on with; --overwrite starts afresh"
            )

    def reach(self) -> None:
        """See ``PartsOutput``."""

    def check_apart_from(self, files: Iterable[Path | StoredFile | str]) -> None:
        """See ``PartsOutput``."""
        real = self._out.resolve()
        for file in files:
            if isinstance(file, Path) and file.resolve().is_relative_to(real):
                raise UsageError(
                    f"--output: {str(self._out)!r} holds the input {str(file)!r}"
                    "; name another folder"
                )

    def begin(self, parts: int) -> LocalPartWriter:
        """See ``PartsOutput``."""
        with writing(self._folder):
            if self._folder.exists():
                shutil.rmtree(self._folder)
            self._folder.mkdir()
        self._is_begun = True
        return LocalPartWriter(self._folder, self.output_format, digits_for(parts))

    def commit(self, parts: int) -> None:
        """See ``PartsOutput``."""
        digits = digits_for(parts)
        names = [name_of_part(number, self.output_format, digits) for number in range(parts)]
        with writing(self._out):
            for path in self._folder.iterdir():
                if path.name not in names:
                    path.unlink()  # of a worker that was killed
            for name in names:
                if not (self._folder / name).exists():
                    raise OutputError(
                        f"'{self._folder / name}' is not there: do all workers share this folder?"
                    )
            (self._folder / SUCCESS).touch()
            if self._out.parent != self._folder.parent:
                self._copy_beside()
            self._replace()
        self._is_begun = False

    def _copy_beside(self) -> None:
        """From --work-dir to a folder beside OUT, from where one rename leads there."""
        beside = partial_folder(self._out)
        if beside.exists():
            shutil.rmtree(beside)
        shutil.copytree(self._folder, beside)
        shutil.rmtree(self._folder)
        self._folder = beside

    def _replace(self) -> None:
        replaced = None
        if self._out.exists():
            replaced = self._out.with_name(f".{self._out.name}.{uuid.uuid4().hex[:8]}.replaced")
            self._out.rename(replaced)
        self._folder.rename(self._out)
        if replaced is not None:
            shutil.rmtree(replaced)

    def close(self) -> None:
        """See ``PartsOutput``."""
        if self._is_begun:
            shutil.rmtree(self._folder, ignore_errors=True)
