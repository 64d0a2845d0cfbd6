"""One of the other processes, as the first one sees it."""

from __future__ import annotations

import asyncio
import logging
import os
import signal
import socket
import subprocess
import sys
from contextlib import suppress
from typing import TYPE_CHECKING, Protocol

from batchscore.errors import WorkerLostError
from batchscore.processes.link import Answers, Link
from batchscore.processes.messages import (
    Away,
    Cleared,
    Counted,
    Failed,
    GoOn,
    Held,
    Hold,
    Leave,
    Logged,
    Pause,
    Ready,
    Retried,
    Score,
    Scored,
    Setup,
    Suspect,
    Token,
    TokenWanted,
    Turn,
)

if TYPE_CHECKING:
    from collections.abc import Callable, Coroutine, Mapping

    import pyarrow as pa

    from batchscore.batches import RowFailure
    from batchscore.client.client import Client
    from batchscore.client.turns import LocalTurns
    from batchscore.metrics import RunMetrics, Traffic

_log = logging.getLogger("batchscore")
_LEAVE_WITHIN_S = 2.0
_AHEAD = 8
_COMMAND = "from batchscore.processes.worker import main; main()"


class Home(Protocol):
    """What all processes of a job share; it is in the first one.

    Attributes:
        client: the first process's own; holds the token.
        turns: gives turns while the deployment is away.
        metrics: count for all.
        on_retry: told of each retry.
    """

    client: Client
    turns: LocalTurns
    metrics: RunMetrics
    on_retry: Callable[[str, int, float], None]

    def pause(self, seconds: float, origin: Child | None = None) -> None:
        """The server asked one process to send nothing for so long: so do they all."""
        ...

    def refresh(self) -> None:
        """A process may have room for more chunks."""
        ...


