"""How a run is watched: the interface, the plain log lines, and the words for both."""

from __future__ import annotations

from typing import TYPE_CHECKING, Protocol

if TYPE_CHECKING:
    import asyncio
    from collections.abc import Callable, Iterable, Mapping

    from batchscore.metrics import RunMetrics, RunReport

LOG_EVERY_S = 10.0
NOTE = 25
"""The level of a log line that is told without ``--verbose`` too, but not with ``--quiet``."""


class Observer(Protocol):
    """Watches a run. Called from the event loop, so nothing here may block for long.

    ``on_start`` comes first, ``on_finish`` last and always; between them ``on_batch`` after each
    chunk written and ``on_retry`` before each retry. The metrics object is live.
    """

    def on_start(self, metrics: RunMetrics) -> None: ...

    def on_batch(self, metrics: RunMetrics) -> None: ...

    def on_retry(self, code: str, attempt: int, wait_s: float) -> None: ...

    def on_finish(self, report: RunReport) -> None: ...


class ClosingObserver(Observer, Protocol):
    """An observer that holds something which must be given back, like the terminal."""

    def close(self) -> None: ...


class NullObserver:
    """Watches nothing; the base of observers that need only some of the calls."""

    def on_start(self, metrics: RunMetrics) -> None:
        """The run begins."""

    def on_batch(self, metrics: RunMetrics) -> None:
        """A chunk was written."""

    def on_retry(self, code: str, attempt: int, wait_s: float) -> None:
        """A request is tried again after a wait."""

    def on_finish(self, report: RunReport) -> None:
        """The run has ended, well or not."""

    def close(self) -> None:
        """Nothing is watched any more, even where ``on_finish`` never came. May come twice."""


class Observers(NullObserver):
    """Several observers as one."""

    def __init__(self, parts: Iterable[Observer]) -> None:
        self._parts = tuple(parts)

    def on_start(self, metrics: RunMetrics) -> None:
        """Tell all."""
        for part in self._parts:
            part.on_start(metrics)

    def on_batch(self, metrics: RunMetrics) -> None:
        """Tell all."""
        for part in self._parts:
            part.on_batch(metrics)

    def on_retry(self, code: str, attempt: int, wait_s: float) -> None:
        """Tell all."""
        for part in self._parts:
            part.on_retry(code, attempt, wait_s)

    def on_finish(self, report: RunReport) -> None:
        """Tell all."""
        for part in self._parts:
            part.on_finish(report)

    def close(self) -> None:
        """Close all that can be; an observer of the user's own need not."""
        for part in self._parts:
            if hasattr(part, "close"):
                part.close()


class Ticker(NullObserver):
    """Base of what tells every so often how a run goes, also while nothing gets through.

    Args:
        every_s: seconds between two times.
    """

    def __init__(self, *, every_s: float = LOG_EVERY_S) -> None:
        self._every_s = every_s
        self._metrics: RunMetrics | None = None
        self._timer: asyncio.TimerHandle | None = None

    def tell(self, metrics: RunMetrics) -> None:
        """Tell where the run stands."""

    def on_start(self, metrics: RunMetrics) -> None:
        """Begin to tell the time; an event loop must run."""
        self._metrics = metrics
        self._wait()

    def on_finish(self, report: RunReport) -> None:
        """Tell no more."""
        self.close()

    def close(self) -> None:
        """Tell no more."""
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None

    def _wait(self) -> None:
        import asyncio  # noqa: PLC0415 (a bar on a terminal needs none)

        self._timer = asyncio.get_running_loop().call_later(self._every_s, self._tick)

    def _tick(self) -> None:
        if self._metrics is not None:
            self.tell(self._metrics)
            self._wait()


class LogObserver(Ticker):
    """Writes a line of progress every ten seconds, also while nothing gets through, and a last one.

    Args:
        write: takes each line.
        every_s: seconds between lines.
    """

    def __init__(self, write: Callable[[str], None], *, every_s: float = LOG_EVERY_S) -> None:
        super().__init__(every_s=every_s)
        self._write = write

    def tell(self, metrics: RunMetrics) -> None:
        """Write a line."""
        self._write(progress_text(metrics))

    def on_finish(self, report: RunReport) -> None:
        """Write the last line."""
        if self._metrics is not None and report.rows_read:
            self.tell(self._metrics)
        super().on_finish(report)


class RetryLog(NullObserver):
    """Writes a line for each retry."""

    def __init__(self, write: Callable[[str], None]) -> None:
        self._write = write

    def on_retry(self, code: str, attempt: int, wait_s: float) -> None:
        """Tell the cause and the wait."""
        self._write(f"retry after {code}: attempt {attempt}, in {duration_text(wait_s)}")


