"""The output of several workers: a folder of parts, which appears when all of it is there."""

from __future__ import annotations

import os
import shutil
import uuid
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import pyarrow as pa

from batchscore.errors import OutputError, UsageError
from batchscore.partial.disk import writing
from batchscore.partial.folder import partial_folder
from batchscore.sinks import exporter, output_format_of

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator

    from batchscore.config import ScoreConfig

SUCCESS = "_SUCCESS"
"""The empty file that says, as with Hadoop and Spark, that a folder of parts is whole."""

_DIGITS = 5


@dataclass(frozen=True)
class PartWriter:
    """Writes one part after another into a folder that all workers see.

    A part appears whole under its name. Where two workers write the same one, as engines may have
    it, the later takes the place of the earlier: they hold the same rows.

    Attributes:
        folder: where the parts go.
        output_format: of each part.
        digits: of the number in a part's name, so that the names sort as the rows do.
    """

    folder: Path
    output_format: str
    digits: int = _DIGITS

    def name(self, number: int) -> str:
        """The file name of a part."""
        return f"part-{number:0{self.digits}}.{self.output_format}"

    def write(self, number: int, schema: pa.Schema, batches: Iterable[pa.RecordBatch]) -> None:
        """Write a part.

        Raises:
            OutputError: it cannot be written.
        """
        export = exporter(self.output_format)
        path = self.folder / self.name(number)
        with self._temporary(path) as rows, self._temporary(path) as exported, writing(path):
            with rows.open("wb") as file, pa.ipc.new_file(file, schema) as writer:
                for batch in batches:
                    writer.write_batch(batch)
            whole = rows
            if export is not None:
                export.export(rows, exported)
                whole = exported
            with whole.open("rb+") as written:
                os.fsync(written.fileno())
            whole.replace(path)

    @contextmanager
    def _temporary(self, path: Path) -> Iterator[Path]:
        # Another attempt may be at the same part, on another machine.
        temporary = path.with_name(f"_{path.name}.{uuid.uuid4().hex}")
        try:
            yield temporary
        finally:
            temporary.unlink(missing_ok=True)


class PartsFolder:
    """The folder OUT: parts are written beside it, and it appears by one rename."""

    def __init__(self, config: ScoreConfig) -> None:
        """Check that the output may be written, and write nothing yet.

        Raises:
            UsageError: it exists, its folder does not, or it is nothing that a folder can be.
        """
        if config.output == "-" or "://" in config.output:
            what = "standard output" if config.output == "-" else "an address"
            raise UsageError(
                f"--output: with --engine the output is a folder of parts, and cannot be {what}; "
                "name a folder that all workers can write to"
            )
        self._out = out = Path(config.output).absolute()
        is_told = config.output_format is not None or out.suffix
        self.output_format = (
            output_format_of(config.output, config.output_format) if is_told else "parquet"
        )
        self.exporter = exporter(self.output_format)
        self.folder = partial_folder(out, config.work_dir and config.work_dir.absolute())
        self._overwrite, self._is_begun = config.overwrite, False
        self._check()

    def _check(self) -> None:
        out, shown = self._out, str(self._out)
        if out.is_symlink() or (out.exists() and not out.is_dir()):
            raise UsageError(
                f"--output: {shown!r} is a file or a link; with --engine the output is a folder"
            )
        for option, folder in (("output", out.parent), ("work-dir", self.folder.parent)):
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
        if self.folder.exists() and not self._overwrite:
            raise UsageError(
                f"{str(self.folder)!r} holds the work of an earlier run, which with --engine "
                "cannot be gone on with; --overwrite starts afresh"
            )

    def check_apart_from(self, files: Iterable[object]) -> None:
        """Refuse to replace what is read.

        Raises:
            UsageError: a file of the input is in the output's folder.
        """
        real = self._out.resolve()
        for file in files:
            if isinstance(file, Path) and file.resolve().is_relative_to(real):
                raise UsageError(
                    f"--output: {str(self._out)!r} holds the input {str(file)!r}"
                    "; name another folder"
                )

    def begin(self, parts: int) -> PartWriter:
        """Make the folder of the work in progress; blocks.

        Raises:
            OutputError: it cannot be written.
        """
        with writing(self.folder):
            if self.folder.exists():
                shutil.rmtree(self.folder)
            self.folder.mkdir()
        self._is_begun = True
        digits = max(_DIGITS, len(str(max(0, parts - 1))))
        return PartWriter(self.folder, self.output_format, digits)

    def commit(self, writer: PartWriter, parts: int) -> None:
        """Put the parts in OUT's place; blocks.

        Raises:
            OutputError: a part is missing, or it cannot be written.
        """
        names = [writer.name(number) for number in range(parts)]
        with writing(self._out):
            for path in self.folder.iterdir():
                if path.name not in names:
                    path.unlink()  # of a worker that was killed
            for name in names:
                if not (self.folder / name).exists():
                    raise OutputError(
                        f"'{self.folder / name}' is not there: do all workers share this folder?"
                    )
            (self.folder / SUCCESS).touch()
            if self._out.parent != self.folder.parent:
                self._copy_beside()
            self._replace()
        self._is_begun = False

    def _copy_beside(self) -> None:
        """From --work-dir to a folder beside OUT, from where one rename leads there."""
        beside = partial_folder(self._out)
        if beside.exists():
            shutil.rmtree(beside)
        shutil.copytree(self.folder, beside)
        shutil.rmtree(self.folder)
        self.folder = beside

    def _replace(self) -> None:
        replaced = None
        if self._out.exists():
            replaced = self._out.with_name(f".{self._out.name}.{uuid.uuid4().hex[:8]}.replaced")
            self._out.rename(replaced)
        self.folder.rename(self._out)
        if replaced is not None:
            shutil.rmtree(replaced)

    def close(self) -> None:
        """Remove the work in progress, unless it was committed."""
        if self._is_begun:
            shutil.rmtree(self.folder, ignore_errors=True)
