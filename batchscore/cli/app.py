"""The commands, how their words are parsed, and what becomes of every error."""

from __future__ import annotations

import io
import os
import sys
from contextlib import suppress
from itertools import pairwise

from cyclopts import App, CycloptsError

from batchscore.cli.events import wants_json
from batchscore.cli.runner import Interrupted
from batchscore.cli.terminal import TERMINAL
from batchscore.cli.words import COMMANDS, USAGE
from batchscore.errors import (
    EXIT_INTERRUPTED,
    EXIT_OK,
    EXIT_STOPPED,
    BatchscoreError,
    UsageError,
)
from batchscore.version import __version__


def make_app() -> App:
    """The parser; a command's module is imported when the command is used."""
    app = App(
        "batchscore",
        help="Score files of rows against a deployed model: streamed, in order, no row lost.",
        version=__version__,
        help_format="plaintext",
        help_epilogue=(
            "Options come from --config FILE.toml, then BATCHSCORE_<OPTION> variables, then the "
            "command line; the last one counts."
        ),
    )
    for position, (name, summary) in enumerate(COMMANDS.items()):
        path = f"batchscore.cli.{name}:{name}"
        usage = f"Usage: batchscore {name} {USAGE[name]} [OPTIONS]"
        app.command(path, name=name, help=summary, usage=usage, sort_key=position)
    return app


def run(arguments: list[str]) -> int:
    """Run one command line and return the exit code; every error has been told."""
    _open_streams()
    # Before the options are known, so that what is wrong with them is told as it shall be.
    TERMINAL.debug = "--debug" in arguments
    TERMINAL.write_as("json" if wants_json(arguments, os.environ) else "text")
    for word, colored in (("--color", True), ("--no-color", False)):
        if word in arguments:
            TERMINAL.color = colored
    exit_code = _run(arguments)
    TERMINAL.end(exit_code)
    return exit_code


def _run(arguments: list[str]) -> int:
    try:
        return _parse_and_call(arguments)
    except BrokenPipeError:
        # Whoever read standard output has enough, and that is no mistake.
        return EXIT_OK
    except Interrupted as interrupted:
        return interrupted.exit_code
    except UsageError as error:
        if not error.is_reported:
            _report(arguments, error)
        return _told(error)
    except BaseException as error:  # noqa: BLE001 (the last one to hear of it)
        return _told(error)


def _report(arguments: list[str], error: UsageError) -> None:
    """Write the reports of a run that its options did not let begin."""
    from pathlib import Path

    from batchscore.place_options import REPORT_SUFFIXES

    pairs = [(*word.partition("="), next_word) for word, next_word in pairwise([*arguments, ""])]
    paths = [
        Path(value or next_word) for option, _, value, next_word in pairs if option == "--report"
    ]
    paths = [path for path in paths if path.suffix in REPORT_SUFFIXES and path.parent.is_dir()]
    if not paths:
        return
    # Only here: what writes a report takes long to import.
    from batchscore.metrics import RunReport
    from batchscore.run import may_replace, write_report

    report = RunReport(status="usage", exit_code=error.exit_code, message=str(error))
    for path in paths:
        with suppress(OSError):  # the error that is told first is what matters
            # As it is not known which words name the input, no file of it may be replaced.
            if may_replace(path):
                write_report(report, path)


def _open_streams() -> None:
    """A stream that the parent process closed swallows what is written to it."""
    for name in ("stdout", "stderr"):
        if getattr(sys, name) is None:
            setattr(sys, name, io.TextIOWrapper(io.FileIO(os.devnull, "w"), encoding="utf-8"))
    if isinstance(sys.stdout, io.TextIOWrapper):
        # A console of Windows, or LANG=C, has not every character of a table; nothing fails there.
        sys.stdout.reconfigure(errors="backslashreplace")


def _told(raised: BaseException) -> int:
    error = _first_of(raised) if isinstance(raised, BaseExceptionGroup) else raised
    if isinstance(error, KeyboardInterrupt):
        TERMINAL.error("interrupted", "interrupted", EXIT_INTERRUPTED)
        return EXIT_INTERRUPTED
    if isinstance(error, SystemExit):
        return error.code if isinstance(error.code, int) else EXIT_STOPPED
    exit_code = error.exit_code if isinstance(error, BatchscoreError) else EXIT_STOPPED
    TERMINAL.failed(raised, error, exit_code)
    return exit_code


def _first_of(group: BaseExceptionGroup[BaseException]) -> BaseException:
    """The one error to tell of a group: the first of ours, else the first."""
    flat: list[BaseException] = []
    pending: list[BaseException] = [group]
    while pending:
        error = pending.pop(0)
        if isinstance(error, BaseExceptionGroup):
            pending[:0] = error.exceptions
        else:
            flat.append(error)
    return next((error for error in flat if isinstance(error, BatchscoreError)), flat[0])


def _parse_and_call(arguments: list[str]) -> int:
    from batchscore.cli.parsing import prepared, reworded

    app = make_app()
    words = prepared(arguments)
    try:
        function, bound, _ = app.parse_args(words, exit_on_error=False, print_error=False)
    except CycloptsError as error:
        raise UsageError(reworded(error, app)) from error
    result = function(*bound.args, **bound.kwargs)
    TERMINAL.data("")
    return result if isinstance(result, int) else EXIT_OK
