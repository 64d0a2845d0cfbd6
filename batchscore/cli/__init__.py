"""The command line. ``main`` is the entry point; everything else is imported when needed."""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Sequence
    from typing import NoReturn


def main(arguments: Sequence[str] | None = None) -> NoReturn:
    """Run one command and leave the process with its exit code."""
    # Signals come first: the imports below take long enough to be interrupted.
    from batchscore.cli import runner

    runner.leave_on_signals()
    runner.leave(_run(arguments))


def _run(arguments: Sequence[str] | None) -> int:
    import sys

    from batchscore.cli import app

    return app.run(sys.argv[1:] if arguments is None else list(arguments))
