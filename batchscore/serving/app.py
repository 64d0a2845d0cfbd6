"""The local deployment: models behind the Deployment API, on aiohttp."""

from __future__ import annotations

import asyncio
import concurrent.futures
import errno
import hmac
import ipaddress
import json
import logging
import threading
from contextlib import asynccontextmanager, contextmanager, suppress
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any, TypeVar

import msgspec
from aiohttp import web

from batchscore.errors import UsageError
from batchscore.serving.load import load_model
from batchscore.serving.models import Model, Row, RowError, signature_of
from batchscore.serving.specification import specification
from batchscore.serving.wire import AnswerError, decode_rows, encode_rows

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Awaitable, Callable, Iterator, Mapping

    from batchscore.schema import ModelSignature

MAX_BODY_BYTES = 2**30
_MAX_PREDICT_THREADS = 32
_SHUTDOWN_S = 0.25

_log = logging.getLogger(__name__)
_T = TypeVar("_T")


class _APIError(Exception):
    """Raised when a request is answered with an error."""

    def __init__(self, status: int, code: str, message: str) -> None:
        super().__init__(message)
        self.status = status
        self.code = code


@dataclass(frozen=True, slots=True)
class _Deployment:
    model: Model
    signature: ModelSignature
    openapi: bytes

    def forward(self, body: bytes) -> bytes:
        """The answer to one request; blocks, so it is called from a worker thread."""
        rows = _parse(body)
        outputs, tensor_json = self.signature.outputs, self.signature.tensor_json
        try:
            answers = self._predict(decode_rows(rows, self.signature.inputs))
            encoded = encode_rows(answers, outputs, num_rows=len(rows), tensor_json=tensor_json)
        except RowError as error:
            raise _APIError(422, "INVALID_ROW", str(error)) from error
        except AnswerError as error:
            raise _APIError(500, "MODEL_ERROR", str(error)) from error
        return msgspec.json.encode({"rows": encoded})  # writes NaN and infinities as null

    def _predict(self, rows: list[Row]) -> object:
        try:
            return self.model.predict(rows) if rows else []
        except RowError:
            raise
        except Exception as error:
            _log.exception("predict raised")
            raise AnswerError(f"predict raised {type(error).__name__}: {error}") from error


def _parse(body: bytes) -> list[object]:
    """The rows of a request's body, each still unchecked."""
    try:
        message = msgspec.json.decode(body)
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError):
        try:
            message = json.loads(body)  # a client in Python may write NaN
        except (ValueError, RecursionError) as error:
            raise _APIError(400, "INVALID_JSON", f"the body is no JSON: {error}") from error
    if not isinstance(message, dict) or not isinstance(message.get("rows"), list):
        raise _APIError(400, "INVALID_JSON", "the body is not of the form {'rows': [...]}")
    rows: list[object] = message["rows"]
    return rows


async def _in_thread(work: Callable[[], _T]) -> _T:
    """What ``work`` returns, run on a thread of its own.

    The threads of a pool are joined when the interpreter ends, so one slow ``predict`` would hold
    up Ctrl-C; a daemon thread does not.
    """
    loop = asyncio.get_running_loop()
    done: asyncio.Future[_T] = loop.create_future()

    def deliver(outcome: concurrent.futures.Future[_T]) -> None:
        if done.cancelled():
            return
        error = outcome.exception()
        if error is None:
            done.set_result(outcome.result())
        else:
            done.set_exception(error)

    def run() -> None:
        outcome: concurrent.futures.Future[_T] = concurrent.futures.Future()
        try:
            outcome.set_result(work())
        except BaseException as error:  # noqa: BLE001  (it is raised again, in the event loop)
            outcome.set_exception(error)
        with suppress(RuntimeError):  # the loop has ended meanwhile: nobody waits any more
            loop.call_soon_threadsafe(deliver, outcome)

    threading.Thread(target=run, name="predict", daemon=True).start()
    return await done


