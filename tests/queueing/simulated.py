"""The same queues without a network, and how sure a mean of dependent values is."""

from __future__ import annotations

import math
import random
import statistics
from typing import TYPE_CHECKING, NamedTuple

if TYPE_CHECKING:
    from collections.abc import Sequence

    from queueing.services import Service


def poisson(rate: float, count: int, seed: int) -> list[float]:
    """Arrival times of a Poisson process, in seconds."""
    rng = random.Random(seed)
    now, times = 0.0, []
    for _ in range(count):
        now += rng.expovariate(rate)
        times.append(now)
    return times


def constant(rate: float, count: int) -> list[float]:
    """Arrival times at equal distances, in seconds."""
    return [number / rate for number in range(1, count + 1)]


def waits_s(arrivals: Sequence[float], services: Sequence[float]) -> list[float]:
    """The waiting times: W(n+1) = max(0, W(n) + S(n) - (A(n+1) - A(n))).

    D. V. Lindley, The theory of queues with a single server (Proc. Cambridge Phil. Soc. 48, 1952).
    It holds for whatever arrivals and services: no assumption about their distributions is in it.
    """
    waits = [0.0]
    for n in range(len(arrivals) - 1):
        waits.append(max(0.0, waits[n] + services[n] - (arrivals[n + 1] - arrivals[n])))
    return waits


def responses_s(service: Service, arrivals: Sequence[float], seed: int) -> list[float]:
    """Waiting and service of each arrival, the services drawn as the server draws them."""
    rng = random.Random(seed)
    services = [service.draw(rng) for _ in arrivals]
    return [w + s for w, s in zip(waits_s(arrivals, services), services, strict=True)]


def closed_responses_s(service: Service, clients: int, count: int, seed: int) -> list[float]:
    """Responses of a closed loop without think time, first the c that begin together."""
    rng = random.Random(seed)
    sent = [0.0] * clients  # The queue is round: who leaves joins at its end.
    free, responses = 0.0, []
    for n in range(count):
        free = max(free, sent[n % clients]) + service.draw(rng)
        responses.append(free - sent[n % clients])
        sent[n % clients] = free
    return responses


def percentile(values: Sequence[float], share: float) -> float:
    """The smallest value that at least this share does not exceed (the nearest rank)."""
    return sorted(values)[max(0, math.ceil(share * len(values)) - 1)]


class Interval(NamedTuple):
    """A mean and the half width of its confidence interval."""

    mean: float
    half: float

    def holds(self, value: float) -> bool:
        """Whether the value lies inside."""
        return abs(value - self.mean) <= self.half


# Student's t for 99.9 % on both sides and 19 degrees of freedom (tables; scipy.stats.t.ppf).
BATCHES = 20
_T_999 = 3.883


def batch_means(values: Sequence[float]) -> Interval:
    """The mean of values that depend on their neighbours, with 99.9 % confidence.

    The method of batch means: the means of 20 long stretches are nearly independent and nearly
    normal where the values themselves are neither (A. Law, Simulation Modeling and Analysis,
    section 9.5.3). A rest that fills no batch is left out.
    """
    size = len(values) // BATCHES
    if size < 2:
        raise ValueError(f"{len(values)} values are too few for {BATCHES} batches")
    means = [statistics.fmean(values[n * size : (n + 1) * size]) for n in range(BATCHES)]
    half = _T_999 * statistics.stdev(means) / math.sqrt(BATCHES)
    return Interval(statistics.fmean(means), half)
