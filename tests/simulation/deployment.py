"""A deployment that fails in every way there is, but always within what a job must bear.

What makes rows fail for good is only what the plan says of them. Everything else passes: a request
fails by chance at most so often in a row that one attempt is left, and what takes the deployment
away is never so close to the time before that its bystanders look like the cause.
"""

from __future__ import annotations

import asyncio
import json
from collections import Counter
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Self

from faultserver.models import specification

from batchscore.errors import AttemptTimeoutError, ConnectionFailedError, DecodeError
from batchscore.protocols.base import Request, Response

if TYPE_CHECKING:
    import random
    from collections.abc import Callable, Mapping

    from batchscore.client.transport import TransportOptions
    from simulation.plan import Away, Plan, Poison

ANIMALS = ("bird", "cat", "dog")
_CALM_S = 3600.0
_SPECIFICATION = (-1, 0)


def answer_of(plan: Plan, row: int, *, changed: bool) -> dict[str, Any]:
    """What the first model, or the one that it is changed for, says of the row ``x``."""
    answer: dict[str, Any] = {}
    if changed:
        row += 1
        answer["z"] = 0.0
    if plan.model in {"number", "both"}:
        answer["y"] = 3.0 * row + 7
    if plan.model != "number":
        answer["animal"] = {n: 0.5 if k == row % 3 else 0.25 for k, n in enumerate(ANIMALS)}
    return answer


@dataclass
class _Away:
    until_s: float
    kind: Away


