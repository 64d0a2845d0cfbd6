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


# As --max-attempts has it. Here requests are tried on, so that what is asked for stays the same.
MAX_ATTEMPTS = 5


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

    def possible(self, now: float) -> float:
        """Answers a second of a server that is just busy."""
        service_s = self.service_s * self.slower(now) * math.exp(self.sigma**2 / 2)
        return self.capacity(now) / service_s


@dataclass
class Run:
    """What came of a simulated run.

    Attributes:
        limits: the limit at the end of each hundredth of the run.
        answered, sent, refused: requests, after the warm-up.
        retries, resent: refused requests that wait for another try, and tries after the first.
        given_up: requests that were refused as often as a request is tried.
        possible: answers that a client would get which keeps the server just busy.
        latency_s: the mean latency of the answers after the warm-up, waiting included.
    """

    limits: list[float] = field(default_factory=list)
    answered: int = 0
    sent: int = 0
    refused: int = 0
    given_up: int = 0
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


class Time:
    """Simulated time: what happens when, and chance."""

    def __init__(self, seed: int) -> None:
        self.random = random.Random(seed)
        self.now = 0.0
        self._events: list[tuple[float, int, Callable[[], None]]] = []
        self._order = itertools.count()

    def at(self, time: float, act: Callable[[], None]) -> None:
        """Let something happen then."""
        heapq.heappush(self._events, (time, next(self._order), act))

    def after(self, seconds: float, act: Callable[[], None]) -> None:
        """Let something happen later."""
        self.at(self.now + seconds, act)

    def run(self, seconds: float) -> None:
        """Let all happen until then."""
        while self._events and self._events[0][0] <= seconds:
            self.now, _, act = heapq.heappop(self._events)
            act()


class Deployment:
    """The server at work.

    Attributes:
        queue: who waits.
    """

    def __init__(self, server: Server, time: Time) -> None:
        self._server, self.time = server, time
        self._working = 0
        self.queue: deque[Callable[[], None]] = deque()

    def ask(self, answered: Callable[[], None], refused: Callable[[], None]) -> None:
        """A request arrives; one of the two is called when its answer leaves."""
        server = self._server
        is_full = self._working >= server.capacity(self.time.now)
        if self.time.random.random() < server.refuses or (
            is_full and len(self.queue) >= server.queues
        ):
            refused()
        elif is_full:
            self.queue.append(lambda: self._work(answered))
        else:
            self._work(answered)

    def _work(self, answered: Callable[[], None]) -> None:
        self._working += 1
        seconds = self._server.service_s * self._server.slower(self.time.now)
        seconds *= math.exp(self.time.random.gauss(0, self._server.sigma))
        self.time.after(seconds, lambda: self._worked(answered))

    def _worked(self, answered: Callable[[], None]) -> None:
        self._working -= 1
        while self.queue and self._working < self._server.capacity(self.time.now):
            self.queue.popleft()()
        answered()


class Worker:
    """One client with an endless input.

    Args:
        network_s: round trip to the server.
        parts: among how many the budget of retries is divided.
        window: how many requests it may have at once, those included that wait for another try.
        request_s: what it takes to make one: no more than one in that time is sent.
        counts_from_s: when to begin to count.

    Attributes:
        result: what came of it.
        in_flight: requests under way.
        on_answer: told of each answer.
    """

    def __init__(
        self,
        time: Time,
        deployment: Deployment,
        *,
        limit: AdaptiveLimit,
        network_s: float,
        parts: int = 1,
        window: float = math.inf,
        request_s: float = 0.0,
        counts_from_s: float = 0.0,
    ) -> None:
        self.limit = limit
        self.result = Run()
        self.on_answer: Callable[[], None] = lambda: None
        self.time, self._deployment = time, deployment
        self._network_s, self._window, self._request_s = network_s, window, request_s
        self._counts_from_s = counts_from_s
        self._budget = RetryBudget(parts)
        self.in_flight = self._backing_off = 0
        self._ready_at = 0.0
        self._is_working = False
        self._to_retry: deque[int] = deque()

    def join(self) -> None:
        """Begin."""
        self._is_working = True
        self.send_all()

    def leave(self) -> None:
        """Send nothing more."""
        self._is_working = False

    @property
    def _counts(self) -> bool:
        return self.time.now >= self._counts_from_s

    def send_all(self) -> None:
        """Send what may be sent now."""
        while self._is_working and self.in_flight < self.limit.limit:
            if self.time.now < self._ready_at:
                return
            if self._to_retry:
                self.result.resent += 1
                self._send(self._to_retry.popleft())
            elif self.in_flight + self._backing_off < self._window:
                self._budget.on_request()
                self._send(1)
            else:
                return
            if self._request_s:
                self._ready_at = self.time.now + self._request_s
                self.time.at(self._ready_at, self.send_all)

    def _send(self, attempt: int) -> None:
        self.in_flight += 1
        request = _Request(self.limit.on_start(), attempt, self.time.now)
        self.result.sent += self._counts
        back_s = self._network_s / 2
        self.time.after(
            self._network_s / 2,
            lambda: self._deployment.ask(
                lambda: self.time.after(back_s, lambda: self._answered(request)),
                lambda: self.time.after(back_s, lambda: self._refused(request)),
            ),
        )

    def over(self, request: _Request, result: Result) -> None:
        """A request is answered or refused."""
        self.in_flight -= 1
        latency_s = self.time.now - request.sent_at
        self.limit.on_outcome(Outcome(request.ticket, result, latency_s, rows=1000))

    def _answered(self, request: _Request) -> None:
        self.result.answered += self._counts
        self.result.total_s += (self.time.now - request.sent_at) * self._counts
        self.on_answer()
        self.over(request, Result.OK)
        self.send_all()

    def _refused(self, request: _Request) -> None:
        self.result.refused += self._counts
        self.over(request, Result.OVERLOADED)
        self.result.given_up += request.attempt == MAX_ATTEMPTS
        backoff_s = self.time.random.uniform(0, min(30, 0.25 * 2 ** (request.attempt - 1)))
        wait_s = max(backoff_s, self._budget.reserve(self.time.now))
        self.result.retries += 1
        self._backing_off += 1
        self.time.after(wait_s, lambda: self._try_again(request.attempt + 1))
        self.send_all()

    def _try_again(self, attempt: int) -> None:
        self._backing_off -= 1
        self._to_retry.append(attempt)
        self.send_all()


class Simulation:
    """One client at one server."""

    def __init__(self, server: Server, *, seconds: float, warm_up_s: float = 0.0, seed: int = 1):
        self._server = server
        self._seconds, self._warm_up_s = seconds, warm_up_s
        self.time = Time(seed)
        self._worker = Worker(
            self.time,
            Deployment(server, self.time),
            limit=AdaptiveLimit(),
            network_s=server.network_s,
            counts_from_s=warm_up_s,
        )

    def run(self) -> Run:
        """Simulate the whole time."""
        for part in range(1, 101):
            self.time.at(self._seconds * part / 100, self._note)
        self._worker.join()
        self.time.run(self._seconds)
        return self._worker.result

    def _note(self) -> None:
        result = self._worker.result
        result.limits.append(self._worker.limit.settled_limit)
        if self.time.now >= self._warm_up_s:
            result.possible += self._server.possible(self.time.now) * self._seconds / 100


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
