"""Arrow IPC files and streams, a record batch at a time."""

from __future__ import annotations

from contextlib import ExitStack
from typing import TYPE_CHECKING, Any

import pyarrow as pa

from batchscore.batches import RowBatch
from batchscore.errors import InputError
from batchscore.readers.columns import plain_schema, sliced
from batchscore.readers.sources import blaming, head
from batchscore.stores.remote_file import AHEAD_BYTES

if TYPE_CHECKING:
    from collections.abc import Collection, Iterator
    from pathlib import Path

    from batchscore.readers.discover import InputFile
    from batchscore.readers.formats import Skip

_FILE_MAGIC = b"ARROW1"
_MAPPED_BYTES = 32 * 2**20


class ArrowReader:
    """One Arrow IPC file or stream; which of the two, its first bytes tell."""

    def __init__(self, file: InputFile, path: Path) -> None:
        self.name = file.name
        self._path, self._stored = path, file.stored
        first = head(file, path)
        if first.startswith(b"FEA1"):
            raise InputError(f"{self.name}: the file is Feather version 1; write it as version 2")
        self._is_file = first.startswith(_FILE_MAGIC)
        with ExitStack() as stack:
            try:
                opened = self._open(stack)
                self.schema = plain_schema(opened.schema, self.name)
                self.num_rows: int | None = self._count(opened)
            except (OSError, pa.ArrowException) as error:
                raise InputError(
                    f"{self.name}: the file is no whole Arrow IPC file or stream: "
                    f"{str(error).splitlines()[0]}"
                ) from error

    def _open(self, stack: ExitStack) -> Any:
        if self._stored is not None:
            mapped = stack.enter_context(self._stored.open(ahead_bytes=AHEAD_BYTES))
        else:
            mapped = stack.enter_context(pa.memory_map(str(self._path)))
        opened = pa.ipc.open_file(mapped) if self._is_file else pa.ipc.open_stream(mapped)
        return stack.enter_context(opened)

    def _count(self, opened: Any) -> int | None:
        if not self._is_file or self._stored is not None:
            return None  # A stream, or a file in a store, would have to be read to its end.
        if hasattr(opened, "count_rows"):
            # Not mapped: what stands around the metadata of every batch would count as memory.
            with pa.OSFile(str(self._path)) as file, pa.ipc.open_file(file) as unmapped:
                return int(unmapped.count_rows())
        # Older PyArrow: where the data is not compressed this reads no more than metadata.
        return sum(int(batch.num_rows) for batch in self._file_batches(opened))

    def scan(self, skip: Skip, columns: Collection[str] | None) -> Iterator[RowBatch]:
        """See ``FileReader.scan``."""
        wanted = [name for name in self.schema.names if columns is None or name in columns]
        with ExitStack() as stack:
            batches = self._mapped_batches() if self._is_file else self._stream_batches(stack)
            while True:
                with blaming(self.name):
                    batch = next(batches, None)
                    if batch is None:
                        return
                    batch.validate()
                    batch = batch.slice(skip.take(batch.num_rows)).select(wanted)
                for rows in sliced(RowBatch(batch)):
                    with blaming(self.name):
                        # Offsets that point outside the data would end the process.
                        rows.columns.validate(full=True)
                    yield rows

    def _stream_batches(self, stack: ExitStack) -> Iterator[pa.RecordBatch]:
        with blaming(self.name):
            return iter(self._open(stack))

    def _mapped_batches(self) -> Iterator[pa.RecordBatch]:
        """The batches of a file, mapped anew every so often.

        Pages that were looked at count as the process's memory for as long as they are mapped.
        """
        number, count = 0, 1
        while number < count:
            with ExitStack() as stack:
                opened = self._open(stack)
                count, mapped = opened.num_record_batches, 0
                while number < count and mapped < _MAPPED_BYTES:
                    batch = opened.get_batch(number)
                    mapped += batch.get_total_buffer_size()
                    number += 1
                    yield batch

    @staticmethod
    def _file_batches(opened: Any) -> Iterator[pa.RecordBatch]:
        for number in range(opened.num_record_batches):
            yield opened.get_batch(number)
