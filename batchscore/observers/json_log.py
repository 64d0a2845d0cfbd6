"""A run as events with fields, for a log that programs read."""

from __future__ import annotations

import logging
from typing import TYPE_CHECKING, Any, Protocol

from batchscore.observers import (
    LOG_EVERY_S,
    Ticker,
    duration_text,
    progress_text,
    seconds_left,
    summary_lines,
)

if TYPE_CHECKING:
    from collections.abc import Mapping

    from batchscore.metrics import RunMetrics, RunReport

_SUMMARY = (
    "status", "exit_code", "message", "resumable", "output", "fingerprint", "rows_read",
    "rows_scored", "rows_failed", "rows_resumed", "requests", "retries", "concurrency",
    "failed_rows", "bytes_sent", "bytes_received", "nonfinite_as_null", "seconds",
    "rows_per_second", "latency_s",
)  # fmt: skip
"""What of a report the summary has: all but what is long, or was told at the start."""


class Emit(Protocol):
    """Writes one event."""

    def __call__(self, level: int, event: str, message: str, **fields: Any) -> None: ...


class EventLog(Ticker):
    """Tells a run as events: ``start``, ``progress``, ``retry``, ``failed_rows``, ``summary``.

    The fields are called as in the JSON of a report.

    Args:
        emit: takes each event.
        about: what ``start`` tells.
        progress: whether there is any between start and summary.
        retries: whether each retry is told; their numbers are in ``progress`` anyhow.
        every_s: seconds between two events of progress.
    """

    def __init__(
        self,
        emit: Emit,
        about: Mapping[str, object],
        *,
        progress: bool = True,
        retries: bool = False,
        every_s: float = LOG_EVERY_S,
    ) -> None:
        super().__init__(every_s=every_s)
        self._emit, self._about = emit, about
        self._progress, self._retries = progress, retries

    def on_start(self, metrics: RunMetrics) -> None:
        """Tell what will be done."""
        self._emit(logging.INFO, "start", "the run begins", **self._about)
        if self._progress:
            super().on_start(metrics)

    def tell(self, metrics: RunMetrics) -> None:
        """Tell where the run stands."""
        self._emit(logging.INFO, "progress", progress_text(metrics), **progress_fields(metrics))

    def on_retry(self, code: str, attempt: int, wait_s: float) -> None:
        """Tell the cause and the wait."""
        if self._retries:
            text = f"retry after {code}: attempt {attempt}, in {duration_text(wait_s)}"
            wait_s = round(wait_s, 6)
            self._emit(logging.INFO, "retry", text, code=code, attempt=attempt, wait_s=wait_s)

    def on_finish(self, report: RunReport) -> None:
        """Tell of the failed rows, code by code, and what became of all."""
        self.close()
        if report.kind == "check":
            # Nothing was scored: what was found is the command's own to tell.
            text = f"{report.rows_read:,} rows read, {report.rows_failed:,} with problems"
            names = ("rows_read", "rows_failed", "seconds")
            fields = {name: report.as_dict()[name] for name in names}
            self._emit(logging.INFO, "summary", text, **fields, error=report.message)
            return
        for code, rows in sorted(report.failed_rows.items(), key=lambda item: -item[1]):
            examples = report.failed_examples.get(code, [])
            text = f"{rows:,} {'row' if rows == 1 else 'rows'} failed: {code}"
            if examples:
                text += f", such as row {examples[0]['row']:,}: {examples[0]['text']}"
            self._emit(
                logging.WARNING, "failed_rows", text, code=code, rows=rows, examples=examples
            )
        values = report.as_dict()
        fields = {name: values[name] for name in _SUMMARY}
        # The message of an event is its own text; that of the report is the error.
        fields["error"] = fields.pop("message")
        self._emit(logging.INFO, "summary", "; ".join(_lines(report)), **fields)


def _lines(report: RunReport) -> list[str]:
    """The lines of the text's summary, without what stands in columns there."""
    lines = [" ".join(line.split()) for line in summary_lines(report)]
    return lines or ["no rows were read"]


def progress_fields(metrics: RunMetrics) -> dict[str, object]:
    """Where a run stands, as JSON-ready values."""
    left = seconds_left(metrics)
    percentiles = {f"p{p}": metrics.latency.percentile(p) for p in (50, 99)}
    return {
        "rows_total": metrics.total_rows,
        "rows_read": metrics.rows_read,
        "rows_scored": metrics.rows_scored,
        "rows_failed": metrics.rows_failed,
        "rows_resumed": metrics.rows_resumed,
        "rows_per_second": round(metrics.rows_per_second, 3),
        "requests": metrics.requests,
        "retries": dict(metrics.retries),
        "in_flight": metrics.in_flight,
        "limit": metrics.total_limit,
        "latency_s": percentiles,
        "seconds": round(metrics.seconds, 3),
        "seconds_left": None if left is None else round(left, 1),
    }
