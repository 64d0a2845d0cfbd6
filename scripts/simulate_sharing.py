"""Show how the workers of a cluster share a deployment without talking to each other.

    python scripts/simulate_sharing.py

prints the second table of docs/overload.md, which `make docs` writes there. Each worker has a
limiter, a window and a budget of retries of its own, as in earnest; see ``simulate_overload`` for
what is simulated.
"""

from __future__ import annotations

import functools
import math
import random
from collections import defaultdict
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from simulate_overload import Deployment, Server, Time, Worker, always

from batchscore.client.controller import AdaptiveLimit, Result
from batchscore.client.sharing import SharedLimit

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable

# The second at which a simulation begins; a beat comes every eight, so not at once.
EPOCH = 1_000_003.0


@dataclass(frozen=True)
class Part:
    """What is particular to one worker.

    Attributes:
        joins_s, leaves_s: when it begins and ends.
        network_s: its round trip to the server.
        request_s: what it takes to make a request.
        skew_s: by how much its clock is fast.
    """

    joins_s: float = 0.0
    leaves_s: float = math.inf
    network_s: float = 0.001
    request_s: float = 0.0
    skew_s: float = 0.0


class SharingWorker(Worker):
    """A worker whose limiter is told the time, as ``SharedLimiter`` does it."""

    def __init__(self, *arguments: object, shared: SharedLimit, skew_s: float, **options: object):
        super().__init__(*arguments, limit=shared, **options)  # type: ignore[arg-type]
        self._shared, self._skew_s = shared, skew_s
        self._rests_until_s = 0.0

    def _tell_time(self) -> None:
        self._shared.on_time(EPOCH + self.time.now + self._skew_s)
        self._rest()

    def _rest(self) -> None:
        if self._shared.rest_s:
            self._rests_until_s = max(self._rests_until_s, self.time.now + self._shared.rest_s)
            self.time.at(self._rests_until_s, self.send_all)

    def send_all(self) -> None:
        """Send what may be sent now."""
        if self.time.now >= self._rests_until_s:
            self._tell_time()
            super().send_all()

    def over(self, request: object, result: Result) -> None:
        """A request is answered or refused."""
        self._tell_time()
        super().over(request, result)  # type: ignore[arg-type]
        self._rest()
        if self._shared.resting_s is not None:
            self.time.after(self._shared.resting_s + 1e-6, self.send_all)


def jain(shares: Iterable[float]) -> float:
    """Jain's index of fairness: 1 where all are equal, 1/n where one has everything."""
    values = list(shares)
    squares = sum(x * x for x in values)
    return sum(values) ** 2 / (len(values) * squares) if squares else 1.0


@dataclass
class Cluster:
    """Workers at one server.

    Attributes:
        server: what they share.
        parts: the workers.
        seconds: how long it takes.
        max_limit: of each worker.
        alone: each has the limiter of one that is alone, and none knows of others.
        answered: the answers of each worker in each second.
        queue: requests that waited, each tenth of a second.
    """

    server: Server
    parts: list[Part]
    seconds: int
    max_limit: int = 16
    alone: bool = False
    seed: int = 1
    workers: list[Worker] = field(default_factory=list)
    answered: list[defaultdict[int, int]] = field(default_factory=list)
    queue: list[int] = field(default_factory=list)

    def run(self) -> Cluster:
        """Simulate the whole time."""
        time = Time(self.seed)
        deployment = Deployment(self.server, time)
        for number, part in enumerate(self.parts):
            worker = self._worker(number, part, time, deployment)
            worker.on_answer = self._counter(time)
            self.workers.append(worker)
            time.at(part.joins_s + time.random.uniform(0, 0.5), worker.join)
            if part.leaves_s < math.inf:
                time.at(part.leaves_s, worker.leave)
        for tick in range(1, 10 * self.seconds + 1):
            time.at(tick / 10, lambda: self.queue.append(len(deployment.queue)))
        time.run(self.seconds)
        return self

    def _worker(self, number: int, part: Part, time: Time, deployment: Deployment) -> Worker:
        options = {
            "network_s": part.network_s,
            "parts": len(self.parts),
            "window": max(32, 4 * self.max_limit),
            "request_s": part.request_s,
        }
        if self.alone:
            return Worker(time, deployment, limit=AdaptiveLimit(self.max_limit), **options)
        shared = SharedLimit(self.max_limit, random=random.Random(number))
        return SharingWorker(time, deployment, shared=shared, skew_s=part.skew_s, **options)

    def _counter(self, time: Time) -> Callable[[], None]:
        counts: defaultdict[int, int] = defaultdict(int)
        self.answered.append(counts)

        def count() -> None:
            counts[int(time.now)] += 1

        return count

    def shares(self, begin: int, end: int) -> list[float]:
        """Answers a second, in the seconds from begin to end, of each worker that was there."""
        return [self.share(n, begin, end) for n in self.whole(begin, end)]

    def share(self, number: int, begin: int, end: int) -> float:
        """Answers a second of one worker in the seconds from begin to end."""
        return sum(self.answered[number][second] for second in range(begin, end)) / (end - begin)

    def whole(self, begin: int, end: int) -> list[int]:
        """The workers that were there in these seconds, and as fast as the fastest."""
        return [
            number
            for number, part in enumerate(self.parts)
            if part.joins_s <= begin and part.leaves_s >= end and not part.request_s
        ]

    def use(self, begin: int, end: int) -> float:
        """The share of the server's capacity that was used."""
        answered = sum(self.share(n, begin, end) for n in range(len(self.parts)))
        return answered * (end - begin) / sum(map(self.server.possible, range(begin, end)))

    def mean_queue(self, begin: int, end: int) -> float:
        """Requests that waited at the server."""
        queue = self.queue[10 * begin : 10 * end]
        return sum(queue) / len(queue)

    @property
    def refusals(self) -> float:
        """The share of the requests that was refused."""
        return sum(w.result.refused for w in self.workers) / sum(
            w.result.sent for w in self.workers
        )

    def seconds_to_share(self, number: int) -> int | None:
        """After how long a worker that joined has its share, within 20 %, for five seconds."""
        joined = math.ceil(self.parts[number].joins_s)
        for begin in range(joined, self.seconds - 5):
            others = self.shares(begin, begin + 5)
            fair = sum(others) / len(others)
            if abs(self.share(number, begin, begin + 5) - fair) <= 0.2 * fair:
                return begin - joined
        return None


