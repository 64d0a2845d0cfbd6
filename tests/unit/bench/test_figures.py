"""Figures of known latencies."""

import math

import numpy as np
import pytest

from batchscore.bench.figures import (
    Latencies,
    WindowFigures,
    drift,
    supported_percents,
    windows,
)
from batchscore.bench.samples import Sample, Samples


def sample(intended: float, took: float, *, rows: int = 1, error: str = "") -> Sample:
    ended = intended + took
    return Sample(
        intended, rows, 10, 1, intended=intended, sent=intended, first_byte=ended,
        last_byte=ended, decoded=ended, ended=ended, attempts=1, error=error,
    )  # fmt: skip


def test_percentiles_are_those_of_the_values_to_three_digits():
    """Of 1 to 10,000 ms, the n-th percentile is n hundredths of them, to a thousandth."""
    summary = Latencies(np.arange(1, 10_001) / 1000).summary()
    assert summary["count"] == 10_000
    for name, value in {"p50": 5.0, "p90": 9.0, "p99": 9.9, "p99.9": 9.99}.items():
        assert summary[name] == pytest.approx(value, rel=0.001)
    assert (summary["min"], summary["max"]) == (0.001, 10.0)
    assert summary["mean"] == pytest.approx(5.0005)


@pytest.mark.parametrize("count", [1, 2, 3, 99, 100, 101, 140, 149, 150, 160, 199, 1_000, 1_001])
def test_a_percentile_is_the_first_request_that_so_many_stay_within(count):
    """Where few lie far apart, too, it is the one of its rank, not the one before or after."""
    times = [1.5**number * 1e-5 for number in range(40)]
    values = np.sort(np.resize(times, count))
    percents = (0, 10, 50, 75, 90, 95, 99, 99.9, 100)
    told = Latencies(values).percentiles(percents)
    for percent in percents:
        within = [value for value in values if (values <= value).sum() >= percent / 100 * count]
        assert told[percent] == pytest.approx(min(within), rel=0.001), percent
        assert told[percent] <= values[-1]


def test_no_latencies_have_no_figures():
    """Where nothing was answered, figures are null in JSON, not zero."""
    summary = Latencies(np.array([])).summary()
    assert summary.pop("count") == 0
    assert set(summary.values()) == {None}


def test_only_percentiles_that_the_count_supports_are_told():
    """Beyond a percentile that is told lies one request at least."""
    assert supported_percents(99)[-1] == 98
    assert supported_percents(100)[-1] == 99
    assert supported_percents(1000)[-1] == 99.9
    assert supported_percents(0) == ()


def test_windows_count_each_request_once():
    """Requests stand in the window that they ended in, with rows, errors and latencies."""
    samples = Samples(
        [sample(0.1, 0.2, rows=5), sample(0.9, 0.2, rows=5), sample(1.5, 0.1, error="http_500")]
    )
    first, second = windows(samples, 0.0, 2.0, 2)
    assert (first.requests, first.rows, first.errors, first.in_flight) == (1, 5, 0, 1)
    assert (second.requests, second.rows, second.errors, second.in_flight) == (2, 5, 1, 0)
    assert (first.p50, first.max) == (pytest.approx(0.2), pytest.approx(0.2))


def window(rows: int, p50: float) -> WindowFigures:
    return WindowFigures(0.0, 1.0, rows, rows, 0, p50, p50, p50, 1)


def test_steady_windows_do_not_drift():
    """Windows that go up and down around the same level are stable."""
    assert drift([window(100, 0.01), window(104, 0.011)] * 6) == 0


@pytest.mark.parametrize(
    ("later", "expected"), [((100, 0.02), 1.0), ((50, 0.01), 0.5), ((0, math.nan), math.inf)]
)
def test_what_gets_slower_or_less_drifts(later, expected):
    """Drift is the greater change of throughput and median between the halves."""
    assert drift([window(100, 0.01)] * 4 + [window(*later)] * 4) == pytest.approx(expected)
