"""The server: the Deployment API in front of a plain function, with scripted faults."""

from __future__ import annotations

import asyncio
import gzip
import json
import time
from collections import deque
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import TYPE_CHECKING, Any, Self

import msgspec
import numpy as np

from faultserver.background import Listener, LoopThread
from faultserver.faults import Fault, Reply, Script, Wire, error_body
from faultserver.http11 import Connection, Exchange
from faultserver.models import Features, Predict, npy_value, specification, tensor_value
from faultserver.requests import RequestInfo

if TYPE_CHECKING:
    import ssl

    from faultserver.tally import RowTally

_JSON = {"Content-Type": "application/json"}
_NO_MODEL = frozenset({"reset_before", "reset_after", "close", "hang"})


class FaultServer:
    """A deployment on 127.0.0.1, in a thread of its own, from ``with`` to its end.

    What is documented as an attribute may be changed while the server runs. An exception of the
    model or of a script is answered with 500 and raised again when the server is closed.

    Args:
        inputs: the input features, name to type and shape.
        outputs: the output features.
        predict: rows as they travelled to output rows; NumPy arrays are encoded as the
            specification says. Called in the event loop: what blocks blocks all requests.
        script: see ``faults``; for requests for predictions.
        spec_script: the same for requests for the specification.
        token: where given, the token that requests must carry.
        tensor_json: arrays travel as tensor JSON, else as NumPy files.
        old_style: the specification is in the old style.
        delay_s: service time of a request; a callable is asked for each.
        capacity: how many requests are served at once; the others wait in a queue.
        deployment_id: stands in the address.
        classes: the classes of categorical outputs, if the specification shall tell them.
        port: where to listen; 0: any free port.
        tls: the certificate, for https.
        gzip_answers: compress answers for clients that accept it.
        bare_nan: NaN and infinities of the model are written bare, else as null.
        keep_requests: keep every request; without, only the numbers are counted.
        tally: where given, counts how often each row comes.

    Attributes:
        url, host, port: where it is, known inside ``with``.
        requests: the requests for predictions, in order of arrival.
        request_count, rows_seen, spec_requests: requests for predictions, rows in them, requests
            for the specification.
        in_flight, max_in_flight: requests for predictions under way, and the most there were.
        disabled: every query is denied with 403.
    """

    def __init__(
        self,
        inputs: Features,
        outputs: Features,
        predict: Predict,
        *,
        script: Script = None,
        spec_script: Script = None,
        token: str | None = None,
        tensor_json: bool = True,
        old_style: bool = False,
        delay_s: float | Callable[[RequestInfo], float] = 0.0,
        capacity: int | None = None,
        deployment_id: str = "test",
        classes: Mapping[str, Sequence[str]] | None = None,
        gzip_answers: bool = False,
        bare_nan: bool = False,
        keep_requests: bool = True,
        tally: RowTally | None = None,
        port: int = 0,
        tls: ssl.SSLContext | None = None,
    ) -> None:
        self.inputs = inputs
        self.outputs = outputs
        self.predict = predict
        self.script = script
        self.spec_script = spec_script
        self.token = token
        self.tensor_json = tensor_json
        self.old_style = old_style
        self.delay_s = delay_s
        self.capacity = capacity
        self.classes = classes
        self.gzip_answers = gzip_answers
        self.bare_nan = bare_nan
        self.disabled = False
        self.keep_requests = keep_requests
        self.tally = tally
        self.requests: list[RequestInfo] = []
        self.request_count = self.rows_seen = self.spec_requests = 0
        self.in_flight = self.max_in_flight = 0
        self.host = "127.0.0.1"
        self._score_path = f"/deployment/{deployment_id}/forward"
        self._spec_path = f"/deployment/{deployment_id}/openapi.json"
        self._errors: list[Exception] = []
        self._under_way: dict[Exchange, RequestInfo] = {}
        self._timers: dict[Exchange, asyncio.TimerHandle] = {}
        self._served: set[Exchange] = set()
        self._waiting: deque[Exchange] = deque()
        self._restart: asyncio.Task[None] | None = None
        self.port = port
        self._tls = tls

    # Life

    @property
    def script(self) -> Script:
        """The script; setting it begins a new one."""
        return self._script

    @script.setter
    def script(self, script: Script) -> None:
        self._script = script if callable(script) else iter(script or ())

    @property
    def spec_script(self) -> Script:
        """The script of the specification; setting it begins a new one."""
        return self._spec_script

    @spec_script.setter
    def spec_script(self, script: Script) -> None:
        self._spec_script = script if callable(script) else iter(script or ())

    @property
    def url(self) -> str:
        """The address of the deployment."""
        return f"{'https' if self._tls else 'http'}://{self.host}:{self.port}{self._score_path}"

    @property
    def connections(self) -> int:
        """How many connections were accepted."""
        return self._listener.connections

    def __enter__(self) -> Self:
        self._listener = Listener(lambda: Connection(self, self._listener), self.port, self._tls)
        self._thread = LoopThread("faultserver")
        self._loop = self._thread.loop
        self.port = self._listener.port
        self._thread.run(self._listener.accept())
        return self

    def __exit__(self, kind: type[BaseException] | None, *_: object) -> None:
        if self._restart is not None:
            self._loop.call_soon_threadsafe(self._restart.cancel)
        self._thread.run(self._listener.close())
        self._thread.stop()
        if kind is None and self._errors:
            raise self._errors[0]

    def go_away(self) -> None:
        """Break all connections and refuse new ones, as a host whose server has stopped."""
        self._thread.run(self._listener.refuse())
        self._thread.run(self._listener.reset_connections())

    def come_back(self) -> None:
        """Accept connections again, at the same address; a restart that is under way ends first."""

        async def accept() -> None:
            if self._restart is not None:
                await asyncio.wait({self._restart})
            await self._listener.accept()

        self._thread.run(accept())

    def restart(self, away_s: float | None) -> None:
        """Go away and, but for None, come back after a time; for scripts, which may not block."""

        async def bounce() -> None:
            await self._listener.refuse()
            await self._listener.reset_connections()
            if away_s is not None:
                await asyncio.sleep(away_s)
                await self._listener.accept()

        self._restart = self._loop.create_task(bounce())

    # One exchange, in the order of its events

    def on_head(self, exchange: Exchange) -> None:
        """Count the request; faults before its body happen here."""
        if exchange.path != self._score_path or exchange.method != "POST":
            return
        self.in_flight += 1
        self.max_in_flight = max(self.max_in_flight, self.in_flight)
        info = RequestInfo(
            self.request_count, exchange.connection.number, exchange.headers, time.monotonic(),
            self.in_flight,
        )  # fmt: skip
        self.request_count += 1
        if self.keep_requests:
            self.requests.append(info)
        self._under_way[exchange] = info
        if not callable(self._script) or getattr(self._script, "before_body", False):
            info.fault = self._ask(self._script, info)
            if info.fault is not None and info.fault.wire == "reset_before":
                self._count(info)
                self._leave(exchange)
                exchange.reset()

    def on_body(self, exchange: Exchange) -> None:
        """Route a whole request."""
        info = self._under_way.get(exchange)
        if info is not None:
            self._forward(exchange, info)
        elif exchange.path == self._spec_path and exchange.method == "GET":
            self._specification(exchange)
        else:
            self._finish(exchange, _error(404, "NOT_FOUND", "there is nothing at this address"))

    def on_gone(self, exchange: Exchange) -> None:
        """Forget an exchange whose client went away."""
        if info := self._under_way.get(exchange):
            info.disconnected = True
        if timer := self._timers.pop(exchange, None):
            timer.cancel()
        self._leave(exchange)

    def _specification(self, exchange: Exchange) -> None:
        self.spec_requests += 1
        info = RequestInfo(
            self.spec_requests - 1, exchange.connection.number, exchange.headers,
            time.monotonic(), self.in_flight,
        )  # fmt: skip
        denied = self._denied(exchange)
        fault = None if denied else self._ask(self._spec_script, info)
        good = Reply(200, msgspec.json.encode(self._document()), _JSON)
        reply = denied or (fault and fault.reply) or good
        self._later(exchange, fault.delay_s if fault else 0, lambda: (reply, fault))

    def _document(self) -> dict[str, Any]:
        return specification(
            self.inputs, self.outputs, tensor_json=self.tensor_json, old_style=self.old_style,
            classes=self.classes,
        )  # fmt: skip

    def _forward(self, exchange: Exchange, info: RequestInfo) -> None:
        info.body = exchange.body
        denied = self._denied(exchange) or self._read_rows(info)
        self.rows_seen += len(info.rows)
        if callable(self._script) and not getattr(self._script, "before_body", False):
            info.fault = self._ask(self._script, info)
        self._count(info)
        fault = info.fault
        if fault is not None and (fault.reply is not None or fault.wire in _NO_MODEL):
            self._later(exchange, fault.delay_s, lambda: (fault.reply or Reply(200), fault))
        elif denied is not None:
            self._finish(exchange, denied)
        elif self._waiting or self._is_full():
            self._waiting.append(exchange)
        else:
            self._serve(exchange)

    def _count(self, info: RequestInfo) -> None:
        if self.tally is not None:
            self.tally.observe(info)

    def _serve(self, exchange: Exchange) -> None:
        info = self._under_way[exchange]
        self._served.add(exchange)
        delay_s = self.delay_s(info) if callable(self.delay_s) else self.delay_s
        delay_s += info.fault.delay_s if info.fault else 0
        self._later(exchange, delay_s, lambda: (self._predict(info), info.fault))

    def _later(
        self, exchange: Exchange, delay_s: float, answer: Callable[[], tuple[Reply, Fault | None]]
    ) -> None:
        def act() -> None:
            self._timers.pop(exchange, None)
            self._finish(exchange, *answer())

        if delay_s > 0:
            self._timers[exchange] = self._loop.call_later(delay_s, act)
        else:
            act()

    def _leave(self, exchange: Exchange) -> None:
        """A request is under way no more; the next in the queue takes its place."""
        if self._under_way.pop(exchange, None) is None:
            return
        self.in_flight -= 1
        if exchange in self._waiting:
            self._waiting.remove(exchange)
        if exchange in self._served:
            self._served.remove(exchange)
            if self._waiting:
                # Soon, not now: the answer of the one that leaves comes first.
                self._loop.call_soon(self._serve_next)

    def _serve_next(self) -> None:
        while self._waiting and not self._is_full():
            self._serve(self._waiting.popleft())

    def _is_full(self) -> bool:
        return self.capacity is not None and len(self._served) >= self.capacity

    # What is answered

    def _ask(self, script: Script, info: RequestInfo) -> Fault | None:
        try:
            if callable(script):
                return script(info)
            assert isinstance(script, Iterator)
            return next(script, None)
        except Exception as error:  # noqa: BLE001 - raised again at the end
            self._errors.append(error)
            return Fault("error", _error(500, "SCRIPT", f"{type(error).__name__}: {error}"))

    def _denied(self, exchange: Exchange) -> Reply | None:
        if self.disabled:
            return _error(403, "DEPLOYMENT_DISABLED", "the deployment is not enabled")
        if self.token is not None and (
            exchange.headers.get("authorization") != f"Bearer {self.token}"
        ):
            return _error(401, "UNAUTHORIZED", "the token is not valid")
        return None

    def _read_rows(self, info: RequestInfo) -> Reply | None:
        if info.headers.get("content-type", "").partition(";")[0].strip() != "application/json":
            return _error(415, "UNSUPPORTED_MEDIA_TYPE", "the body must be application/json")
        try:
            rows = msgspec.json.decode(info.body)["rows"]
        except (msgspec.DecodeError, UnicodeDecodeError, KeyError, TypeError):
            rows = None
        if not isinstance(rows, list) or not all(isinstance(row, dict) for row in rows):
            return _error(400, "BAD_REQUEST", "the body is not an object with rows")
        info.rows = rows
        if any(row.keys() != self.inputs.keys() for row in rows):
            return _error(422, "BAD_FEATURES", "a row has other features than the deployment")
        return None

    def _predict(self, info: RequestInfo) -> Reply:
        try:
            rows = self.predict(info.rows)
            if info.fault is not None and info.fault.alter is not None:
                rows = info.fault.alter(rows)
            answer = self._answer(rows)
            body = msgspec.json.encode(answer, enc_hook=self._plain)
            if self.bare_nan or (info.fault is not None and info.fault.bare_nan):
                body = json.dumps(answer, default=self._plain).encode()
        except Exception as error:  # noqa: BLE001 - raised again at the end
            self._errors.append(error)
            return _error(500, "MODEL", f"{type(error).__name__}: {error}")
        return Reply(200, body, _JSON)

    def _answer(self, rows: list[Any]) -> Any:
        return {"rows": rows}

    def _plain(self, value: Any) -> Any:
        if isinstance(value, np.ndarray):
            return tensor_value(value) if self.tensor_json else npy_value(value)
        if isinstance(value, np.generic):
            return value.item()
        raise TypeError(f"{type(value).__name__} has no place on the wire")

    # How it is sent

    def _finish(self, exchange: Exchange, reply: Reply, fault: Fault | None = None) -> None:
        if not exchange.open:
            return
        headers, content = reply.headers, reply.body
        accepts_gzip = "gzip" in exchange.headers.get("accept-encoding", "")
        if self.gzip_answers and content and accepts_gzip and "Content-Encoding" not in headers:
            headers = {**headers, "Content-Encoding": "gzip"}
            content = gzip.compress(content, 1)
        head, body = exchange.render(reply.status, headers, content)
        wire = fault.wire if fault else "whole"
        info = self._under_way.get(exchange)
        if info is not None and wire not in _NO_MODEL:
            info.status = reply.status
        half = head + body[: len(body) // 2]
        if wire == "stall":
            exchange.stall(half)
        elif wire == "drip" and fault is not None:
            self._drip(exchange, head + body, 0, fault.interval_s)
        elif wire != "hang":
            # Counted first, so that a client which has its answer finds the numbers right.
            self._leave(exchange)
            self._send(exchange, wire, head + body, half)

    @staticmethod
    def _send(exchange: Exchange, wire: Wire, whole: bytes, half: bytes) -> None:
        match wire:
            case "reset_before" | "reset_after":
                exchange.reset()
            case "reset_middle":
                exchange.reset(half)
            case "close":
                exchange.close()
            case "truncate":
                exchange.close(half)
            case _:
                exchange.send(whole)

    def _drip(self, exchange: Exchange, data: bytes, sent: int, interval_s: float) -> None:
        if sent == len(data) - 1:
            self._timers.pop(exchange, None)
            self._leave(exchange)
            exchange.send(data[sent:])
            return
        exchange.stall(data[sent : sent + 1])
        self._timers[exchange] = self._loop.call_later(
            interval_s, self._drip, exchange, data, sent + 1, interval_s
        )


def _error(status: int, code: str, message: str) -> Reply:
    return Reply(status, error_body(code, message), _JSON)
