"""The display for a run that Python code starts."""

from __future__ import annotations

import os
import sys
from typing import TYPE_CHECKING, Literal

from batchscore.errors import UsageError
from batchscore.observers import LogObserver, NullObserver, Observers
from batchscore.observers.notebook import NotebookObserver, in_notebook

if TYPE_CHECKING:
    from batchscore.observers import Observer

Display = Literal["auto", "bar", "plain", "none"]


def can_draw() -> bool:
    """Whether standard error is a terminal on which a line can be written over.

    What a notebook's cell runs with ``!`` has a terminal that only looks like one: all that was
    ever written to it stays in the notebook.
    """
    in_cell = "JPY_PARENT_PID" in os.environ
    return sys.stderr.isatty() and os.environ.get("TERM", "") not in {"", "dumb"} and not in_cell


def watched(observer: Observer | None, progress: Display) -> Observer:
    """An observer, and the display that is asked for.

    Raises:
        UsageError: there is no such display.
    """
    if progress not in {"auto", "bar", "plain", "none"}:
        raise UsageError(f"progress: {progress!r} is not one of auto, bar, plain, none")
    display = _display(progress)
    return display if observer is None else Observers([observer, display])


def _display(progress: Display) -> Observer:
    if progress == "none":
        return NullObserver()
    if progress != "plain" and in_notebook():
        return NotebookObserver()
    if progress == "bar" or (progress == "auto" and can_draw()):
        from rich.console import Console  # noqa: PLC0415 (most runs are quicker without)

        from batchscore.observers.progress import BarObserver  # noqa: PLC0415 (as above)

        return BarObserver(Console(stderr=True, highlight=False, markup=False, emoji=False))
    return LogObserver(lambda line: print(line, file=sys.stderr, flush=True))  # noqa: T201
