"""A deployment with one worker and a queue, whose service times are known.

    python -m queueing '{"kind": "fixed", "seconds": 0.005}' --seed 1 --core 1

Requests for predictions at the address that it prints, and GET or POST at ``/plain``, are served
in order of arrival, one at a time. With the n-th request arriving at A(n) and taking S(n), its
service starts at max(A(n), end of the one before) and ends S(n) later: the schedule is kept by
these times, so that no lateness of this process adds up. The answer is sent at that end, which is
awaited by sleeping, and by turning the event loop for the last part: a request that arrives
meanwhile gets its time of arrival then, not when the worker is through. One thread does it all.

All times are of the monotonic clock, which on Linux is the same for all processes.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import os
import random
import selectors
import time
from collections import deque
from typing import TYPE_CHECKING, Any

import msgspec
from faultserver.background import Listener
from faultserver.http11 import Connection, Exchange
from faultserver.models import specification

from queueing import services

if TYPE_CHECKING:
    from queueing.services import Service

SCORE, SPECIFICATION = "/deployment/queue/forward", "/deployment/queue/openapi.json"
PLAIN = "/plain"
AWAKE_S = 0.001
_JSON = {"Content-Type": "application/json"}
_DOCUMENT = msgspec.json.encode(
    specification({"x": ("numeric", [1])}, {"y": ("numeric", [1])}, tensor_json=True)
)


class QueueServer:
    """Answers every row with its own ``x``, when its time has come.

    Args:
        service: how long a request takes.
        seed: of the service times; the n-th request after ``begin`` takes the same in every run.
    """

    def __init__(self, service: Service, seed: int, port: int = 0) -> None:
        self._listener = Listener(lambda: Connection(self, self._listener), port)
        self.port = self._listener.port
        self._free_s = 0.0
        self._waiting: deque[tuple[Exchange, float]] = deque()
        self._is_serving = False
        self.begin(service, seed)

    def begin(self, service: Service, seed: int) -> None:
        """Forget what was recorded, and serve so from now on."""
        self._service, self._rng = service, random.Random(seed)
        self._records: list[tuple[Any, ...]] = []

    def take(self) -> list[tuple[Any, ...]]:
        """What was answered since ``begin``, in order; see ``process.Record``."""
        return self._records

    async def accept(self) -> None:
        """Begin to accept connections."""
        await self._listener.accept()

    def on_head(self, exchange: Exchange) -> None:
        """Nothing depends on the head alone."""

    def on_gone(self, exchange: Exchange) -> None:
        """Who went away while waiting loses the place in the queue, in ``_next``."""

    def on_body(self, exchange: Exchange) -> None:
        """A whole request has arrived."""
        if exchange.path in {SCORE, PLAIN}:
            self._waiting.append((exchange, time.monotonic()))
            if not self._is_serving:
                self._next()
        elif exchange.path == SPECIFICATION:
            exchange.send(b"".join(exchange.render(200, _JSON, _DOCUMENT)))
        else:
            exchange.send(b"".join(exchange.render(404, {}, b"")))

    def _next(self) -> None:
        while self._waiting:
            exchange, arrived_s = self._waiting.popleft()
            if exchange.open:
                self._serve(exchange, arrived_s)
                return

    def _serve(self, exchange: Exchange, arrived_s: float) -> None:
        self._is_serving = True
        start_s = max(arrived_s, self._free_s)
        self._free_s = end_s = start_s + self._service.draw(self._rng)
        key, status, body = _answer(exchange)
        answer = b"".join(exchange.render(status, _JSON, body))
        loop = asyncio.get_running_loop()

        def finish() -> None:
            if time.monotonic() < end_s:
                loop.call_soon(finish)  # One turn of the loop, which sees what has arrived.
                return
            sent_s = time.monotonic()
            if exchange.open:
                exchange.send(answer)
                self._records.append((key, arrived_s, start_s, end_s, sent_s))
            self._is_serving = False
            self._next()

        loop.call_at(end_s - AWAKE_S, finish)


def _answer(exchange: Exchange) -> tuple[Any, int, bytes]:
    """The first row's ``x``, the status, and the body."""
    if exchange.path == PLAIN:
        return None, 200, b'{"rows":[{"y":0}]}'
    try:
        rows = [row["x"] for row in msgspec.json.decode(exchange.body)["rows"]]
    except (msgspec.DecodeError, KeyError, TypeError) as error:
        return None, 400, msgspec.json.encode({"errorCode": "BAD", "errorMessage": str(error)})
    return rows[0] if rows else None, 200, msgspec.json.encode({"rows": [{"y": x} for x in rows]})


async def _serve_until_eof(server: QueueServer) -> None:
    """Obey the lines of standard input: a JSON object begins anew, an empty line takes."""
    await server.accept()
    print(server.port, flush=True)  # noqa: T201 - this is the command's output
    loop = asyncio.get_running_loop()
    ended = loop.create_future()
    waiting = bytearray()

    def read() -> None:
        data = os.read(0, 2**16)
        if not data:
            loop.remove_reader(0)
            ended.set_result(None)
        waiting.extend(data)
        while (end := waiting.find(b"\n")) >= 0:
            line = bytes(waiting[:end])
            del waiting[: end + 1]
            answer: Any = server.take()
            if line:
                order = json.loads(line)
                server.begin(services.made(order["service"]), order["seed"])
                answer = "begun"
            print(json.dumps(answer), flush=True)  # noqa: T201

    loop.add_reader(0, read)
    await ended


def main() -> None:
    """Serve until standard input ends."""
    parser = argparse.ArgumentParser(prog="queueing", description=__doc__.splitlines()[0])
    parser.add_argument("service", help='{"kind": "fixed", "seconds": 0.005} and the like')
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--port", type=int, default=0)
    parser.add_argument("--core", type=int, help="the one core that it keeps to")
    options = parser.parse_args()
    if options.core is not None:
        os.sched_setaffinity(0, {options.core})
    server = QueueServer(services.made(json.loads(options.service)), options.seed, options.port)
    # Of the selectors this one alone sleeps to the microsecond; epoll counts milliseconds.
    loop = asyncio.SelectorEventLoop(selectors.SelectSelector())
    with asyncio.Runner(loop_factory=lambda: loop) as runner:
        runner.run(_serve_until_eof(server))