class SimulatedDeployment:
    """Lives through all runs of a job.

    Attributes:
        resumed: rows that the present run took over, and must never send again.
        most_in_flight: how many requests were under way at once.
        violations: what was asked of it that must not be.
    """

    def __init__(self, plan: Plan, random: random.Random, trace: Callable[[str], None]) -> None:
        self._plan = plan
        self._random = random
        self._trace = trace
        self._outages = list(plan.outages)
        self._away: _Away | None = None
        self._calm_until_s = 0.0
        self._first_s: float | None = None
        self._failed: Counter[tuple[int, int]] = Counter()
        self._asked = 0
        self._in_flight: dict[asyncio.Future[None], None] = {}
        self._working = 0
        self._tokens = 0
        self._token_until_s: float | None = None
        self._refused: set[bytes | None] = set()
        self.resumed = 0
        self.most_in_flight = 0
        self.violations: list[str] = []

    # What happens by itself.

    def _look(self) -> None:
        """Let the time do what it brings."""
        now = _now()
        if self._first_s is None:
            self._first_s = now
        since = now - self._first_s
        if self._away is not None and now >= self._away.until_s:
            self._trace("the deployment is back")
            self._away = None
        if self._outages and since >= self._outages[0].start_s and now >= self._calm_until_s:
            outage = self._outages.pop(0)
            self._go(outage.length_s, outage.kind)

    def _go(self, length_s: float, kind: Away) -> None:
        self._trace(f"the deployment goes away for {length_s:g} s ({kind})")
        self._away = _Away(_now() + length_s, kind)
        self._calm_until_s = _now() + length_s + _CALM_S
        for request in self._in_flight:
            if not request.done():
                request.set_exception(ConnectionFailedError("connection reset by peer"))

    def has_changed(self, now_s: float) -> bool:
        """Whether the model is another one by now."""
        at = self._plan.changes_at_s
        return at is not None and self._first_s is not None and now_s >= self._first_s + at

    def token(self) -> str:
        """A token that is good now."""
        if self._token_until_s is not None and _now() >= self._token_until_s:
            self._tokens += 1
            self._token_until_s = None
        return f"token-{self._tokens}"

    def _accepts(self, request: Request, authorization: str | None) -> bool:
        """Whether the token is good; nobody is refused twice in a row, which ends a job."""
        is_good = authorization == f"Bearer {self.token()}"
        if is_good and self._token_until_s is None and self._plan.expires_every_s is not None:
            # Counted from the first use: a thread may be slow to bring it.
            self._token_until_s = _now() + self._plan.expires_every_s
        if is_good or request.body in self._refused:
            self._refused.discard(request.body)
            return True
        self._refused.add(request.body)
        return False

    # One request.

    async def send(
        self, request: Request, headers: Mapping[str, str], options: TransportOptions
    ) -> Response:
        """As ``Transport.send``."""
        rows = [int(row["x"]) for row in json.loads(request.body)["rows"]] if request.body else []
        key = (rows[0], len(rows)) if rows else _SPECIFICATION
        try:
            response = await self._in_time(request, headers, options, rows)
        except BaseException as error:
            self._failed[key] += 1
            self._trace(f"{_shown(rows)}: {error!r}")
            raise
        self._trace(f"{_shown(rows)}: {response.status} {response.body[:60]!r}")
        is_over = response.status < 500 and response.status not in {401, 408, 429}
        if is_over and _is_good(response, rows):
            self._failed[key] = 0
        elif response.status != 401:  # which spends no attempt
            self._failed[key] += 1
        return response

    async def _in_time(
        self,
        request: Request,
        headers: Mapping[str, str],
        options: TransportOptions,
        rows: list[int],
    ) -> Response:
        fate: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        self._in_flight[fate] = None
        try:
            async with asyncio.timeout(options.timeout_s):
                work = asyncio.ensure_future(self._answer(request, headers, rows))
                try:
                    await asyncio.wait({work, fate}, return_when=asyncio.FIRST_COMPLETED)
                    if fate.done():
                        fate.result()
                    return work.result()
                finally:
                    work.cancel()
                    await asyncio.wait({work})
        except TimeoutError:
            raise AttemptTimeoutError(f"no whole answer within {options.timeout_s:g} s") from None
        finally:
            del self._in_flight[fate]
            fate.cancel()

    async def _answer(
        self, request: Request, headers: Mapping[str, str], rows: list[int]
    ) -> Response:
        await asyncio.sleep(self._random.expovariate(1 / 0.002))
        self._look()
        if self._away is not None:
            return await self._answer_in_its_place(self._away)
        if not self._accepts(request, headers.get("Authorization")):
            return _error(401, "the token has expired")
        if not rows:
            return await self._described()
        if rows[0] < self.resumed:
            self.violations.append(f"row {rows[0]} was sent, though {self.resumed} were written")
        self._asked += 1
        self.most_in_flight = max(self.most_in_flight, self._asked)
        try:
            return await self._scored(rows)
        finally:
            self._asked -= 1

    async def _answer_in_its_place(self, away: _Away) -> Response:
        match away.kind:
            case "503":
                return _error(503, "no upstream")
            case "page":
                return Response(502, b"<html>Bad Gateway</html>", {"content-type": "text/html"})
            case "silent":
                await asyncio.Event().wait() if self._random.random() < 0.9 else None
        raise ConnectionFailedError("Connection refused")

    async def _described(self) -> Response:
        await asyncio.sleep(self._plan.latency_s)
        if self._random.random() < self._plan.fault_share and not self._failed[_SPECIFICATION]:
            return _error(500, "no specification now")
        return _json(_specification(self._plan, changed=self.has_changed(_now())))

    async def _scored(self, rows: list[int]) -> Response:
        plan, key = self._plan, (rows[0], len(rows))
        # One attempt is left at least: then everything goes well.
        must_do = self._failed[key] >= int(plan.options["max_attempts"]) - 1  # type: ignore[call-overload]
        if plan.max_rows is not None and len(rows) > plan.max_rows:
            return _error(413, "too many rows")
        fault = None
        if not must_do and self._random.random() < plan.fault_share:
            fault = self._random.choice(FAULTS)
        if fault == "reset":
            raise ConnectionFailedError("connection reset by peer")
        if plan.capacity is not None and self._working >= plan.capacity and not must_do:
            if plan.over_capacity == "refuse":
                wait = {"retry-after": "1"} if self._random.random() < 0.3 else {}
                return _error(429, "too many requests", wait)
            while self._working >= plan.capacity:
                await asyncio.sleep(plan.latency_s)
        self._working += 1
        try:
            latency = self._random.lognormvariate(0, 0.4) * plan.latency_s
            await asyncio.sleep(latency + plan.row_s * len(rows))
        finally:
            self._working -= 1
        poison = next((plan.poison[row] for row in rows if row in plan.poison), None)
        if poison is not None and (response := await self._poisoned(poison)) is not None:
            return response
        if fault is not None:
            return await self._failing(fault, rows)
        return self._right(rows)

    async def _poisoned(self, poison: Poison) -> Response | None:
        match poison:
            case "refused":
                return _error(self._random.choice([400, 422]), "a row is not acceptable")
            case "breaks":
                return _error(500, "internal error")
            case "nonsense":
                return Response(200, b"{}")
            case "kills":
                self._look()
                if self._away is None:
                    self._go(self._random.choice([0.1, 3.0, 20.0]), "refused")
                raise ConnectionFailedError("connection reset by peer")
            case "hangs":
                await asyncio.Event().wait()
        return None

    async def _failing(self, fault: str, rows: list[int]) -> Response:
        match fault:
            case "lost":
                raise ConnectionFailedError("the answer broke off")
            case "bomb":
                raise DecodeError("the answer is larger than 1000 bytes")
            case "hang":
                await asyncio.Event().wait()
            case "429 wait":
                return _error(429, "too many requests", {"retry-after": "2"})
            case _ if fault.isdigit():
                return _error(int(fault), "scripted fault")
        return Response(200, self._nonsense(fault, rows))

    def _nonsense(self, fault: str, rows: list[int]) -> bytes:
        match fault:
            case "too few":
                return self._right(rows[:-1]).body
            case "too many":
                return self._right([*rows, rows[-1]]).body
            case "half":
                return self._right(rows).body[:-3]
            case "error in 200":
                return _error(200, "scripted fault").body
        return b"<html>Please log in</html>"

    def _right(self, rows: list[int]) -> Response:
        changed = self.has_changed(_now())
        return _json({"rows": [answer_of(self._plan, row, changed=changed) for row in rows]})


