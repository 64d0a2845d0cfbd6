"""An output as a folder of parts: where it is cut, what the parts are called, a local folder."""

from __future__ import annotations

import json
import shutil
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pyarrow as pa

from batchscore.errors import UsageError
from batchscore.partial import partial_folder
from batchscore.partial.disk import copy_file, write_file, writing
from batchscore.partial.folder import remove_files
from batchscore.sinks.destination import check_folders
from batchscore.sinks.finished import FinishedOutput
from batchscore.sinks.sealed import open_sealed, record_batches

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping

    from batchscore.partial import Disk
    from batchscore.sinks.base import Exporter
    from batchscore.sinks.destination import Product
    from batchscore.stores import StoredFile

SUCCESS = "_SUCCESS"
"""The name of what is written last, empty or not: whoever waits for it reads a whole folder."""

_SUFFIXES = {"arrow": ".arrow", "parquet": ".parquet", "csv": ".csv", "jsonl": ".jsonl"}
_PARTS = "parts"


def part_name(number: int, output_format: str) -> str:
    """The name of a part; names sort as the rows do, up to 100,000 parts."""
    return f"part-{number:05d}{_SUFFIXES.get(output_format, f'.{output_format}')}"


def written_parts(
    sealed: Path,
    folder: Path,
    output_format: str,
    export: Exporter | None,
    max_bytes: int,
) -> Iterator[Path]:
    """The rows of a sealed file as parts in a folder, each made when it is asked for.

    Args:
        sealed: the rows.
        folder: where the parts are made.
        output_format: theirs.
        export: writes it; None: Arrow.
        max_bytes: of Arrow data in a part, but for a record batch that is larger.
    """
    with open_sealed(sealed) as reader:
        for number, batches in enumerate(_groups(reader, max_bytes)):
            part = folder / part_name(number, output_format)
            rows = part if export is None else folder / "rows.arrow"
            with rows.open("wb") as file, pa.ipc.new_file(file, reader.schema) as writer:
                for batch in batches:
                    writer.write_batch(batch)
            if export is not None:
                export.export(rows, part)
                rows.unlink()
            yield part


def _groups(reader: pa.ipc.RecordBatchFileReader, max_bytes: int) -> Iterator[list[pa.RecordBatch]]:
    group: list[pa.RecordBatch] = []
    size = 0
    for batch in record_batches(reader):
        nbytes = batch.get_total_buffer_size()
        if group and size + nbytes > max_bytes:
            yield group
            group, size = [], 0
        group.append(batch)
        size += nbytes
    # A folder without a row has one part, too: it tells the columns.
    yield group


def success_note(data: bytes) -> Mapping[str, Any]:
    """What the last file tells of the job; empty where another tool wrote it."""
    try:
        found = json.loads(data)
    except ValueError:
        return {}
    return found if isinstance(found, dict) else {}


class LocalFolder:
    """A folder on a disk, which appears by being renamed: a ``Destination``."""

    is_remote = False

    def __init__(self, out: Path, work_dir: Path | None) -> None:
        self._out, self.shown = out, f"{out}/"
        self.work = partial_folder(out, work_dir)
        self.own: tuple[Path | str, ...] = (out,)
        self._replaced = out.with_name(f".{out.name}.replaced")

    def check(self) -> None:
        """See ``Destination``."""
        if self._out.exists() and not self._out.is_dir():
            raise UsageError(f"--output: {str(self._out)!r} is a file; without / it is replaced")
        if self.work.exists() and not self.work.is_dir():
            raise UsageError(f"{str(self.work)!r} is in the way of the work in progress; move it")
        if not self._out.name:
            raise UsageError(f"--output: {self.shown!r} is no folder that could appear; name one")
        check_folders(self._out, self.work)
        for path in self._out.iterdir() if self._out.is_dir() else ():
            if path.name != SUCCESS and not path.name.startswith("part-"):
                raise UsageError(
                    f"--output: the folder {self.shown!r} holds {path.name!r}, which no output "
                    "has; choose another folder"
                )

    def reach(self) -> None:
        """See ``Destination``."""

    def exists(self) -> bool:
        """See ``Destination``; an empty folder is as good as none."""
        return self._out.is_dir() and any(self._out.iterdir())

    def finished(self, output_format: str) -> FinishedOutput | None:
        """See ``Destination``."""
        success = self._out / SUCCESS
        try:
            note, written_ns = success_note(success.read_bytes()), success.stat().st_mtime_ns
        except OSError:
            return None
        return FinishedOutput.noted(note, self.shown, output_format, written_ns)

    def is_file(self, file: Path | StoredFile) -> bool:
        """See ``Destination``: a folder that is to be replaced holds none of the input."""
        if not isinstance(file, Path) or not self._out.exists():
            return False
        return self._out.resolve() in file.resolve().parents

    def forget(self) -> None:
        """See ``Destination``."""
        with writing(self.work):
            for leftover in (self.work / _PARTS, self._replaced):
                if leftover.is_dir() and (leftover is not self._replaced or self._out.exists()):
                    shutil.rmtree(leftover)

    def deliver(self, product: Product) -> None:
        """See ``Destination``."""
        disk, parts = product.disk, self.work / _PARTS
        self.forget()
        with writing(parts):
            disk.make_folder(parts)
            for part in product.parts(parts):
                with disk.open(part, "r+b") as file:
                    disk.sync(file)
                product.check_open()
            write_file(disk, parts / SUCCESS, json.dumps(product.note()).encode() + b"\n")
            disk.sync_folder(parts)
        product.check_open()
        with writing(self._out):
            self._move(disk, self._beside(disk, parts), overwrite=product.overwrite)
            disk.sync_folder(self._out.parent)
        with writing(self.work):
            remove_files(disk, self.work)

    def _beside(self, disk: Disk, parts: Path) -> Path:
        """The parts on the file system where they are wanted."""
        if parts.stat().st_dev == self._out.parent.stat().st_dev:
            return parts
        beside = self._out.with_name(f".{self._out.name}.copying")
        shutil.rmtree(beside, ignore_errors=True)
        disk.make_folder(beside)
        for part in sorted(parts.iterdir()):
            copy_file(disk, part, beside / part.name)
        disk.sync_folder(beside)
        shutil.rmtree(parts)
        return beside

    def _move(self, disk: Disk, parts: Path, *, overwrite: bool) -> None:
        if self._out.is_dir() and any(self._out.iterdir()):
            if not overwrite:
                raise UsageError(
                    f"{self.shown!r} appeared while the job ran; move it away and run the same "
                    "command with --resume"
                )
            # No system call puts a folder in the place of a full one.
            disk.replace(self._out, self._replaced)
        disk.replace(parts, self._out)
        shutil.rmtree(self._replaced, ignore_errors=True)
