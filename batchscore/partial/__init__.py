"""The crash-safe output in progress: a folder that becomes an Arrow IPC file.

The folder holds the file without its footer (``rows.arrow``), a journal with one line for each
chunk in it (``journal``), and what job it belongs to (``job.json``). Data is written before the
line that tells of it, so whatever a crash leaves behind, the lines that check out describe rows
that are whole. Sealing adds the footer, committing moves the file to its place.
"""

from __future__ import annotations

import contextlib
import errno
import json
import os
import sys
import time
from typing import TYPE_CHECKING

import pyarrow as pa
from isal.isal_zlib import crc32

from batchscore.errors import OutputError, UsageError
from batchscore.partial.disk import Disk, output_error, write_all, write_file, writing
from batchscore.partial.folder import (
    EXPORT,
    JOB,
    JOURNAL,
    ROWS,
    commit,
    is_of_schema,
    own_inode,
    partial_folder,
    remove_files,
)
from batchscore.partial.footer import BLOCK, file_head, file_tail
from batchscore.partial.journal import LINE_BYTES, Entry, entries, next_crc
from batchscore.partial.messages import has_dictionary, message_parts, serialize_batch

if sys.platform != "win32":
    import fcntl

if TYPE_CHECKING:
    import io
    from collections.abc import Callable, Iterator, Mapping
    from pathlib import Path

__all__ = ["Disk", "PartialFile", "commit", "partial_folder", "serialize_batch"]

_BATCHES_A_MAPPING = 256


