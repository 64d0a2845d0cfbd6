"""A run in a notebook: one output of the cell, which is written anew while the run goes on."""

from __future__ import annotations

import sys
from html import escape
from importlib import import_module
from typing import TYPE_CHECKING, Any

from batchscore.observers import Ticker, progress_text

if TYPE_CHECKING:
    from batchscore.metrics import RunMetrics, RunReport

_EVERY_S = 0.5
_ENDS = {"ok": "done", "failed_rows": "done"}


def in_notebook() -> bool:
    """Whether a Jupyter kernel runs this code; IPython on a terminal is none."""
    ipython = sys.modules.get("IPython")
    shell = ipython.get_ipython() if ipython else None
    return hasattr(shell, "kernel")


class NotebookObserver(Ticker):
    """Shows a bar and the live numbers below the cell; as text where no HTML is shown.

    It needs no widgets: a display with an id is updated, which every front end can, and what is
    saved with the notebook is how the run ended.

    Args:
        every_s: seconds between two updates.
    """

    def __init__(self, *, every_s: float = _EVERY_S) -> None:
        super().__init__(every_s=every_s)
        self._handle: Any = None

    def on_start(self, metrics: RunMetrics) -> None:
        """Show the bar."""
        self._show(metrics, "")
        super().on_start(metrics)

    def tell(self, metrics: RunMetrics) -> None:
        """Move the bar."""
        self._show(metrics, "")

    def on_finish(self, report: RunReport) -> None:
        """Show how it ended."""
        if self._metrics is not None:
            self._show(self._metrics, _ENDS.get(report.status, report.status))
        super().on_finish(report)

    def _show(self, metrics: RunMetrics, end: str) -> None:
        text = progress_text(metrics)
        if end:
            text += f": {end}"
        done, total = metrics.rows_done, metrics.total_rows
        if total is None and end:
            total = done
        # Without a value the browser shows that it is not known how far this is.
        value = "" if total is None else f' value="{done}" max="{max(total, 1)}"'
        bar = f'<progress style="width:14em;vertical-align:middle"{value}></progress>'
        shown = {"text/plain": text, "text/html": f"<div>{bar} {escape(text)}</div>"}
        if self._handle is None:
            # There is one where this is used; elsewhere the package does without.
            display = import_module("IPython.display").display
            self._handle = display(shown, raw=True, display_id=True)
        else:
            self._handle.update(shown, raw=True)
