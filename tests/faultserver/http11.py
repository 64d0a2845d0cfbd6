"""As much of HTTP/1.1 as a server needs that must break it at exact points."""

from __future__ import annotations

import asyncio
from http import HTTPStatus
from typing import TYPE_CHECKING, Protocol

from faultserver.background import Listener, abort_with_reset

if TYPE_CHECKING:
    from collections.abc import Mapping

_BUFFER_BYTES = 2**18
_LEAST_ROOM_BYTES = 2**16
_REASONS = {status.value: status.phrase for status in HTTPStatus}


class Handler(Protocol):
    """Answers exchanges; called in the event loop, for each exchange in this order.

    ``on_head`` and ``on_body`` may answer or break the connection. ``on_gone`` is called where
    the client went away before that was done.
    """

    def on_head(self, exchange: Exchange) -> None: ...

    def on_body(self, exchange: Exchange) -> None: ...

    def on_gone(self, exchange: Exchange) -> None: ...


class Exchange:
    """One request and its answer. Each of the sending methods ends it."""

    def __init__(
        self, connection: Connection, method: str, target: str, headers: Mapping[str, str]
    ) -> None:
        self.connection = connection
        self.method = method
        # A client that takes us for its proxy sends the whole address.
        self.path = "/" + target.split("/", 3)[3] if "://" in target else target
        self.path = self.path.partition("?")[0]
        self.headers = headers
        self.body = b""
        self.open = True

    def render(self, status: int, headers: Mapping[str, str], body: bytes) -> tuple[bytes, bytes]:
        """The head and the body of an answer as bytes."""
        lines = [f"HTTP/1.1 {status} {_REASONS.get(status, 'Unknown')}"]
        lines += [f"{name}: {value}" for name, value in headers.items()]
        lines.append(f"Content-Length: {len(body)}")
        if self.connection.last:
            lines.append("Connection: close")
        return ("\r\n".join(lines) + "\r\n\r\n").encode("latin-1"), body

    def send(self, data: bytes) -> None:
        """Send a whole answer; the connection stays open if the client likes."""
        self.open = False
        self.connection.transport.write(data)
        self.connection.next_request()

    def close(self, data: bytes = b"") -> None:
        """Send what is given, then end the connection in good order."""
        self.open = False
        self.connection.transport.write(data)
        self.connection.transport.close()

    def reset(self, data: bytes = b"") -> None:
        """Send what is given, then break the connection with an RST."""
        self.open = False
        self.connection.transport.write(data)
        abort_with_reset(self.connection.transport)

    def stall(self, data: bytes) -> None:
        """Send what is given, and leave the connection as it is."""
        self.connection.transport.write(data)


class Connection(asyncio.BufferedProtocol):
    """Parses the requests of one connection, one at a time.

    What has arrived and is not yet taken stands in ``_buffer`` from ``_start`` to ``_end``.
    """

    transport: asyncio.Transport

    def __init__(self, handler: Handler, listener: Listener) -> None:
        self._handler = handler
        self._listener = listener
        self._buffer = bytearray(_BUFFER_BYTES)
        self._start = self._end = 0
        self._exchange: Exchange | None = None
        self._complete = False
        self._chunks: list[bytes] = []
        self.last = False

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        assert isinstance(transport, asyncio.Transport)
        self.transport = transport
        self.number = self._listener.opened(transport)

    def connection_lost(self, exc: Exception | None) -> None:
        self._listener.closed(self.transport)
        if self._exchange is not None and self._exchange.open:
            self._exchange.open = False
            self._handler.on_gone(self._exchange)

    def get_buffer(self, sizehint: int) -> memoryview:
        """Room for what arrives; what is there already moves where that is needed."""
        if self._start == self._end:
            self._start = self._end = 0
        if len(self._buffer) - self._end < _LEAST_ROOM_BYTES:
            waiting = self._peek(self._end)
            if 2 * len(waiting) > len(self._buffer):
                self._buffer = bytearray(2 * len(self._buffer))
            self._start, self._end = 0, len(waiting)
            self._buffer[: self._end] = waiting
        return memoryview(self._buffer)[self._end :]

    def buffer_updated(self, nbytes: int) -> None:
        self._end += nbytes
        if not self._complete:
            self._advance()

    def next_request(self) -> None:
        """Go on after an answer: with the next request, or with the end of the connection."""
        self._exchange, self._complete = None, False
        if self.last:
            self.transport.close()
        elif self._start < self._end:
            asyncio.get_running_loop().call_soon(self._advance)

    def _advance(self) -> None:
        if self.transport.is_closing():
            return
        try:
            if self._exchange is None:
                self._read_head()
            exchange = self._exchange
            if exchange is None or not exchange.open or (body := self._read_body()) is None:
                return
        except ValueError as error:
            self._refuse(str(error))
            return
        exchange.body = body
        self._complete = True
        self._handler.on_body(exchange)

    def _refuse(self, reason: str) -> None:
        body = reason.encode()
        head = (
            f"HTTP/1.1 400 Bad Request\r\nContent-Length: {len(body)}\r\nConnection: close\r\n\r\n"
        )
        self.transport.write(head.encode() + body)
        self.transport.close()

    def _read_head(self) -> None:
        end = self._find(b"\r\n\r\n")
        if end < 0:
            return
        first, *lines = self._peek(end).decode("latin-1").split("\r\n")
        self._start = end + 4
        method, target, version = first.split(" ")
        headers = {}
        for line in lines:
            name, _, value = line.partition(":")
            headers[name.lower()] = value.strip()
        self.last = version == "HTTP/1.0" or headers.get("connection", "").lower() == "close"
        self._chunks = []
        self._exchange = Exchange(self, method, target, headers)
        if headers.get("expect", "").lower() == "100-continue":
            self.transport.write(b"HTTP/1.1 100 Continue\r\n\r\n")
        self._handler.on_head(self._exchange)

    def _read_body(self) -> bytes | None:
        """The body, once it is whole."""
        assert self._exchange is not None
        if self._exchange.headers.get("transfer-encoding", "").lower() == "chunked":
            return self._read_chunks()
        length = int(self._exchange.headers.get("content-length", 0))
        return self._take(length)

    def _take(self, length: int, after: int = 0) -> bytes | None:
        """So many bytes, and some after them that are dropped, once all have arrived."""
        if self._end - self._start < length + after:
            return None
        taken = self._peek(self._start + length)
        self._start += length + after
        return taken

    def _find(self, mark: bytes) -> int:
        return self._buffer.find(mark, self._start, self._end)

    def _peek(self, end: int) -> bytes:
        return bytes(memoryview(self._buffer)[self._start : end])

    def _read_chunks(self) -> bytes | None:
        while (end := self._find(b"\r\n")) >= 0:
            size = int(self._peek(end).partition(b";")[0], 16)
            if self._end < end + 2 + size + 2:
                return None
            self._start = end + 2
            chunk = self._take(size, after=2)
            if not chunk:  # No trailers: nobody who talks to this server sends any.
                return b"".join(self._chunks)
            self._chunks.append(chunk)
        return None
