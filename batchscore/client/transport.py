"""One HTTP try: aiohttp behind a small interface, its errors mapped in one table."""

from __future__ import annotations

import asyncio
import errno
import logging
import os
import ssl
from contextvars import ContextVar
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Protocol
from urllib.parse import urljoin
from weakref import WeakKeyDictionary, WeakSet

import aiohttp
from multidict import CIMultiDict

from batchscore.endpoint import Endpoint
from batchscore.errors import (
    AttemptError,
    AttemptTimeoutError,
    ConnectionFailedError,
    DecodeError,
    RefusedError,
    ShortageError,
    UsageError,
)
from batchscore.protocols.base import Request, Response

if TYPE_CHECKING:
    from collections.abc import Mapping
    from pathlib import Path
    from typing import Self

    from aiohttp.abc import AbstractStreamWriter

    from batchscore.client.proxy import Proxy

_log = logging.getLogger("batchscore")

_CONNECT_TIMEOUT_S = 5.0
_MAX_REDIRECTS = 5
_PROXY_REFUSES = frozenset({400, 401, 403, 404, 405, 407})
_OUR_HEADERS = {"content-length", "transfer-encoding", "content-encoding", "connection"}
# What OpenSSL says where a certificate is good but for who signed it.
_UNKNOWN_CA = frozenset({2, 18, 19, 20, 21})
_PIECE_BYTES = 2**18
# Servers close a connection on which nothing has come for some seconds, two at least.
_IDLE_S = 1.0


@dataclass(frozen=True, slots=True)
class TransportOptions:
    """What a transport needs to know.

    Attributes:
        endpoint: the deployment; redirects stay on its origin.
        headers: the user's own headers, sent with each request.
        timeout_s: for one request, from connecting to the last byte.
        max_response_bytes: the largest body that is read, unpacked.
        ca_bundle: certificates to trust instead of the system's.
        proxy: where requests go instead.
    """

    endpoint: Endpoint
    headers: Mapping[str, str]
    timeout_s: float
    max_response_bytes: int
    ca_bundle: Path | None = None
    proxy: Proxy | None = None


class Transport(Protocol):
    """Sends one request and reads the whole answer, whatever its status.

    Raises ``ConnectionFailedError``, ``AttemptTimeoutError``, ``DecodeError`` (an answer over the
    bound, or with a broken encoding) or ``RefusedError`` (a redirect that must not be followed).
    """

    async def send(self, request: Request, headers: Mapping[str, str]) -> Response: ...


