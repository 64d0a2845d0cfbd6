"""How messages travel between two processes: over a socket, with Arrow rows behind them."""

from __future__ import annotations

import asyncio
import itertools
import pickle
import struct
from typing import TYPE_CHECKING, Generic, TypeVar, cast

import pyarrow as pa

if TYPE_CHECKING:
    import socket
    from collections.abc import Callable

T = TypeVar("T")

_HEAD = struct.Struct("<IQ")  # bytes of the message, bytes of the rows behind it
_ROOM_BYTES = 2**16


class Link(asyncio.BufferedProtocol):
    """One end of a connection between two processes of a job.

    Messages are handed on in the order in which they were sent, in the event loop. Rows are
    received into the memory that they stay in.

    Args:
        on_message: takes a message and the bytes of its rows; its error ends the link.

    Attributes:
        ended: done when the other end is gone, and with its error where ``on_message`` had one.
    """

    def __init__(self, on_message: Callable[[object, pa.Buffer | None], None]) -> None:
        self._on_message = on_message
        self._room = bytearray(_ROOM_BYTES)
        self._filled = 0
        self._waiting: object = None
        self._rows: bytearray | None = None
        self._rows_filled = 0
        self._transport: asyncio.Transport | None = None
        self.ended: asyncio.Future[None] = asyncio.get_running_loop().create_future()

    @classmethod
    async def over(
        cls, end: socket.socket, on_message: Callable[[object, pa.Buffer | None], None]
    ) -> Link:
        """A link over one end of a pair of connected sockets, which is the link's from then on."""
        end.setblocking(False)
        loop = asyncio.get_running_loop()
        _, link = await loop.create_connection(lambda: cls(on_message), sock=end)
        return link

    def send(self, message: object, rows: pa.Buffer | None = None) -> None:
        """Send a message; what the other end does not take yet waits in memory."""
        if self._transport is None or self._transport.is_closing():
            return
        body = pickle.dumps(message, pickle.HIGHEST_PROTOCOL)
        if rows is None:
            self._transport.write(_HEAD.pack(len(body), 0) + body)
        else:
            head = _HEAD.pack(len(body), rows.size)
            self._transport.write(b"".join((head, body, memoryview(rows))))

    def close(self) -> None:
        """Send what waits, then no more."""
        if self._transport is not None:
            self._transport.close()

    def fail(self, error: BaseException) -> None:
        """End the link because of an error."""
        if not self.ended.done():
            self.ended.set_exception(error)
            # Who waits is told; where the job has ended meanwhile, nobody does.
            self.ended.exception()

    # What asyncio calls.

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """The link is there."""
        self._transport = cast("asyncio.Transport", transport)

    def connection_lost(self, _error: Exception | None) -> None:
        """The other end is gone, or this one was closed."""
        if not self.ended.done():
            self.ended.set_result(None)

    def get_buffer(self, _sizehint: int) -> memoryview:
        """Where the next bytes go."""
        if self._rows is not None:
            return memoryview(self._rows)[self._rows_filled :]
        return memoryview(self._room)[self._filled :]

    def buffer_updated(self, nbytes: int) -> None:
        """So many bytes have come."""
        if self._rows is None:
            self._filled += nbytes
            self._read_room()
            return
        self._rows_filled += nbytes
        if self._rows_filled == len(self._rows):
            rows, self._rows = self._rows, None
            self._hand_on(self._waiting, rows)

    def _read_room(self) -> None:
        room, at = memoryview(self._room), 0
        while self._rows is None and self._filled - at >= _HEAD.size:
            size, rows_size = _HEAD.unpack_from(room, at)
            end = at + _HEAD.size + size
            if end > self._filled:
                break
            message = pickle.loads(room[at + _HEAD.size : end])  # noqa: S301 - from our own
            at = end
            if not rows_size:
                self._hand_on(message, None)
                continue
            rows = bytearray(rows_size)
            there = min(rows_size, self._filled - at)
            rows[:there] = room[at : at + there]
            at += there
            if there == rows_size:
                self._hand_on(message, rows)
            else:
                self._waiting, self._rows, self._rows_filled = message, rows, there
        self._keep(at)

    def _keep(self, at: int) -> None:
        """Move what is not read yet to the front; a message larger than the room gets more."""
        rest = self._room[at : self._filled]
        needed = _HEAD.size
        if len(rest) >= needed:
            needed += _HEAD.unpack_from(rest)[0]
        if needed > len(self._room):
            self._room = bytearray(needed)
        self._room[: len(rest)] = rest
        self._filled = len(rest)

    def _hand_on(self, message: object, rows: bytearray | None) -> None:
        try:
            self._on_message(message, None if rows is None else pa.py_buffer(rows))
        except Exception as error:  # noqa: BLE001 - raised again by who waits for the end
            self.fail(error)


class Answers(Generic[T]):
    """The answers that are still to come from the other end, by the numbers of what was asked."""

    def __init__(self) -> None:
        self._numbers = itertools.count()
        self._waiting: dict[int, asyncio.Future[T]] = {}

    def expect(self) -> tuple[int, asyncio.Future[T]]:
        """A number to ask with, and where the answer will be."""
        number = next(self._numbers)
        self._waiting[number] = answer = asyncio.get_running_loop().create_future()
        return number, answer

    def give(self, number: int, answer: T) -> None:
        """An answer has come; who asked may have been cancelled meanwhile."""
        waiting = self._waiting.pop(number)
        if not waiting.done():
            waiting.set_result(answer)