class Child:
    """Starts a worker process, speaks with it and ends it.

    Attributes:
        columns: what is sent of a chunk's columns.
        taken: chunks that it has.
        is_ready: it has begun to work.
        is_done: it will get no more, and may end in good order.
    """

    def __init__(self, home: Home, number: int) -> None:
        self._home, self._number = home, number
        self.columns: list[str] = []
        self.taken = 0
        self.is_done = False
        self._link: Link | None = None
        self.is_ready = False
        self._traffic: Traffic | None = None
        self._scored: Answers[tuple[Scored, pa.Buffer | None]] = Answers()
        self._tasks: asyncio.TaskGroup | None = None
        self._cleared: dict[int, asyncio.Event] = {}
        self._held = asyncio.Event()
        self._is_held = False

    @property
    def places(self) -> int:
        """How many chunks it may have: those in its requests, as many on the way, and some more.

        Where processes have to wait for a core, each must have something to go on with.
        """
        if not self.is_ready or self._traffic is None:
            return 0
        return 2 * self._traffic.limit + _AHEAD

    async def run(self, setup: Setup) -> None:
        """Start the process and stay with it until it ends; cancelling ends it.

        Raises:
            Exception: what ends the job, as the process found it.
            WorkerLostError: it is gone.
        """
        self.columns = list(setup.features.columns.names)
        ours, theirs = socket.socketpair()
        with ours, theirs:
            process = _started(theirs)
            theirs.close()
            try:
                await self._stay_with(process, ours, setup)
            finally:
                process.kill()
                process.wait()

    async def _stay_with(
        self, process: subprocess.Popen[bytes], end: socket.socket, setup: Setup
    ) -> None:
        self._link = await Link.over(end, self._on_message)
        try:
            async with asyncio.TaskGroup() as self._tasks:
                self.tell(setup)
                await self._link.ended
                raise WorkerLostError(self._why_lost(await _ended(process)))
        finally:
            try:
                # One that is not ready yet has nothing to put in order, and may take its time.
                if self.is_done and self.is_ready and not self._link.ended.done():
                    self.tell(Leave())
                    await _ended(process)
            finally:
                self._link.close()

    def _why_lost(self, code: int | None) -> str:
        how = f"ended with code {code}"
        if code is not None and code < 0:
            with suppress(ValueError):
                how = f"was ended by {signal.Signals(-code).name}"
        return (
            f"worker process {self._number} {how}; if there is too little memory, give fewer "
            "--processes; the same command with --resume goes on"
        )

    def tell(self, message: object) -> None:
        """Send a message, if the process is there."""
        if self._link is not None:
            self._link.send(message)

    async def score(
        self, rows: pa.RecordBatch, failures: Mapping[int, RowFailure]
    ) -> tuple[Mapping[int, RowFailure], pa.Buffer | None]:
        """Have rows scored; which of them failed, and the predictions as a record batch."""
        assert self._link is not None  # noqa: S101 - else it has no places
        number, answer = self._scored.expect()
        self._link.send(Score(number, failures), rows.serialize())
        scored, predictions = await answer
        return scored.failures, predictions

    def hold(self) -> None:
        """See ``Member``."""
        if not self._is_held:
            self._is_held = True
            self._held.clear()
            self.tell(Hold())

    async def held(self) -> None:
        """See ``Member``."""
        await self._held.wait()

    def go_on(self) -> None:
        """See ``Member``."""
        self._is_held = False
        self.tell(GoOn())

    def _on_message(self, message: object, rows: pa.Buffer | None) -> None:
        match message:
            case Scored():
                self._count(message.traffic)
                self._scored.give(message.number, (message, rows))
            case Counted():
                self._count(message.traffic)
                client = self._home.client
                client.answered_s = max(client.answered_s, message.answered_s)
            case Pause(seconds):
                self._home.pause(seconds, self)
            case Retried(code, attempt, wait_s):
                self._home.on_retry(code, attempt, wait_s)
            case Logged(level, text, event, fields):
                _log.log(level, "%s", text, extra={"event": event, "fields": fields})
            case Ready():
                self._join(message.traffic)
            case Failed(error):
                raise error
            case _:
                self._on_wish(message)

    def _on_wish(self, message: object) -> None:
        """What a process needs that is there once for all of them."""
        match message:
            case Held():
                self._held.set()
            case Suspect(number):
                self._cleared[number] = asyncio.Event()
                self._spawn(self._turn(number))
            case Cleared(number):
                self._cleared.pop(number).set()
            case Away(is_away):
                self._home.turns.is_away = is_away
            case TokenWanted():
                self._spawn(self._token(message))

    def _spawn(self, work: Coroutine[None, None, None]) -> None:
        assert self._tasks is not None  # noqa: S101 - messages come only while it is there
        self._tasks.create_task(work)

    def _count(self, traffic: Traffic) -> None:
        before, self._traffic = self._traffic, traffic
        self._home.metrics.add_traffic(traffic, before)
        if before is not None and traffic.limit > before.limit:
            self._home.refresh()

    def _join(self, traffic: Traffic) -> None:
        turns = self._home.turns
        turns.join(self)
        if turns.are_taken:
            self.hold()
        self.is_ready = True
        self._count(traffic)
        self._home.refresh()

    async def _turn(self, number: int) -> None:
        turns, cleared = self._home.turns, self._cleared[number]
        async with turns.alone():
            self.tell(Turn(number, turns.is_away))
            await cleared.wait()

    async def _token(self, wanted: TokenWanted) -> None:
        token = await self._home.client.token.renewed(wanted.refused)
        self.tell(Token(wanted.number, token))


def _started(end: socket.socket) -> subprocess.Popen[bytes]:
    """A worker process with one end of a pair of sockets as its standard input.

    It finds the package where this process found it, and does not run the user's main module. In
    a process group of its own, Ctrl-C on the terminal does not reach it: this process ends it.
    """
    paths = [os.path.abspath(path) for path in sys.path]  # noqa: PTH100 - may name what is no file
    process: subprocess.Popen[bytes] = subprocess.Popen(  # noqa: S603 - this interpreter, and nothing of the user's
        [sys.executable, "-P", "-c", _COMMAND],
        stdin=end.fileno(),
        stdout=subprocess.DEVNULL,
        env={**os.environ, "PYTHONPATH": os.pathsep.join(paths)},
        process_group=0,
    )
    return process


async def _ended(process: subprocess.Popen[bytes]) -> int | None:
    """The exit code of a process that is about to end; None where it takes too long."""
    try:
        async with asyncio.timeout(_LEAVE_WITHIN_S):
            while process.poll() is None:  # noqa: ASYNC110 - there is nothing to be woken by
                await asyncio.sleep(0.005)
    except TimeoutError:
        return None
    return process.returncode
