"""A store behind a proxy that breaks what it is told to: HTTP between a client and a real server.

::

    with BrokenStore(endpoint, lambda request: DROP if request.is_part else None) as broken:
        ...  # broken.endpoint; broken.requests
"""

from __future__ import annotations

import socket
import threading
from collections.abc import Callable
from contextlib import nullcontext
from dataclasses import dataclass
from http.client import HTTPConnection
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Self
from urllib.parse import parse_qs, urlsplit

DROP = "drop"
"""The connection ends in the middle of the request."""
LOSE = "lose"
"""The store does what it is asked for, and its answer never comes."""


@dataclass(frozen=True)
class Asked:
    """One request, as far as tests tell them apart."""

    method: str
    path: str
    query: dict[str, list[str]]
    headers: dict[str, str]

    @property
    def is_begin(self) -> bool:
        return self.method == "POST" and "uploads" in self.query

    @property
    def is_part(self) -> bool:
        return self.method == "PUT" and "partNumber" in self.query

    @property
    def is_complete(self) -> bool:
        return self.method == "POST" and "uploadId" in self.query

    @property
    def is_abort(self) -> bool:
        return self.method == "DELETE" and "uploadId" in self.query

    @property
    def is_put(self) -> bool:
        return self.method == "PUT" and not self.query.get("partNumber")

    @property
    def is_get(self) -> bool:
        return self.method == "GET" and not self.query.get("list-type")


Fault = Callable[[Asked], str | int | None]


class _Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    server: _Server

    def log_message(self, *_: object) -> None:
        """Tests read ``requests`` instead."""

    def _handle(self) -> None:
        parts = urlsplit(self.path)
        query = parse_qs(parts.query, keep_blank_values=True)
        headers = {name.lower(): value for name, value in self.headers.items()}
        asked = Asked(self.command, parts.path, query, headers)
        with self.server.lock:
            self.server.requests.append(asked)
        fault = self.server.fault(asked)
        if fault == DROP:
            self._hang_up()
            return
        body = self.rfile.read(int(headers.get("content-length", 0)))
        if isinstance(fault, int):
            self._answer(fault, {}, b"<Error><Code>Scripted</Code></Error>")
            return
        is_commit = asked.is_put or asked.is_complete
        with self.server.committing if is_commit else nullcontext():
            upstream = HTTPConnection(*self.server.upstream, timeout=30)
            try:
                upstream.request(self.command, self.path, body, dict(self.headers.items()))
                answer = upstream.getresponse()
                data = answer.read()
            finally:
                upstream.close()
        if fault == LOSE:
            self._hang_up()
            return
        self._answer(answer.status, dict(answer.getheaders()), data)

    do_GET = do_PUT = do_POST = do_DELETE = do_HEAD = _handle

    def _hang_up(self) -> None:
        self.close_connection = True
        self.connection.setsockopt(
            socket.SOL_SOCKET, socket.SO_LINGER, b"\x01\x00\x00\x00\x00\x00\x00\x00"
        )
        self.connection.close()

    def _answer(self, status: int, headers: dict[str, str], data: bytes) -> None:
        is_head = self.command == "HEAD"
        self.send_response_only(status)
        for name, value in headers.items():
            own = name.lower() in {"transfer-encoding", "connection"}
            if not own and (is_head or name.lower() != "content-length"):
                self.send_header(name, value)
        if not is_head:
            self.send_header("Content-Length", str(len(data)))
        self.end_headers()
        if not is_head:
            self.wfile.write(data)


class _Server(ThreadingHTTPServer):
    daemon_threads = True

    def __init__(self, upstream: tuple[str, int], fault: Fault) -> None:
        super().__init__(("127.0.0.1", 0), _Handler)
        self.upstream, self.fault = upstream, fault
        self.requests: list[Asked] = []
        self.lock = threading.Lock()
        # S3 checks a condition and commits in one step; moto and others do it in two.
        self.committing = threading.Lock()

    def handle_error(self, *_: object) -> None:
        """Clients that are killed hang up."""


class BrokenStore:
    """See the module.

    Attributes:
        endpoint: its address.
        requests: what was asked, in order.
    """

    def __init__(self, endpoint: str, fault: Fault) -> None:
        parts = urlsplit(endpoint)
        self._server = _Server((str(parts.hostname), int(parts.port or 80)), fault)
        self.endpoint = f"http://127.0.0.1:{self._server.server_address[1]}"
        self.requests = self._server.requests

    def __enter__(self) -> Self:
        threading.Thread(target=self._server.serve_forever, daemon=True).start()
        return self

    def __exit__(self, *_: object) -> None:
        self._server.shutdown()
        self._server.server_close()
