"""Show what ``--concurrency auto`` settles at, on simulated servers and under simulated time.

    python scripts/simulate_overload.py

prints the table of docs/overload.md, which `make docs` writes there. The controllers are those of
earnest runs; the time, the server and the network are simulated, so an hour takes a second and each
run gives equal figures.
"""

from __future__ import annotations

import heapq
import itertools
import math
import random
from collections import deque
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from batchscore.client.controller import AdaptiveLimit, Outcome, Result, RetryBudget

if TYPE_CHECKING:
    from collections.abc import Callable


@dataclass(frozen=True)
class Server:
    """A server that works on some requests at a time, and queues or refuses what is above.

    Attributes:
        capacity: requests worked on at a time, as a function of the time.
        queues: how many requests wait; above that they are refused. 0: no queue at all.
        service_s: mean time of a request that does not wait.
        sigma: how much that varies: standard deviation of its logarithm.
        refuses: share of the requests that is refused for no reason.
        network_s: round trip, also of a refusal.
        slower: a factor on the service time, as a function of the time.
    """

    capacity: Callable[[float], int]
    queues: float = math.inf
    service_s: float = 0.05
    sigma: float = 0.0
    refuses: float = 0.0
    network_s: float = 0.001
    slower: Callable[[float], float] = lambda _now: 1.0


@dataclass
class Run:
    """What came of a simulated run.

    Attributes:
        limits: the limit at the end of each hundredth of the run.
        answered, sent, refused: requests, after the warm-up.
        retries, resent: refused requests that wait for another try, and tries after the first.
        possible: answers that a client would get which keeps the server just busy.
        latency_s: the mean latency of the answers after the warm-up, waiting included.
    """

    limits: list[float] = field(default_factory=list)
    answered: int = 0
    sent: int = 0
    refused: int = 0
    retries: int = 0
    resent: int = 0
    possible: float = 0.0
    total_s: float = 0.0

    @property
    def use(self) -> float:
        """The share of the server's capacity that was used."""
        return self.answered / self.possible

    @property
    def refusals(self) -> float:
        """The share of the requests that was refused."""
        return self.refused / max(self.sent, 1)

    @property
    def latency_s(self) -> float:
        """Mean latency of the answers."""
        return self.total_s / max(self.answered, 1)


@dataclass(frozen=True)
class _Request:
    ticket: int
    attempt: int
    sent_at: float