class HTTPTransport:
    """The transport of earnest runs: one aiohttp session, used as an async context manager."""

    def __init__(self, options: TransportOptions) -> None:
        self._options = options
        self._proxy = options.proxy.url if options.proxy else None
        self._ssl = _ssl_context(options.ca_bundle)

    async def __aenter__(self) -> Self:
        self._connector = self._opened()
        self._session = aiohttp.ClientSession(
            connector=self._connector,
            headers={"User-Agent": "batchscore", "Accept-Encoding": "gzip, deflate"},
            timeout=aiohttp.ClientTimeout(total=self._timeout_s, sock_connect=_CONNECT_TIMEOUT_S),
            cookie_jar=aiohttp.DummyCookieJar(),
            trust_env=False,  # else ~/.netrc would send a login that nobody asked for
        )
        return self

    async def __aexit__(self, *_: object) -> None:
        await self._session.close()

    @property
    def _timeout_s(self) -> float | None:
        """How long aiohttp lets a request take."""
        return self._options.timeout_s

    def _opened(self) -> Connector:
        # The limit on connections is the limiter's business; HTTP/1.1 needs one a request.
        return Connector(limit=0, ssl=self._ssl)

    async def send(self, request: Request, headers: Mapping[str, str]) -> Response:
        """See ``Transport``."""
        url = request.url
        try:
            for _ in range(_MAX_REDIRECTS + 1):
                answer = await self._sent(request, url, headers)
                if isinstance(answer, Response):
                    return answer
                url = answer
        except (aiohttp.ClientError, aiohttp.http_exceptions.HttpProcessingError, OSError,
                asyncio.IncompleteReadError) as error:  # fmt: skip
            raise self._mapped(error) from error
        raise RefusedError(
            f"{self._options.endpoint.shown} redirects without end"
            "; give --url the address that it should lead to"
        )

    def _mapped(self, error: Exception) -> AttemptError | RefusedError:  # noqa: PLR0911 - a table
        """What an error of the network means: the one table of them."""
        match error:
            case aiohttp.ConnectionTimeoutError():
                return ConnectionFailedError(f"no connection within {_CONNECT_TIMEOUT_S:g} s")
            case TimeoutError():
                return AttemptTimeoutError(f"no whole answer within {self._options.timeout_s:g} s")
            case aiohttp.ClientPayloadError() | aiohttp.http_exceptions.HttpProcessingError():
                if isinstance(error.__cause__, aiohttp.http_exceptions.ContentEncodingError):
                    # It came whole, so the server is there, and this is what it says.
                    return DecodeError("the answer cannot be unpacked")
                return ConnectionFailedError(f"the answer broke off: {_reason(error)}")
            case aiohttp.ClientConnectorCertificateError():
                return RefusedError(
                    f"{self._options.endpoint.host_and_port} has a certificate that is not "
                    f"trusted: {_certificate_reason(error.certificate_error)}"
                )
        ShortageError.check(error)
        is_dns = isinstance(error, aiohttp.ClientConnectorDNSError)
        # With a proxy, only the proxy looks up the deployment's own name.
        if (is_dns and self._options.proxy) or isinstance(
            error, (aiohttp.ClientProxyConnectionError, aiohttp.ClientHttpProxyError)
        ):
            return self._proxy_error(error)
        return ConnectionFailedError(_reason(error))

    def _proxy_error(self, error: Exception) -> ConnectionFailedError | RefusedError:
        """The proxy is not there, or opens no tunnel."""
        proxy = self._options.proxy
        text = f"the proxy {proxy.shown if proxy else ''}: {_reason(error)}"
        if isinstance(error, aiohttp.ClientHttpProxyError) and error.status in _PROXY_REFUSES:
            return RefusedError(
                f"{self._options.endpoint.shown} is not to be reached by {text}; name its host in "
                "NO_PROXY, if the proxy is not for it"
            )
        return ConnectionFailedError(text)

    async def _sent(self, request: Request, url: str, headers: Mapping[str, str]) -> Response | str:
        """The same as ``_send_once``, on a new connection where the server has closed an idle one.

        That it was being closed while the request was on its way says nothing of the request.
        """
        _line.set(_NEW)
        try:
            return await self._send_once(request, url, headers)
        except (aiohttp.ClientConnectionError, ConnectionResetError) as error:
            # An answer that has begun, and then broke off, is another error.
            if _line.get().idle_s < _IDLE_S or not _is_closed(error):
                raise
            _log.debug("an idle connection was closed meanwhile: %s", _reason(error))
        return await self._send_once(request, url, headers)

    async def _send_once(
        self, request: Request, url: str, headers: Mapping[str, str]
    ) -> Response | str:
        """The answer, or the address that it redirects to."""
        merged = CIMultiDict({**request.headers, **headers})
        merged.update(self._options.headers)
        async with self._session.request(
            request.method,
            url,
            data=_Body(request) if request.nbytes else None,
            headers=merged,
            allow_redirects=False,
            proxy=self._proxy,
        ) as answer:
            if 300 <= answer.status < 400 and "Location" in answer.headers:
                return self._redirected(request, answer, url)
            body = await self._read(answer)
            if answer.status == 500:
                # Where an error of its own made it answer so, a server may hang up without a word.
                self._connector.leave(_line.get())
            return Response(
                status=answer.status,
                body=body,
                headers={name.lower(): value for name, value in answer.headers.items()},
            )

    async def _read(self, answer: aiohttp.ClientResponse) -> bytes:
        pieces: list[bytes] = []
        size = 0
        async for piece in answer.content.iter_any():
            size += len(piece)
            if size > self._options.max_response_bytes:
                raise DecodeError(
                    f"the answer is larger than {self._options.max_response_bytes} bytes; "
                    "raise --max-response-bytes or lower --batch-size"
                )
            pieces.append(piece)
        return pieces[0] if len(pieces) == 1 else b"".join(pieces)

    def _redirected(self, request: Request, answer: aiohttp.ClientResponse, url: str) -> str:
        mine = self._options.endpoint
        try:
            target = Endpoint.parse(urljoin(url, answer.headers["Location"]))
        except UsageError as error:
            raise RefusedError(
                f"{mine.shown} redirects to what is no address; is --url right?"
            ) from error
        if target.origin != mine.origin:
            raise RefusedError(
                f"{mine.shown} redirects to another host, {target.shown}; the token must not "
                "follow it: give --url that address if it is right"
            )
        if request.method == "POST" and answer.status not in {307, 308}:
            raise RefusedError(
                f"{mine.shown} redirects to {target.shown} ({answer.status}), which drops the "
                "rows: give --url that address"
            )
        return target.url


def _is_closed(error: BaseException) -> bool:
    """Whether the other side has closed the connection."""
    if isinstance(error, (aiohttp.ServerDisconnectedError, ConnectionResetError)):
        return True
    return isinstance(error, OSError) and error.errno in {errno.ECONNRESET, errno.EPIPE}


@dataclass(frozen=True, slots=True)
class _Line:
    """The connection that a request went out on.

    Attributes:
        protocol: aiohttp's object for it; None where there is none yet.
        idle_s: for how long nothing had come on it, 0 for a new one.
    """

    protocol: object | None = None
    idle_s: float = 0.0


