"""How a run went over time: a bounded list of windows, for the report at its end."""

from __future__ import annotations

import asyncio
from collections import Counter
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from batchscore.metrics import LatencyHistogram, RunMetrics
from batchscore.observers import NullObserver

if TYPE_CHECKING:
    from batchscore.metrics import RunReport

FIRST_WINDOW_S = 0.25
MAX_WINDOWS = 600


@dataclass(slots=True)
class Window:
    """What happened in one stretch of a run.

    Attributes:
        at_s: its end, in seconds since the run began.
        seconds: its length.
        rows, failed_rows: rows that were decided and written; how many of them failed.
        requests: tries that were sent.
        retries: retries by cause.
        in_flight, limit: requests under way at its end, and how many might be.
        latency: of the requests that were answered.
    """

    at_s: float
    seconds: float
    rows: int
    failed_rows: int
    requests: int
    retries: Counter[str]
    in_flight: int
    limit: int | None
    latency: LatencyHistogram

    def with_next(self, later: Window) -> Window:
        """This window and the one that follows it, as one."""
        latency = LatencyHistogram()
        for part in (self.latency, later.latency):
            latency.add(part.buckets(), part.max_s, part.total_s)
        return Window(
            later.at_s,
            self.seconds + later.seconds,
            self.rows + later.rows,
            self.failed_rows + later.failed_rows,
            self.requests + later.requests,
            self.retries + later.retries,
            later.in_flight,
            later.limit,
            latency,
        )

    def as_dict(self) -> dict[str, object]:
        """The window as JSON-ready values, percentiles in place of all latencies."""
        return {
            "at_s": round(self.at_s, 3),
            "seconds": round(self.seconds, 3),
            "rows": self.rows,
            "failed_rows": self.failed_rows,
            "requests": self.requests,
            "retries": dict(self.retries),
            "in_flight": self.in_flight,
            "limit": self.limit,
            "p50_s": self.latency.percentile(50),
            "p99_s": self.latency.percentile(99),
        }


@dataclass
class _Counted:
    """How far the counters of a run were when the last window ended."""

    at_s: float = 0.0
    rows: int = 0
    failed_rows: int = 0
    requests: int = 0
    retries: Counter[str] = field(default_factory=Counter)
    latencies: Counter[int] = field(default_factory=Counter)
    latency_s: float = 0.0

    @classmethod
    def of(cls, metrics: RunMetrics) -> _Counted:
        return cls(
            metrics.seconds,
            metrics.rows_done - metrics.rows_resumed,
            metrics.rows_failed - metrics.failed_resumed,
            metrics.requests,
            metrics.retries.copy(),
            metrics.latency.buckets(),
            metrics.latency.total_s,
        )


class History(NullObserver):
    """Looks at the counters four times a second, then as often as keeps the windows few.

    Whenever there are ``max_windows``, neighbours become one and windows twice as long from then
    on: a run of any length has between half of that and all of it.

    Args:
        max_windows: the most that are kept, an even number.
    """

    def __init__(self, max_windows: int = MAX_WINDOWS) -> None:
        self._max_windows = max_windows
        self._window_s = FIRST_WINDOW_S
        self._windows: list[Window] = []
        self._before = _Counted()
        self._metrics: RunMetrics | None = None
        self._timer: asyncio.TimerHandle | None = None

    def on_start(self, metrics: RunMetrics) -> None:
        """Begin to look; an event loop must run."""
        self._metrics = metrics
        self._wait()

    def on_finish(self, report: RunReport) -> None:
        """Look no more."""
        self.close()

    def close(self) -> None:
        """Look no more."""
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None

    def windows(self) -> list[Window]:
        """The windows until now; a short last one is part of the one before it."""
        if self._metrics is None:
            return []
        now = self._since(self._metrics, _Counted.of(self._metrics))
        if self._windows and now.seconds < self._window_s / 2:
            return [*self._windows[:-1], self._windows[-1].with_next(now)]
        return [*self._windows, now] if now.seconds > 0 else self._windows

    def _wait(self) -> None:
        self._timer = asyncio.get_running_loop().call_later(self._window_s, self._look)

    def _look(self) -> None:
        if self._metrics is None:
            return
        counted = _Counted.of(self._metrics)
        self._windows.append(self._since(self._metrics, counted))
        self._before = counted
        if len(self._windows) >= self._max_windows:
            pairs = zip(self._windows[::2], self._windows[1::2], strict=True)
            self._windows = [first.with_next(second) for first, second in pairs]
            self._window_s *= 2
        self._wait()

    def _since(self, metrics: RunMetrics, now: _Counted) -> Window:
        before = self._before
        return Window(
            now.at_s,
            now.at_s - before.at_s,
            now.rows - before.rows,
            now.failed_rows - before.failed_rows,
            now.requests - before.requests,
            now.retries - before.retries,
            metrics.in_flight,
            metrics.total_limit,
            metrics.latency.since(before.latencies, before.latency_s),
        )
