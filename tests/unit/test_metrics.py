"""What a run counts."""

import json
import random

import pytest

from batchscore.metrics import LatencyHistogram, RunMetrics, RunReport
from batchscore.run import write_report


@pytest.mark.parametrize("scale", [1e-5, 0.01, 30.0])
def test_percentiles_are_within_one_percent(scale):
    """The histogram's percentiles are those of the latencies, to 1 %."""
    rng = random.Random(3)
    latencies = [rng.lognormvariate(0, 1) * scale for _ in range(20_000)]
    histogram = LatencyHistogram()
    for latency in latencies:
        histogram.record(latency)
    for percent in (50, 90, 99, 99.9):
        exact = sorted(latencies)[round(20_000 * percent / 100) - 1]
        assert histogram.percentile(percent) == pytest.approx(exact, rel=0.0101)
    assert histogram.summary()["max"] == max(latencies)


def test_without_requests_there_are_no_percentiles():
    """An empty histogram says nothing rather than zero."""
    assert set(LatencyHistogram().summary().values()) == {None}
    histogram = LatencyHistogram()
    histogram.record(0.0)
    assert histogram.percentile(50) == 0.0


def test_a_report_is_json_with_a_schema_version(tmp_path):
    """What --report writes can be read by a program."""
    report = RunReport(status="ok", exit_code=0, rows_read=3, latency_s={"p50": None})
    write_report(report, tmp_path / "r.json")
    read = json.loads((tmp_path / "r.json").read_text())
    assert read["schema_version"] == 1
    assert read["rows_read"] == 3


def test_rates_are_counted_on_the_clock_that_was_given():
    """Rows a second come from rows that are done."""
    now = iter([100.0, 110.0])
    metrics = RunMetrics(clock=lambda: next(now))
    metrics.rows_scored, metrics.rows_failed = 15, 5
    assert metrics.rows_per_second == 2.0
