"""Workers that share a server without talking to each other, under simulated time."""

from random import Random

import pytest
import simulate_sharing as simulate
from simulate_overload import Server, always, step

from batchscore.client.controller import Outcome, Result
from batchscore.client.sharing import SharedLimit

Cluster, Part, jain, same = simulate.Cluster, simulate.Part, simulate.jain, simulate.same
BEAT_S = 8.0


def shared(server, parts, *, seconds=40, **options):
    return Cluster(server, parts, seconds, **options).run()


def test_at_a_server_that_queues_all_get_the_same_and_the_queue_stays_short():
    """Sixteen workers have equal shares of a busy server, and two requests each wait in line."""
    run = shared(Server(always(64)), same(16))
    assert jain(run.shares(16, 40)) > 0.98
    assert run.use(16, 40) > 0.95
    assert run.mean_queue(16, 40) < 3 * 16


def test_limits_that_each_measure_for_themselves_fill_the_queue():
    """Without beats each takes the queue of the others for the server's own time."""
    run = shared(Server(always(64)), same(16), alone=True)
    assert run.mean_queue(16, 40) > 6 * 16


@pytest.mark.parametrize("seed", [1, 2])
def test_at_a_server_that_refuses_nobody_keeps_his_places_for_good(seed):
    """Shares are equal, few requests are refused, and most of the capacity is used."""
    run = shared(Server(always(64), queues=0, sigma=0.1), same(16), seed=seed)
    assert jain(run.shares(16, 40)) > 0.93
    assert run.use(16, 40) > 0.9
    assert run.refusals < 0.06


def test_limits_that_take_what_they_get_share_a_full_server_badly():
    """Without beats shares are less equal, and more than twice as many requests are refused."""
    run = shared(Server(always(64), queues=0, sigma=0.1), same(16), seconds=24, alone=True)
    assert jain(run.shares(8, 24)) < 0.93
    assert run.refusals > 0.1


def test_a_short_queue_before_refusals_is_shared_too():
    """A server that queues some and refuses the rest is divided as fairly."""
    run = shared(Server(always(64), queues=16), same(16))
    assert jain(run.shares(16, 40)) > 0.9
    assert run.use(16, 40) > 0.93


def test_noise_makes_shares_a_little_uneven_but_not_the_queue_long():
    """With latencies that vary by half of themselves, nobody has twice its share."""
    run = shared(Server(always(64), sigma=0.5), same(16))
    shares = run.shares(16, 40)
    assert jain(shares) > 0.88
    assert max(shares) < 2 * sum(shares) / len(shares)
    assert run.mean_queue(16, 40) < 4 * 16


@pytest.mark.parametrize("server", [Server(always(64)), Server(always(64), queues=0, sigma=0.1)])
@pytest.mark.parametrize("joins_s", [12, 17])
def test_a_worker_that_joins_late_has_its_share_after_some_beats(server, joins_s):
    """Neither does the queue that it finds make it greedy, nor do full places keep it out."""
    run = shared(server, [Part(joins_s=joins_s), *same(15)], seconds=60)
    waited_s = run.seconds_to_share(0)
    assert waited_s is not None
    assert waited_s <= 4 * BEAT_S
    others = run.shares(joins_s + 24, 60)
    assert run.share(0, joins_s + 24, 60) == pytest.approx(sum(others) / len(others), rel=0.35)


@pytest.mark.parametrize("queues", [0, float("inf")])
def test_what_workers_leave_goes_to_the_others(queues):
    """When half of the workers are done, the server stays busy."""
    server = Server(always(64), queues=queues, sigma=0.1)
    run = shared(server, [*same(8, leaves_s=16), *same(8)])
    assert run.use(26, 40) > 0.88
    assert jain(run.shares(26, 40)) > 0.9


def test_what_slow_workers_leave_goes_to_the_others():
    """Workers that cannot use their share do not keep it from those who can."""
    run = shared(Server(always(64)), [*same(4, request_s=0.05), *same(12)])
    assert run.use(16, 40) > 0.95
    assert jain(run.shares(16, 40)) > 0.97
    assert min(run.share(slow, 16, 40) for slow in range(4)) > 0.9 * 20


def test_a_longer_way_to_the_server_costs_no_share():
    """Workers 20 ms away get what those beside the server get, within a quarter."""
    run = shared(Server(always(64)), [*same(8, network_s=0.02), *same(8)])
    far, near = (sum(run.share(n, 16, 40) for n in half) for half in (range(8), range(8, 16)))
    assert far == pytest.approx(near, rel=0.25)


def test_clocks_need_not_agree_to_the_millisecond():
    """With clocks that are up to 50 ms apart, shares are equal and the queue is short."""
    run = shared(Server(always(64)), [Part(skew_s=0.05 * n / 15) for n in range(16)])
    assert jain(run.shares(16, 40)) > 0.97
    assert run.mean_queue(16, 40) < 4 * 16


