"""The live bar of a run on a terminal."""

from __future__ import annotations

from typing import TYPE_CHECKING

from rich.progress import BarColumn, Progress, ProgressColumn, Task, TaskID
from rich.table import Column
from rich.text import Text

from batchscore.observers import (
    NullObserver,
    activity_parts,
    count_text,
    duration_text,
    rows_text,
    seconds_left,
)

if TYPE_CHECKING:
    from rich.console import Console

    from batchscore.metrics import RunMetrics, RunReport

_REFRESHES_PER_SECOND = 5


class BarObserver(NullObserver):
    """Draws a bar and the live numbers, in place, and leaves the line as it stood at the end.

    Rich redraws from a thread of its own, so that the numbers move while nothing is written.
    """

    def __init__(self, console: Console) -> None:
        self._console = console
        self._progress: Progress | None = None
        self._metrics: RunMetrics | None = None
        self._task = TaskID(0)

    def on_start(self, metrics: RunMetrics) -> None:
        """Show the bar."""
        self._metrics = metrics
        self._progress = Progress(
            BarColumn(bar_width=None, table_column=Column(ratio=1, min_width=10, max_width=40)),
            _Numbers(metrics),
            console=self._console,
            refresh_per_second=_REFRESHES_PER_SECOND,
            redirect_stdout=False,
            redirect_stderr=False,
            expand=True,
        )
        self._task = self._progress.add_task("", total=metrics.total_rows)
        self._progress.start()

    def on_batch(self, metrics: RunMetrics) -> None:
        """Move the bar."""
        if self._progress is not None:
            self._progress.update(self._task, completed=metrics.rows_done, total=metrics.total_rows)

    def on_finish(self, report: RunReport) -> None:
        """Show where the run ended."""
        if self._metrics is not None:
            self.on_batch(self._metrics)
        self.close()

    def close(self) -> None:
        """Give the terminal back, with the cursor on a line of its own."""
        if self._progress is not None:
            self._progress.stop()
            self._progress = None


class _Numbers(ProgressColumn):
    """The numbers beside the bar, read from the metrics each time it is drawn."""

    def __init__(self, metrics: RunMetrics) -> None:
        # As many of the numbers as fit, on one line: a bar that wraps leaves rubbish behind.
        super().__init__(Column(no_wrap=True, overflow="ellipsis", ratio=4))
        self._metrics = metrics

    def render(self, task: Task) -> Text:
        """One line."""
        parts = [
            f"{rows_text(self._metrics)} rows",
            f"{count_text(self._metrics.rows_per_second)}/s",
        ]
        left = seconds_left(self._metrics)
        if left is not None:
            parts.append(f"{duration_text(left)} left")
        return Text("  ".join([*parts, *activity_parts(self._metrics)]))
