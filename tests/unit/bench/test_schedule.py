"""When the requests of an open loop are due."""

import time
from itertools import islice

import numpy as np
import pytest

from batchscore.bench.schedule import arrivals, wait_until


def test_constant_arrivals_stand_at_multiples_of_the_gap():
    """The n-th request is due n gaps after the first, exactly, however many came before."""
    times = list(islice(arrivals(300.0, "constant", seed=1), 100_001))
    assert times[:3] == [0.0, 1 / 300, 2 / 300]
    assert times[100_000] == 100_000 / 300


def test_poisson_arrivals_repeat_with_their_seed():
    """The same seed gives the same times, another one others."""
    first, again, other = (list(islice(arrivals(50.0, "poisson", s), 100)) for s in (7, 7, 8))
    assert first == again
    assert first != other


@pytest.mark.parametrize("rate", [0.5, 200.0])
def test_poisson_gaps_are_exponential_and_independent(rate):
    """Gaps have the mean, the spread and the quartiles of an exponential, and no memory."""
    gaps = np.diff(list(islice(arrivals(rate, "poisson", 3), 50_001))) * rate
    assert gaps.min() >= 0
    assert gaps.mean() == pytest.approx(1, rel=0.02)
    assert gaps.std() == pytest.approx(1, rel=0.03)
    quartiles = -np.log(1 - np.array([0.25, 0.5, 0.75]))
    assert np.quantile(gaps, [0.25, 0.5, 0.75]) == pytest.approx(quartiles, rel=0.04)
    assert abs(np.corrcoef(gaps[:-1], gaps[1:])[0, 1]) < 0.02


async def test_nothing_is_sent_before_its_time():
    """Waiting ends at the moment or after it, never before, and at once where it has passed."""
    for ahead_s in (-1.0, 0.0, 0.0003, 0.02):
        moment = time.monotonic() + ahead_s
        await wait_until(moment)
        assert time.monotonic() >= moment