_NEW = _Line()
_line: ContextVar[_Line] = ContextVar("line", default=_NEW)


class Connector(aiohttp.TCPConnector):
    """Tells whoever gets a connection which it is, in ``_line``."""

    def __init__(self, **options: Any) -> None:
        super().__init__(**options)
        self._used_s: WeakKeyDictionary[object, float] = WeakKeyDictionary()
        self._left: WeakSet[object] = WeakSet()

    def leave(self, line: _Line) -> None:
        """Send nothing more on a connection."""
        self._left.add(line.protocol)

    async def connect(self, *args: Any, **options: Any) -> aiohttp.connector.Connection:
        """A connection, new or used before."""
        connection = await super().connect(*args, **options)
        while connection.protocol in self._left:
            connection.close()
            connection = await super().connect(*args, **options)
        protocol, now = connection.protocol, self._loop.time()
        _line.set(_Line(protocol, now - self._used_s.get(protocol, now)))

        def released() -> None:
            self._used_s[protocol] = self._loop.time()

        connection.add_callback(released)
        return connection


class _Body(aiohttp.payload.Payload):
    """A body that is written in pieces, so that a large one does not pile up in the transport."""

    _value: Request

    def __init__(self, request: Request) -> None:
        super().__init__(request)
        self._size = request.nbytes

    def decode(self, encoding: str = "utf-8", errors: str = "strict") -> str:
        return b"".join(self._value.pieces).decode(encoding, errors)

    async def write(self, writer: AbstractStreamWriter) -> None:
        for piece in self._value.pieces:
            view = memoryview(piece).cast("B")
            for start in range(0, len(view), _PIECE_BYTES):
                await writer.write(view[start : start + _PIECE_BYTES])


def parse_headers(config_lines: tuple[str, ...], header_file: Path | None) -> dict[str, str]:
    """The user's headers from ``--header`` and ``--header-file``.

    Raises:
        UsageError: the file cannot be read, or a line is not ``Name: value``.
    """
    lines = [(f"--header number {n}", line) for n, line in enumerate(config_lines, 1)]
    if header_file is not None:
        try:
            text = header_file.read_text(encoding="utf-8")
        except (OSError, UnicodeDecodeError) as error:
            reason = getattr(error, "strerror", None) or "it is no text"
            raise UsageError(
                f"--header-file: cannot read {str(header_file)!r}: {reason}"
                "; name a file with a header a line"
            ) from None
        place = f"--header-file {str(header_file)!r}, line"
        numbered = enumerate(text.splitlines(), 1)
        lines += [(f"{place} {n}", line) for n, line in numbered if line.strip() and line[0] != "#"]
    headers: dict[str, str] = {}
    for place, line in lines:
        name, colon, value = line.partition(":")
        if not colon or not name.strip() or any(c in line for c in "\r\n\0"):
            # The value may be a secret, so only its place is told.
            raise UsageError(f"{place} is not of the form 'Name: value'; write it so")
        if name.strip().lower() in _OUR_HEADERS:
            raise UsageError(f"the header {name.strip()} is set by batchscore itself")
        headers[name.strip()] = value.strip()
    return headers


def _ssl_context(ca_bundle: Path | None) -> ssl.SSLContext | bool:
    if ca_bundle is None:
        return True
    try:
        return ssl.create_default_context(cafile=str(ca_bundle))
    except (OSError, ssl.SSLError) as error:
        raise UsageError(
            f"--ca-bundle: cannot read certificates from {str(ca_bundle)!r}: {_reason(error)}"
            "; name a file of certificates in PEM form"
        ) from None


def _certificate_reason(error: Exception) -> str:
    """What is wrong with a certificate, and what to do where that is told apart."""
    if not isinstance(error, ssl.SSLCertVerificationError):
        return _reason(error)
    advice = "; if it is yours, give --ca-bundle FILE" if error.verify_code in _UNKNOWN_CA else ""
    return f"{error.verify_message.rstrip('.')}{advice}"


def _reason(error: BaseException) -> str:
    """The shortest text that says what went wrong, without addresses."""
    cause = getattr(error, "os_error", None) or error
    if isinstance(cause, ssl.SSLError):
        return cause.reason or "TLS failed"
    number = getattr(cause, "errno", None)
    if isinstance(cause, OSError) and number is not None and number > 0:
        return os.strerror(number)
    if isinstance(cause, aiohttp.ClientResponseError):
        # Its text holds the address, whose query may be a secret.
        return f"{cause.status}, {cause.message.splitlines()[0]}" if cause.message else "no HTTP"
    if isinstance(cause, aiohttp.ClientError) and not isinstance(cause, OSError):
        return type(cause).__name__
    text = getattr(cause, "strerror", None) or str(cause) or type(cause).__name__
    return str(text).split("\n", maxsplit=1)[0]
