"""What the client itself takes of a request: the time at a server that does nothing.

A process of its own on this computer answers each request at once, with the bytes that the
deployment answered. What a request of the same rows takes there is the client's own share of what
it took at the deployment: system calls, waking up, reading. They are sent one after another, as
nothing may queue. See ``docs/bench.md``.
"""

from __future__ import annotations

import asyncio
import sys
import time
from contextlib import asynccontextmanager
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

import numpy as np

from batchscore.bench.timed import TimedTransport, Times, times_of_task
from batchscore.client.transport import TransportOptions
from batchscore.endpoint import Endpoint

if TYPE_CHECKING:
    from collections.abc import AsyncIterator

    from batchscore.protocols.base import Request, Response

_COMMAND = "from batchscore.bench.echo_server import main; main()"
_WARMUP = 50
_REQUESTS = 500
_LONGEST_S = 2.0


@dataclass(frozen=True, slots=True)
class OwnShare:
    """The client's own share of a request, in seconds."""

    batch_size: int
    p50: float
    p99: float

    def as_dict(self) -> dict[str, object]:
        """As it stands in the report."""
        return {"batch_size": self.batch_size, "p50": self.p50, "p99": self.p99}


async def own_share(request: Request, response: Response, rows: int) -> OwnShare:
    """Measure it for one request and the answer that it had from the deployment.

    Raises:
        OSError: no process can be started.
        AttemptError: it does not answer.
    """
    async with _echoing(response) as url:
        options = TransportOptions(Endpoint.parse(url), {}, 10.0, len(response.body) + 1)
        async with TimedTransport(options) as transport:
            took: list[float] = []
            end = time.monotonic() + _LONGEST_S
            here = replace(request, url=url)
            while len(took) < _WARMUP + _REQUESTS and time.monotonic() < end:
                times = Times()
                times_of_task.set(times)
                await transport.send(here, {})
                took.append(times.last_byte - times.sent)
    p50, p99 = np.quantile(took[_WARMUP:] or took, (0.5, 0.99)).tolist()
    return OwnShare(rows, p50, p99)


@asynccontextmanager
async def _echoing(response: Response) -> AsyncIterator[str]:
    """The address of a process that answers so to whatever comes, until the ``async with`` ends."""
    pipe = asyncio.subprocess.PIPE
    process = await asyncio.create_subprocess_exec(
        sys.executable, "-c", _COMMAND, stdin=pipe, stdout=pipe
    )
    stdin, stdout = process.stdin, process.stdout
    assert stdin is not None  # noqa: S101 - a pipe was asked for
    assert stdout is not None  # noqa: S101
    try:
        kind = response.headers.get("content-type", "application/json")
        stdin.write(_answer(response.body, kind))
        stdin.write_eof()
        port = int(await stdout.readline())
        yield f"http://127.0.0.1:{port}/"
    finally:
        if process.returncode is None:
            process.terminate()
        await process.wait()


def _answer(body: bytes, kind: str) -> bytes:
    head = f"HTTP/1.1 200 OK\r\nContent-Type: {kind}\r\nContent-Length: {len(body)}\r\n\r\n"
    return head.encode("latin-1") + body
