"""An event loop in a background thread, and a listening address that can go away and come back."""

from __future__ import annotations

import asyncio
import socket
import struct
import threading
from typing import TYPE_CHECKING, Any, TypeVar

if TYPE_CHECKING:
    import ssl
    from collections.abc import Callable, Coroutine

T = TypeVar("T")
_PATIENCE_S = 10.0


class LoopThread:
    """Runs coroutines of other threads in one event loop of its own."""

    def __init__(self, name: str) -> None:
        self.loop = asyncio.new_event_loop()
        self._thread = threading.Thread(target=self._run, name=name, daemon=True)
        self._thread.start()

    def _run(self) -> None:
        asyncio.set_event_loop(self.loop)
        try:
            self.loop.run_forever()
        finally:
            self.loop.close()

    def run(self, work: Coroutine[Any, Any, T]) -> T:
        """Run a coroutine there and wait for its result."""
        return asyncio.run_coroutine_threadsafe(work, self.loop).result(_PATIENCE_S)

    def stop(self) -> None:
        """End the loop and the thread; what is scheduled in the loop is dropped."""
        self.loop.call_soon_threadsafe(self.loop.stop)
        self._thread.join(_PATIENCE_S)


class Listener:
    """A port of 127.0.0.1 where connections are accepted, or refused while it is away.

    The connections' protocols call ``opened`` and ``closed``. All methods run in the event loop.
    """

    def __init__(
        self,
        protocol: Callable[[], asyncio.Protocol],
        port: int = 0,
        tls: ssl.SSLContext | None = None,
    ) -> None:
        self._protocol = protocol
        self._tls = tls
        self._server: asyncio.Server | None = None
        self._transports: set[asyncio.Transport] = set()
        self._reserved: socket.socket | None = self._bind(port)
        self.port: int = self._reserved.getsockname()[1]
        self.connections = 0

    @staticmethod
    def _bind(port: int) -> socket.socket:
        reserved = socket.socket()
        try:
            reserved.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            reserved.bind(("127.0.0.1", port))
        except OSError:
            reserved.close()
            raise
        return reserved

    def opened(self, transport: asyncio.Transport) -> int:
        """Note a new connection; its number."""
        self._transports.add(transport)
        self.connections += 1
        return self.connections - 1

    def closed(self, transport: asyncio.Transport) -> None:
        """Forget a connection."""
        self._transports.discard(transport)

    async def accept(self) -> None:
        """Begin to accept connections; does nothing while it does already."""
        if self._server is None and self._reserved is not None:
            self._server = await asyncio.get_running_loop().create_server(
                self._protocol, sock=self._reserved, backlog=1024, ssl=self._tls
            )
            self._reserved = None

    async def refuse(self) -> None:
        """Refuse new connections; the port stays reserved, bound by a socket that never listens."""
        if self._server is not None:
            await self._stop_listening()
            self._reserved = self._bind(self.port)

    async def reset_connections(self) -> None:
        """Break every open connection with an RST."""
        for transport in list(self._transports):
            abort_with_reset(transport)
        while self._transports:
            await asyncio.sleep(0)

    async def close(self) -> None:
        """Refuse and break all connections, and give the port up."""
        await self._stop_listening()
        await self.reset_connections()
        if self._reserved is not None:
            self._reserved.close()
            self._reserved = None

    async def _stop_listening(self) -> None:
        if self._server is None:
            return
        # Connections that were just accepted are still being set up, each by a task of asyncio
        # that fails, and leaves its socket open, where the server is closed meanwhile.
        for listening in self._server.sockets:
            asyncio.get_running_loop().remove_reader(listening.fileno())
        if others := asyncio.all_tasks() - {asyncio.current_task()}:
            await asyncio.wait(others, timeout=0.5)
        self._server.close()
        self._server = None


def abort_with_reset(transport: asyncio.Transport) -> None:
    """Close at once with an RST; what was not sent yet is dropped."""
    connected: socket.socket | None = transport.get_extra_info("socket")
    if connected is not None and connected.fileno() >= 0:
        # Lingering for zero seconds is how the sockets API asks for an RST: two C ints.
        linger = struct.pack("ii", 1, 0)
        connected.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, linger)
    transport.abort()
