"""A bench while it runs: a line that moves on a terminal, else a line for each load."""

from __future__ import annotations

from typing import TYPE_CHECKING

from rich.live import Live
from rich.text import Text

from batchscore.cli.terminal import TERMINAL

if TYPE_CHECKING:
    from rich.console import Console

    from batchscore.bench.cells import Cell

_WIDTH = 24
_EVERY_S = 1.0


class BenchDisplay:
    """Shows a bench; see ``batchscore.bench.measure.Display``."""

    def __init__(self, console: Console | None, *, has_lines: bool) -> None:
        self._has_lines = has_lines and console is None
        self._live: Live | None = None
        self._load, self._expected_s, self._next_s = "", 1.0, 0.0
        if console is not None:
            # Drawn when it is told to: a thread of its own would take time from the load.
            self._live = Live(Text(""), console=console, auto_refresh=False, transient=True)
            self._live.start()

    def on_load(self, number: int, of: int, text: str, expected_s: float) -> None:
        """A load begins."""
        self._next_s = 0.0
        self._load, self._expected_s = f"{number}/{of}  {text}" if of else text, expected_s
        if self._has_lines:
            TERMINAL.note(f"{self._load}, {expected_s:g} s")

    def on_tick(self, seconds: float, done: int, failed: int, in_flight: int) -> None:
        """A load goes on."""
        if self._live is None or seconds < self._next_s:
            return
        # Drawing takes a millisecond in which no answer is read.
        self._next_s = seconds + _EVERY_S
        filled = min(_WIDTH, int(_WIDTH * seconds / self._expected_s))
        line = f"{'━' * filled}{'╺' * (_WIDTH - filled)}  {self._load}  {seconds:.0f} s  "
        line += f"{done:,} requests  {in_flight} in flight"
        if failed:
            line += f"  {failed} of the last 1,000 failed"
        self._live.update(Text(line, no_wrap=True, overflow="ellipsis"), refresh=True)

    def on_cell(self, cell: Cell) -> None:
        """A load is measured."""
        if self._has_lines and cell.why_invalid:
            TERMINAL.note(f"{self._load}: invalid: {'; '.join(cell.why_invalid)}")

    def close(self) -> None:
        """Give the terminal back."""
        if self._live is not None:
            self._live.stop()
            self._live = None
