"""What the user sees: messages on standard error, tables on standard output, the progress."""

from __future__ import annotations

import errno
import logging
import os
import sys
import traceback
from dataclasses import dataclass
from typing import TYPE_CHECKING, Protocol

from batchscore.errors import OutputError

if TYPE_CHECKING:
    from rich.console import Console
    from rich.table import Table

    from batchscore.cli.options import GeneralOptions
    from batchscore.observers import ClosingObserver


class Closing(Protocol):
    """What gives the terminal back when it is closed."""

    def close(self) -> None: ...


_BOLD_RED, _YELLOW, _RESET = "\x1b[1;31m", "\x1b[33m", "\x1b[0m"


@dataclass
class Terminal:
    """How to talk to the user; the same object for the whole process.

    Attributes:
        color: True and False as ordered, None by terminal and ``NO_COLOR``.
        quiet, verbose, debug: how much is told.
    """

    color: bool | None = None
    quiet: bool = False
    verbose: bool = False
    debug: bool = False
    _live: Console | None = None

    def configure(self, general: GeneralOptions) -> None:
        """Take over the options, and send the package's log to standard error."""
        self.color, self.quiet = general.color, general.quiet
        self.verbose, self.debug = general.verbose, general.debug
        logger = logging.getLogger("batchscore")
        logger.handlers = [_LogLines(self)]
        logger.propagate = False
        logger.setLevel(self._level())
        if not self.debug:
            # What libraries log is for who mends this program, not for who uses it.
            logging.lastResort = None

    def _level(self) -> int:
        if self.debug:
            return logging.DEBUG
        if self.quiet:
            return logging.ERROR
        return logging.INFO if self.verbose else logging.WARNING

    def error(self, text: str) -> None:
        """An error of one or two lines."""
        self._line("error: ", text, _BOLD_RED)

    def log(self, level: int, text: str) -> None:
        """One line of the log."""
        if level >= logging.ERROR:
            self._line("error: ", text, _BOLD_RED)
        elif level >= logging.WARNING:
            self._line("warning: ", text, _YELLOW)
        else:
            self._line("", text, "")

    def note(self, text: str) -> None:
        """A line that ``--quiet`` leaves out."""
        if not self.quiet:
            self._line("", text, "")

    def internal_error(self, error: BaseException) -> None:
        """A mistake of this program's own."""
        text = " ".join(str(error).split())[:300]
        self.error(
            f"internal error: {type(error).__name__}{': ' if text else ''}{text}"
            + ("" if self.debug else "\nrun the command with --debug and report what it prints")
        )

    def traceback(self, error: BaseException) -> None:
        """With ``--debug``, where an error comes from."""
        if self.debug:
            self._line("", "".join(traceback.format_exception(error)).rstrip(), "")

    def _line(self, prefix: str, text: str, style: str) -> None:
        if self._live is not None:
            # Above the bar, which would otherwise be torn.
            self._live.out(f"{prefix}{text}", highlight=False)
            return
        if prefix and style and self._colored(sys.stderr.isatty()):
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

    def observer(self, progress: str, *, summary: bool = True) -> ClosingObserver:
        """The observers of a run: the progress as ordered, retries if verbose, the summary."""
        from batchscore.observers import LogObserver, Observers, RetryLog, Summary

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
        if progress == "auto":
            progress = "bar" if sys.stderr.isatty() and _can_draw() else "plain"
        if self.quiet or progress != "bar":
            return None
        self._live = self.console(stderr=True)
        return self._live

    def finish(self, observer: Closing) -> None:
        """Take the display away, however the run ended."""
        observer.close()
        self._live = None


def _can_draw() -> bool:
    return os.environ.get("TERM", "") not in {"", "dumb"}


class _LogLines(logging.Handler):
    def __init__(self, terminal: Terminal) -> None:
        super().__init__()
        self._terminal = terminal

    def emit(self, record: logging.LogRecord) -> None:
        text = record.getMessage()
        error = record.exc_info[1] if record.exc_info else None
        if error is not None and self._terminal.debug:
            text += "\n" + "".join(traceback.format_exception(error)).rstrip()
        elif error is not None:
            text += f": {type(error).__name__}: {error}"
        self._terminal.log(record.levelno, text)


TERMINAL = Terminal()
