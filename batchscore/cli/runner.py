"""Runs a command's coroutine, and leaves the process whatever hangs.

A first SIGINT or SIGTERM cancels the work, which then has less than a second to put things in
order; a second signal, or a thread stuck in a blocking read, does not keep the process alive.
"""

from __future__ import annotations

import contextlib
import gc
import logging
import os
import signal
import sys
import threading
import time
from typing import TYPE_CHECKING, Any, NoReturn, TypeVar

if TYPE_CHECKING:
    import asyncio
    from collections.abc import Callable, Coroutine
    from types import FrameType

Result = TypeVar("Result")

GRACE_S = 0.7
"""How long the work may take to stop after a signal; the process is gone within a second."""

_THREADS_S = 0.3
_WORDS = {signal.SIGINT: "interrupted", signal.SIGTERM: "terminated"}

# How events are written where the log is JSON; None: as text.
_event_line: Callable[..., str] | None = None
_end_line: Callable[[int], str] | None = None


class Interrupted(BaseException):
    """Raised when a signal ended the work, after it was cancelled.

    Attributes:
        exit_code: 128 and the signal's number.
    """

    def __init__(self, number: int) -> None:
        super().__init__(_WORDS[signal.Signals(number)])
        self.exit_code = 128 + number


def leave_on_signals() -> None:
    """Until a coroutine runs there is nothing to put in order: a signal ends the process."""
    for number in _WORDS:
        signal.signal(number, _leave_now)


def write_as_json(*, is_json: bool) -> None:
    """Write what a signal has to say as lines of JSON, or as text."""
    global _event_line, _end_line  # noqa: PLW0603 (a handler of signals belongs to the process)
    _event_line = _end_line = None
    if is_json:
        from batchscore.cli.events import end_line, event_line

        _event_line, _end_line = event_line, end_line


def _leave_now(number: int, _frame: FrameType | None) -> None:
    _tell(number, "", "")
    _end_now(128 + number)


def _tell(number: int, before: str, after: str) -> None:
    word = _WORDS[signal.Signals(number)]
    if _event_line is not None:
        _write(_event_line(logging.WARNING, word, word + after))
    else:
        _write(f"{before}{word}{after}\n")


def _write(text: str) -> None:
    # Not through sys.stderr: the signal may have come amid a write to it.
    with contextlib.suppress(OSError):
        os.write(2, text.encode())


def _end_now(code: int) -> NoReturn:
    """End the process amid whatever it does."""
    if _end_line is not None:
        _write(_end_line(code))
    _exit_now(code)


def _exit_now(code: int) -> NoReturn:
    # A plain exit waits for every thread, also for one that reads from a silent pipe or a dead
    # network drive and cannot be told to stop. What matters has been written by now.
    os._exit(code)


def leave(code: int) -> NoReturn:
    """End the process with this exit code, even if threads hang or standard output is gone."""
    for stream, descriptor in ((sys.stdout, 1), (sys.stderr, 2)):
        try:
            stream.flush()
        except OSError:
            # The interpreter flushes again at its end, and would exit with a code of its own.
            os.dup2(os.open(os.devnull, os.O_WRONLY), descriptor)
    deadline = time.monotonic() + _THREADS_S
    for thread in threading.enumerate():
        if thread is not threading.current_thread() and not thread.daemon:
            thread.join(max(0.0, deadline - time.monotonic()))
            if thread.is_alive():
                _exit_now(code)
    sys.exit(code)


def run(work: Coroutine[Any, Any, Result]) -> Result:
    """Run a coroutine to its end and return its result.

    Raises:
        Interrupted: SIGINT or SIGTERM came; the coroutine was cancelled and has ended.
    """
    # Not asyncio.run: it waits for the threads of its executor, however long they hang.
    import asyncio
    from concurrent.futures import ThreadPoolExecutor

    from batchscore.environment import raise_file_limit

    raise_file_limit()
    loop = asyncio.new_event_loop()
    threads = ThreadPoolExecutor(thread_name_prefix="batchscore")
    loop.set_default_executor(threads)
    task = loop.create_task(work)
    stop = _Stop(loop, task)
    previous = {number: signal.signal(number, stop) for number in _WORDS}
    # What was imported stays to the end; nobody need look through it for garbage.
    gc.freeze()
    try:
        try:
            result = loop.run_until_complete(task)
        except asyncio.CancelledError:
            if stop.number is None:
                raise
            raise Interrupted(stop.number) from None
        except Exception as error:
            if stop.number is None:
                raise
            raise Interrupted(stop.number) from error
        if stop.number is not None:
            raise Interrupted(stop.number)
        return result
    finally:
        _close(loop, threads)
        for number, handler in previous.items():
            signal.signal(number, handler)


def _close(loop: asyncio.AbstractEventLoop, threads: Any) -> None:
    import asyncio

    leftover = asyncio.all_tasks(loop)
    for task in leftover:
        task.cancel()
    if leftover:
        loop.run_until_complete(asyncio.gather(*leftover, return_exceptions=True))
    loop.run_until_complete(loop.shutdown_asyncgens())
    threads.shutdown(wait=False, cancel_futures=True)
    loop.close()


class _Stop:
    """The signal handler while a coroutine runs."""

    def __init__(self, loop: asyncio.AbstractEventLoop, task: asyncio.Task[Any]) -> None:
        self._loop = loop
        self._task = task
        self.number: int | None = None

    def __call__(self, number: int, _frame: FrameType | None) -> None:
        if self.number is not None:
            _end_now(128 + self.number)
        self.number = number
        # On a terminal the cursor stands behind "^C" or in the bar.
        _tell(number, "\n" if os.isatty(2) else "", "; stopping")
        # A daemon thread, so that it fires although the main thread waits for something.
        watchdog = threading.Timer(GRACE_S, _end_now, [128 + number])
        watchdog.daemon = True
        watchdog.start()
        with contextlib.suppress(RuntimeError):  # the loop has just been closed
            self._loop.call_soon_threadsafe(self._task.cancel, signal.Signals(number).name)