FAULTS = (
    "reset", "lost", "too few", "too many", "page", "half", "bomb", "error in 200", "hang",
    "408", "429", "429 wait", "500", "502", "503", "504",
)  # fmt: skip


class SimulatedTransport:
    """One run's way to the deployment; see ``Transport``."""

    def __init__(self, deployment: SimulatedDeployment, options: TransportOptions) -> None:
        self._deployment = deployment
        self._options = options

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(self, *_: object) -> None:
        """Nothing is open."""

    async def send(self, request: Request, headers: Mapping[str, str]) -> Response:
        return await self._deployment.send(request, headers, self._options)


def _now() -> float:
    return asyncio.get_running_loop().time()


def _json(value: object) -> Response:
    return Response(200, json.dumps(value).encode(), {"content-type": "application/json"})


def _error(status: int, message: str, headers: Mapping[str, str] | None = None) -> Response:
    body = json.dumps({"errorCode": f"HTTP_{status}", "errorMessage": message}).encode()
    return Response(status, body, headers or {})


def _shown(rows: list[int]) -> str:
    return f"rows {rows[0]} to {rows[-1]}" if rows else "the specification"


def _is_good(response: Response, rows: list[int]) -> bool:
    if response.status != 200 or not rows:
        return True
    try:
        return len(json.loads(response.body)["rows"]) == len(rows)
    except (ValueError, KeyError, TypeError):
        return False


def _specification(plan: Plan, *, changed: bool) -> dict[str, Any]:
    outputs: dict[str, tuple[str, list[int]]] = {"z": ("numeric", [1])} if changed else {}
    if plan.model in {"number", "both"}:
        outputs["y"] = ("numeric", [1])
    if plan.model != "number":
        outputs["animal"] = ("categorical", [3])
    classes = {"animal": ANIMALS} if plan.model == "published category" else None
    return specification({"x": ("numeric", [1])}, outputs, classes=classes)
