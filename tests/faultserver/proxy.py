"""A TCP proxy that resets, delays, cuts or refuses connections on command."""

from __future__ import annotations

import asyncio
from collections import deque
from typing import TYPE_CHECKING, Self
from urllib.parse import urlsplit, urlunsplit

from faultserver.background import Listener, LoopThread, abort_with_reset

if TYPE_CHECKING:
    from collections.abc import Callable


class Proxy:
    """Forwards connections on a free port of 127.0.0.1 to a target, from ``with`` to its end.

    Attributes:
        delay_s: time that every piece of data takes, in each direction.
        cut_after_bytes: where set, connections are reset after so many bytes of the answer.
        connections, bytes_sent, bytes_received: what went through, sent by the client.
    """

    def __init__(self, host: str, port: int) -> None:
        self.target = (host, port)
        self.delay_s = 0.0
        self.cut_after_bytes: int | None = None
        self.connections = self.bytes_sent = self.bytes_received = 0

    @classmethod
    def before(cls, url: str) -> Self:
        """A proxy for the host and port of an address."""
        parts = urlsplit(url)
        return cls(parts.hostname or "127.0.0.1", parts.port or 80)

    def url_of(self, url: str) -> str:
        """The same address, by way of the proxy."""
        return urlunsplit(urlsplit(url)._replace(netloc=f"127.0.0.1:{self.port}"))

    def __enter__(self) -> Self:
        self.listener = Listener(lambda: _ClientSide(self))
        self.port = self.listener.port
        self._thread = LoopThread("faultproxy")
        self._thread.run(self.listener.accept())
        return self

    def __exit__(self, *_: object) -> None:
        self._thread.run(self.listener.close())
        self._thread.stop()

    def reset(self) -> None:
        """Break every open connection with an RST."""
        self._thread.run(self.listener.reset_connections())

    def refuse(self) -> None:
        """Refuse new connections; those that are open go on."""
        self._thread.run(self.listener.refuse())

    def accept(self) -> None:
        """Accept connections again, on the same port."""
        self._thread.run(self.listener.accept())


class _Side(asyncio.Protocol):
    """One end of a forwarded connection; what it receives goes to the transport of its peer."""

    transport: asyncio.Transport

    def __init__(self, proxy: Proxy) -> None:
        self.proxy = proxy
        self.peer: _Side | None = None
        self._steps: deque[Callable[[_Side], None]] = deque()

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        assert isinstance(transport, asyncio.Transport)
        self.transport = transport
        self.proxy.listener.opened(transport)

    def data_received(self, data: bytes) -> None:
        self.pass_on(lambda peer: peer.transport.write(data))

    def connection_lost(self, exc: Exception | None) -> None:
        self.proxy.listener.closed(self.transport)
        self.pass_on(lambda peer: peer.end(broken=exc is not None))

    def pass_on(self, step: Callable[[_Side], None]) -> None:
        """Do a step to the peer after the delay, never before an earlier one."""
        self._steps.append(step)
        if self.proxy.delay_s > 0 or len(self._steps) > 1:
            asyncio.get_running_loop().call_later(self.proxy.delay_s, self._next_step)
        else:
            self._next_step()

    def _next_step(self) -> None:
        step = self._steps.popleft()
        if self.peer is not None:
            step(self.peer)

    def end(self, *, broken: bool) -> None:
        if not self.transport.is_closing():
            if broken:
                abort_with_reset(self.transport)
            else:
                self.transport.close()


class _ClientSide(_Side):
    """The end towards the client; connects to the target before it reads."""

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        super().connection_made(transport)
        self.proxy.connections += 1
        self.transport.pause_reading()
        self._connecting = asyncio.ensure_future(self._connect())

    async def _connect(self) -> None:
        target = _TargetSide(self.proxy)
        target.peer = self
        try:
            await asyncio.get_running_loop().create_connection(lambda: target, *self.proxy.target)
        except OSError:
            abort_with_reset(self.transport)
            return
        self.peer = target
        if self.transport.is_closing():
            target.end(broken=False)
        else:
            self.transport.resume_reading()

    def data_received(self, data: bytes) -> None:
        self.proxy.bytes_sent += len(data)
        super().data_received(data)


class _TargetSide(_Side):
    """The end towards the target."""

    _passed = 0

    def data_received(self, data: bytes) -> None:
        cut = self.proxy.cut_after_bytes
        if cut is not None and self._passed + len(data) >= cut:
            data = data[: max(0, cut - self._passed)]
        self._passed += len(data)
        self.proxy.bytes_received += len(data)
        super().data_received(data)
        if cut is not None and self._passed >= cut:
            self.pass_on(lambda peer: peer.end(broken=True))
