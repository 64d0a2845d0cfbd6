"""From the thread that scores to the one that an engine waits in."""

from __future__ import annotations

import threading
from collections import deque
from typing import TYPE_CHECKING

import pyarrow as pa

from batchscore.errors import TemporaryError
from batchscore.sinks.finished import RowCounts

if TYPE_CHECKING:
    from collections.abc import Iterator

_READY_BATCHES = 16


class Handoff:
    """``BatchSink`` from the thread that scores to the one that takes, and bounded."""

    def __init__(self, schema: pa.Schema) -> None:
        self._schema = schema
        self._ready: deque[pa.RecordBatch] = deque()
        self._changed = threading.Condition()
        self._is_closed = self._is_ended = False

    def check(self, schema: pa.Schema) -> None:
        """See ``BatchSink``; the plan was checked before."""

    def open(self, schema: pa.Schema) -> None:
        """See ``BatchSink``.

        Raises:
            TemporaryError: the answers have other columns than the plan.
        """
        if not schema.equals(self._schema):
            raise TemporaryError(
                "the deployment scored no row when the job began, and now shows outputs that the "
                "job did not expect; run it again"
            )

    def go_on(self, schema: pa.Schema) -> RowCounts:
        """See ``BatchSink``; a worker has nothing of an earlier run."""
        self.open(schema)
        return RowCounts()

    def append(self, batch: pa.RecordBatch) -> None:
        """Wait until there is room; what nobody will take is dropped."""
        # Metadata and all: what tells of the whole input is known to the plan alone.
        batch = pa.RecordBatch.from_arrays(batch.columns, schema=self._schema)
        with self._changed:
            self._changed.wait_for(lambda: len(self._ready) < _READY_BATCHES or self._is_closed)
            if not self._is_closed:
                self._ready.append(batch)
                self._changed.notify_all()

    def __iter__(self) -> Iterator[pa.RecordBatch]:
        """The batches, until the end."""
        while True:
            with self._changed:
                self._changed.wait_for(lambda: self._ready or self._is_ended)
                if not self._ready:
                    return
                batch = self._ready.popleft()
                self._changed.notify_all()
            yield batch

    def end(self) -> None:
        """Nothing more comes, for whatever reason."""
        with self._changed:
            self._is_ended = True
            self._changed.notify_all()

    def close(self) -> None:
        """Nobody takes any more."""
        with self._changed:
            self._is_closed = True
            self._changed.notify_all()

    def wait_for_end(self) -> None:
        """Wait until the thread that scores is done."""
        with self._changed:
            self._changed.wait_for(lambda: self._is_ended)