def same(count: int, **options: float) -> list[Part]:
    """So many workers that are alike."""
    return [Part(**options) for _ in range(count)]


QUEUES, REFUSES = Server(always(256)), Server(always(256), queues=0, sigma=0.1)
SMALL, SMALL_REFUSES = Server(always(16)), Server(always(16), queues=0, sigma=0.1)
FEW, FEW_REFUSE = Server(always(64)), Server(always(64), queues=0, sigma=0.1)
NOISY, BOTH = Server(always(64), sigma=0.5), Server(always(64), queues=16)
SECONDS, SETTLED_S = 40, 24
CASES: dict[str, tuple[Server, list[Part], int]] = {
    "64, queues above 256": (QUEUES, same(64), 16),
    "64, refuses above 256": (REFUSES, same(64), 16),
    "64, queues above 16": (SMALL, same(64), 16),
    "64, refuses above 16": (SMALL_REFUSES, same(64), 16),
    "16, queues above 64, noisy": (NOISY, same(16), 16),
    "16, queues above 64, refuses above 80": (BOTH, same(16), 16),
    "16, queues above 64, one joins at 12 s": (FEW, [Part(joins_s=12), *same(15)], 16),
    "16, refuses above 64, one joins at 12 s": (FEW_REFUSE, [Part(joins_s=12), *same(15)], 16),
    "16, queues above 64, half leave at 12 s": (FEW, [*same(8, leaves_s=12), *same(8)], 16),
    "16, queues above 64, half are 20 ms away": (FEW, [*same(8, network_s=0.02), *same(8)], 16),
    "16, queues above 64, 4 are slow": (FEW, [*same(4, request_s=0.05), *same(12)], 16),
    "16, queues above 64, clocks differ": (
        FEW,
        [Part(skew_s=0.05 * number / 15) for number in range(16)],
        16,
    ),
    "2, queues above 64": (FEW, same(2), 128),
    "2, refuses above 64": (FEW_REFUSE, same(2), 128),
}


@functools.cache
def use_of_one(server: Server) -> float:
    """The share of the capacity that one worker uses who has the server for himself."""
    one = Cluster(server, same(1), SETTLED_S, max_limit=1024, alone=True)
    return one.run().use(SETTLED_S // 2, SETTLED_S)


def table() -> str:
    """The figures of all cases."""
    head = (
        "workers, server", "fairness to 8 s", "from 24 s", "least to most", "used; by one",
        "queue", "refused", "has its share after",
    )  # fmt: skip
    lines = [f"| {' | '.join(head)} |", "|---" * len(head) + "|"]
    for name, (server, parts, max_limit) in CASES.items():
        run = Cluster(server, parts, SECONDS, max_limit).run()
        shares = run.shares(SETTLED_S, SECONDS)
        mean = sum(shares) / len(shares)
        joined = run.seconds_to_share(0) if parts[0].joins_s else None
        lines.append(
            f"| {name} | {jain(run.shares(1, 8)):.3f} | {jain(shares):.3f} "
            f"| {min(shares) / mean:.2f} to {max(shares) / mean:.2f} "
            f"| {100 * run.use(SETTLED_S, SECONDS):.0f} %; {100 * use_of_one(server):.0f} % "
            f"| {run.mean_queue(SETTLED_S, SECONDS):.0f} | {100 * run.refusals:.1f} % "
            f"| {'' if joined is None else f'{joined} s'} |"
        )
    return "\n".join(lines)


if __name__ == "__main__":
    print(table())
