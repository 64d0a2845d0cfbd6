"""A worker process: scores the chunks that it is sent, over a client of its own.

It is a small composition root over the same parts as the scorer. When its link breaks, the first
process is gone, and it ends at once; nothing that matters is here alone.
"""

from __future__ import annotations

import asyncio
import logging
import os
import pickle
import signal
import socket
import traceback
from contextlib import AsyncExitStack, asynccontextmanager
from typing import TYPE_CHECKING

import pyarrow as pa

from batchscore.batches import Chunk, RowBatch
from batchscore.client.share import Share
from batchscore.errors import BatchscoreError
from batchscore.metrics import RunMetrics
from batchscore.processes.link import Answers, Link
from batchscore.processes.messages import (
    Answered,
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
from batchscore.runtime import Runtime
from batchscore.scoring.connection import Limits, connect
from batchscore.scoring.packing import encoder_of
from batchscore.scoring.pipeline import first_error
from batchscore.scoring.predictor import Predictor

if TYPE_CHECKING:
    from collections.abc import AsyncIterator

    from batchscore.client.turns import Member

_TELL_EVERY_S = 0.25


def main() -> None:
    """Work for the process at the other end of standard input, until it says that all is done."""
    # The first process is told to stop, and ends this one.
    for number in (signal.SIGINT, signal.SIGTERM):
        signal.signal(number, signal.SIG_IGN)
    # What is imported here, or started, must not read from the link.
    end = socket.socket(fileno=os.dup(0))
    os.dup2(os.open(os.devnull, os.O_RDONLY), 0)
    asyncio.run(_work(end))


async def _work(end: socket.socket) -> None:
    worker = _Worker()
    await worker.run(end)


class _Worker:
    """The worker's side of the link."""

    def __init__(self) -> None:
        self._setup: asyncio.Future[Setup] = asyncio.get_running_loop().create_future()
        self._all_done = asyncio.Event()
        self._metrics = RunMetrics()
        self._tasks: asyncio.TaskGroup | None = None

    async def run(self, end: socket.socket) -> None:
        """Score what comes until all is done."""
        self._link = await Link.over(end, self._on_message)
        self._link.ended.add_done_callback(self._left_alone)
        self._turns = _RemoteTurns(self._link)
        try:
            await self._score_all(await self._setup)
        except BaseExceptionGroup as errors:
            await self._report(first_error(errors))
        except Exception as error:  # noqa: BLE001 - the first process raises it
            await self._report(error)
        self._link.close()

    async def _score_all(self, setup: Setup) -> None:
        _log_to(self._link, setup.log_level)
        config = setup.config
        self._token = _RemoteToken(self._link, setup.token)
        async with AsyncExitStack() as stack:
            ground = stack.enter_context(
                Runtime().ground(self._metrics, lambda *retry: self._link.send(Retried(*retry)))
            )
            connection = await stack.enter_async_context(
                connect(
                    config,
                    ground,
                    Limits.of(config),
                    share=Share(setup.number, setup.of, self._turns),
                    token=self._token,
                )
            )
            self._client = connection.client
            self._client.began_with(setup.fingerprint)
            self._client.on_pause = lambda seconds: self._link.send(Pause(seconds))
            self._predictor = Predictor(
                connection,
                setup.signature,
                encoder_of(connection.protocol, setup.signature, setup.features),
                ground,
                probs=config.probs,
                max_batch_bytes=config.max_batch_bytes,
            )
            # They are sent only once a row of the job was scored.
            self._predictor.refusals.scored()
            self._rows = setup.features.columns
            async with asyncio.TaskGroup() as self._tasks:
                teller = self._tasks.create_task(self._tell())
                self._link.send(Ready(self._metrics.take_traffic()))
                await self._all_done.wait()
                teller.cancel()

    async def _report(self, error: BaseException) -> None:
        """Tell what ends the job; the first process then ends this one."""
        self._link.send(Failed(portable(error)))
        await asyncio.Event().wait()

    def _left_alone(self, ended: asyncio.Future[None]) -> None:
        if not self._all_done.is_set():
            if error := ended.exception():
                traceback.print_exception(error)
            # Nobody is there to be told, and threads may hang.
            os._exit(1)

    def _on_message(self, message: object, rows: pa.Buffer | None) -> None:
        match message:
            case Score():
                assert self._tasks is not None and rows is not None  # noqa: S101, PT018
                self._tasks.create_task(self._score(message, rows))
            case Setup():
                self._setup.set_result(message)
            case Hold():
                self._turns.hold()
                self._link.send(Held())
            case GoOn():
                self._turns.go_on()
            case Turn():
                self._turns.grant(message)
            case Token():
                self._token.read(message)
            case Answered(at_s):
                self._client.answered_s = max(self._client.answered_s, at_s)
            case Pause(seconds):
                self._client.pause(seconds)
            case Leave():
                self._all_done.set()

    async def _score(self, message: Score, rows: pa.Buffer) -> None:
        columns = pa.ipc.read_record_batch(rows, self._rows)
        scored = await self._predictor.score(Chunk(0, RowBatch(columns, message.failures)))
        predictions = None
        if scored.predictions is not None:
            schema = self._predictor.decoding.schema
            batch = pa.RecordBatch.from_arrays(list(scored.predictions), schema=schema)
            predictions = batch.serialize()
        traffic = self._metrics.take_traffic()
        self._link.send(Scored(message.number, scored.failures, traffic), predictions)

    async def _tell(self) -> None:
        """Tell every so often how it goes, also while nothing gets through."""
        told: Counted | None = None
        while True:
            await asyncio.sleep(_TELL_EVERY_S)
            counted = Counted(self._metrics.take_traffic(), self._client.answered_s)
            if counted != told:
                self._link.send(counted)
                told = counted


class _RemoteToken:
    """``Token`` that the first process reads."""

    def __init__(self, link: Link, token: str | None) -> None:
        self._link = link
        self._token = token
        self._waiting: Answers[str | None] = Answers()

    async def current(self) -> str | None:
        """See ``Token``."""
        return self._token

    async def renewed(self, refused: str | None) -> str | None:
        """See ``Token``; the first process asks its source once, however many want it."""
        number, answer = self._waiting.expect()
        self._link.send(TokenWanted(number, refused))
        self._token = await answer
        return self._token

    def read(self, token: Token) -> None:
        """The first process answers."""
        self._waiting.give(token.number, token.token)


class _RemoteTurns:
    """``Turns`` that the first process gives."""

    def __init__(self, link: Link) -> None:
        self._link = link
        self._members: list[Member] = []
        self._waiting: Answers[Turn] = Answers()
        self._suspects = 0
        self._is_away = False

    @property
    def is_away(self) -> bool:
        """See ``Turns``."""
        return self._is_away

    @is_away.setter
    def is_away(self, is_away: bool) -> None:
        self._is_away = is_away
        self._link.send(Away(is_away))

    def join(self, member: Member) -> None:
        """See ``Turns``."""
        self._members.append(member)

    @asynccontextmanager
    async def alone(self) -> AsyncIterator[None]:
        """See ``Turns``."""
        number, turn = self._waiting.expect()
        self._suspects += 1
        self._link.send(Suspect(number))
        try:
            self._is_away = (await turn).is_away
            yield
        finally:
            self._suspects -= 1
            self._link.send(Cleared(number))

    def grant(self, turn: Turn) -> None:
        """The first process says whose turn it is."""
        self._waiting.give(turn.number, turn)

    def hold(self) -> None:
        """The first process says that somebody is alone."""
        for member in self._members:
            member.hold()

    def go_on(self) -> None:
        """The first process says that nobody is alone any more.

        Where somebody here has come to want it meanwhile, that is on its way there.
        """
        if not self._suspects:
            for member in self._members:
                member.go_on()


class _LogLines(logging.Handler):
    """Sends what is logged to the first process, which knows where it goes."""

    def __init__(self, link: Link) -> None:
        super().__init__()
        self._link = link
        self._loop = asyncio.get_running_loop()

    def emit(self, record: logging.LogRecord) -> None:
        event, fields = getattr(record, "event", "log"), getattr(record, "fields", {})
        line = Logged(record.levelno, self.format(record), event, fields)
        self._loop.call_soon_threadsafe(self._link.send, line)


def _log_to(link: Link, level: int) -> None:
    logger = logging.getLogger("batchscore")
    logger.handlers, logger.propagate = [_LogLines(link)], False
    logger.setLevel(level)
    # What libraries log is for who mends this program, and is told by the first process alone.
    logging.lastResort = None


def portable(error: BaseException) -> Exception:
    """The error itself, where it can travel; else one that says the same."""
    if not isinstance(error, BatchscoreError):
        # For --debug: where it comes from does not travel.
        error.add_note("".join(traceback.format_exception(error)))
    try:
        again = pickle.loads(pickle.dumps(error))  # noqa: S301 - just made here
        if isinstance(again, Exception):
            return again
    except Exception as reason:  # noqa: BLE001 - whatever an error's class does
        logging.getLogger("batchscore").debug("an error cannot be pickled: %s", reason)
    return RuntimeError(f"{type(error).__name__}: {error}")