def test_more_workers_than_places_in_a_queue_share_all_the_same():
    """Each has one request at least, so a small server has a queue; all get the same of it."""
    run = shared(Server(always(4)), same(16))
    assert jain(run.shares(16, 40)) > 0.95
    assert run.mean_queue(16, 40) < 4 * 16


def test_more_workers_than_places_take_turns_where_they_are_refused():
    """In the long run every worker has a place for a part of the time."""
    run = shared(Server(always(4), queues=0, sigma=0.1), same(16), seconds=240)
    shares = run.shares(40, 240)
    assert min(shares) > 0.2 * sum(shares) / len(shares)
    assert run.use(40, 240) > 0.85


def test_refusals_for_no_reason_are_not_taken_for_overload():
    """Two workers keep a server busy that refuses one request in twenty for no reason."""
    run = shared(Server(always(64), refuses=0.05), same(2), max_limit=128)
    assert run.use(16, 40) > 0.85


@pytest.mark.parametrize("queues", [0, float("inf")])
@pytest.mark.parametrize(("before", "after"), [(64, 32), (32, 64)])
def test_a_capacity_that_changes_is_followed(before, after, queues):
    """Some beats after the server has become smaller or larger, it is busy and shared."""
    server = Server(step(before, after, 16), queues=queues, sigma=0.1)
    run = shared(server, same(16), seconds=56)
    assert run.use(36, 56) > 0.88
    assert jain(run.shares(36, 56)) > 0.88


def test_a_server_that_becomes_slower_is_not_taken_for_a_longer_queue():
    """When all requests take three times as long, the server still has work for all its places."""
    server = Server(always(64), slower=lambda now: 1.0 if now < 16 else 3.0)
    run = shared(server, same(16), seconds=60)
    assert run.use(40, 60) > 0.93
    assert run.mean_queue(40, 60) < 4 * 16


# One limit


def settled(limit, now_s, count=200):
    for _ in range(count):
        limit.on_time(now_s)
        tickets = [limit.on_start() for _ in range(limit.limit)]
        for ticket in tickets:
            limit.on_outcome(Outcome(ticket, Result.OK, 0.05))
    return limit.limit


def test_the_limit_halves_at_the_beat_and_grows_to_its_maximum_between():
    """A server without bounds is asked for the maximum, and for half of it at the beat."""
    limit = SharedLimit(16, random=Random(1))
    assert settled(limit, 1001.0) == 16
    limit.on_time(1007.9)
    assert limit.limit == 16
    limit.on_time(1008.0)
    assert limit.limit == 8
    assert settled(limit, 1009.0) == 16


def test_a_clock_that_is_set_back_does_not_end_the_beats():
    """An hour back, the next beat comes after seconds, not after an hour."""
    limit = SharedLimit(16, random=Random(1))
    settled(limit, 9001.0)
    limit.on_time(5401.0)
    assert limit.limit == 16
    limit.on_time(5409.0)
    assert limit.limit == 8


def test_a_refused_place_rests_and_comes_back():
    """Until it has rested, one request less may be in flight."""
    limit = SharedLimit(16, random=Random(1))
    settled(limit, 1001.0)
    limit.on_time(1002.0)
    limit.on_outcome(Outcome(limit.on_start(), Result.OVERLOADED, 0.001))
    assert limit.limit == 15
    assert 0.02 < limit.resting_s < 0.08
    limit.on_time(1002.0 + limit.resting_s)
    assert limit.limit == 16
    assert limit.resting_s is None


def test_who_has_no_place_asks_later_and_later_but_at_each_beat():
    """The waits grow, and none of them ends long after the next beat."""
    limit = SharedLimit(16, random=Random(1))
    now_s, waits = 1000.5, []
    limit.on_time(now_s)
    for _ in range(12):
        limit.on_outcome(Outcome(limit.on_start(), Result.OVERLOADED, 0.001))
        waits.append(limit.rest_s)
    assert max(waits) > 1
    assert max(waits) < 1008 - now_s + 0.2
    assert limit.limit == 1


def test_no_rest_is_longer_than_a_short_beat_however_slow_the_answers_are():
    """Where answers take ten seconds beats are minutes apart, but nobody waits so long to ask."""
    limit = SharedLimit(16, random=Random(1))
    now_s = 1000.5
    for _ in range(300):
        limit.on_time(now_s)
        limit.on_outcome(Outcome(limit.on_start(), Result.OK, 10.0))
        now_s += 10
    for _ in range(3000):
        limit.on_time(now_s)
        limit.on_outcome(Outcome(limit.on_start(), Result.OVERLOADED, 0.001))
        assert limit.rest_s <= 8 + 2 * 10.0
        now_s += 0.01
    assert limit.limit == 1