class Simulation:
    """One client with an endless input at one server."""

    def __init__(self, server: Server, *, seconds: float, warm_up_s: float = 0.0, seed: int = 1):
        self._server = server
        self._seconds, self._warm_up_s = seconds, warm_up_s
        self._random = random.Random(seed)
        self._limit = AdaptiveLimit()
        self._budget = RetryBudget()
        self._events: list[tuple[float, int, Callable[[], None]]] = []
        self._order = itertools.count()
        self._now = 0.0
        self._in_flight = self._working = 0
        self._queue: deque[Callable[[], None]] = deque()
        self._to_retry: deque[int] = deque()
        self.result = Run()

    def run(self) -> Run:
        """Simulate the whole time."""
        for part in range(1, 101):
            self._at(self._seconds * part / 100, self._note)
        self._send_all()
        while self._events:
            self._now, _, act = heapq.heappop(self._events)
            if self._now > self._seconds:
                break
            act()
            self._send_all()
        return self.result

    def _at(self, time: float, act: Callable[[], None]) -> None:
        heapq.heappush(self._events, (time, next(self._order), act))

    @property
    def _counts(self) -> bool:
        return self._now >= self._warm_up_s

    def _note(self) -> None:
        self.result.limits.append(self._limit.settled_limit)
        if self._counts:
            service_s = self._server.service_s * self._server.slower(self._now)
            service_s *= math.exp(self._server.sigma**2 / 2)
            slots = self._server.capacity(self._now)
            self.result.possible += slots * (self._seconds / 100) / service_s

    def _send_all(self) -> None:
        while self._in_flight < self._limit.limit:
            if self._to_retry:
                self.result.resent += 1
                self._send(self._to_retry.popleft())
            else:
                self._budget.on_request()
                self._send(1)

    def _send(self, attempt: int) -> None:
        self._in_flight += 1
        request = _Request(self._limit.on_start(), attempt, self._now)
        self.result.sent += self._counts
        self._at(self._now + self._server.network_s / 2, lambda: self._arrive(request))

    def _arrive(self, request: _Request) -> None:
        server = self._server
        is_full = self._working >= server.capacity(self._now)
        if self._random.random() < server.refuses or (
            is_full and len(self._queue) >= server.queues
        ):
            self._at(self._now + server.network_s / 2, lambda: self._refused(request))
        elif is_full:
            self._queue.append(lambda: self._work(request))
        else:
            self._work(request)

    def _work(self, request: _Request) -> None:
        self._working += 1
        seconds = self._server.service_s * self._server.slower(self._now)
        seconds *= math.exp(self._random.gauss(0, self._server.sigma))
        self._at(self._now + seconds, lambda: self._worked(request))

    def _worked(self, request: _Request) -> None:
        self._working -= 1
        while self._queue and self._working < self._server.capacity(self._now):
            self._queue.popleft()()
        self._at(self._now + self._server.network_s / 2, lambda: self._answered(request))

    def _over(self, request: _Request, result: Result) -> None:
        self._in_flight -= 1
        latency_s = self._now - request.sent_at
        self._limit.on_outcome(Outcome(request.ticket, result, latency_s, rows=1000))

    def _answered(self, request: _Request) -> None:
        self.result.answered += self._counts
        self.result.total_s += (self._now - request.sent_at) * self._counts
        self._over(request, Result.OK)

    def _refused(self, request: _Request) -> None:
        self.result.refused += self._counts
        self._over(request, Result.OVERLOADED)
        backoff_s = self._random.uniform(0, min(30, 0.25 * 2 ** (request.attempt - 1)))
        wait_s = max(backoff_s, self._budget.reserve(self._now))
        self.result.retries += 1
        self._at(self._now + wait_s, lambda: self._to_retry.append(request.attempt + 1))


def always(capacity: int) -> Callable[[float], int]:
    """A capacity that does not change."""
    return lambda _now: capacity


def step(before: int, after: int, at_s: float) -> Callable[[float], int]:
    """A capacity that changes once."""
    return lambda now: before if now < at_s else after


CASES: dict[str, Server] = {
    **{f"refuses above {c}": Server(always(c), queues=0) for c in (1, 4, 64)},
    **{f"queues above {c}": Server(always(c)) for c in (1, 4, 64)},
    "queues above 64, then 32": Server(step(64, 32, 60)),
    "queues above 32, then 64": Server(step(32, 64, 60)),
    "refuses above 64, then 32": Server(step(64, 32, 60), queues=0),
    "refuses above 32, then 64": Server(step(32, 64, 60), queues=0),
    "queues above 4, noisy": Server(always(4), sigma=0.5),
    "queues above 64, noisy": Server(always(64), sigma=0.5),
    "refuses above 64, noisy": Server(always(64), queues=0, sigma=0.5),
    "queues above 16, 5 % random 503": Server(always(16), refuses=0.05),
    "queues above 64, 5 % random 503": Server(always(64), refuses=0.05),
    "queues above 64, becomes 3 times slower": Server(
        always(64), slower=lambda now: 1.0 if now < 60 else 3.0
    ),
}
SECONDS, WARM_UP_S = 120.0, 60.0


def table() -> str:
    """The figures of all cases."""
    lines = [
        "| server | limit (median) | capacity used | refused | latency / service time |",
        "|---|---|---|---|---|",
    ]
    for name, server in CASES.items():
        run = Simulation(server, seconds=SECONDS, warm_up_s=WARM_UP_S).run()
        limits = sorted(run.limits[50:])
        service_s = server.service_s * server.slower(SECONDS) * math.exp(server.sigma**2 / 2)
        lines.append(
            f"| {name} | {limits[len(limits) // 2]:.0f} | {100 * run.use:.0f} % "
            f"| {100 * run.refusals:.1f} % | {run.latency_s / service_s:.2f} |"
        )
    return "\n".join(lines)


if __name__ == "__main__":
    print(table())