def _error(status: int, code: str, message: str) -> web.Response:
    body = msgspec.json.encode({"errorCode": code, "errorMessage": message})
    return web.Response(status=status, body=body, content_type="application/json")


@web.middleware
async def _errors_as_json(
    request: web.Request, handler: Callable[[web.Request], Awaitable[web.StreamResponse]]
) -> web.StreamResponse:
    try:
        return await handler(request)
    except _APIError as error:
        return _error(error.status, error.code, str(error))
    except web.HTTPRequestEntityTooLarge:
        limit = request.app[_MAX_BODY]
        return _error(413, "TOO_LARGE", f"the body is larger than {limit} bytes")
    except web.HTTPException as error:
        code = error.reason.upper().replace(" ", "_")
        return _error(error.status, code, f"{request.method} {request.path}: {error.reason}")
    except web.RequestPayloadError as error:
        request.content.feed_eof()  # there is no more to come, and aiohttp must not wait for it
        why = " ".join(str(error).split())
        response = _error(400, "INVALID_BODY", f"the body cannot be read: {why}")
        response.force_close()
        return response
    except Exception as error:  # noqa: BLE001  (a client is told in JSON, whatever it was)
        _log.exception("%s %s failed", request.method, request.path)
        return _error(500, "INTERNAL_ERROR", f"{type(error).__name__}: {error}")


_DEPLOYMENTS: web.AppKey[dict[str, _Deployment]] = web.AppKey("deployments")
_TOKEN = web.AppKey("token", bytes)
_MAX_BODY = web.AppKey("max_body", int)
_THREADS = web.AppKey("threads", asyncio.Semaphore)


def make_app(
    models: Mapping[str, Model],
    *,
    token: str | None,
    tensor_json: bool = True,
    old_style: bool = False,
    max_body_bytes: int = MAX_BODY_BYTES,
) -> web.Application:
    """The Deployment API of some models, as an aiohttp application.

    Args:
        models: deployment id -> model.
        token: what every request must bear; None asks for none.
        tensor_json: arrays travel as ``{"shape", "data"}``, else as NumPy files in data URIs.
        old_style: the specification as it was before ``tensor_json``, which it turns off.
        max_body_bytes: the largest body of a request, unpacked.

    Raises:
        UsageError: a model's inputs or outputs are wrong.
    """
    app = web.Application(client_max_size=max_body_bytes, middlewares=[_errors_as_json])
    deployments: dict[str, _Deployment] = {}
    for name, model in models.items():
        signature = replace(signature_of(model), tensor_json=tensor_json and not old_style)
        openapi = msgspec.json.encode(specification(name, signature, old_style=old_style))
        deployments[name] = _Deployment(model, signature, openapi)
    app[_DEPLOYMENTS] = deployments
    app[_MAX_BODY] = max_body_bytes
    app[_THREADS] = asyncio.Semaphore(_MAX_PREDICT_THREADS)
    if token:
        app[_TOKEN] = token.encode()
    app.router.add_get("/deployment/{deployment_id}/openapi.json", _openapi)
    app.router.add_post("/deployment/{deployment_id}/forward", _forward)
    return app


def _deployment(request: web.Request) -> _Deployment:
    """The deployment that the request asks for, once it has shown the token."""
    token = request.app.get(_TOKEN)
    if token is not None:
        scheme, _, given = request.headers.get("Authorization", "").partition(" ")
        same = hmac.compare_digest(given.strip().encode("utf-8", "surrogateescape"), token)
        if scheme.lower() != "bearer" or not same:
            raise _APIError(401, "UNAUTHORIZED", "the token is missing or wrong")
    name = request.match_info["deployment_id"]
    deployments = request.app[_DEPLOYMENTS]
    if name not in deployments:
        known = ", ".join(deployments)
        raise _APIError(404, "NOT_FOUND", f"no deployment {name!r} here; there is {known}")
    return deployments[name]


async def _openapi(request: web.Request) -> web.Response:
    return web.Response(body=_deployment(request).openapi, content_type="application/json")


