"""When it was the client that was measured."""

import numpy as np
import pytest

from batchscore.bench.validity import OwnDelay, over_time, own_delays, why_invalid

ZEROS = np.zeros(2_000)
NOBODY_LATE = np.zeros(1_000)


def judged(responses, lags, sending=ZEROS, max_share=0.2):
    delays = own_delays(responses, sending, lags)
    return why_invalid(delays, max_share, closed_cpu=0.0)


def spread(low_s, high_s):
    return np.linspace(low_s, high_s, 2_000)


def shares(*parts):
    """A thousand lags: so many of each length."""
    return np.repeat([lag for _, lag in parts], [round(1_000 * share) for share, _ in parts])


@pytest.mark.parametrize(
    ("responses", "lags"),
    [
        # Two milliseconds of every hundredth: p99 is that of the server's own slow answers.
        (spread(0.002, 0.008), shares((0.99, 0.0001), (0.01, 0.002))),
        # Always a little late, beside a latency that is long.
        (spread(0.09, 0.11), shares((1.0, 0.004))),
        # A long stop that meets one answer in a thousand.
        (spread(0.002, 0.008), shares((0.999, 0.0), (0.001, 0.2))),
        # Below a millisecond the loop's own clock knows nothing.
        (spread(0.0002, 0.0004), shares((1.0, 0.0005))),
    ],
)
def test_lags_that_hardly_move_the_figures_leave_a_run_valid(responses, lags):
    """It is not the longest lag that counts, but what it does to the median and to p99."""
    assert judged(responses, lags) == ()


@pytest.mark.parametrize(
    ("responses", "lags", "word"),
    [
        # Every fiftieth answer is read late by more than it took.
        (spread(0.002, 0.008), shares((0.98, 0.0), (0.02, 0.03)), "of the p99 of 7.9 ms"),
        (spread(0.004, 0.006), shares((0.4, 0.0), (0.6, 0.004)), "of the p50 of 5.0 ms"),
    ],
)
def test_lags_that_move_a_figure_make_a_run_invalid(responses, lags, word):
    """Where a percentile would move by more than the share, it is named, with what moved it."""
    (reason,) = judged(responses, lags)
    assert word in reason
    assert "ms late)" in reason
    assert "(read " in reason
    assert judged(responses, lags, max_share=10.0) == ()


def test_the_part_of_the_client_is_what_it_was():
    """Exponential latencies and lags: the figures are moved by what the lags had moved them."""
    dice = np.random.default_rng(3)
    alone, lags = dice.exponential(0.02, 50_000), dice.exponential(0.004, 50_000)
    for delay in own_delays(alone + lags, np.zeros(50_000), dice.permutation(lags)):
        moved = delay.told_s - np.quantile(alone, delay.percent / 100)
        assert delay.reading_s == pytest.approx(moved, rel=0.35)
        assert delay.sending_s == 0


def test_sending_late_is_taken_off_each_request():
    """Requests that were sent late by a known time would have been as much quicker."""
    late = np.where(np.arange(2_000) % 20 == 0, 0.05, 0.0)
    (reason,) = judged(spread(0.01, 0.02) + late, NOBODY_LATE, late)
    assert "of the p99 of" in reason
    assert "(sent " in reason
    assert judged(spread(0.01, 0.02) + late / 1000, NOBODY_LATE, late / 1000) == ()


def test_a_loop_that_could_not_be_asked_was_late_all_that_time():
    """One lag of a second stands for the hundred that would have been asked for in it."""
    lags = np.array([0.0, 0.0, 1.0, 0.0])
    at = np.cumsum(lags + 0.01)
    filled = over_time(at, lags)
    assert len(filled) == 4 + 99
    assert filled.sum() == pytest.approx(1.0 + sum(n / 100 for n in range(1, 100)))
    assert over_time(at, np.zeros(4)).tolist() == [0.0] * 4
    assert over_time(at[:1], lags[:1]).tolist() == [0.0]


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
    assert own_delays(np.array([]), np.array([]), NOBODY_LATE) == ()
