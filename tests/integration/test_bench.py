"""Loads on real servers whose behaviour is known."""

from __future__ import annotations

import asyncio
import json
import time
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from faultserver import LINEAR, FaultServer, RequestInfo, faults

from batchscore.bench.cells import Cell
from batchscore.bench.measure import Display
from batchscore.bench.options import BenchConfig
from batchscore.bench.report import BenchReport
from batchscore.bench.run import bench
from batchscore.config import configured
from batchscore.errors import BatchscoreError, InputError, RefusedError, UsageError
from batchscore.report_page import page

from .conftest import read_arrow


class Quiet:
    """A display that shows nothing."""

    def on_load(self, number: int, of: int, text: str, expected_s: float) -> None: ...

    def on_tick(self, seconds: float, done: int, failed: int, in_flight: int) -> None: ...

    def on_cell(self, cell: Cell) -> None: ...


def rows_file(folder: Path, rows: int = 4000) -> str:
    path = folder / "rows.parquet"
    pq.write_table(pa.table({"x": [float(row) for row in range(rows)]}), path)
    return str(path)


def measure(folder: Path, url: str, display: Display | None = None, **options: Any) -> BenchReport:
    """A short bench; the client may be slow, as this is no place to judge it by."""
    values = {
        "inputs": rows_file(folder), "url": url, "duration": 1.0, "warmup": 0.2,
        "min_requests": 1, "max_duration": 1.0, "batch_size": 4, "max_client_share": 1000.0,
        **options,
    }  # fmt: skip
    return asyncio.run(bench(configured(BenchConfig, values), display or Quiet()))


def test_a_fixed_delay_is_what_is_measured(tmp_path):
    """The median is the delay and little more, throughput in a closed loop what follows from it."""
    with FaultServer(*LINEAR, delay_s=0.05) as server:
        report = measure(tmp_path, server.url, concurrency="1,4")
    for cell, concurrency in zip(report.cells, (1, 4), strict=True):
        figures = cell.as_dict()
        for name in ("response_s", "service_s"):
            # The timer of the server is early by its clock's grain at most.
            assert 0.049 <= figures[name]["min"] <= figures[name]["p50"] < 0.1
        assert figures["response_s"]["p50"] == figures["service_s"]["p50"]
        assert 0.4 * concurrency / 0.05 <= cell.good_requests_per_s <= concurrency / 0.049
        assert figures["rows_per_s"] == pytest.approx(4 * figures["requests_per_s"])
        assert figures["errors"] == {}
        assert figures["connect_s"]["count"] <= concurrency
    assert report.status == "ok"


def test_what_is_counted_is_what_the_server_got(tmp_path):
    """Requests, rows and bytes of the output are those that arrived, each row sent once."""
    out = tmp_path / "requests.arrow"
    with FaultServer(*LINEAR, delay_s=0.02) as server:
        report = measure(tmp_path, server.url, concurrency=3, output=str(out))
        # The first request asked what an answer looks like, and was not measured.
        arrived = [info for info in server.requests if len(info.rows) == 4]
    table = read_arrow(out)
    assert table.num_rows == len(arrived)
    assert sum(table["rows"].to_pylist()) == sum(len(info.rows) for info in arrived)
    assert sum(table["bytes_sent"].to_pylist()) == sum(info.body_bytes for info in arrived)
    assert set(table["status"].to_pylist()) == {200}
    assert max(table["in_flight"].to_pylist()) == 3
    sent = [row["x"] for info in arrived for row in info.rows]
    assert len(set(sent)) == len(sent)
    measured = [row for row in table.to_pylist() if row["measured"]]
    assert len(measured) == report.cells[0].requests
    for row in measured:
        moments = [row[name] for name in ("intended_s", "sent_s", "first_byte_s", "last_byte_s",
                                          "decoded_s")]  # fmt: skip
        assert moments == sorted(moments)