class Summary(NullObserver):
    """Writes a few lines at the end of a run in which rows were read."""

    def __init__(self, write: Callable[[str], None]) -> None:
        self._write = write

    def on_finish(self, report: RunReport) -> None:
        """Tell what became of the rows."""
        for line in summary_lines(report):
            self._write(line)


def progress_text(metrics: RunMetrics) -> str:
    """Where a run stands, in one line."""
    parts = [
        f"{rows_text(metrics)} rows",
        f"{count_text(metrics.rows_per_second)} rows/s",
        *activity_parts(metrics),
    ]
    left = seconds_left(metrics)
    if left is not None:
        parts.append(f"{duration_text(left)} left")
    return ", ".join(parts)


def rows_text(metrics: RunMetrics) -> str:
    """``12,000 of 344,000``, or ``12,000`` where the total is not known."""
    of_total = "" if metrics.total_rows is None else f" of {metrics.total_rows:,}"
    return f"{metrics.rows_done:,}{of_total}"


def activity_parts(metrics: RunMetrics) -> list[str]:
    """Requests in flight, retries, failed rows and latency of a run."""
    if not metrics.is_sending:
        return [f"{metrics.rows_failed:,} with problems"]
    retries = sum(metrics.retries.values())
    limit = metrics.total_limit
    of_limit = "" if limit is None else f" of {limit}"
    parts = [
        f"{metrics.in_flight}{of_limit} in flight",
        f"{retries:,} {'retry' if retries == 1 else 'retries'}",
        f"{metrics.rows_failed:,} failed",
    ]
    for percent in (50, 99):
        latency = metrics.latency.percentile(percent)
        if latency is not None:
            parts.append(f"p{percent} {duration_text(latency)}")
    return parts


def seconds_left(metrics: RunMetrics) -> float | None:
    """How long the rest takes at the speed so far; None where that cannot be told."""
    if metrics.total_rows is None or metrics.rows_done == metrics.rows_resumed:
        return None
    rest = max(0, metrics.total_rows - metrics.rows_done)
    return rest / max(metrics.rows_per_second, 1e-9) if rest else None


def summary_lines(report: RunReport) -> list[str]:
    """What became of the rows of a run, and what is left of it, in a few lines."""
    if not report.rows_read:
        nothing = report.message is None
        return [f"the input has no rows: {report.output}"] if nothing else _kept(report)
    failed = ""
    if report.rows_failed:
        failed = f", {report.rows_failed:,} failed ({_by_code(report.failed_rows)})"
    lines = [f"rows      {report.rows_read:,} read, {report.rows_scored:,} scored{failed}"]
    if report.rows_resumed:
        lines.append(f"resumed   {report.rows_resumed:,} of the rows are of earlier runs")
    retries = sum(report.retries.values())
    retried = f", {retries:,} of them retries ({_by_code(report.retries)})" if retries else ""
    at_once = "" if report.concurrency is None else f", {report.concurrency} at once in the end"
    lines += [
        f"requests  {report.requests:,}{retried}{at_once}",
        f"time      {duration_text(report.seconds)}, {count_text(report.rows_per_second)} rows/s",
    ]
    latency = ", ".join(
        f"{name} {duration_text(seconds)}"
        for name, seconds in report.latency_s.items()
        if seconds is not None and name in {"p50", "p99", "max"}
    )
    if latency:
        lines.append(f"latency   {latency}")
    if report.nonfinite_as_null:
        lines.append(f"sent      {report.nonfinite_as_null:,} NaN or infinite numbers as null")
    if report.message is None:
        lines.append(f"output    {report.output}")
    return lines + _kept(report)


def _kept(report: RunReport) -> list[str]:
    """What to do next, unless the error itself says so."""
    if not report.resumable or "--resume" in (report.message or ""):
        return []
    return ["kept      what is done so far; the same command with --resume goes on"]


def _by_code(counts: Mapping[str, int]) -> str:
    ordered = sorted(counts.items(), key=lambda item: (-item[1], item[0]))
    return ", ".join(f"{code} {count:,}" for code, count in ordered)


def count_text(value: float) -> str:
    """A number of rows a second: ``5,100``, or ``0.4`` where it is small."""
    return f"{value:,.0f}" if value >= 10 else f"{value:.1f}"


def duration_text(seconds: float) -> str:
    """``12 ms``, ``1.5 s``, ``1m 4s``, ``2h 3m``."""
    if seconds < 0.9995:
        return f"{seconds * 1000:.{0 if seconds >= 0.01 else 1}f} ms"
    if seconds < 9.95:
        return f"{seconds:.1f} s"
    whole = round(seconds)
    if whole < 60:
        return f"{whole} s"
    if whole < 3600:
        return f"{whole // 60}m {whole % 60}s"
    return f"{whole // 3600}h {whole % 3600 // 60}m"
