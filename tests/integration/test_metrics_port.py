"""``--metrics-port``: what a run serves while it lasts, and at its end."""

from __future__ import annotations

import json
import signal
import socket
import subprocess
import sys
import threading
import time
import urllib.error
import urllib.request
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from faultserver import LINEAR, FaultServer, faults
from integration.test_resume import environment
from prometheus_client.parser import text_string_to_metric_families

import batchscore
from batchscore import UsageError
from batchscore.observers.exposition import OPENMETRICS, TEXT

Samples = dict[str, float]
DEADLINE_S = 60


def free_port() -> int:
    """A port of 127.0.0.1 that nobody listens on."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return probe.getsockname()[1]


def fetched(port: int, accept: str = "", path: str = "/metrics") -> tuple[str, str]:
    """What is served: content type and text."""
    request = urllib.request.Request(f"http://127.0.0.1:{port}{path}")
    if accept:
        request.add_header("Accept", accept)
    opener = urllib.request.build_opener(urllib.request.ProxyHandler({}))
    with opener.open(request, timeout=20) as response:
        return response.headers["Content-Type"], response.read().decode()


def samples(text: str) -> Samples:
    """Each sample by its name and labels, ``name,label=value``."""
    found = {}
    for family in text_string_to_metric_families(text):
        for sample in family.samples:
            labels = "".join(f",{k}={v}" for k, v in sorted(sample.labels.items()))
            found[sample.name + labels] = sample.value
    return found


def scraped(port: int, until: Callable[[Samples], object]) -> tuple[str, Samples]:
    """The first exposition that is as it is waited for."""
    deadline = time.monotonic() + DEADLINE_S
    while time.monotonic() < deadline:
        try:
            _, text = fetched(port)
        except (urllib.error.URLError, ConnectionError):
            time.sleep(0.01)
            continue
        found = samples(text)
        if until(found):
            return text, found
        time.sleep(0.01)
    pytest.fail("what was waited for is not in the metrics")


def ended(found: Samples) -> bool:
    return "batchscore_exit_code" in found


def summed(found: Samples, name: str) -> int:
    return int(sum(value for key, value in found.items() if key.split(",")[0] == name))


@contextmanager
def beside(work: Callable[[], Any]) -> Iterator[list[Any]]:
    """Something in a thread of its own, and what it returned, once the body is over."""
    returned: list[Any] = []

    def run() -> None:
        returned.append(work())

    thread = threading.Thread(target=run)
    thread.start()
    try:
        yield returned
    finally:
        thread.join(DEADLINE_S)
        assert not thread.is_alive()


@pytest.fixture
def rows(tmp_path: Path) -> Path:
    pq.write_table(pa.table({"x": pa.array(range(1000), pa.int64())}), tmp_path / "in.parquet")
    return tmp_path / "in.parquet"


def refusing(info: Any) -> Any:
    """Refuse every hundredth row, and fail now and then."""
    if info.index % 10 == 3:
        return faults.status(503)
    if any(row["x"] % 100 == 99 for row in info.rows):
        return faults.status(422, "must not end in 99")
    return None


@pytest.mark.parametrize("processes", [1, 2])
def test_the_last_scrape_has_the_sums_of_the_report(rows, processes):
    """Rows, failures by code, attempts, retries by cause, bytes: of all processes, to the last."""
    port = free_port()

    def job() -> batchscore.RunReport:
        return batchscore.score(
            rows, rows.with_name("out.arrow"), url=server.url, batch_size=20, max_attempts=20,
            processes=processes, metrics_port=port, metrics_linger="60s",
        )  # fmt: skip

    with FaultServer(*LINEAR, script=refusing, delay_s=0.01) as server:
        with beside(job) as returned:
            _, live = scraped(port, lambda found: found["batchscore_rows_scored_total"])
            _, last = scraped(port, ended)
    (report,) = returned
    assert 0 < live["batchscore_rows_scored_total"] <= report.rows_scored == 990
    assert live["batchscore_requests_limit"] >= 1
    assert last["batchscore_exit_code"] == report.exit_code == 3
    assert last["batchscore_input_rows"] == last["batchscore_rows_read_total"] == 1000
    assert last["batchscore_rows_scored_total"] == 990
    assert last["batchscore_rows_failed_total,code=http_422"] == 10
    assert summed(last, "batchscore_rows_failed_total") == report.rows_failed == 10
    assert last["batchscore_attempts_total"] == report.requests == server.request_count
    assert last["batchscore_retries_total,cause=http_503"] == report.retries["http_503"] > 0
    assert summed(last, "batchscore_retries_total") == sum(report.retries.values())
    assert last["batchscore_sent_bytes_total"] == report.bytes_sent
    assert last["batchscore_received_bytes_total"] == report.bytes_received
    # Every request was answered, so every one has its latency.
    assert last["batchscore_request_duration_seconds_count"] == report.requests
    # Forty of the fifty batches, at least, took their ten milliseconds.
    assert last["batchscore_request_duration_seconds_sum"] > 40 * 0.009
    assert last["batchscore_requests_in_flight"] == 0
    with pytest.raises(urllib.error.URLError):
        fetched(port)


def test_a_resumed_job_tells_what_earlier_runs_decided(rows):
    """Resumed rows are told apart, and are in the sums as they are in the report."""
    out, port = rows.with_name("out.arrow"), free_port()
    with FaultServer(*LINEAR, script=refusing, delay_s=0.01) as server:
        batchscore.score(rows, out, url=server.url, batch_size=20)

        def again() -> batchscore.RunReport:
            return batchscore.score(
                rows, out, url=server.url, batch_size=20, resume=True, metrics_port=port,
                metrics_linger="60s",
            )  # fmt: skip

        with beside(again) as returned:
            _, last = scraped(port, ended)
    assert last["batchscore_rows_resumed_total"] == returned[0].rows_resumed == 1000
    assert last["batchscore_rows_failed_total,code=http_422"] == 10
    assert last["batchscore_attempts_total"] == 0


def test_rescore_serves_its_metrics_too(rows):
    """The run is told as a rescore, with the rows that were scored before as resumed ones."""
    out, port = rows.with_name("out.arrow"), free_port()
    with FaultServer(*LINEAR, script=refusing) as server:
        batchscore.score(rows, out, url=server.url, batch_size=20)
    with FaultServer(*LINEAR) as server:

        def again() -> batchscore.RunReport:
            return batchscore.rescore(out, url=server.url, metrics_port=port, metrics_linger=60)

        with beside(again) as returned:
            text, last = scraped(port, ended)
    assert 'batchscore_run_info{kind="rescore",' in text
    assert last["batchscore_rows_resumed_total"] == 990
    assert last["batchscore_rows_scored_total"] == returned[0].rows_scored == 1000


def test_no_secret_is_ever_a_label(rows):
    """The deployment's address is there without user and query; no token, no header, no value."""
    port = free_port()
    with FaultServer(*LINEAR, token="SECRETTOKEN") as server:
        url = server.url.replace("http://", "http://SECRETUSER:SECRETPASS@") + "?k=SECRETQUERY"

        def job() -> batchscore.RunReport:
            return batchscore.score(
                rows, rows.with_name("out.arrow"), url=url, token="SECRETTOKEN",
                header=["X-K: SECRETHEADER"], metrics_port=port, metrics_linger=60,
            )  # fmt: skip

        with beside(job):
            scraped(port, lambda found: found)
            texts = [fetched(port, accept) for accept in (TEXT, OPENMETRICS)]
            scraped(port, ended)
        shown = server.url
    assert [content_type for content_type, _ in texts] == [TEXT, OPENMETRICS]
    for _, text in texts:
        assert f'endpoint="{shown}"' in text
        assert "SECRET" not in text