class PartialFile:
    """The one writer of a job's output. Calls must not overlap; all of them may block.

    First ``open``, then ``append`` for each chunk in order, then ``seal`` and ``commit`` of what
    it returns; ``close`` always comes last. After an ``OutputError`` only ``close`` makes sense:
    what was durable is still there for ``open(..., resume=True)``.

    Args:
        folder: where it lives, see ``partial_folder``; made when it is opened.
        sync_interval_s: data is made durable at most this often; 0 is after every chunk.
        clock: seconds that never go back.
        disk: changes the files.
    """

    def __init__(
        self,
        folder: Path,
        *,
        disk: Disk | None = None,
        sync_interval_s: float = 1.0,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self.folder = folder
        self.rows = 0
        self._sync_interval_s = sync_interval_s
        self._clock = clock
        self._disk = disk or Disk()
        self._schema: pa.Schema | None = None
        self._data: io.FileIO | None = None
        self._journal: io.FileIO | None = None
        self._lock_handle: int | None = None
        self._blocks = bytearray()
        self._end = 0
        self._synced_at = 0.0
        self._unsynced = False
        self._failure: OutputError | None = None

    @property
    def export_path(self) -> Path:
        """Where an exporter may write; removed with the folder."""
        return self.folder / EXPORT

    @property
    def rows_path(self) -> Path:
        """The file of rows, which sealing makes an Arrow IPC file."""
        return self.folder / ROWS

    def exists(self) -> bool:
        """Whether there is work in progress that could be resumed or would be lost."""
        return (self.folder / JOB).is_file() and (self.folder / ROWS).is_file()

    def identity(self) -> dict[str, object] | None:
        """The job that the work in progress belongs to, None if absent or unreadable."""
        try:
            found = json.loads((self.folder / JOB).read_bytes())
        except (OSError, ValueError):
            return None
        return found if isinstance(found, dict) else None

    def discard(self) -> None:
        """Remove the work in progress. Files in the folder that are not ours stay."""
        with writing(self.folder):
            if self._lock_handle is None and self.folder.is_dir():
                self._lock()
            self._close_files()
            remove_files(self._disk, self.folder)
            self._unlock()

    def reserve(self) -> None:
        """Keep other processes out from now on, as ``open`` does.

        Raises:
            UsageError: another process is writing here.
            OutputError: the folder cannot be made.
        """
        with writing(self.folder):
            self._disk.make_folder(self.folder)
            self._lock()

    def open(
        self, schema: pa.Schema, identity: Mapping[str, object], *, resume: bool = False
    ) -> int:
        """Begin, or go on with what the same job left.

        Args:
            schema: of the output, without dictionary types.
            identity: what makes it this job, as JSON values; compared, never understood.
            resume: keep what is there, if it is of the same schema and identity and undamaged;
                chunks after the first damaged one are dropped.

        Returns:
            The number of rows that are already in the file.

        Raises:
            ValueError: the schema has a dictionary type.
            UsageError: another process is writing here.
            OutputError: the folder cannot be written.
        """
        for field in schema:
            if has_dictionary(field.type):
                raise ValueError(f"column {field.name!r} is of a dictionary type: decode it")
        head = file_head(schema)
        self._close_files()
        self._failure, self._unsynced = None, False
        self._schema, self.rows, self._blocks, self._end = schema, 0, bytearray(), 0
        with writing(self.folder):
            self._disk.make_folder(self.folder)
            self._lock()
            try:
                self._begin(head, json.loads(json.dumps(dict(identity))), resume=resume)
            except BaseException:
                self._close_files()
                raise
            self._synced_at = self._clock()
        return self.rows

    def append(self, batch: pa.RecordBatch) -> None:
        """Add a chunk.

        Raises:
            ValueError: its columns are not those of the schema.
            OutputError: it cannot be written.
        """
        data, journal = self._opened()
        if not batch.schema.equals(self._schema):
            raise ValueError("the record batch has another schema than the file")
        message = serialize_batch(batch)
        entry = Entry(self._end, *message_parts(message), batch.num_rows, crc32(message))
        with self._failing():
            write_all(data, message)
            self._unsynced = True
            write_all(journal, entry.line())
        self._count(entry)
        if self._clock() - self._synced_at >= self._sync_interval_s:
            self.sync()

    def sync(self) -> None:
        """Make everything so far durable: data first, then the journal."""
        data, journal = self._opened()
        if not self._unsynced:
            return
        with self._failing():
            self._disk.sync(data)
            self._disk.sync(journal)
            # What has no name any more is still written to without an error.
            if not self.rows_path.exists():
                raise FileNotFoundError(errno.ENOENT, os.strerror(errno.ENOENT))
        self._unsynced = False
        self._synced_at = self._clock()

    def seal(self) -> Path:
        """Add the footer and read the file back.

        Returns:
            The path of the whole Arrow IPC file, to be exported or committed.

        Raises:
            OutputError: it cannot be written, or does not read back as written.
        """
        data, _ = self._opened()
        self.sync()
        path = self.folder / ROWS
        with self._failing():
            write_all(data, file_tail(self._schema, self._blocks))
            self._disk.sync(data)
            self._close_files()
            if not self._reads_back(path):
                raise OSError(errno.EIO, "it does not read back as it was written")
        return path

    def close(self) -> None:
        """Leave the work in progress on disk, durable and resumable. Safe to call twice."""
        try:
            # Where opening failed half-way there is nothing to make durable.
            if self._data and self._journal and self._failure is None:
                self.sync()
        finally:
            self._close_files()
            self._unlock()

    def _opened(self) -> tuple[io.FileIO, io.FileIO]:
        if self._failure is not None:
            # What reached the disk after a failed write is unknown until it is opened anew.
            raise OutputError(str(self._failure))
        if self._data is None or self._journal is None:
            raise ValueError("the partial file is not open")
        return self._data, self._journal

    @contextlib.contextmanager
    def _failing(self) -> Iterator[None]:
        try:
            yield
        except OSError as error:
            self._failure = output_error(self.folder, error)
            raise self._failure from error

    def _count(self, entry: Entry) -> None:
        self._blocks += BLOCK.pack(entry.offset, entry.metadata_bytes, entry.body_bytes)
        self._end = entry.end
        self.rows += entry.rows

    def _begin(self, head: bytes, identity: dict[str, object], *, resume: bool) -> None:
        assert self._schema is not None  # noqa: S101 - for the type checker
        if not (resume and self.identity() == identity and self._recover(self._schema)):
            self._start(head, identity)

    def _start(self, head: bytes, identity: Mapping[str, object]) -> None:
        """Fresh files; the job's identity comes last and says that the others are there."""
        disk = self._disk
        remove_files(disk, self.folder, keep_folder=True)
        self._data = disk.open(self.folder / ROWS, "xb")
        self._journal = disk.open(self.folder / JOURNAL, "xb")
        write_all(self._data, head)
        entry = Entry(0, len(head), 0, 0, crc32(head))
        write_all(self._journal, entry.line())
        self._end = entry.end
        disk.sync(self._data)
        disk.sync(self._journal)
        write_file(disk, self.folder / JOB, json.dumps(identity, indent=2).encode() + b"\n")
        disk.sync_folder(self.folder)
        disk.sync_folder(self.folder.parent)

    def _recover(self, schema: pa.Schema) -> bool:
        """Open what is there, cut to the last chunk that is whole; False if it is of no use.

        Every chunk is read and checked, not only the last ones: which of them had reached the
        disk is unknown after a power loss, and reading is quick beside scoring again.
        """
        path = self.folder / ROWS
        try:
            found = entries((self.folder / JOURNAL).read_bytes())
            own_inode(self._disk, path)
            self._data = self._disk.open(path, "r+b")
            self._journal = self._disk.open(self.folder / JOURNAL, "r+b")
        except FileNotFoundError:
            self._close_files()
            return False
        lines = 0
        for entry in found:
            if entry.offset != self._end or next_crc(self._data, entry) != entry.crc:
                break
            if lines == 0:
                if not is_of_schema(path, entry.end, schema):
                    break
                self._end = entry.end
            else:
                self._count(entry)
            lines += 1
        if lines == 0:
            self._close_files()
            return False
        self._unsynced = True
        for file, length in ((self._journal, lines * LINE_BYTES), (self._data, self._end)):
            file.truncate(length)
            file.seek(length)
        return True

    def _reads_back(self, path: Path) -> bool:
        rows, count = 0, len(self._blocks) // BLOCK.size
        try:
            # Mapped anew every so often: pages that were looked at count as memory until then.
            for start in range(0, max(count, 1), _BATCHES_A_MAPPING):
                with pa.memory_map(str(path)) as source, pa.ipc.open_file(source) as reader:
                    if reader.num_record_batches != count or not reader.schema.equals(
                        self._schema, check_metadata=True
                    ):
                        return False
                    stop = min(start + _BATCHES_A_MAPPING, count)
                    rows += sum(reader.get_batch(i).num_rows for i in range(start, stop))
        except pa.ArrowException:
            return False
        return rows == self.rows

    def _lock(self) -> None:
        """Keep other processes out. The lock goes when the process does, however it ends."""
        if sys.platform == "win32" or self._lock_handle is not None:
            return
        handle = os.open(self.folder, os.O_RDONLY)
        try:
            fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            os.close(handle)
            raise UsageError(
                f"another run is writing '{self.folder}'; wait for it, or choose another output"
            ) from None
        except OSError:
            pass  # a file system without locks
        self._lock_handle = handle

    def _unlock(self) -> None:
        if self._lock_handle is not None:
            os.close(self._lock_handle)
            self._lock_handle = None

    def _close_files(self) -> None:
        for file in (self._data, self._journal):
            if file is not None:
                file.close()
        self._data = self._journal = None
