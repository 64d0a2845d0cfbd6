"""What a run shows of itself: the bar, the log lines, the summary."""

from __future__ import annotations

import asyncio
import contextlib
import io
import os
import pty
import re
import select
import subprocess
import sys

import pytest
from rich.console import Console

from batchscore.metrics import RunMetrics, RunReport
from batchscore.observers import (
    LogObserver,
    NullObserver,
    Observers,
    RetryLog,
    Summary,
    duration_text,
    progress_text,
    summary_lines,
)
from batchscore.observers.progress import BarObserver


class Clock:
    """A clock that stands still until it is told otherwise."""

    def __init__(self) -> None:
        self.now = 100.0

    def __call__(self) -> float:
        return self.now


def some_metrics(*, total: int | None = 344_000) -> RunMetrics:
    """A run that has done 12,000 rows in 2.4 s."""
    clock = Clock()
    metrics = RunMetrics(total_rows=total, clock=clock)
    clock.now += 2.4
    metrics.rows_scored, metrics.rows_failed, metrics.in_flight = 11_990, 10, 8
    metrics.retries.update({"timeout": 1, "http_503": 1})
    for _ in range(98):
        metrics.latency.record(0.012)
    metrics.latency.record(0.040)
    metrics.latency.record(0.040)
    return metrics


REPORT = RunReport(
    status="failed_rows",
    exit_code=3,
    output="out.arrow",
    rows_read=12_000,
    rows_scored=11_988,
    rows_failed=12,
    requests=123,
    retries={"timeout": 1, "http_503": 2},
    failed_rows={"invalid_input": 2, "http_422": 10},
    seconds=64.2,
    rows_per_second=186.9,
    latency_s={"p50": 0.012, "p90": 0.02, "p99": 0.04, "max": 1.5},
)


def test_a_line_of_progress_tells_all_that_matters() -> None:
    """The line has rows, speed, requests in flight, retries, failures, latency and time left."""
    assert progress_text(some_metrics()) == (
        "12,000 of 344,000 rows, 5,000 rows/s, 8 in flight, 2 retries, 10 failed, "
        "p50 12 ms, p99 40 ms, 1m 6s left"
    )


def test_a_line_of_progress_leaves_out_what_is_not_known() -> None:
    """Without a total there is no time left, without an answer no latency."""
    metrics = some_metrics(total=None)
    assert progress_text(metrics).startswith("12,000 rows, 5,000 rows/s, 8 in flight")
    assert "left" not in progress_text(metrics)
    fresh = RunMetrics(total_rows=10, clock=Clock())
    assert progress_text(fresh) == "0 of 10 rows, 0.0 rows/s, 0 in flight, 0 retries, 0 failed"


@pytest.mark.parametrize(
    ("seconds", "text"),
    [
        (0.0004, "0.4 ms"),
        (0.012, "12 ms"),
        (0.9994, "999 ms"),
        (0.9999, "1.0 s"),
        (1.53, "1.5 s"),
        (9.97, "10 s"),
        (59.7, "1m 0s"),
        (64, "1m 4s"),
        (3599.9, "1h 0m"),
        (7380, "2h 3m"),
    ],
)
def test_durations_are_written_for_people(seconds: float, text: str) -> None:
    """Two units at most, and never sixty of one."""
    assert duration_text(seconds) == text


def test_the_summary_tells_what_became_of_the_rows() -> None:
    """Rows, requests, time, latency and output, with the causes, most frequent first."""
    assert summary_lines(REPORT) == [
        "rows      12,000 read, 11,988 scored, 12 failed (http_422 10, invalid_input 2)",
        "requests  123, 3 of them retries (http_503 2, timeout 1)",
        "time      1m 4s, 187 rows/s",
        "latency   p50 12 ms, p99 40 ms, max 1.5 s",
        "output    out.arrow",
    ]


def test_a_run_that_read_nothing_has_no_summary_but_its_error() -> None:
    """A refused option is not followed by zeros; an empty input that was scored is told."""
    assert summary_lines(RunReport(status="usage", exit_code=2, message="no")) == []
    (line,) = summary_lines(RunReport(status="ok", exit_code=0, output="o.csv"))
    assert line == "the input has no rows: o.csv"


