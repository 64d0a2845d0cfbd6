"""The formulas, against the same queues simulated without a network."""

import math
import statistics

import pytest

from queueing import Bimodal, Exponential, Fixed, theory
from queueing.simulated import (
    Interval,
    batch_means,
    closed_responses_s,
    constant,
    percentile,
    poisson,
    responses_s,
    waits_s,
)

FIXED, EXPONENTIAL = Fixed(0.005), Exponential(0.005)
BIMODAL = Bimodal(short_s=0.002, long_s=0.032, long_share=0.1)
SERVICES = [FIXED, EXPONENTIAL, BIMODAL]
COUNT = 200_000
SHARES = (0.5, 0.9, 0.99)


def share_below(values, bound):
    """The share of values that do not exceed the bound, one value a request."""
    return [float(value <= bound) for value in values]


@pytest.mark.parametrize("service", SERVICES, ids=str)
@pytest.mark.parametrize("rho", [0.3, 0.7])
def test_the_mean_response_is_that_of_pollaczek_and_khinchine(service, rho):
    """M/G/1's mean lies in the interval of a long simulation, for each kind of service."""
    rate = rho / service.mean_s
    simulated = batch_means(responses_s(service, poisson(rate, COUNT, seed=1), seed=2))
    assert simulated.holds(theory.mean_response_s(service, rate))
    assert simulated.half < 0.1 * simulated.mean


def test_the_formula_of_both_is_the_textbooks_for_either():
    """With a fixed and an exponential service M/G/1 becomes M/D/1 and M/M/1."""
    assert theory.mean_wait_s(Fixed(0.005), 100) == pytest.approx(0.5 * 0.005 / (2 * 0.5))
    assert theory.mean_wait_s(Exponential(0.005), 100) == pytest.approx(0.5 * 0.005 / 0.5)


@pytest.mark.parametrize("share", SHARES)
@pytest.mark.parametrize(
    ("service", "formula"),
    [(EXPONENTIAL, theory.mm1_response_s), (FIXED, theory.md1_response_s)],
    ids=["M/M/1", "M/D/1"],
)
@pytest.mark.parametrize("rho", [0.3, 0.7])
def test_a_percentile_under_poisson_arrivals_leaves_its_share_below(service, formula, share, rho):
    """Of a long simulation, p of the responses lie below the p-th percentile of the formula."""
    rate = rho / service.mean_s
    found = formula(service, rate, share)
    simulated = responses_s(service, poisson(rate, COUNT, seed=3), seed=4)
    if service is FIXED:  # A sum of floats may exceed the smallest response by its rounding.
        found += 1e-12
    below = batch_means(share_below(simulated, found))
    if found - service.mean_s < 1e-9 and service is FIXED:
        assert below.mean >= share - below.half  # More than the share find the worker idle.
    else:
        assert below.holds(share)


@pytest.mark.parametrize("share", SHARES)
def test_a_percentile_under_a_constant_rate_leaves_its_share_below(share):
    """D/M/1: of a long simulation, p of the responses lie below the formula's percentile."""
    simulated = responses_s(EXPONENTIAL, constant(140, COUNT), seed=5)
    found = theory.dm1_response_s(EXPONENTIAL, 140, share)
    assert batch_means(share_below(simulated, found)).holds(share)


def test_a_constant_rate_waits_less_than_a_random_one():
    """D/M/1 lies below M/M/1 at the same rate: arrivals that never bunch queue less."""
    for share in SHARES:
        constantly = theory.dm1_response_s(EXPONENTIAL, 140, share)
        assert constantly < theory.mm1_response_s(EXPONENTIAL, 140, share)


def test_erlangs_series_gives_known_probabilities():
    """P(W = 0) is 1 - rho, and P(W <= D) is (1 - rho) (e^rho - 0) as Crommelin has it."""
    assert theory.md1_waits_at_most(FIXED, 100, 0) == pytest.approx(0.5)
    just_below = math.nextafter(0.005, 0)
    assert theory.md1_waits_at_most(FIXED, 100, just_below) == pytest.approx(0.5 * math.exp(0.5))
    assert theory.md1_waits_at_most(FIXED, 100, 0.1) == pytest.approx(1)
    assert theory.md1_waits_at_most(FIXED, 100, -1) == 0


@pytest.mark.parametrize("share", SHARES)
@pytest.mark.parametrize("clients", [1, 4])
@pytest.mark.parametrize("service", SERVICES, ids=str)
def test_a_closed_loop_answers_after_one_service_for_each_client(service, clients, share):
    """The percentiles of a long simulation are those of the sum of c services."""
    simulated = closed_responses_s(service, clients, COUNT, seed=6)
    found = theory.closed_response_s(service, clients, share) + 1e-12
    below = batch_means(share_below(simulated, found))
    if service is EXPONENTIAL:
        assert below.holds(share)
    else:  # Few values, each with a chance of its own: the percentile is one of them.
        assert percentile(simulated, share) == pytest.approx(found, rel=1e-6)


@pytest.mark.parametrize("service", SERVICES, ids=str)
def test_a_closed_loop_gets_what_the_worker_can_do(service):
    """Requests a second are 1 / E[S] with clients enough, and c / (E[S] + Z) with few."""
    assert theory.closed_requests_per_s(service, 4) == pytest.approx(1 / service.mean_s)
    alone = theory.closed_requests_per_s(service, 1, think_s=service.mean_s)
    assert alone == pytest.approx(0.5 / service.mean_s)
    simulated = closed_responses_s(service, 4, COUNT, seed=7)
    assert statistics.fmean(simulated) * (1 / service.mean_s) == pytest.approx(4, rel=0.05)


def test_lindleys_recursion_is_that_of_a_queue_followed_by_hand():
    """Three that arrive together wait for those before them, one that comes late for nobody."""
    waits = waits_s([0.0, 0.0, 0.0, 100.0], [1.0, 2.0, 3.0, 4.0])
    assert waits == [0, 1, 3, 0]


def test_a_queue_that_grows_without_bound_has_no_figures():
    """At and above a full worker every formula of open arrivals refuses."""
    for formula in (theory.mean_wait_s, theory.mean_response_s):
        with pytest.raises(ValueError, match="busy 100% of the time"):
            formula(FIXED, 200)
    with pytest.raises(ValueError, match="busy 150%"):
        theory.dm1_response_s(EXPONENTIAL, 300, 0.5)


def test_the_interval_of_batch_means_holds_the_mean_as_often_as_it_says():
    """Of 300 runs with waits that depend on each other, nearly all intervals hold the true mean."""
    truth = theory.mean_response_s(EXPONENTIAL, 100)
    held = [
        batch_means(responses_s(EXPONENTIAL, poisson(100, 4000, seed), seed + 10_000)).holds(truth)
        for seed in range(300)
    ]
    assert sum(held) >= 294
    assert not Interval(1.0, 0.1).holds(1.11)


def test_too_few_values_make_no_interval():
    """Fewer than two values a batch are refused."""
    with pytest.raises(ValueError, match="39 values are too few"):
        batch_means([1.0] * 39)
