"""A server that answers each request at once, always the same: a process that imports little."""

from __future__ import annotations

import asyncio
import sys


def main() -> None:
    """Answer each request on a free port of 127.0.0.1 with what standard input holds."""
    answer = sys.stdin.buffer.read()
    asyncio.run(_serve(answer))


async def _serve(answer: bytes) -> None:
    server = await asyncio.get_running_loop().create_server(lambda: _Echo(answer), "127.0.0.1", 0)
    sys.stdout.write(f"{server.sockets[0].getsockname()[1]}\n")
    sys.stdout.flush()
    await server.serve_forever()


class _Echo(asyncio.Protocol):
    """Counts the bytes of a request's body and answers behind the last one."""

    def __init__(self, answer: bytes) -> None:
        self._answer = answer
        self._head = bytearray()
        self._left = 0

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """The client is there."""
        assert isinstance(transport, asyncio.WriteTransport)  # noqa: S101 - TCP has one
        self._transport = transport

    def data_received(self, data: bytes) -> None:
        """Bytes of one request: this client sends the next only when it has its answer."""
        if not self._left:
            self._head += data
            head, end, rest = bytes(self._head).partition(b"\r\n\r\n")
            if not end:
                return
            self._head.clear()
            self._left = _content_length(head) - len(rest)
        else:
            self._left -= len(data)
        if self._left <= 0:
            self._left = 0
            self._transport.write(self._answer)


def _content_length(head: bytes) -> int:
    for line in head.split(b"\r\n"):
        name, _, value = line.partition(b":")
        if name.strip().lower() == b"content-length":
            return int(value)
    return 0
