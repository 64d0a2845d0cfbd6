"""The counters of a run as Prometheus reads them, judged by Prometheus' own parsers."""

from __future__ import annotations

import math
import re

import pytest
from prometheus_client.openmetrics.parser import text_string_to_metric_families as parse_open
from prometheus_client.parser import text_string_to_metric_families as parse_text

from batchscore.metrics import RunMetrics
from batchscore.observers.exposition import (
    LATENCY_BOUNDS_S,
    OPENMETRICS,
    TEXT,
    About,
    exposition,
    families,
    negotiated,
)

PARSERS = {TEXT: parse_text, OPENMETRICS: parse_open}
LATENCIES = [0.0004, 0.003, 0.003, 0.04, 0.7, 12.0, 400.0]
AWKWARD = 'a "quoted"\\path\nand a line {le="1"} é'


def some_metrics() -> RunMetrics:
    """A run in which all that can happen has happened."""
    metrics = RunMetrics(total_rows=1000)
    metrics.count_earlier(100, {"timeout": 2})
    metrics.rows_read += 300
    metrics.rows_scored += 250
    metrics.rows_failed += 3
    metrics.failed_rows.update({"http_422": 2, "timeout": 1})
    metrics.requests, metrics.in_flight, metrics.limit, metrics.other_limits = 40, 7, 8, 4
    metrics.retries.update({"http_503": 5, "connection": 1})
    metrics.bytes_sent, metrics.bytes_received = 12_345, 678
    for seconds in LATENCIES:
        metrics.latency.record(seconds)
    return metrics


def about(**labels: str) -> About:
    return About({"version": "0.1.0"}, {"kind": "score", **labels}, 1.5e9, exit_code=3)


def samples(content_type: str, metrics: RunMetrics, **labels: str) -> dict[str, float]:
    """Each sample of the exposition with its labels, as the parser of that format reads it."""
    text = exposition(families(metrics, about(**labels)), content_type).decode()
    found = {}
    for family in PARSERS[content_type](text):
        for sample in family.samples:
            key = "".join(f",{k}={v}" for k, v in sorted(sample.labels.items()))
            assert sample.name + key not in found
            found[sample.name + key] = sample.value
    return found


@pytest.mark.parametrize("content_type", list(PARSERS))
def test_every_counter_is_in_either_format(content_type):
    """Prometheus' parser finds each count, by code and by cause, with the value of the run."""
    found = samples(content_type, some_metrics())
    assert found["batchscore_rows_read_total"] == 400
    assert found["batchscore_rows_scored_total"] == 348
    assert found["batchscore_rows_failed_total,code=http_422"] == 2
    assert found["batchscore_rows_failed_total,code=timeout"] == 3
    assert found["batchscore_rows_resumed_total"] == 100
    assert found["batchscore_input_rows"] == 1000
    assert found["batchscore_attempts_total"] == 40
    assert found["batchscore_retries_total,cause=http_503"] == 5
    assert found["batchscore_retries_total,cause=connection"] == 1
    assert found["batchscore_requests_in_flight"] == 7
    assert found["batchscore_requests_limit"] == 12
    assert found["batchscore_sent_bytes_total"] == 12_345
    assert found["batchscore_received_bytes_total"] == 678
    assert found["batchscore_start_time_seconds"] == 1.5e9
    assert found["batchscore_exit_code"] == 3
    assert found["batchscore_build_info,version=0.1.0"] == 1


def test_both_formats_say_the_same():
    """Names, labels and values are equal, so that dashboards need not know which was scraped."""
    metrics = some_metrics()
    now = metrics.clock()
    metrics.clock = lambda: now
    assert samples(TEXT, metrics) == samples(OPENMETRICS, metrics)


@pytest.mark.parametrize("content_type", list(PARSERS))
def test_the_histogram_counts_up_to_each_bound(content_type):
    """A bucket has the latencies up to its bound, the last one all of them; sum and count fit."""
    found = samples(content_type, some_metrics())
    name = "batchscore_request_duration_seconds"
    for bound in LATENCY_BOUNDS_S:
        expected = sum(seconds <= bound for seconds in LATENCIES)
        assert found[f"{name}_bucket,le={bound}"] == expected
    assert found[f"{name}_bucket,le=+Inf"] == found[f"{name}_count"] == len(LATENCIES)
    assert found[f"{name}_sum"] == pytest.approx(math.fsum(LATENCIES))


def test_a_latency_at_a_bound_is_counted_below_it():
    """A bound belongs to its bucket, and what is two percent above it does not."""
    for bound in LATENCY_BOUNDS_S:
        metrics = RunMetrics()
        for seconds in (0.98 * bound, bound, 1.03 * bound):
            metrics.latency.record(seconds)
        assert metrics.latency.up_to([bound]) == [2], bound


