"""The end of the pipeline: scored batches in order, into the output."""

from __future__ import annotations

import tempfile
from pathlib import Path
from typing import TYPE_CHECKING, Protocol

import pyarrow as pa

from batchscore.batches import Chunk, RowBatch, RowFailure, ScoredBatch
from batchscore.errors import TooManyFailuresError
from batchscore.partial.disk import writing

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator

    from batchscore.layout import OutputLayout
    from batchscore.metrics import RunMetrics
    from batchscore.units import FailureLimit

_SPOOL_BYTES = 16 * 2**20


class BatchSink(Protocol):
    """Where record batches of the output go.

    ``check`` comes before anything is sent and raises ``UsageError`` for a schema that cannot be
    written; then ``open`` once, then ``append`` in order.
    """

    def check(self, schema: pa.Schema) -> None: ...

    def open(self, schema: pa.Schema) -> None: ...

    def append(self, batch: pa.RecordBatch) -> None: ...


class MemorySink:
    """Keeps the output as a table."""

    def __init__(self) -> None:
        self._schema: pa.Schema | None = None
        self._batches: list[pa.RecordBatch] = []

    def check(self, schema: pa.Schema) -> None:
        """See ``BatchSink``; memory takes any schema."""

    def open(self, schema: pa.Schema) -> None:
        """See ``BatchSink``."""
        self._schema = schema

    def append(self, batch: pa.RecordBatch) -> None:
        """See ``BatchSink``."""
        self._batches.append(batch)

    def table(self) -> pa.Table:
        """All that was appended."""
        return pa.Table.from_batches(self._batches, schema=self._schema)


class OrderedWriter:
    """Counts and writes scored batches in order.

    The schema is fixed before anything is written. Where it is learned from the first scored
    row, the failed rows before it wait in a spool, which moves to disk when it grows.

    Attributes:
        layout_of: gives the layout as soon as it is known, else None.
    """

    def __init__(
        self,
        sink: BatchSink,
        *,
        layout_of: Callable[[], OutputLayout | None],
        metrics: RunMetrics,
        max_failed_rows: FailureLimit | None,
        spool_dir: Path | None = None,
    ) -> None:
        self._sink = sink
        self._layout_of = layout_of
        self._metrics = metrics
        self._max_failed_rows = max_failed_rows
        self._spool = _Spool(spool_dir)
        self._layout: OutputLayout | None = None

    def write_all(self, run: Iterable[ScoredBatch]) -> None:
        """Write the next batches; see ``write``."""
        for scored in run:
            self.write(scored)

    def write(self, scored: ScoredBatch) -> None:
        """Write the next batch; blocks.

        Raises:
            TooManyFailuresError: more rows failed than the user allows.
        """
        self._count(scored)
        self._check_early()
        if self._layout is None:
            layout = self._layout_of()
            if layout is None:
                self._spool.append(scored)
                return
            self._open(layout)
        assert self._layout is not None  # noqa: S101 - for the type checker
        self._sink.append(self._layout.assemble(scored))

    def finish(self, layout: OutputLayout) -> None:
        """Write what waits, with this layout if none was ever known."""
        if self._layout is None:
            self._open(layout)
        check_failures(self._max_failed_rows, self._metrics, self._metrics.rows_read)

    def go_on(self, layout: OutputLayout) -> None:
        """Write behind what an earlier run left in the sink, in its layout."""
        self._layout = layout
        self._check_early()

    def close(self) -> None:
        """Let go of the spool."""
        self._spool.close()

    def _open(self, layout: OutputLayout) -> None:
        self._layout = layout
        self._sink.open(layout.schema)
        for scored in self._spool.batches():
            self._sink.append(layout.assemble(scored))
        self._spool.close()

    def _count(self, scored: ScoredBatch) -> None:
        metrics = self._metrics
        metrics.rows_failed += len(scored.failures)
        metrics.rows_scored += scored.chunk.rows.num_rows - len(scored.failures)
        for failure in scored.failures.values():
            metrics.failed_rows[failure.code] += 1

    def _check_early(self) -> None:
        # A share can be judged early only where the number of rows is known.
        limit, total = self._max_failed_rows, self._metrics.total_rows
        if limit is not None and not (limit.is_share and total is None):
            check_failures(limit, self._metrics, total or 0)


def check_failures(limit: FailureLimit | None, metrics: RunMetrics, total: int) -> None:
    """Raise ``TooManyFailuresError`` where more of ``total`` rows failed than the user allows."""
    if limit is None or not limit.exceeded(metrics.rows_failed, total):
        return
    allowed = f"{limit.value * 100:.4g}%" if limit.is_share else f"{limit.value:g}"
    codes = ", ".join(f"{count} {code}" for code, count in metrics.failed_rows.items())
    raise TooManyFailuresError(
        f"{metrics.rows_failed} rows failed ({codes}), more than --max-failed-rows allows "
        f"({allowed})"
    )


class _Spool:
    """Batches of failed rows that wait for the schema, in input order."""

    def __init__(self, folder: Path | None) -> None:
        self._folder = folder or Path(tempfile.gettempdir())
        self._file: tempfile.SpooledTemporaryFile[bytes] | None = None
        self._stream: pa.ipc.RecordBatchStreamWriter | None = None

    def append(self, scored: ScoredBatch) -> None:
        with writing(self._folder):
            self._append(scored)

    def _append(self, scored: ScoredBatch) -> None:
        columns = scored.chunk.rows.columns
        reasons = pa.array([str(scored.failures[row]) for row in range(columns.num_rows)])
        columns = columns.append_column("", reasons)
        if self._stream is None:
            self._file = tempfile.SpooledTemporaryFile(_SPOOL_BYTES, dir=str(self._folder))  # noqa: SIM115
            self._stream = pa.ipc.new_stream(self._file, columns.schema)
        self._stream.write_batch(columns)

    def batches(self) -> Iterator[ScoredBatch]:
        if self._stream is None or self._file is None:
            return
        self._stream.close()
        self._file.seek(0)
        for columns in pa.ipc.open_stream(self._file):
            failures = {}
            last = columns.num_columns - 1
            for row, reason in enumerate(columns.column(last).to_pylist()):
                code, _, text = reason.partition(": ")
                failures[row] = RowFailure(code, text)
            rows = RowBatch(columns.select(list(range(last))), failures)
            yield ScoredBatch(Chunk(0, rows), None, failures)

    def close(self) -> None:
        if self._file is not None:
            self._file.close()
        self._file = self._stream = None