async def test_the_log_goes_on_while_nothing_is_written() -> None:
    """Lines come by the clock, not by the chunks, so that an outage shows; the last at the end."""
    lines: list[str] = []
    third = asyncio.Event()

    def write(line: str) -> None:
        lines.append(line)
        if len(lines) == 3:
            third.set()

    observer = LogObserver(write, every_s=0.01)
    metrics = some_metrics()
    observer.on_start(metrics)
    async with asyncio.timeout(10):
        await third.wait()
    metrics.rows_scored += 5
    observer.on_finish(REPORT)
    count = len(lines)
    assert lines[-1].startswith("12,005 of 344,000 rows")
    await asyncio.sleep(0.05)
    assert len(lines) == count


async def test_a_closed_log_is_silent() -> None:
    """Closing stops the lines of a run that never told its end."""
    lines: list[str] = []
    observer = LogObserver(lines.append, every_s=0.01)
    observer.on_start(some_metrics())
    observer.close()
    observer.close()
    await asyncio.sleep(0.05)
    assert lines == []


def test_several_observers_are_told_in_order() -> None:
    """Each part hears of each event."""
    lines: list[str] = []
    both = Observers([RetryLog(lines.append), NullObserver(), Summary(lines.append)])
    both.on_start(some_metrics())
    both.on_retry("http_503", 2, 1.24)
    both.on_batch(some_metrics())
    both.on_finish(REPORT)
    both.close()
    assert lines == ["retry after http_503: attempt 2, in 1.2 s", *summary_lines(REPORT)]


@pytest.mark.parametrize("total", [344_000, None])
@pytest.mark.parametrize("width", [40, 80, 200])
def test_the_bar_keeps_to_one_line(width: int, total: int | None) -> None:
    """However narrow the terminal, the bar takes one line; the rows always stand in it."""
    stream = io.StringIO()
    console = Console(file=stream, width=width, force_terminal=True, color_system=None)
    observer = BarObserver(console)
    metrics = some_metrics(total=total)
    observer.on_start(metrics)
    observer.on_batch(metrics)
    observer.on_finish(REPORT)
    drawn = re.sub(r"\x1b\[[0-9;?]*[A-Za-z]", "", stream.getvalue())
    last = drawn.rstrip("\n").splitlines()[-1]
    assert "12,000" in last
    assert len(last) <= width
    assert ("66 s left" in drawn or "1m 6s left" in drawn) == (total is not None and width >= 80)
    assert drawn.endswith("\n")


def test_the_bar_gives_the_terminal_back_when_it_is_closed() -> None:
    """The cursor is shown again, also where the run never told its end."""
    stream = io.StringIO()
    console = Console(file=stream, width=80, force_terminal=True)
    observer = BarObserver(console)
    observer.on_start(some_metrics())
    observer.close()
    observer.close()
    assert stream.getvalue().count("\x1b[?25h") == 1


def read_all(terminal: int) -> str:
    """What was written to a pseudo-terminal until the other side closed it."""
    parts = []
    with contextlib.suppress(OSError):  # how Linux tells that nobody writes any more
        while select.select([terminal], [], [], 30)[0]:
            part = os.read(terminal, 65536)
            if not part:
                break
            parts.append(part)
    return b"".join(parts).decode()


def test_the_bar_is_drawn_on_a_real_terminal() -> None:
    """On a terminal the numbers move in place and the last state stays."""
    script = """
import time
from batchscore.cli.terminal import TERMINAL
from batchscore.metrics import RunMetrics, RunReport
observer = TERMINAL.observer("auto")
metrics = RunMetrics(total_rows=2000)
observer.on_start(metrics)
time.sleep(0.5)
metrics.rows_scored = 1000
observer.on_batch(metrics)
TERMINAL.note("a line above the bar")
time.sleep(0.5)
metrics.rows_scored = 2000
observer.on_batch(metrics)
observer.on_finish(RunReport("ok", 0, rows_read=2000, rows_scored=2000, output="o.arrow"))
TERMINAL.finish(observer)
"""
    ours, theirs = pty.openpty()
    with subprocess.Popen(
        [sys.executable, "-c", script],
        stderr=theirs,
        env={**os.environ, "TERM": "xterm", "COLUMNS": "120"},
    ) as process:
        os.close(theirs)
        drawn = read_all(ours)
    os.close(ours)
    assert process.returncode == 0
    for state in ("0 of 2,000 rows", "1,000 of 2,000 rows", "2,000 of 2,000 rows"):
        assert state in drawn
    assert "a line above the bar" in drawn
    assert "rows      2,000 read, 2,000 scored" in drawn
    assert "\x1b[2K" in drawn
