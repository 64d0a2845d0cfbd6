"""A real proxy in between: whatever it does to requests, every row is scored, in order.

Envoy delays, aborts, throttles and gives up on the upstream; our own proxy before it resets.
"""

import threading
import time

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from faultserver import LINEAR, FaultServer, Proxy
from integration.conftest import read_arrow

import batchscore

pytest.importorskip("envoy", reason="the wheel of Envoy is installed on Linux only")

from proxies import envoy_process as envoy
from proxies.envoy_process import Envoy

ROWS = 1200
OPTIONS = {"batch_size": 20, "concurrency": 8, "max_attempts": 12, "timeout": 5}


@pytest.fixture
def scored(tmp_path):
    """Score rows by an address, check every one of them, give the report back."""
    pq.write_table(pa.table({"x": pa.array(range(ROWS), pa.int64())}), tmp_path / "in.parquet")

    def score(url, **options):
        report = batchscore.score(
            tmp_path / "in.parquet", tmp_path / "out.arrow", url=url, **{**OPTIONS, **options}
        )
        out = read_arrow(tmp_path / "out.arrow")
        assert out["x"].to_pylist() == list(range(ROWS))
        assert out["predicted_y"].to_pylist() == [2.0 * x + 1 for x in range(ROWS)]
        assert out["prediction_error"].null_count == ROWS
        assert (report.rows_scored, report.exit_code) == (ROWS, 0)
        return report

    return score


def test_nothing_is_lost_in_a_proxy_that_only_forwards(tmp_path, scored):
    """One request a batch, none of them twice, no more at once than allowed."""
    with FaultServer(*LINEAR) as server, Envoy(tmp_path, server.url) as proxy:
        report = scored(proxy.url)
        assert report.requests == server.request_count == ROWS // 20
        assert server.max_in_flight <= 8
        assert proxy.counted("http.in.downstream_rq_2xx") == ROWS // 20 + server.spec_requests


def test_delayed_requests_overtake_one_another_and_change_nothing(tmp_path, scored):
    """A third of the requests is held back, the rows stay in their order."""
    filters = [envoy.delays(33, 0.1)]
    with FaultServer(*LINEAR) as server, Envoy(tmp_path, server.url, filters) as proxy:
        report = scored(proxy.url)
        assert report.requests == server.request_count == ROWS // 20
        assert proxy.counted("http.in.fault.delays_injected") > 0


@pytest.mark.parametrize("status", [429, 500, 502, 503, 504])
def test_aborted_requests_are_tried_again(tmp_path, scored, status):
    """A fifth of the requests is answered by the proxy: each costs one retry, and no row."""
    filters = [envoy.aborts(20, status)]
    with FaultServer(*LINEAR) as server:
        with Envoy(tmp_path, server.url, filters) as proxy:
            report = scored(proxy.url)
            aborted = proxy.counted("http.in.fault.aborts_injected")
    assert report.retries[f"http_{status}"] > 0
    # The specification is asked for through the proxy too.
    assert 0 <= aborted - report.retries[f"http_{status}"] <= 3
    assert server.request_count == ROWS // 20


def test_a_rate_limit_of_the_proxy_is_kept_to(tmp_path, scored):
    """429s over the rate cost retries; none is given up, and few are asked for in vain."""
    filters = [envoy.rate_limit(20, 0.3)]
    with FaultServer(*LINEAR) as server:
        with Envoy(tmp_path, server.url, filters) as proxy:
            report = scored(proxy.url, concurrency="auto", max_attempts=30)
            refused = proxy.counted("rate.http_local_rate_limit.rate_limited")
    assert report.retries == {"http_429": refused}
    assert 0 < refused <= 60


def test_answers_that_trickle_are_waited_for(tmp_path, scored):
    """Throttled answers take their time; none is cut off, none is asked for twice."""
    filters = [envoy.slow_answers(16)]
    with FaultServer(*LINEAR) as server:
        with Envoy(tmp_path, server.url, filters) as proxy:
            report = scored(proxy.url, timeout=20)
            assert proxy.counted("bandwidth.http_bandwidth_limit.response_enforced") > 0
    assert not report.retries


