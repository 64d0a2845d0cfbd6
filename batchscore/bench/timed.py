"""A transport that takes the times of each request where they happen: at the socket.

What the HTTP library does before it writes and after it has read is the client's own time, and no
part of the deployment's. So a request waits for its place in flight as late as that library allows:
made ready, with no connection yet.
"""

from __future__ import annotations

import asyncio
import time
from contextvars import ContextVar
from dataclasses import dataclass, field
from functools import partial
from typing import TYPE_CHECKING, Any

from aiohttp.client_proto import ResponseHandler

from batchscore.client.transport import Connector, HTTPTransport

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping

    import aiohttp

    from batchscore.bench.places import Places
    from batchscore.protocols.base import Request, Response


@dataclass(slots=True)
class Times:
    """The times of one request's last try, of ``time.monotonic``; 0 where it did not come to it.

    Attributes:
        places: where a try waits until it may be in flight; None: nowhere.
        free_since: since when the place of the first try was free.
        in_flight: requests in flight when the first try went, itself included.
        connect_began, connected: of a new connection; one that is used again has none.
        sent: the head and the first piece of the body are handed to the system.
        first_byte, last_byte: of the answer, as they are received.
    """

    places: Places | None = None
    free_since: float = 0.0
    in_flight: int = 0
    connect_began: float = 0.0
    connected: float = 0.0
    sent: float = 0.0
    first_byte: float = 0.0
    last_byte: float = 0.0
    _has_place: bool = False
    _deadline: asyncio.Timeout | None = field(default=None)

    async def enter(self, timeout_s: float) -> None:
        """Wait for a place; the time that the try may take counts from then on."""
        if self.places is not None and not self._has_place:
            free_since = await self.places.enter(has_begun=bool(self.in_flight))
            self._has_place = True
            if not self.in_flight:
                self.free_since, self.in_flight = free_since, self.places.taken
        if self._deadline is not None:
            self._deadline.reschedule(asyncio.get_running_loop().time() + timeout_s)

    def leave(self) -> None:
        """Give the place back: the answer is there, or there will be none."""
        if self.places is not None and self._has_place:
            self._has_place = False
            self.places.leave(self.last_byte or time.monotonic())

    def limited(self) -> asyncio.Timeout:
        """The limit on a try's time; before ``enter`` there is none."""
        self._deadline = asyncio.timeout(None)
        return self._deadline

    def begin_anew(self) -> None:
        """Another try begins."""
        self.connect_began = self.connected = self.sent = 0.0
        self.first_byte = self.last_byte = 0.0


_ROUNDS_TO_WRITE = 4
times_of_task: ContextVar[Times] = ContextVar("times_of_task")
"""Where the times of the running task's request go."""


class TimedTransport(HTTPTransport):
    """``HTTPTransport`` that notes times in ``times_of_task``."""

    @property
    def _timeout_s(self) -> None:
        """None: aiohttp would count the waiting for a place."""

    def _opened(self) -> Connector:
        return _TimedConnector(self._options.timeout_s, limit=0, ssl=self._ssl)

    async def send(self, request: Request, headers: Mapping[str, str]) -> Response:
        """See ``Transport``; whatever comes of it, the place is free afterwards."""
        times = times_of_task.get(None) or Times()
        times_of_task.set(times)
        try:
            return await super().send(request, headers)
        finally:
            times.leave()

    async def _send_once(
        self, request: Request, url: str, headers: Mapping[str, str]
    ) -> Response | str:
        async with times_of_task.get().limited():
            return await super()._send_once(request, url, headers)

    async def _read(self, answer: aiohttp.ClientResponse) -> bytes:
        body = await super()._read(answer)
        times_of_task.get().leave()
        # Who waits for the place goes first; to read what came is nobody's hurry. It takes that
        # many rounds of the event loop until aiohttp has woken up and written.
        for _ in range(_ROUNDS_TO_WRITE):
            await asyncio.sleep(0)
        return body


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
    def __init__(self, timeout_s: float, **options: Any) -> None:
        super().__init__(**options)
        self._timeout_s = timeout_s
        # aiohttp has no other place to say which class reads from a connection.
        self._factory = partial(_TimedHandler, loop=self._loop)  # type: ignore[assignment]

    async def connect(self, *args: Any, **options: Any) -> aiohttp.connector.Connection:
        """A connection whose bytes are noted for the task that asks for it."""
        times = times_of_task.get()
        times.begin_anew()
        await times.enter(self._timeout_s)
        began = time.monotonic()
        connection = await super().connect(*args, **options)
        protocol = connection.protocol
        if isinstance(protocol, _TimedHandler):
            if protocol.times is None:
                times.connect_began, times.connected = began, time.monotonic()
            protocol.times = times
        return connection
