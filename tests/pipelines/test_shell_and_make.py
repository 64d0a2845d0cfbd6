"""examples/pipelines/score.sh and Makefile, run by a real sh and make."""

from __future__ import annotations

import os
import shutil
import signal
import sys

import pyarrow.parquet as pq
import pytest
from faultserver import LINEAR, FaultServer, faults
from pipelines.running import (
    REFUSES,
    kill_at_work,
    noting,
    pids,
    prepared,
    report_of,
    run,
    start,
    wait_for,
)

pytestmark = pytest.mark.skipif(sys.platform == "win32", reason="a script of sh")
needs_make = pytest.mark.skipif(shutil.which("make") is None, reason="needs make")
SCRIPT = ("./score.sh", "rows/monday.parquet", "monday.parquet")
SMALL = ("--batch-size", "10", "--concurrency", "1")


@pytest.fixture
def folder(tmp_path):
    return prepared(tmp_path, "score.sh", "Makefile")


def test_a_job_that_runs_through_ends_with_0_and_sends_nothing_again(folder):
    """The first run scores and reports, the second finds all done."""
    with FaultServer(*LINEAR) as server:
        assert run(folder, *SCRIPT, URL=server.url).returncode == 0
        sent = server.request_count
        assert sent > 0
        assert run(folder, *SCRIPT, URL=server.url).returncode == 0
        assert server.rows_seen == 200
    assert report_of(folder / "monday.parquet")["rows_resumed"] == 200


@pytest.mark.parametrize(
    ("code", "fault", "words"),
    [(1, faults.status(403), ()), (2, None, ("--bach-size", "1")), (3, faults.status(422), ())],
)
def test_what_another_try_would_not_mend_is_not_tried_again(folder, code, fault, words):
    """1, 2 and 3 are the script's exit codes after one run."""

    def script(request):
        return fault if any(row["x"] == 7 for row in request.rows) else None

    with FaultServer(*LINEAR, script=script) as server:
        done = run(folder, *SCRIPT, *SMALL, *words, URL=server.url, BATCHSCORE=str(noting(folder)))
    assert done.returncode == code, done.stderr
    assert len(pids(folder)) == 1
    if code != 2:
        assert report_of(folder / "monday.parquet")["exit_code"] == code


def test_an_outage_is_tried_again_and_goes_on_where_it_was(folder):
    """After a 75 the next try resumes, and the whole ends with 0."""
    away = [None] * 5 + [faults.status(503)] * 6
    with FaultServer(*LINEAR, script=away) as server:
        options = ("--max-outage", "0s", "--max-attempts", "2", *SMALL)
        done = run(folder, *SCRIPT, *options, URL=server.url, BATCHSCORE=str(noting(folder)))
    assert done.returncode == 0, done.stderr
    assert "try 1 of 5 was cut short" in done.stderr
    assert len(pids(folder)) > 1
    assert report_of(folder / "monday.parquet")["rows_resumed"] >= 40
    assert pq.read_table(folder / "monday.parquet")["x"].to_pylist() == list(range(200))


def test_a_deployment_that_stays_away_ends_with_75_after_the_last_try(folder):
    """As many runs as TRIES says, and the code tells cron that it may pass."""
    done = run(folder, *SCRIPT, URL=REFUSES, TRIES="2", BATCHSCORE=str(noting(folder)))
    assert done.returncode == 75
    assert len(pids(folder)) == 2
    assert report_of(folder / "monday.parquet")["exit_code"] == 75


@pytest.mark.parametrize(
    ("number", "to_all", "code"), [(signal.SIGINT, True, 130), (signal.SIGTERM, False, 143)]
)
def test_a_signal_ends_the_run_in_good_order(folder, number, to_all, code):
    """Ctrl-C, which all of a terminal get, gives 130; a TERM to the script alone gives 143."""
    with FaultServer(*LINEAR, delay_s=0.05) as server:
        process = start(folder, *SCRIPT, *SMALL, URL=server.url, BATCHSCORE=str(noting(folder)))
        wait_for(lambda: server.request_count > 3)
        (os.killpg if to_all else os.kill)(process.pid, number)
        _, err = process.communicate(timeout=60)
        assert process.returncode == code, err
        assert len(pids(folder)) == 1
        assert report_of(folder / "monday.parquet")["exit_code"] == code
        assert run(folder, *SCRIPT, *SMALL, URL=server.url).returncode == 0
    assert pq.read_table(folder / "monday.parquet")["x"].to_pylist() == list(range(200))


