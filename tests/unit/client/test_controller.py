"""The overload controllers, under simulated time: no sleeping, no sockets."""

import math

import pytest
import simulate_overload as simulate

from batchscore.client.controller import (
    AdaptiveLimit,
    Outcome,
    Result,
    RetryBudget,
    SliceSize,
)

Server, Simulation, always, step = (
    simulate.Server,
    simulate.Simulation,
    simulate.always,
    simulate.step,
)
SEEDS = (1, 2, 3)


def settled(server, *, seconds=30.0, warm_up_s=10.0, seed=1):
    """The run, and the median limit after the warm-up."""
    run = Simulation(server, seconds=seconds, warm_up_s=warm_up_s, seed=seed).run()
    limits = sorted(run.limits[math.ceil(100 * warm_up_s / seconds) :])
    return run, limits[len(limits) // 2]


@pytest.mark.parametrize("capacity", [1, 4, 64])
def test_a_server_that_refuses_is_kept_busy_with_few_refusals(capacity):
    """The limit settles at the capacity: 90 % of it used, 3 % of the requests refused at most."""
    run, limit = settled(Server(always(capacity), queues=0))
    assert 0.85 * capacity <= limit <= capacity + 1.5
    assert run.use > 0.9
    assert run.refusals < 0.03


@pytest.mark.parametrize("capacity", [1, 4, 64])
def test_a_server_that_queues_is_kept_busy_with_a_short_queue(capacity):
    """Where nothing is ever refused, the limit still stops near the capacity."""
    run, limit = settled(Server(always(capacity)))
    room = math.sqrt(capacity)
    assert capacity <= limit <= capacity + 2 * room + 1
    assert run.use > 0.93
    assert run.latency_s < 0.05 * (2 + 2 * room / capacity)


@pytest.mark.parametrize("queues", [0, math.inf])
@pytest.mark.parametrize(("before", "after"), [(64, 32), (32, 64), (8, 4), (4, 8)])
def test_a_capacity_that_halves_or_doubles_in_the_middle_is_followed(queues, before, after):
    """Ten seconds after the change the limit is where it would be had it always been so."""
    server = Server(step(before, after, 20), queues=queues)
    run, limit = settled(server, seconds=50, warm_up_s=30)
    assert 0.8 * after <= limit <= after + 2 * math.sqrt(after) + 1
    assert run.use > 0.88
    assert run.refusals < 0.04


@pytest.mark.parametrize("queues", [0, math.inf])
@pytest.mark.parametrize("capacity", [4, 16, 64])
@pytest.mark.parametrize("seed", SEEDS)
def test_noise_in_the_latency_is_not_taken_for_a_queue(capacity, queues, seed):
    """With latencies that vary by half of themselves, 80 % of the capacity is used all the same."""
    server = Server(always(capacity), queues=queues, sigma=0.5)
    run, limit = settled(server, seconds=60, warm_up_s=20, seed=seed)
    assert run.use > 0.8
    assert run.refusals < 0.04
    assert limit <= capacity + 3 * math.sqrt(capacity)


@pytest.mark.parametrize("capacity", [4, 16, 64])
@pytest.mark.parametrize("seed", SEEDS)
def test_random_refusals_are_not_taken_for_overload(capacity, seed):
    """A server that refuses one request in twenty for no reason is kept busy like any other."""
    server = Server(always(capacity), refuses=0.05)
    run, _ = settled(server, seconds=40, warm_up_s=15, seed=seed)
    assert run.use > 0.88
    assert run.refusals < 0.07


def test_a_server_that_becomes_slower_is_not_taken_for_a_smaller_one():
    """When all requests take three times as long, no fewer of them are in flight."""
    server = Server(always(64), slower=lambda now: 1.0 if now < 20 else 3.0)
    run, limit = settled(server, seconds=80, warm_up_s=40)
    assert 60 <= limit <= 85
    assert run.use > 0.9


def test_the_limit_reaches_what_an_unbounded_server_takes_soon_and_stops_at_its_maximum():
    """A server without bounds gets 256 requests at once, after a few round trips."""
    run = Simulation(Server(always(10_000)), seconds=5).run()
    assert run.limits[20] > 200
    assert run.limits[-1] == 256


def test_the_whole_start_costs_little():
    """From the first request on, without a warm-up, nearly all of the capacity is used."""
    run = Simulation(Server(always(16)), seconds=20).run()
    assert run.use > 0.9


def test_retries_stay_a_share_of_the_requests_when_everything_is_refused():
    """In an outage, retries come at the budget's pace, however many requests wait for theirs."""
    run = Simulation(Server(always(1), refuses=1.0), seconds=60).run()
    assert run.answered == 0
    assert run.retries > 0
    first_tries = run.sent - run.resent
    allowed = RetryBudget.BURST + RetryBudget.SHARE * first_tries + RetryBudget.PER_SECOND * 60
    assert run.resent <= allowed + 1


def answer(limit, latency_s=0.1, result=Result.OK, **more):
    limit.on_outcome(Outcome(limit.on_start(), result, latency_s, **more))


def grown():
    limit = AdaptiveLimit()
    while limit.limit < 40:
        tickets = [limit.on_start() for _ in range(limit.limit)]
        for ticket in tickets:
            limit.on_outcome(Outcome(ticket, Result.OK, 0.1))
    return limit


def test_the_limit_does_not_grow_where_it_is_not_used():
    """One request at a time shows nothing about what the server would take."""
    limit = AdaptiveLimit()
    for _ in range(1000):
        answer(limit)
    assert limit.limit <= 2


def test_a_single_refusal_is_no_overload_but_one_that_asks_to_wait_is():
    """One 503 among many answers changes nothing; with Retry-After the server means it."""
    limit = grown()
    before = limit.limit
    answer(limit, result=Result.OVERLOADED)
    assert limit.limit == before
    answer(limit, result=Result.OVERLOADED, asked_to_wait=True)
    assert limit.limit < before


def test_timeouts_now_and_then_are_no_overload_but_many_are():
    """A request in fifty that hangs lowers nothing; one in four does."""
    limit = grown()
    before = limit.limit
    for _ in range(20):
        for _ in range(49):
            answer(limit)
        answer(limit, result=Result.TIMEOUT)
    assert limit.limit >= before
    for _ in range(10):
        for _ in range(3):
            answer(limit)
        answer(limit, result=Result.TIMEOUT)
    assert limit.limit < 0.8 * before


def test_requests_that_were_sent_together_lower_the_limit_once():
    """Forty timeouts of one burst are one sign of overload."""
    limit = grown()
    before = limit.limit
    tickets = [limit.on_start() for _ in range(before)]
    for ticket in tickets:
        limit.on_outcome(Outcome(ticket, Result.TIMEOUT, 10.0))
    assert before / 2 < limit.limit < before


def test_other_errors_say_nothing_about_the_load():
    """A 500 or a broken connection leaves the limit as it was."""
    limit = grown()
    before = limit.limit
    for _ in range(100):
        answer(limit, result=Result.OTHER)
    assert limit.limit == before


def test_the_limit_never_falls_below_one():
    """However much is refused, one request may always be in flight."""
    limit = grown()
    for _ in range(1000):
        answer(limit, result=Result.OVERLOADED)
    assert limit.limit == 1


# Rows a request


def sized(size, times, *, latency_s=0.1, result=Result.OK):
    for _ in range(times):
        size.on_outcome(Outcome(0, result, latency_s, rows=size.rows))
    return size.rows


def test_413_halves_what_follows_and_success_restores_it_below_what_was_refused():
    """After a 413 at 1,000 rows come 500, and later more, but not 1,000 again at once."""
    size = SliceSize(1000)
    assert sized(size, 1, result=Result.TOO_LARGE) == 500
    assert 500 < sized(size, 60) < 1000


def test_one_huge_row_does_not_keep_requests_small_for_ever():
    """Isolating one row that is too large by itself passes; the size comes back in the end."""
    size = SliceSize(1024)
    for rows in (1024, 512, 256, 128, 64, 32, 16, 8, 4, 2, 1):
        size.on_outcome(Outcome(0, Result.TOO_LARGE, 0.1, rows=rows))
    assert size.rows == 1
    assert sized(size, 20_000) == 1024


def test_a_size_that_was_asked_for_gives_way_to_413_alone():
    """Without a timeout to compare with, neither timeouts nor slow answers change the size."""
    size = SliceSize(1000)
    assert sized(size, 5, result=Result.TIMEOUT, latency_s=60) == 1000
    assert sized(size, 5, latency_s=59) == 1000


@pytest.mark.parametrize(("result", "latency_s"), [(Result.TIMEOUT, 10.0), (Result.OK, 6.0)])
def test_timeouts_and_answers_close_to_one_shrink_the_requests(result, latency_s):
    """What takes over half the time that it may take is halved, before it takes too long."""
    size = SliceSize(1024, timeout_s=10)
    assert sized(size, 1, result=result, latency_s=latency_s) == 512
    assert sized(size, 20, result=result, latency_s=latency_s) == 1


def test_a_timeout_among_quick_answers_is_not_about_the_size_but_two_are():
    """A request in fifty that hangs leaves the size as it was; two at once halve it."""
    size = SliceSize(1024, timeout_s=10)
    for _ in range(20):
        sized(size, 49)
        assert sized(size, 1, result=Result.TIMEOUT, latency_s=10.0) == 1024
    assert sized(size, 1, result=Result.TIMEOUT, latency_s=10.0) == 512


def test_the_size_settles_where_an_answer_takes_a_part_of_the_timeout():
    """At 20 ms a row and a timeout of 10 s, requests have between 50 and 250 rows."""
    size = SliceSize(1024, timeout_s=10)
    for _ in range(2000):
        latency_s = 0.02 * size.rows
        result = Result.OK if latency_s < 10 else Result.TIMEOUT
        size.on_outcome(Outcome(0, result, min(latency_s, 10), rows=size.rows))
    assert 50 <= size.rows <= 250


def test_requests_that_were_on_the_way_shrink_the_size_once():
    """Ten 413 to requests of one size halve it once."""
    size = SliceSize(1024)
    for _ in range(10):
        size.on_outcome(Outcome(0, Result.TOO_LARGE, 0.1, rows=1024))
    assert size.rows == 512


# Retries


def test_retries_within_the_budget_do_not_wait():
    """A few failures among many requests are retried as soon as their backoff is over."""
    budget = RetryBudget()
    for number in range(1000):
        budget.on_request()
        if number % 10 == 0:
            assert budget.reserve(0.0) == 0


def test_retries_over_the_budget_wait_longer_and_longer_and_none_is_dropped():
    """A hundred failures at once are retried at the budget's pace, each in its turn."""
    budget = RetryBudget()
    waits = [budget.reserve(0.0) for _ in range(100)]
    assert waits == sorted(waits)
    assert waits.count(0.0) == RetryBudget.BURST
    assert waits[-1] == pytest.approx((100 - RetryBudget.BURST) / RetryBudget.PER_SECOND)


def test_the_budget_comes_back_with_the_time():
    """After a while of quiet a retry does not wait."""
    budget = RetryBudget()
    for _ in range(50):
        budget.reserve(0.0)
    assert budget.reserve(60.0) == 0
