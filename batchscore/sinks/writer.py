"""The end of the pipeline: scored batches in order, into the output."""

from __future__ import annotations

from typing import TYPE_CHECKING, Protocol

from batchscore.errors import TooManyFailuresError
from batchscore.sinks.spool import Spool

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable
    from pathlib import Path

    import pyarrow as pa

    from batchscore.batches import ScoredBatch
    from batchscore.metrics import RunMetrics
    from batchscore.sinks.finished import RowCounts
    from batchscore.sinks.layout import OutputLayout
    from batchscore.units import FailureLimit


class BatchSink(Protocol):
    """Where record batches of the output go.

    ``check`` comes before anything is sent and raises ``UsageError`` for a schema that cannot be
    written; then ``open`` once, then ``append`` in order. Where an earlier run left rows of this
    schema, ``go_on`` takes the place of ``open``, and tells what became of them.
    """

    def check(self, schema: pa.Schema) -> None: ...

    def open(self, schema: pa.Schema) -> None: ...

    def go_on(self, schema: pa.Schema) -> RowCounts: ...

    def append(self, batch: pa.RecordBatch) -> None: ...


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
        self._spool = Spool(spool_dir)
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

    def go_on(self, layout: OutputLayout) -> int:
        """Write behind what an earlier run left in the sink, in its layout; blocks.

        Returns:
            The number of rows that are there.

        Raises:
            TooManyFailuresError: more of them failed than the user allows.
        """
        counts = self._sink.go_on(layout.schema)
        self._metrics.count_earlier(counts.rows, counts.failed)
        self._layout = layout
        self._check_early()
        return counts.rows

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
        metrics.rows_scored += scored.chunk.rows.num_rows - len(scored.failures)
        for row in sorted(scored.failures):
            metrics.count_failed(scored.chunk.start_row + row + 1, scored.failures[row])

    def _check_early(self) -> None:
        # A share can be judged early only where the number of rows is known.
        limit, total = self._max_failed_rows, self._metrics.total_rows
        if limit is not None and not (limit.is_share and total is None):
            check_failures(limit, self._metrics, total or 0)


def check_failures(limit: FailureLimit | None, metrics: RunMetrics, total: int) -> None:
    """Raise ``TooManyFailuresError`` where more of ``total`` rows failed than the user allows."""
    if limit is None or not limit.exceeded(metrics.rows_failed, total):
        return
    allowed = f"{limit.value * 100:.4g}%" if limit.is_share else f"{limit.value:.0f}"
    codes = ", ".join(f"{count} {code}" for code, count in metrics.failed_rows.items())
    raise TooManyFailuresError(
        f"{metrics.rows_failed} rows failed ({codes}), more than --max-failed-rows allows "
        f"({allowed}); mend the rows, or go on with a higher one and --resume"
    )