def test_a_port_that_is_taken_ends_the_job_before_anything_is_sent(rows):
    """Whoever listens there is named, the report tells of it, and the server has heard nothing."""
    report = rows.with_name("r.json")
    with FaultServer(*LINEAR) as server, socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
        with pytest.raises(UsageError) as raised:
            batchscore.score(
                rows, rows.with_name("out.arrow"), url=server.url, metrics_port=port,
                report=report,
            )  # fmt: skip
        assert (server.request_count, server.spec_requests) == (0, 0)
    assert f"--metrics-port: 127.0.0.1:{port} is taken" in str(raised.value)
    assert json.loads(report.read_text())["exit_code"] == 2
    assert not rows.with_name("out.arrow").exists()


@pytest.mark.parametrize("address", ["192.0.2.1:9464", "no-such-host.invalid:9464"])
def test_an_address_of_another_computer_is_refused(rows, address):
    """It is named, with what to do."""
    with pytest.raises(UsageError, match="cannot listen on .*; name an address of this computer"):
        batchscore.score(
            rows, rows.with_name("out.arrow"), url="http://127.0.0.1:9/forward",
            metrics_port=address,
        )  # fmt: skip


def test_nobody_is_waited_for_where_nothing_was_done(rows):
    """A usage error ends at once, although an hour's wait for a scrape was asked for."""
    with pytest.raises(UsageError, match="nosuch"):
        batchscore.score(
            rows.with_name("nosuch.parquet"), rows.with_name("out.arrow"),
            url="http://127.0.0.1:9/forward", metrics_port=0, metrics_linger="1h",
        )  # fmt: skip