@pytest.mark.parametrize(
    ("number", "to_all", "code"), [(signal.SIGINT, True, 130), (signal.SIGTERM, False, 143)]
)
def test_a_signal_ends_the_pause_between_two_tries(folder, number, to_all, code):
    """Nobody waits for the end of a pause."""
    process = start(folder, *SCRIPT, URL=REFUSES, PAUSE_S="3000")
    assert process.stderr
    while "the next in 3000 s" not in process.stderr.readline():
        assert process.poll() is None
    (os.killpg if to_all else os.kill)(process.pid, number)
    process.communicate(timeout=60)
    assert process.returncode == code


def test_a_killed_run_goes_on_at_the_next(folder):
    """A kill -9 is not hidden by another try at once, and the next run resumes."""
    with FaultServer(*LINEAR, delay_s=0.05) as server:
        process = start(folder, *SCRIPT, *SMALL, URL=server.url, BATCHSCORE=str(noting(folder)))
        kill_at_work(folder, folder / "monday.parquet.partial")
        process.communicate(timeout=60)
        assert process.returncode == 137
        assert run(folder, *SCRIPT, *SMALL, URL=server.url).returncode == 0
    assert report_of(folder / "monday.parquet")["rows_resumed"] > 0
    assert pq.read_table(folder / "monday.parquet")["x"].to_pylist() == list(range(200))


def test_a_call_without_an_address_says_how_it_is_called(folder):
    """Usage, and 2."""
    done = run(folder, *SCRIPT, URL="")
    assert (done.returncode, done.stdout) == (2, "")
    assert done.stderr.startswith("usage: URL=")


@needs_make
def test_make_scores_every_file_and_tells_each_code(folder):
    """All files of rows/ have an output and a report; a second make sends nothing."""
    with FaultServer(*LINEAR) as server:
        for _ in range(2):
            done = run(folder, "make", f"URL={server.url}")
            assert done.returncode == 0, done.stderr
        assert server.rows_seen == 400
    assert run(folder, "make", "codes").stdout == (
        "0 scored/monday.parquet\n0 scored/tuesday.parquet\n"
    )


@needs_make
def test_make_does_not_take_failed_rows_for_done(folder):
    """A 3 stops make each time, and nothing is sent for it again."""

    def script(request):
        return faults.status(422) if any(row["x"] == 7 for row in request.rows) else None

    with FaultServer(*LINEAR, script=script) as server:
        words = ("make", f"URL={server.url}", "scored/monday.parquet")
        for _ in range(2):
            assert "Error 3" in run(folder, *words).stderr
        sent = server.rows_seen
        assert "Error 3" in run(folder, *words).stderr
        assert server.rows_seen == sent
    assert run(folder, "make", "codes").stdout == "3 scored/monday.parquet\n"


@needs_make
def test_make_that_is_interrupted_goes_on_at_the_next(folder):
    """Ctrl-C ends make and the run in good order (130), and the next make resumes."""
    words = ("make", "OPTIONS=--batch-size 10 --concurrency 1", "scored/monday.parquet")
    with FaultServer(*LINEAR, delay_s=0.05) as server:
        process = start(folder, *words, f"URL={server.url}")
        wait_for(lambda: server.request_count > 3)
        os.killpg(process.pid, signal.SIGINT)
        process.communicate(timeout=60)
        assert process.returncode in {2, -signal.SIGINT}
        assert report_of(folder / "scored" / "monday.parquet")["exit_code"] == 130
        assert run(folder, *words, f"URL={server.url}").returncode == 0
    assert report_of(folder / "scored" / "monday.parquet")["rows_resumed"] > 0


@needs_make
def test_make_without_rows_says_so(folder):
    """A wrong folder is no good end."""
    shutil.rmtree(folder / "rows")
    done = run(folder, "make")
    assert done.returncode == 2
    assert "there is no rows/*.parquet in " in done.stderr