@pytest.mark.parametrize("concurrency", [8, "auto"])
def test_a_circuit_breaker_that_overflows_is_overload(tmp_path, scored, concurrency):
    """Requests over what the proxy lets through are refused with 503 and come again."""
    with FaultServer(*LINEAR, delay_s=0.02) as server:
        with Envoy(tmp_path, server.url, max_connections=2, max_pending=1) as proxy:
            report = scored(proxy.url, batch_size=10, concurrency=concurrency, max_attempts=40)
            overflowed = proxy.counted("cluster.deployment.upstream_rq_pending_overflow")
    assert server.max_in_flight <= 2
    assert overflowed > 0
    assert report.retries["http_503"] == overflowed


def test_a_request_that_the_proxy_gives_up_is_tried_again(tmp_path, scored):
    """504 after the proxy's own timeout; the answer that comes too late is nobody's."""

    def delay_s(request):
        return 0.8 if request.index % 7 == 0 else 0.0

    with FaultServer(*LINEAR, delay_s=delay_s) as server:
        with Envoy(tmp_path, server.url, timeout_s=0.3) as proxy:
            report = scored(proxy.url)
            timeouts = proxy.counted("cluster.deployment.upstream_rq_timeout")
    assert report.retries == {"http_504": timeouts}
    assert timeouts > 5


def test_bodies_over_the_proxys_limit_are_halved(tmp_path, scored):
    """413 of the proxy shrinks the requests until they pass; no row fails for it."""
    filters = [envoy.body_limit(120)]
    with FaultServer(*LINEAR) as server:
        with Envoy(tmp_path, server.url, filters) as proxy:
            report = scored(proxy.url, batch_size=40)
            refused = proxy.counted("http.in.downstream_rq_too_large")
    assert 0 < refused < 160  # all thirty batches taken apart would be 210
    assert report.requests == server.request_count + refused


def test_connections_that_the_proxy_closes_are_replaced(tmp_path, scored):
    """A connection that ends after a few answers costs a new one, and never a row."""
    with FaultServer(*LINEAR) as server:
        with Envoy(tmp_path, server.url, requests_per_connection=3) as proxy:
            scored(proxy.url)
            assert proxy.counted("http.in.downstream_cx_total") >= ROWS // 20 // 3


@pytest.mark.parametrize("away_s", [0.1, 1.0])
def test_an_upstream_that_is_down_behind_the_proxy_is_waited_for(tmp_path, scored, away_s):
    """The proxy's 503s, and connections that end in mid-air, are an outage like any other."""
    with FaultServer(*LINEAR, delay_s=0.02) as server, Envoy(tmp_path, server.url) as proxy:

        def restart():
            while server.request_count < 15:
                time.sleep(0.002)
            server.go_away()
            time.sleep(away_s)
            server.come_back()

        thread = threading.Thread(target=restart)
        thread.start()
        report = scored(proxy.url, max_attempts=3)
        thread.join()
        broken = proxy.counted("cluster.deployment.upstream_cx_connect_fail")
        assert report.retries["http_503"] > 0
        assert away_s < 0.5 or broken > 0


def test_an_upstream_that_stays_down_ends_the_job_and_resuming_finishes_it(tmp_path, scored):
    """Past --max-outage the job ends with 75; when the upstream is back, --resume goes on."""
    with FaultServer(*LINEAR, delay_s=0.02) as server, Envoy(tmp_path, server.url) as proxy:

        def stop():
            while server.request_count < 30:
                time.sleep(0.002)
            server.go_away()

        thread = threading.Thread(target=stop)
        thread.start()
        with pytest.raises(batchscore.TemporaryError, match="is away for 1 s: http_503"):
            scored(proxy.url, max_attempts=2, max_outage="1s")
        thread.join()
        assert not (tmp_path / "out.arrow").exists()
        server.come_back()
        assert scored(proxy.url, resume=True).rows_resumed > 0


@pytest.mark.parametrize("cut_after_bytes", [None, 400])
def test_resets_before_the_proxy_are_survived(tmp_path, scored, cut_after_bytes):
    """Connections that break, also in the middle of an answer, cost retries and no row."""
    filters = [envoy.delays(50, 0.05)]
    with FaultServer(*LINEAR) as server, Envoy(tmp_path, server.url, filters) as envoy_proxy:
        with Proxy.before(envoy_proxy.url) as proxy:
            ended = threading.Event()

            def disturb():
                while not ended.wait(0.15):
                    proxy.reset()
                    proxy.cut_after_bytes = None if proxy.cut_after_bytes else cut_after_bytes

            thread = threading.Thread(target=disturb)
            thread.start()
            try:
                report = scored(proxy.url_of(envoy_proxy.url), max_attempts=30)
            finally:
                ended.set()
                thread.join()
    assert report.retries["connection"] > 0