def test_an_open_loop_shows_the_queue_that_a_closed_one_hides(tmp_path):
    """A server that stops once for a second: whoever would have come meanwhile waited too."""

    def delay_s(info: RequestInfo) -> float:
        # One at a time, so that all others wait behind the one that takes a second.
        return 1.0 if info.index == 30 else 0.002

    options = {"duration": 3.0, "max_duration": 3.0, "warmup": 0.0}
    with FaultServer(*LINEAR, delay_s=delay_s, capacity=1) as server:
        opened = measure(tmp_path, server.url, rate=50, arrivals="constant", **options).cells[0]
    with FaultServer(*LINEAR, delay_s=delay_s, capacity=1) as server:
        closed = measure(tmp_path, server.url, concurrency=1, **options).cells[0]
    assert opened.response.summary()["max"] >= 0.99
    assert opened.percentile(90) > 0.5
    # In the closed loop one request alone was there to notice.
    assert closed.response.summary()["max"] >= 0.99
    assert closed.percentile(90) < 0.5


def test_requests_of_an_open_loop_are_as_many_as_were_asked_for(tmp_path):
    """However slow the server, a request goes out at each time of the schedule."""
    with FaultServer(*LINEAR, delay_s=0.3) as server:
        cell = measure(tmp_path, server.url, rate=100, arrivals="constant").cells[0]
    assert cell.requests == pytest.approx(100 * cell.seconds, abs=2)
    gaps = cell.samples.column("intended")[1:] - cell.samples.column("intended")[:-1]
    assert gaps == pytest.approx([0.01] * len(gaps))
    # By Little's law thirty are in flight.
    assert cell.windows[-1].in_flight == pytest.approx(30, abs=10)


def test_errors_are_counted_by_kind_and_keep_no_latency(tmp_path):
    """Each kind of failure stands by its code; figures are those of the good answers."""
    kinds = [faults.status(503), None, faults.invalid_json(), None, faults.reset("after"), None]

    def script(info: RequestInfo) -> Any:
        return kinds[info.index % 6] if info.index else None

    with FaultServer(*LINEAR, delay_s=0.01, script=faults.before_body(script)) as server:
        report = measure(tmp_path, server.url, concurrency=2)
    cell = report.cells[0]
    assert cell.errors.keys() == {"http_503", "bad_response", "connection"}
    assert sum(cell.errors.values()) == cell.failed_requests
    assert cell.failed_requests + cell.response.count == cell.requests
    assert cell.as_dict()["attempts"] == cell.requests
    assert cell.goodput_rows_per_s < cell.as_dict()["rows_per_s"]


def test_a_request_that_is_ready_early_is_not_in_flight(tmp_path):
    """However early requests are made ready, no more reach the server than were asked for."""

    def script(info: RequestInfo) -> Any:
        return faults.status(503, retry_after=0) if info.index % 5 == 4 else None

    with FaultServer(*LINEAR, delay_s=0.01, script=faults.before_body(script)) as server:
        report = measure(tmp_path, server.url, concurrency=3, max_attempts=10)
        assert server.max_in_flight == 3
    assert report.cells[0].errors == {}


def test_the_time_before_a_request_goes_is_not_its_own(tmp_path):
    """A request that waits for its place for half of --timeout may then take as long as any."""
    with FaultServer(*LINEAR, delay_s=0.6) as server:
        report = measure(tmp_path, server.url, concurrency=1, timeout=1.0, duration=3.0,
                         max_duration=3.0)  # fmt: skip
    assert report.cells[0].errors == {}
    assert report.cells[0].requests >= 4


def test_a_place_is_taken_again_at_once(tmp_path):
    """Between an answer and the next request lies less than the reading of the answer takes."""
    with FaultServer(*LINEAR, delay_s=0.01) as server:
        cell = measure(tmp_path, server.url, concurrency=1, batch_size=1000).cells[0]
    samples = cell.samples.chosen(cell.samples.ok)
    sent, last, decoded = (samples.column(n) for n in ("sent", "last_byte", "decoded"))
    before_read = sent[1:] < decoded[:-1]
    assert (sent[1:] >= last[:-1]).all()
    assert before_read.mean() > 0.9