@pytest.mark.parametrize("content_type", list(PARSERS))
def test_labels_survive_whatever_stands_in_them(content_type):
    """Quotes, backslashes and line breaks in a file's name come back as they were."""
    found = samples(content_type, some_metrics(), output=AWKWARD)
    assert f"batchscore_run_info,kind=score,output={AWKWARD}" in found


@pytest.mark.parametrize("content_type", list(PARSERS))
def test_a_run_that_has_just_begun_can_be_scraped(content_type):
    """Without rows, retries, limit or total there is still an exposition that can be read."""
    found = samples(content_type, RunMetrics())
    assert found["batchscore_rows_read_total"] == 0
    assert "batchscore_input_rows" not in found
    assert "batchscore_requests_limit" not in found


def test_names_follow_the_conventions_of_prometheus():
    """Counters end in _total, units are base units and stand last, help is there for each."""
    lines = exposition(families(some_metrics(), about()), TEXT).decode().splitlines()
    types = dict(re.findall(r"^# TYPE (\S+) (\S+)$", "\n".join(lines), re.MULTILINE))
    helps = re.findall(r"^# HELP (\S+) \S.*\.$", "\n".join(lines), re.MULTILINE)
    assert list(types) == helps
    assert len(types) > 15
    for name, kind in types.items():
        assert re.fullmatch(r"batchscore(_[a-z]+)+", name)
        assert name.endswith("_total") == (kind == "counter")
        assert not re.search(r"_(ms|milliseconds|minutes|kb|count|sum|bucket)(_|$)", name)


def test_what_other_processes_sent_is_in_the_sums():
    """Latencies, attempts and retries of a worker are added, whatever it told before."""
    worker, first = RunMetrics(limit=3), RunMetrics(limit=5)
    before = None
    for seconds in (0.002, 0.2):
        worker.requests, worker.in_flight = 1, 2
        worker.retries["timeout"] += 1
        worker.latency.record(seconds)
        now = worker.take_traffic()
        first.add_traffic(now, before)
        before = now
    found = samples(TEXT, first)
    assert found["batchscore_attempts_total"] == 2
    assert found["batchscore_retries_total,cause=timeout"] == 2
    assert found["batchscore_requests_limit"] == 8
    assert found["batchscore_requests_in_flight"] == 2
    assert found["batchscore_request_duration_seconds_sum"] == pytest.approx(0.202)
    assert found["batchscore_request_duration_seconds_bucket,le=0.0025"] == 1


PROMETHEUS_2 = (
    "application/openmetrics-text;version=1.0.0,application/openmetrics-text;version=0.0.1;q=0.75,"
    "text/plain;version=0.0.4;q=0.5,*/*;q=0.1"
)
PROMETHEUS_3 = (
    "application/openmetrics-text;version=1.0.0;escaping=allow-utf-8;q=0.5,"
    "application/openmetrics-text;version=0.0.1;q=0.4,text/plain;version=1.0.0;"
    "escaping=allow-utf-8;q=0.3,text/plain;version=0.0.4;q=0.2,/;q=0.1"
)
PROTOBUF_FIRST = (
    "application/vnd.google.protobuf;proto=io.prometheus.client.MetricFamily;encoding=delimited;"
    "q=0.7,text/plain;version=0.0.4;q=0.3"
)


@pytest.mark.parametrize(
    ("accept", "expected"),
    [
        ("", TEXT),
        ("*/*", TEXT),
        ("text/html,application/xhtml+xml,*/*;q=0.8", TEXT),
        (PROMETHEUS_2, OPENMETRICS),
        (PROMETHEUS_3, OPENMETRICS),
        (PROTOBUF_FIRST, TEXT),
        ("text/plain;version=0.0.4", TEXT),
        ("application/openmetrics-text", OPENMETRICS),
        ("application/openmetrics-text; version=1.0.0; charset=utf-8", OPENMETRICS),
        ("application/openmetrics-text; version=2.0.0", TEXT),
        ("application/openmetrics-text;q=0", TEXT),
        ("application/openmetrics-text;q=0.2, text/plain;q=0.9", TEXT),
        ("application/openmetrics-text;q=much, text/plain", TEXT),
        (";;;,,q=", TEXT),
    ],
)
def test_the_format_is_the_one_that_is_liked_best(accept, expected):
    """What Prometheus 2 and 3, browsers, curl and nonsense accept leads to a text they can read."""
    assert negotiated(accept) == expected