def command(*words: str | Path, **variables: str) -> subprocess.Popen[str]:
    return subprocess.Popen(
        [sys.executable, "-m", "batchscore", *map(str, words)],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        env=environment() | variables,
    )


def test_any_free_port_is_told_and_every_source_of_options_has_it(rows, tmp_path):
    """Port 0 comes from a variable or a file as well, and standard error says which it became."""
    config = tmp_path / "job.toml"
    config.write_text('metrics-port = "127.0.0.1:0"\n')
    out = tmp_path / "out.arrow"
    with FaultServer(*LINEAR) as server:
        base = ("score", rows, "--url", server.url, "-o", out, "--overwrite")
        for words, variables in (
            ((), {"BATCHSCORE_METRICS_PORT": "0"}),
            (("--config", config), {}),
            (("--metrics-port", "0"), {}),
        ):
            with command(*base, *words, **variables) as process:
                _, err = process.communicate(timeout=DEADLINE_S)
            assert process.returncode == 0
            assert err.startswith("metrics at http://127.0.0.1:")


def test_a_wait_for_the_last_scrape_can_be_interrupted(rows, tmp_path):
    """The output is whole by then, and Ctrl-C ends the process as it always does."""
    out = tmp_path / "out.arrow"
    with FaultServer(*LINEAR) as server:
        linger = ("--metrics-port", "0", "--metrics-linger", "1h")
        with command("score", rows, "--url", server.url, "-o", out, *linger) as process:
            # The last line that the run writes.
            lines = iter(process.stderr.readline, "")
            told = [next(line for line in lines if line.startswith("output "))]
            assert process.poll() is None
            process.send_signal(signal.SIGINT)
            err = told[0] + process.stderr.read()
            process.wait(DEADLINE_S)
    assert process.returncode == 130
    assert "Traceback" not in err
    with pa.memory_map(str(out)) as file:
        assert pa.ipc.open_file(file).read_all().num_rows == 1000


def test_other_addresses_of_the_port_say_where_the_metrics_are(rows):
    """A browser at / is told the way, and what is not there is not found."""
    port = free_port()

    def job() -> batchscore.RunReport:
        return batchscore.score(
            rows, rows.with_name("out.arrow"), url=server.url, metrics_port=port,
            metrics_linger=60,
        )  # fmt: skip

    with FaultServer(*LINEAR) as server, beside(job):
        scraped(port, lambda found: found)
        assert "/metrics" in fetched(port, path="/")[1]
        with pytest.raises(urllib.error.HTTPError) as raised:
            fetched(port, path="/nosuch")
        assert raised.value.code == 404
        raised.value.close()
        scraped(port, ended)


def test_scrapes_change_nothing_of_what_is_written(rows):
    """A run that is scraped without a pause writes the bytes that one without metrics writes."""
    port, counts = free_port(), Counter()
    plain, watched = rows.with_name("plain.arrow"), rows.with_name("watched.arrow")
    with FaultServer(*LINEAR, delay_s=0.005) as server:
        batchscore.score(rows, plain, url=server.url, batch_size=20, concurrency=1)

        def job() -> batchscore.RunReport:
            return batchscore.score(
                rows, watched, url=server.url, batch_size=20, concurrency=1, metrics_port=port,
                metrics_linger=60,
            )  # fmt: skip

        def once_more(found: Samples) -> bool:
            counts["scrapes"] += 1
            return ended(found)

        with beside(job):
            scraped(port, once_more)
    assert counts["scrapes"] > 1
    assert plain.read_bytes() == watched.read_bytes()