def test_tries_are_counted_where_they_are_allowed(tmp_path):
    """With --max-attempts a request that works at the second try is good, and took two."""

    def script(info: RequestInfo) -> Any:
        return faults.status(503, retry_after=0) if info.index % 2 else None

    with FaultServer(*LINEAR, script=faults.before_body(script)) as server:
        report = measure(tmp_path, server.url, concurrency=1, max_attempts=5)
    cell = report.cells[0]
    assert cell.errors == {}
    assert cell.as_dict()["attempts"] > cell.requests


def test_an_objective_that_is_missed_is_exit_code_3(tmp_path):
    """The report tells each objective for each load, and the JSON holds it."""
    path = tmp_path / "bench.json"
    with FaultServer(*LINEAR, delay_s=0.05) as server:
        report = measure(
            tmp_path, server.url, concurrency=1, slo=["p50=10s", "p99=20ms"], report=str(path)
        )
    assert (report.exit_code, report.status) == (3, "slo_missed")
    written = json.loads(path.read_text())
    assert [item["is_kept"] for item in written["slo"]] == [True, False]
    assert written["slo"][1]["text"] == "p99=20ms"
    assert (written["kind"], written["exit_code"]) == ("bench", 3)
    assert written["cells"][0]["load"] == {"kind": "closed", "concurrency": 1}


class Blocking(Quiet):
    """A display that keeps the event loop busy, as a client that has too much to do."""

    def on_tick(self, seconds: float, done: int, failed: int, in_flight: int) -> None:
        time.sleep(0.15)


@pytest.mark.parametrize("load", [{"rate": 50, "arrivals": "constant"}, {"concurrency": 2}])
def test_a_client_that_cannot_keep_up_makes_the_run_invalid(tmp_path, load):
    """Where the client holds requests up the exit code is 1, whatever the objectives say."""
    with FaultServer(*LINEAR, delay_s=0.02) as server:
        report = measure(
            tmp_path, server.url, Blocking(), max_client_share=0.1, slo=["p99=1ms"], **load
        )
    assert (report.exit_code, report.status) == (1, "invalid")
    assert "the client was the bottleneck" in (report.message or "")
    reasons = " ".join(report.cells[0].why_invalid)
    assert "are the client's own delay" in reasons
    assert ("sent " in reasons) is ("rate" in load)
    assert "read " in reasons


def test_the_same_rows_show_whether_the_server_caches(tmp_path):
    """With --reuse-rows a server that remembers its answers takes a small part of the time."""
    seen: set[bytes] = set()

    def delay_s(info: RequestInfo) -> float:
        is_known = info.body in seen
        seen.add(info.body)
        return 0.005 if is_known else 0.1

    with FaultServer(*LINEAR, delay_s=delay_s) as server:
        report = measure(tmp_path, server.url, concurrency=1, reuse_rows=True)
    assert report.reuse is not None
    assert (report.reuse["unique"], report.reuse["reused"]) == (0, 1)
    assert report.reuse["ratio"] < 0.8
    assert [cell.measured.rows_reused for cell in report.cells] == [False, True]


def test_a_load_is_measured_until_there_are_enough_requests(tmp_path):
    """A short duration is made longer, up to its bound, until the least number is reached."""
    with FaultServer(*LINEAR, delay_s=0.05) as server:
        options = {"duration": 0.2, "max_drift": 100.0, "concurrency": 1}
        enough = measure(tmp_path, server.url, min_requests=15, max_duration=30, **options)
        bounded = measure(tmp_path, server.url, min_requests=10_000, max_duration=0.5, **options)
    assert enough.cells[0].requests >= 15
    assert 0.5 <= bounded.cells[0].seconds < 5


def test_a_server_that_answers_nothing_well_is_no_measurement(tmp_path):
    """Where every request of a load failed the exit code is 1, and the errors are named."""

    def script(info: RequestInfo) -> Any:
        return faults.status(503) if info.index else None

    with FaultServer(*LINEAR, script=faults.before_body(script)) as server:
        report = measure(tmp_path, server.url, concurrency=1)
    assert (report.exit_code, report.status) == (1, "failed")
    assert "http_503" in (report.message or "")


