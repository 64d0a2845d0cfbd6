"""When it was the client that was measured."""

import numpy as np
import pytest

from batchscore.bench.validity import OwnDelay, own_delays, stops_of, why_invalid

COUNT, SECONDS = 2_000, 20.0
ANSWERED = np.linspace(0, SECONDS, COUNT)
ZEROS = np.zeros(COUNT)
NOBODY_LATE = np.zeros(0)


def judged(responses, stops, sending=ZEROS, max_share=0.2, closed=None):
    dice = np.random.default_rng(5)
    delays = own_delays(dice.permutation(responses), sending, ANSWERED, np.array(stops), closed)
    return why_invalid(delays, max_share, closed_cpu=0.0)


def spread(low_s, high_s):
    return np.linspace(low_s, high_s, COUNT)


@pytest.mark.parametrize(
    ("responses", "stops"),
    [
        # A hundred and fifty stops of 2 ms meet one answer in seventy, and p99 is that of the
        # server's own slow answers.
        (spread(0.002, 0.008), [0.002] * 150),
        # A little late at each second answer, beside a latency that is long.
        (spread(0.09, 0.11), [0.004] * 2_500),
        # Two long stops that meet one answer in two hundred.
        (spread(0.002, 0.008), [0.05] * 2),
        # Below a millisecond the loop's own clock knows nothing.
        (spread(0.0002, 0.0004), [0.0005] * 20_000),
        (spread(0.002, 0.008), []),
    ],
)
def test_lags_that_hardly_move_the_figures_leave_a_run_valid(responses, stops):
    """It is not the longest lag that counts, but what it does to the median and to p99."""
    assert judged(responses, stops) == ()


@pytest.mark.parametrize(
    ("responses", "stops", "word"),
    [
        # One answer in fifty is read late by more than it took.
        (spread(0.002, 0.008), [0.03] * 14, "of the p99 of 7.9 ms"),
        # The loop stands still for most of the time.
        (spread(0.004, 0.006), [0.02] * 1_500, "of the p50 of 5.0 ms"),
    ],
)
def test_lags_that_move_a_figure_make_a_run_invalid(responses, stops, word):
    """Where a percentile would move by more than the share, it is named, with what moved it."""
    (reason,) = judged(responses, stops)
    assert word in reason
    assert "(read " in reason
    assert judged(responses, stops, max_share=10.0) == ()


def test_in_a_closed_loop_no_more_answers_wait_than_are_in_flight():
    """Stops that would meet a hundred answers of an open loop meet one where one is in flight."""
    responses, stops = spread(0.002, 0.008), [0.5] * 3
    assert judged(responses, stops)
    assert judged(responses, stops, closed=100)
    assert judged(responses, stops, closed=1) == ()


def test_the_part_of_the_client_is_what_it_was():
    """Stops at random among exponential latencies: what they moved is found, to a factor of two."""
    dice = np.random.default_rng(3)
    alone = dice.exponential(0.02, COUNT)
    stops = np.full(40, 0.1)
    late = np.zeros(COUNT)
    for begin in dice.uniform(0, SECONDS, len(stops)):
        inside = (begin <= ANSWERED) & (begin + 0.1 > ANSWERED)
        late[inside] = np.maximum(late[inside], begin + 0.1 - ANSWERED[inside])
    told = own_delays(alone + late, ZEROS, ANSWERED, stops, None)
    for delay in told:
        moved = delay.told_s - np.quantile(alone, delay.percent / 100)
        assert moved / 2 <= delay.reading_s <= 2 * moved
        assert delay.sending_s == 0


def test_what_is_stood_still_is_told_from_how_late_the_loop_is():
    """Stops at random, asked about every 10 ms: their number and their sum are about the true."""
    dice = np.random.default_rng(1)
    for length, count in ((0.004, 800), (0.05, 200)):
        begins = np.cumsum(dice.exponential(0.05, count) + length)
        ends = begins + length
        at, lags, now = [], [], 0.0
        while now < ends[-1]:
            wanted = now + 0.01
            place = np.searchsorted(ends, wanted, side="right")
            stopped = place < count and begins[place] <= wanted
            now = ends[place] if stopped else wanted
            at.append(now)
            lags.append(now - wanted)
        found = stops_of(np.array(at), np.array(lags))
        assert found.sum() == pytest.approx(length * count, rel=0.3)
        assert len(found) == pytest.approx(count, rel=0.5)
    assert len(stops_of(np.array([1.0]), np.array([0.5]))) == 0


def test_sending_late_is_taken_off_each_request():
    """Requests that were sent late by a known time would have been as much quicker."""
    late = np.where(np.arange(COUNT) % 20 == 0, 0.05, 0.0)
    for share, is_valid in ((1, False), (0.001, True)):
        delays = own_delays(
            spread(0.01, 0.02) + share * late, share * late, ANSWERED, NOBODY_LATE, None
        )
        reasons = why_invalid(delays, 0.2, closed_cpu=0.0)
        assert (reasons == ()) is is_valid
        assert is_valid or "of the p99 of" in reasons[0]
        assert is_valid or "(sent " in reasons[0]


def test_other_bottlenecks_of_the_client_are_named():
    """A core that is used up in a closed loop, and a client that gave up, are reasons each."""
    delays = (OwnDelay(50, 0.1, 0.0, 0.001),)
    assert why_invalid(delays, 0.2, closed_cpu=0.5) == ()
    (reason,) = why_invalid(delays, 0.2, closed_cpu=0.95)
    assert "95% of a core" in reason
    reasons = why_invalid(delays, 0.2, closed_cpu=0.95, gave_up="raise it with ulimit -n")
    assert reasons[1:] == ("raise it with ulimit -n",)


def test_without_answers_there_is_nothing_to_move():
    """Where nothing was answered well, the client is not to blame for figures that are not."""
    none = np.array([])
    assert own_delays(none, none, none, NOBODY_LATE, None) == ()
