"""``--report FILE.html``: a page at every end, true to the run and without its secrets."""

import html
import json
import subprocess
import sys

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from faultserver import LINEAR, FaultServer, faults

import batchscore
from batchscore import BatchscoreError


def write_numbers(path, count):
    pq.write_table(pa.table({"x": pa.array(range(count), pa.int64())}), path)


def run(*words):
    """The exit code of the command."""
    command = [sys.executable, "-m", "batchscore", *words]
    return subprocess.run(command, check=False, capture_output=True, timeout=60).returncode


def refusing(info):
    """Refuse every hundredth row with a text that is no HTML, and fail now and then."""
    if info.index % 10 == 3:
        return faults.status(503)
    if any(row["x"] % 100 == 99 for row in info.rows):
        return faults.status(422, "<b>x</b> must not end in 99")
    return None


@pytest.fixture
def scored(tmp_path):
    """A job with failed rows and retries: its JSON, its page."""
    write_numbers(tmp_path / "in.parquet", 2000)
    reports = [tmp_path / "r.json", tmp_path / "r.html"]
    with FaultServer(*LINEAR, script=refusing, token="SECRETTOKEN", delay_s=0.005) as server:
        url = server.url.replace("http://", "http://SECRETUSER:SECRETPASS@") + "?k=SECRETQUERY"
        batchscore.score(
            tmp_path / "in.parquet", tmp_path / "out.arrow", url=url, token="SECRETTOKEN",
            header=["X-K: SECRETHEADER"], batch_size=20, max_attempts=20, report=reports,
        )  # fmt: skip
    return json.loads(reports[0].read_text()), reports[1].read_text()


def test_the_history_of_a_job_adds_up_to_its_summary(scored):
    """Rows, failed rows, requests and retries of all windows are those of the whole run."""
    report, _ = scored
    history = report["history"]
    assert sum(w["rows"] for w in history) == report["rows_read"] == 2000
    assert sum(w["failed_rows"] for w in history) == report["rows_failed"] == 20
    assert sum(w["requests"] for w in history) == report["requests"]
    assert sum(w["retries"].get("http_503", 0) for w in history) == report["retries"]["http_503"]
    assert history[-1]["at_s"] == pytest.approx(report["seconds"], abs=0.05)
    assert all(w["limit"] >= 1 for w in history)


def test_failed_rows_are_quoted_with_their_places(scored):
    """The first rows that failed, in order, counted from 1, with the server's words."""
    report, _ = scored
    (examples,) = report["failed_examples"].values()
    assert [example["row"] for example in examples] == [100, 200, 300]
    assert all("<b>x</b> must not end in 99" in example["text"] for example in examples)


def test_the_page_of_a_job_tells_what_its_json_tells(scored):
    """Rows, retries, examples, options and environment are on the page, and markup is text."""
    report, page = scored
    assert page.startswith("<!doctype html>")
    assert page.count("<svg") >= 8
    assert "1,980" in page
    assert "http_503" in page
    assert "<b>x</b>" not in page
    assert html.escape("<b>x</b> must not end in 99") in page
    assert f"Python {report['environment']['python'].split()[1]}" in page
    assert report["options"]["batch_size"] == 20
    assert "batch size" in page


def test_no_secret_of_a_job_is_in_its_reports(scored):
    """Neither the token, nor a header's value, nor the user part or query of the address."""
    report, page = scored
    assert "SECRET" not in page
    assert "SECRET" not in json.dumps(report)
    assert "X-K" in page


def test_a_run_that_is_stopped_leaves_its_page(tmp_path):
    """A deployment that refuses all is told on the page, with the exit code."""
    write_numbers(tmp_path / "in.parquet", 10)
    page = tmp_path / "r.html"
    script = [faults.status(403, "no <entry>")] * 50
    with FaultServer(*LINEAR, script=script) as server, pytest.raises(BatchscoreError):
        batchscore.score(
            tmp_path / "in.parquet", tmp_path / "out.arrow", url=server.url, report=page
        )
    text = page.read_text()
    assert "Stopped" in text
    assert "Exit code 1." in text
    assert "no &lt;entry&gt;" in text


def test_wrong_options_leave_a_page_but_never_in_the_place_of_other_files(tmp_path):
    """A page is written also by a command that cannot begin, over an earlier page or nothing."""
    new, old, other = (tmp_path / name for name in ("new.html", "old.html", "other.html"))
    words = ["score", "in.parquet", "--url", "http://127.0.0.1:9/x", "-o", "o.arrow"]
    words += [word for path in (new, old, other) for word in ("--report", str(path))]
    other.write_text("<!doctype html><p>mine")
    for _ in range(2):
        assert run(*words, "--batch-size", "0") == 2
        old.write_text(new.read_text().replace("Not begun", "An older page"))
    assert "Not begun" in new.read_text()
    assert other.read_text() == "<!doctype html><p>mine"
    assert run(*words, "--batch-size", "0") == 2
    assert "Not begun" in old.read_text()


def test_the_page_of_a_rescore_says_that_it_is_one(tmp_path, scored):
    """Its rows are the failed ones alone, and its examples say that they are counted so."""
    page = tmp_path / "again.html"
    report = tmp_path / "again.json"
    with FaultServer(*LINEAR, script=refusing) as server:
        words = ["rescore", str(tmp_path / "out.arrow"), "--url", server.url]
        assert run(*words, "--report", page, "--report", report) == 3
    told = json.loads(report.read_text())
    assert told["kind"] == "rescore"
    assert sum(w["rows"] for w in told["history"]) == 20
    assert [e["row"] for e in next(iter(told["failed_examples"].values()))] == [1, 2, 3]
    text = page.read_text()
    assert "Rescore: " in text
    assert "row sent 1" in text