@pytest.mark.parametrize(
    ("options", "error", "word"),
    [
        ({"batch_size": "9000"}, InputError, "only 4000 rows"),
        ({"output": "out.parquet"}, UsageError, "does not end in .arrow"),
        ({"slo": ["p99"]}, UsageError, "write it like"),
        ({"report": "nowhere/bench.json"}, UsageError, "there is no folder"),
    ],
)
def test_what_cannot_be_measured_is_told_before_the_load(tmp_path, options, error, word):
    """A wrong option or too few rows end the command before any load is sent."""
    with FaultServer(*LINEAR) as server:
        with pytest.raises(error, match=word):
            measure(tmp_path, server.url, **options)
        assert server.request_count <= 1


def test_a_refused_token_ends_the_bench_and_is_reported(tmp_path):
    """There is nothing to measure, and the report says why."""
    path = tmp_path / "bench.json"
    with FaultServer(*LINEAR, token="right") as server:
        with pytest.raises(RefusedError) as caught:
            measure(tmp_path, server.url, token="wrong", report=str(path))
    assert isinstance(caught.value, BatchscoreError)
    written = json.loads(path.read_text())
    assert (written["status"], written["exit_code"], written["cells"]) == ("stopped", 1, [])
    assert "wrong" not in path.read_text()


class Telling(Quiet):
    """A display that notes that a load was measured."""

    def __init__(self) -> None:
        self.cells = 0

    def on_cell(self, cell: Cell) -> None:
        self.cells += 1


def test_what_was_measured_before_an_end_is_kept(tmp_path):
    """Where the deployment refuses everything after the first load, that one is in the reports."""
    path, out, display = tmp_path / "bench.json", tmp_path / "requests.arrow", Telling()

    def script(info: RequestInfo) -> Any:
        return faults.status(403) if display.cells else None

    with FaultServer(*LINEAR, delay_s=0.01, script=faults.before_body(script)) as server:
        report = BenchReport()
        values = {
            "inputs": rows_file(tmp_path), "url": server.url, "duration": 0.5, "warmup": 0.0,
            "concurrency": "1,2", "report": str(path), "output": str(out),
        }  # fmt: skip
        config = configured(BenchConfig, values)
        with pytest.raises(RefusedError):
            asyncio.run(bench(config, display, report))
    assert len(report.cells) == 1
    written = json.loads(path.read_text())
    assert (written["status"], written["exit_code"]) == ("stopped", 1)
    assert [cell["load"]["concurrency"] for cell in written["cells"]] == [1]
    assert set(read_arrow(out)["concurrency"].to_pylist()) == {1}


def test_a_search_without_a_good_answer_is_no_measurement(tmp_path):
    """Where nothing is answered well at the lowest rate the exit code is 1, not 3."""

    def script(info: RequestInfo) -> Any:
        return faults.status(500) if info.index else None

    with FaultServer(*LINEAR, script=faults.before_body(script)) as server:
        report = measure(tmp_path, server.url, find_max=True, rate=20, slo=["p99=1s"])
    assert (report.exit_code, report.status) == (1, "failed")
    assert "http_500" in (report.message or "")


@pytest.mark.slow
def test_the_page_is_that_of_the_json(tmp_path):
    """What the JSON holds is all that the page has: kept, it gives the same page again."""
    json_path, html_path = tmp_path / "bench.json", tmp_path / "bench.html"
    with FaultServer(*LINEAR, delay_s=0.01) as server:
        measure(
            tmp_path, server.url, concurrency="1,2", report=[str(json_path), str(html_path)],
            slo=["p99=1s", "errors=1%"], reuse_rows=True, find_max=True, rate=20, duration=0.5,
        )  # fmt: skip
    written = json.loads(json_path.read_text())
    assert page(written) == html_path.read_text()
    assert len(written["cells"]) == 3
    assert written["find_max"][0]["steps"]


