"""What queueing theory says of one worker that serves in order of arrival.

``rate`` is lambda, arrivals a second; the service is S, rho = lambda E[S] < 1. *Waiting* W ends
where the service starts, *response* R = W + S where it ends. Percentiles are given as shares, 0.99.

Sources: L. Kleinrock, Queueing Systems I (Wiley, 1975); D. Gross et al., Fundamentals of Queueing
Theory (4th ed., Wiley, 2008); M. Harchol-Balter, Performance Modeling and Design of Computer
Systems (Cambridge, 2013).
"""

from __future__ import annotations

import math
from typing import TYPE_CHECKING

from queueing.services import Bimodal, Exponential, Fixed

if TYPE_CHECKING:
    from collections.abc import Callable

    from queueing.services import Service


def utilisation(service: Service, rate: float) -> float:
    """The share of time that the worker is busy, rho = lambda E[S].

    Raises:
        ValueError: the queue grows without bound.
    """
    rho = rate * service.mean_s
    if rho >= 1:
        raise ValueError(f"{rate:g} requests a second keep the worker busy {rho:.0%} of the time")
    return rho


def mean_wait_s(service: Service, rate: float) -> float:
    """M/G/1: E[W] = lambda E[S²] / (2 (1 - rho)).

    The formula of Pollaczek (1930) and Khinchine (1932); Kleinrock section 5.6, Harchol-Balter
    section 23.5. With a fixed service it is M/D/1's rho E[S] / (2 (1 - rho)), with an exponential
    one M/M/1's rho E[S] / (1 - rho).
    """
    return rate * service.second_moment_s2 / (2 * (1 - utilisation(service, rate)))


def mean_response_s(service: Service, rate: float) -> float:
    """M/G/1: E[R] = E[W] + E[S]."""
    return mean_wait_s(service, rate) + service.mean_s


def mm1_response_s(service: Exponential, rate: float, share: float) -> float:
    """M/M/1: the response is exponential with mu - lambda, so -ln(1 - p) / (mu - lambda).

    Kleinrock section 5.6 and exercise 5.9's S*(s); Gross section 2.2.4; Harchol-Balter 13.
    """
    utilisation(service, rate)
    return -math.log(1 - share) / (1 / service.mean_s - rate)


def md1_waits_at_most(service: Fixed, rate: float, wait_s: float) -> float:
    """M/D/1: P(W <= t) = (1 - rho) sum of (-u)^k e^u / k!, u = lambda (t - kD), k = 0..floor(t/D).

    A. K. Erlang, The Theory of Probabilities and Telephone Conversations (1909), and C. D.
    Crommelin, Delay Probability Formulae (P.O. Electr. Eng. J. 26, 1933), for one worker. The signs
    alternate: the terms reach e^(lambda t), so that the digits suffice for lambda t below 20.
    """
    rho = utilisation(service, rate)
    if wait_s < 0:
        return 0.0
    terms = []
    for k in range(math.floor(wait_s / service.seconds) + 1):
        u = rate * (wait_s - k * service.seconds)
        terms.append((-u) ** k * math.exp(u) / math.factorial(k))
    return (1 - rho) * math.fsum(terms)


def md1_response_s(service: Fixed, rate: float, share: float) -> float:
    """M/D/1: the percentile of W + D, by bisection of ``md1_waits_at_most``."""
    if share <= 1 - utilisation(service, rate):
        return service.seconds  # So many find the worker idle.
    wait_s = _inverse(lambda t: md1_waits_at_most(service, rate, t), share, 20 / rate)
    return wait_s + service.seconds


def dm1_response_s(service: Exponential, rate: float, share: float) -> float:
    """D/M/1, arrivals at a constant rate: R is exponential with mu (1 - sigma).

    sigma, the share that has to wait, is the root below 1 of
    sigma = A*(mu (1 - sigma)) = exp(-mu (1 - sigma) / lambda): Kleinrock sections 6.3 and 6.4
    (G/M/1), Gross section 5.3.
    """
    utilisation(service, rate)
    mu = 1 / service.mean_s
    sigma = 0.0
    for _ in range(10_000):  # A contraction below 1, slow only where rho is close to 1.
        sigma = math.exp(-mu * (1 - sigma) / rate)
    return -math.log(1 - share) / (mu * (1 - sigma))


# A closed loop: each of c clients sends again as soon as it has its answer.


def closed_requests_per_s(service: Service, clients: int, think_s: float = 0.0) -> float:
    """The most that c clients get from one worker: min(1 / E[S], c / (E[S] + Z)).

    The asymptotic bounds of operational analysis: P. Denning and J. Buzen, The Operational Analysis
    of Queueing Network Models (ACM Computing Surveys 10, 1978); Harchol-Balter section 7.2. Exact
    where Z, the client's own time between answer and request, is small beside (c - 1) E[S].
    """
    return min(1 / service.mean_s, clients / (service.mean_s + think_s))


def closed_response_s(service: Service, clients: int, share: float) -> float:
    """The percentile of the sum of c services.

    Without think time a request always finds the c - 1 others before it, of which the first is
    about to begin: it leaves after c whole services. (Little's law gives the mean, c E[S].) With a
    think time Z, which is then spent while the worker serves others, it is less by Z.
    """
    match service:
        case Fixed(seconds):
            return clients * seconds
        case Exponential(mean_s):
            return _inverse(lambda t: _erlang(clients, t / mean_s), share, 50 * clients * mean_s)
        case Bimodal(short_s, long_s, long_share):
            reached = 0.0
            for long in range(clients + 1):
                chance = math.comb(clients, long)
                reached += chance * long_share**long * (1 - long_share) ** (clients - long)
                if reached >= share:
                    break
            return (clients - long) * short_s + long * long_s
    raise TypeError(f"no formula for {service}")


def _erlang(count: int, x: float) -> float:
    """P(the sum of so many exponential variables of mean 1 <= x): 1 - sum e^-x x^k / k!."""
    return 1 - math.fsum(math.exp(-x) * x**k / math.factorial(k) for k in range(count))


def _inverse(grows: Callable[[float], float], value: float, high: float) -> float:
    """Where a function that grows from 0 on reaches a value, below ``high``."""
    if grows(high) < value:
        raise ValueError(f"{value} is not reached at {high}")
    low = 0.0
    for _ in range(100):
        middle = (low + high) / 2
        low, high = (low, middle) if grows(middle) >= value else (middle, high)
    return high
