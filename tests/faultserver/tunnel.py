"""An HTTP proxy for https: it opens tunnels to the one server it knows, whatever host is named."""

from __future__ import annotations

import asyncio
from contextlib import suppress
from typing import Self

from faultserver.background import LoopThread


class TunnelProxy:
    """Answers CONNECT on a free port of 127.0.0.1, from ``with`` to its end.

    Attributes:
        target_port: where on 127.0.0.1 all tunnels lead.
        authorization: where given, the ``Proxy-Authorization`` that is asked for.
        heads: the first lines and headers of the requests that came.
    """

    def __init__(self, target_port: int, authorization: str | None = None) -> None:
        self.target_port = target_port
        self.authorization = authorization
        self.heads: list[str] = []

    @property
    def url(self) -> str:
        """The address of the proxy."""
        return f"http://127.0.0.1:{self.port}"

    def __enter__(self) -> Self:
        self._thread = LoopThread("tunnelproxy")
        self._tasks: set[asyncio.Task[None]] = set()
        self._thread.run(self._listen())
        return self

    def __exit__(self, *_: object) -> None:
        self._thread.run(self._close())
        self._thread.stop()

    async def _listen(self) -> None:
        self._server = await asyncio.start_server(self._accept, "127.0.0.1", 0)
        self.port = self._server.sockets[0].getsockname()[1]

    async def _close(self) -> None:
        self._server.close()
        for task in self._tasks:
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)

    async def _accept(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        task = asyncio.current_task()
        assert task is not None
        self._tasks.add(task)
        try:
            with suppress(OSError, asyncio.IncompleteReadError):
                await self._tunnel(reader, writer)
        finally:
            self._tasks.discard(task)
            writer.close()

    async def _tunnel(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        head = (await reader.readuntil(b"\r\n\r\n")).decode("latin-1")
        self.heads.append(head)
        if self.authorization and f"Proxy-Authorization: {self.authorization}\r\n" not in head:
            writer.write(
                b"HTTP/1.1 407 Proxy Authentication Required\r\nContent-Length: 0\r\n"
                b'Proxy-Authenticate: Basic realm="proxy"\r\n\r\n'
            )
            await writer.drain()
            return
        there, back = await asyncio.open_connection("127.0.0.1", self.target_port)
        writer.write(b"HTTP/1.1 200 Connection Established\r\n\r\n")
        try:
            async with asyncio.TaskGroup() as group:
                group.create_task(_forward(reader, back))
                group.create_task(_forward(there, writer))
        finally:
            back.close()


async def _forward(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    with suppress(OSError):
        while data := await reader.read(2**16):
            writer.write(data)
            await writer.drain()
    writer.close()