def test_rows_that_are_left_out_or_come_again_are_told(tmp_path):
    """A row that cannot be sent, and an input that is too short, are noted in the report."""
    path = tmp_path / "few.csv"
    path.write_text("x\n1\noops\n2\n3\n4\n5\n")
    with FaultServer(*LINEAR, delay_s=0.01) as server:
        report = measure(tmp_path, server.url, inputs=str(path), concurrency=1, batch_size=2)
    # How busy this computer was before is noted, too, if it was.
    left_out, again = [note for note in report.notes if "load average" not in note]
    assert left_out == "1 row cannot be sent and is left out"
    assert "the input lasts for 2 of" in again


def test_a_server_that_got_slower_is_a_regression(tmp_path):
    """Beside an earlier report, twice the delay is exit code 3, and the change is told."""
    old, new = tmp_path / "old.json", tmp_path / "new.json"
    with FaultServer(*LINEAR, delay_s=0.02) as server:
        measure(tmp_path, server.url, concurrency=1, report=str(old), duration=2.0)
        server.delay_s = 0.06
        report = measure(
            tmp_path, server.url, concurrency=1, report=str(new), compare=str(old),
            max_regression=0.05, duration=2.0,
        )  # fmt: skip
    assert (report.exit_code, report.status) == (3, "regressed")
    comparison = json.loads(new.read_text())["comparison"]
    found = {item["metric"]: item for item in comparison["cells"]}
    assert found["response_s.p50"]["is_regression"]
    assert 0 < found["response_s.p50"]["low"] <= found["response_s.p50"]["change"]
    assert found["goodput_rows_per_s"]["change"] < -0.3
    with pytest.raises(UsageError, match="none of the loads"):
        measure(tmp_path, server.url, concurrency=2, compare=str(old))


def test_where_no_rate_keeps_an_objective_the_search_says_by_how_much(tmp_path):
    """The exit code is 3, and the message has what came of the lowest rate that was tried."""
    with FaultServer(*LINEAR, delay_s=0.05) as server:
        report = measure(
            tmp_path, server.url, rate=20, find_max=True, slo=["p50=10ms"], batch_size="2,4",
        )  # fmt: skip
    assert (report.exit_code, report.status) == (3, "slo_missed")
    assert "no rate keeps p50=10ms; at " in (report.message or "")
    assert [search.batch_size for search in report.searches] == [2, 4]
    assert report.best_search is None


def test_a_file_for_score_serves_bench(tmp_path):
    """Where a file says auto, which only score can do, bench measures its defaults, and says so."""
    values = {"inputs": "rows.parquet", "url": "http://127.0.0.1:1/x"}
    config = configured(BenchConfig, {**values, "batch_size": "auto", "concurrency": "auto"})
    default = configured(BenchConfig, values)
    assert (config.batch_size, config.concurrency) == (default.batch_size, default.concurrency)
    told = " ".join(config.notes)
    assert len(config.notes) == 2
    assert "--concurrency auto" in told
    assert "--batch-size auto" in told
    assert default.notes == ()
    opened = configured(BenchConfig, {**values, "concurrency": "auto", "rate": 20})
    assert opened.notes == ()


def test_an_output_of_another_command_is_not_replaced(tmp_path):
    """Requests of an earlier bench are replaced, whatever else stands there is not."""
    out = tmp_path / "out.arrow"
    with FaultServer(*LINEAR) as server:
        for _ in range(2):
            measure(tmp_path, server.url, concurrency=1, output=str(out), duration=0.2)
        table = pa.table({"predicted_y": [1.0]})
        with pa.OSFile(str(out), "wb") as file, pa.ipc.new_file(file, table.schema) as writer:
            writer.write_table(table)
        with pytest.raises(UsageError, match="holds no requests of a bench"):
            measure(tmp_path, server.url, concurrency=1, output=str(out), duration=0.2)
    assert read_arrow(out).equals(table)
