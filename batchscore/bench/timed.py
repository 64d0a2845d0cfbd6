"""A transport that takes the times of each request where they happen: at the socket.

What the HTTP library does before it writes and after it has read is the client's own time, and no
part of the deployment's.
"""

from __future__ import annotations

import time
from contextvars import ContextVar
from dataclasses import dataclass
from functools import partial
from typing import TYPE_CHECKING, Any

from aiohttp.client_proto import ResponseHandler

from batchscore.client.transport import Connector, HTTPTransport

if TYPE_CHECKING:
    import asyncio
    from collections.abc import Iterable

    import aiohttp


@dataclass(slots=True)
class Times:
    """The times of one request's last try, of ``time.monotonic``; 0 where it did not come to it.

    Attributes:
        connect_began, connected: of a new connection; one that is used again has none.
        sent: the head and the first piece of the body are handed to the system.
        first_byte, last_byte: of the answer, as they are received.
    """

    connect_began: float = 0.0
    connected: float = 0.0
    sent: float = 0.0
    first_byte: float = 0.0
    last_byte: float = 0.0

    def begin_anew(self) -> None:
        """Another try begins."""
        self.connect_began = self.connected = self.sent = 0.0
        self.first_byte = self.last_byte = 0.0


_NOBODY = Times()
times_of_task: ContextVar[Times] = ContextVar("times_of_task", default=_NOBODY)
"""Where the times of the running task's request go."""


class TimedTransport(HTTPTransport):
    """``HTTPTransport`` that notes times in ``times_of_task``."""

    def _opened(self) -> Connector:
        return _TimedConnector(limit=0, ssl=self._ssl)


class _TimedHandler(ResponseHandler):
    """Notes when bytes go and come, for the request that has the connection."""

    times: Times | None = None

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """The connection is open."""
        super().connection_made(transport)
        self.transport = _TimedWrites(transport, self)  # type: ignore[assignment]

    def data_received(self, data: bytes) -> None:
        """Bytes came; aiohttp calls this with none, too, where it resumes reading."""
        times = self.times
        if times is not None and data:
            times.last_byte = time.monotonic()
            times.first_byte = times.first_byte or times.last_byte
        super().data_received(data)


class _TimedWrites:
    """A transport that notes the moment before a request's first bytes go to the system."""

    def __init__(self, transport: asyncio.BaseTransport, handler: _TimedHandler) -> None:
        self._transport: Any = transport
        self._handler = handler

    def __getattr__(self, name: str) -> Any:
        return getattr(self._transport, name)

    def write(self, data: bytes) -> None:
        """Bytes go."""
        self._note()
        self._transport.write(data)

    def writelines(self, pieces: Iterable[bytes]) -> None:
        """Bytes go."""
        self._note()
        self._transport.writelines(pieces)

    def _note(self) -> None:
        times = self._handler.times
        if times is not None and not times.sent:
            times.sent = time.monotonic()


class _TimedConnector(Connector):
    def __init__(self, **options: Any) -> None:
        super().__init__(**options)
        # aiohttp has no other place to say which class reads from a connection.
        self._factory = partial(_TimedHandler, loop=self._loop)  # type: ignore[assignment]

    async def connect(self, *args: Any, **options: Any) -> aiohttp.connector.Connection:
        """A connection whose bytes are noted for the task that asks for it."""
        times = times_of_task.get()
        times.begin_anew()
        began = time.monotonic()
        connection = await super().connect(*args, **options)
        protocol = connection.protocol
        if isinstance(protocol, _TimedHandler):
            if protocol.times is None:
                times.connect_began, times.connected = began, time.monotonic()
            protocol.times = times
        return connection
