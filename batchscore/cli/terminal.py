"""What the user sees: messages on standard error, tables on standard output, the progress."""

from __future__ import annotations

import errno
import logging
import os
import sys
import traceback
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Protocol

from batchscore.cli import events, runner
from batchscore.errors import EXIT_FAILED_ROWS, EXIT_OK, OutputError
from batchscore.observers import NOTE

if TYPE_CHECKING:
    from collections.abc import Mapping

    from rich.console import Console
    from rich.table import Table

    from batchscore.cli.options import GeneralOptions
    from batchscore.observers import ClosingObserver


class Closing(Protocol):
    """What gives the terminal back when it is closed."""

    def close(self) -> None: ...


_RESET = "\x1b[0m"
_PREFIXES = (
    (logging.ERROR, "error: ", "\x1b[1;31m"),
    (logging.WARNING, "warning: ", "\x1b[33m"),
)
"""What stands before a line of that level or above, and its colour."""


@dataclass
class Terminal:
    """How to talk to the user; the same object for the whole process.

    Attributes:
        color: True and False as ordered, None by terminal and ``NO_COLOR``.
        quiet, verbose, debug: how much is told.
        as_json: standard error has one JSON object a line.
    """

    color: bool | None = None
    quiet: bool = False
    verbose: bool = False
    debug: bool = False
    as_json: bool = False
    _live: Console | None = None

    def configure(self, general: GeneralOptions) -> None:
        """Take over the options, and send the package's log to standard error."""
        self.color, self.quiet = general.color, general.quiet
        self.verbose, self.debug = general.verbose, general.debug
        self.write_as(general.log_format)
        logger = logging.getLogger("batchscore")
        logger.handlers = [_LogLines(self)]
        logger.propagate = False
        logger.setLevel(self._level())
        if not self.debug:
            # What libraries log is for who mends this program, not for who uses it.
            logging.lastResort = None
        if self.as_json:
            # Nothing but objects on standard error, whoever has something to say.
            logging.captureWarnings(capture=True)
            logging.getLogger(None if self.debug else "py.warnings").handlers = [_LogLines(self)]

    def write_as(self, log_format: str) -> None:
        """Write to standard error in this form from now on, ``text`` or ``json``."""
        self.as_json = log_format == "json"
        runner.write_as_json(is_json=self.as_json)

    def _level(self) -> int:
        if self.debug:
            return logging.DEBUG
        if self.quiet:
            return logging.ERROR
        return logging.INFO if self.verbose else NOTE

    def error(self, text: str, code: str, exit_code: int) -> None:
        """An error of one or two lines, and what the command exits with."""
        self._say(logging.ERROR, "error", text, {"code": code, "exit_code": exit_code})

    def log(self, level: int, text: str, event: str, fields: Mapping[str, Any]) -> None:
        """One line of the log; its event and fields are for a log of JSON."""
        self._say(level, event, text, fields)

    def tell(self, level: int, event: str, message: str, **fields: Any) -> None:
        """An event of a run; see ``observers.json_log.Emit``."""
        if not self.quiet or level >= logging.ERROR:
            self._say(level, event, message, fields)

    def note(self, text: str) -> None:
        """A line that ``--quiet`` leaves out."""
        self.tell(logging.INFO, "note", text)

    def failed(self, raised: BaseException, error: BaseException, exit_code: int) -> None:
        """What ended the command; with ``--debug`` where it comes from.

        Args:
            raised: the error as it was raised, perhaps a group.
            error: the one to tell of.
            exit_code: what the command exits with.
        """
        text, code = str(error), events.code_of(error)
        if code == "internal":
            text = _internal(error)
            if not self.debug:
                text += "\nrun the command with --debug and report what it prints"
        trace = "".join(traceback.format_exception(raised)).rstrip()
        fields: dict[str, object] = {"code": code, "exit_code": exit_code}
        if self.debug and self.as_json:
            fields["traceback"] = trace
        elif self.debug:
            self._say(logging.INFO, "log", trace, {})
        self._say(logging.ERROR, "error", text, fields)

    def end(self, exit_code: int) -> None:
        """The command ends; a log of text does without that line."""
        if self.as_json and (not self.quiet or exit_code not in {EXIT_OK, EXIT_FAILED_ROWS}):
            print(events.end_line(exit_code), end="", file=sys.stderr, flush=True)  # noqa: T201

    def _say(self, level: int, event: str, text: str, fields: Mapping[str, Any]) -> None:
        if self.as_json:
            line = events.event_line(level, event, text, **fields)
            print(line, end="", file=sys.stderr, flush=True)  # noqa: T201
            return
        prefix, style = next((p for least, *p in _PREFIXES if level >= least), ("", ""))
        if self._live is not None:
            # Above the bar, which would otherwise be torn.
            self._live.out(f"{prefix}{text}", highlight=False)
            return
        if prefix and self._colored(sys.stderr.isatty()):
            prefix = f"{style}{prefix}{_RESET}"
        print(f"{prefix}{text}", file=sys.stderr, flush=True)  # noqa: T201

    def _colored(self, is_terminal: bool) -> bool:
        if self.color is not None:
            return self.color
        return is_terminal and not os.environ.get("NO_COLOR")

    def data(self, text: str) -> None:
        """Write to standard output, at once.

        Raises:
            BrokenPipeError: nobody reads it any more.
            OutputError: it cannot be written.
        """
        try:
            sys.stdout.write(text)
            sys.stdout.flush()
        except BrokenPipeError:
            raise
        except OSError as error:
            if sys.platform == "win32" and error.errno == errno.EINVAL:
                raise BrokenPipeError from error  # what it says there
            reason = error.strerror or error
            raise OutputError(f"cannot write to standard output: {reason}") from error

    def table(self, table: Table, least_width: int = 0) -> None:
        """Write a table to standard output; raises what ``data`` raises."""
        console = self.console()
        console.width = max(console.width, least_width)
        with console.capture() as capture:
            console.print(table)
        self.data(capture.get())

    def console(self, *, stderr: bool = False) -> Console:
        """A rich console on standard output or error, coloured as ordered."""
        from rich.console import Console

        stream = sys.stderr if stderr else sys.stdout
        colored = self._colored(stream.isatty())
        return Console(
            stderr=stderr,
            no_color=not colored,
            force_terminal=True if colored and self.color else None,
            highlight=False,
            markup=False,
            emoji=False,
        )

    def observer(
        self, progress: str, *, summary: bool = True, about: Mapping[str, object] | None = None
    ) -> ClosingObserver:
        """The observers of a run: the progress as ordered, retries if verbose, the summary.

        Args:
            progress: as in ``--progress``.
            summary: whether there is one.
            about: what a log of JSON tells of the run at its start.
        """
        from batchscore.observers import LogObserver, Observers, RetryLog, Summary

        if self.as_json:
            from batchscore.observers.json_log import EventLog

            is_verbose = self.verbose or self.debug
            return EventLog(self.tell, about or {}, progress=progress != "none", retries=is_verbose)
        parts: list[ClosingObserver] = []
        if not self.quiet:
            if (console := self.live_console(progress)) is not None:
                from batchscore.observers.progress import BarObserver

                parts.append(BarObserver(console))
            elif progress != "none":
                parts.append(LogObserver(self.note))
            if self.verbose or self.debug:
                parts.append(RetryLog(self.note))
            if summary:
                parts.append(Summary(self.note))
        return Observers(parts)

    def live_console(self, progress: str) -> Console | None:
        """The console for a display that moves, until ``finish``; None where lines are wanted."""
        from batchscore.observers.chosen import can_draw

        if progress == "auto":
            progress = "bar" if can_draw() else "plain"
        if self.quiet or self.as_json or progress != "bar":
            return None
        self._live = self.console(stderr=True)
        return self._live

    def finish(self, observer: Closing) -> None:
        """Take the display away, however the run ended."""
        observer.close()
        self._live = None


class _LogLines(logging.Handler):
    def __init__(self, terminal: Terminal) -> None:
        super().__init__()
        self._terminal = terminal

    def emit(self, record: logging.LogRecord) -> None:
        text = record.getMessage()
        fields = dict(getattr(record, "fields", {}))
        error = record.exc_info[1] if record.exc_info else None
        trace = "".join(traceback.format_exception(error)).rstrip() if error else ""
        if error is not None and self._terminal.debug and not self._terminal.as_json:
            text += f"\n{trace}"
        elif error is not None:
            text += f": {type(error).__name__}: {error}"
            fields |= {"traceback": trace} if self._terminal.debug else {}
        self._terminal.log(record.levelno, text, getattr(record, "event", "log"), fields)


def _internal(error: BaseException) -> str:
    """A mistake of this program's own."""
    text = " ".join(str(error).split())[:300]
    return f"internal error: {type(error).__name__}{': ' if text else ''}{text}"


TERMINAL = Terminal()