async def _forward(request: web.Request) -> web.Response:
    deployment = _deployment(request)
    limit = request.app[_MAX_BODY]
    if (request.content_length or 0) > limit:  # said before a gigabyte of it is read
        raise web.HTTPRequestEntityTooLarge(limit, request.content_length or 0)
    body = await request.read()
    async with request.app[_THREADS]:
        answer = await _in_thread(lambda: deployment.forward(body))
    return web.Response(body=answer, content_type="application/json")


def _is_loopback(host: str) -> bool:
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return host == "localhost"


@asynccontextmanager
async def _listening(app: web.Application, host: str, port: int) -> AsyncIterator[str]:
    """The app behind a socket; yields its address, ``http://HOST:PORT``."""
    runner = web.AppRunner(app, access_log=None, shutdown_timeout=_SHUTDOWN_S)
    await runner.setup()
    try:
        site = web.TCPSite(runner, host, port)
        try:
            await site.start()
        except OSError as error:
            if error.errno == errno.EADDRINUSE:
                raise UsageError(
                    f"port {port} on {host} is in use; choose another, or 0 for any free one"
                ) from error
            why = error.strerror or error
            raise UsageError(
                f"cannot listen on {host}, port {port}: {why}"
                "; name an address of this computer (--host), or another --port"
            ) from error
        name = f"[{host}]" if ":" in host else host
        yield f"http://{name}:{runner.addresses[0][1]}"
    finally:
        await runner.cleanup()


async def serve(
    models: Mapping[str, Model],
    *,
    host: str,
    port: int,
    token: str | None,
    on_ready: Callable[[str], None],
) -> None:
    """Serve the models until cancelled.

    Args:
        models: deployment id -> model.
        host: where to listen; off loopback only with a token.
        port: where to listen, 0 for any free port.
        token: what every request must bear; None asks for none.
        on_ready: called with each deployment's full address once requests are accepted.

    Raises:
        UsageError: the port is taken, the host is not ours, or it needs a token.
    """
    if not token and not _is_loopback(host):
        raise UsageError(
            f"a deployment on {host} can be reached from other machines; "
            "it refuses to start without BATCHSCORE_TOKEN"
        )
    async with _listening(make_app(models, token=token), host, port) as address:
        for name in models:
            on_ready(_forward_url(address, name))
        await asyncio.Event().wait()


def _forward_url(address: str, name: str) -> str:
    return f"{address}/deployment/{name}/forward"


@contextmanager
def running_deployment(
    model: Model | str,
    token: str | None = None,
    tensor_json: bool = True,
    **options: Any,
) -> Iterator[str]:
    """A deployment on a background thread, on any free port of 127.0.0.1.

    Args:
        model: a model, or what ``load_model`` takes.
        token: what every request must bear; None asks for none.
        tensor_json: as in ``make_app``, which also takes the other options.
        options: ``old_style`` and ``max_body_bytes`` of ``make_app``.

    Yields:
        Its full address, ``http://127.0.0.1:PORT/deployment/ID/forward``.

    Raises:
        UsageError: there is no such model, or it is none.
    """
    name, served = load_model(model) if isinstance(model, str) else ("model", model)
    app = make_app({name: served}, token=token, tensor_json=tensor_json, **options)
    ready: concurrent.futures.Future[tuple[str, Callable[[], object]]] = concurrent.futures.Future()

    async def run() -> None:
        stop = asyncio.Event()
        loop = asyncio.get_running_loop()
        async with _listening(app, "127.0.0.1", 0) as address:
            ready.set_result((address, lambda: loop.call_soon_threadsafe(stop.set)))
            await stop.wait()

    def thread() -> None:
        try:
            asyncio.run(run())
        except BaseException as error:  # noqa: BLE001  (raised again where it is waited for)
            if ready.done():
                _log.exception("the deployment ended with an error")
            else:
                ready.set_exception(error)

    worker = threading.Thread(target=thread, name="deployment", daemon=True)
    worker.start()
    address, stop = ready.result()
    try:
        yield _forward_url(address, name)
    finally:
        stop()
        worker.join()
