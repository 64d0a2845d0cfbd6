"""``--log-format json``: standard error has one JSON object a line, whatever happens."""

from __future__ import annotations

import json
import signal
import subprocess
import sys
from datetime import datetime
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from faultserver import LINEAR, FaultServer, faults
from integration.test_resume import wait_for_request

from .conftest import clean_environment

if TYPE_CHECKING:
    from .conftest import Command

JSON = ("--log-format", "json")
FIELDS = ["time", "level", "event", "message"]


def events(err: str) -> list[dict[str, Any]]:
    """The lines of standard error, each an object that begins with the same fields."""
    found = [json.loads(line) for line in err.splitlines()]
    for event in found:
        assert list(event)[: len(FIELDS)] == FIELDS
        assert event["level"] in {"debug", "info", "warning", "error"}
        assert datetime.fromisoformat(event["time"]).tzinfo
    times = [event["time"] for event in found]
    assert times == sorted(times)
    return found


@pytest.fixture
def rows(tmp_path: Path) -> Path:
    pq.write_table(pa.table({"x": pa.array(range(200), pa.int64())}), tmp_path / "in.parquet")
    return tmp_path / "in.parquet"


def refusing(info: Any) -> Any:
    if info.index in {1, 4}:
        return faults.status(503)
    return faults.status(422, "must not be 7") if any(r["x"] == 7 for r in info.rows) else None


def test_a_run_is_told_event_by_event(batchscore: Command, rows: Path) -> None:
    """Start, retries, failed rows with examples, summary, end: no bar, and no other line."""
    with FaultServer(*LINEAR, script=refusing) as server:
        done = batchscore("score", rows, "--url", f"{server.url}?key=SECRET", "-o", "out.arrow",
                          "--batch-size", "20", "--progress", "bar", "-v", *JSON)  # fmt: skip
    assert (done.code, done.out) == (3, "")
    assert "SECRET" not in done.err
    told = {event["event"]: event for event in events(done.err)}
    assert list(told) == ["start", "retry", "failed_rows", "summary", "end"]
    assert told["start"]["endpoint"] == server.url
    assert told["start"]["input"] == [str(rows)]
    assert told["retry"]["code"] == "http_503"
    assert told["failed_rows"]["level"] == "warning"
    assert (told["failed_rows"]["code"], told["failed_rows"]["rows"]) == ("http_422", 1)
    assert told["failed_rows"]["examples"][0]["row"] == 8
    assert told["summary"]["rows_scored"] == 199
    assert told["summary"]["retries"] == {"http_503": 2}
    assert (told["end"]["exit_code"], told["end"]["level"]) == (3, "warning")


@pytest.mark.slow
def test_an_outage_is_told_when_it_begins_and_when_it_is_over(
    batchscore: Command, rows: Path
) -> None:
    """Both events name the host, the first one the cause, the second one how long it took."""
    away = [None, *[faults.status(503)] * 12]
    with FaultServer(*LINEAR, script=away) as server:
        done = batchscore("score", rows, "--url", server.url, "-o", "out.arrow", "--batch-size",
                          "20", "--max-attempts", "2", "--concurrency", "1", *JSON)  # fmt: skip
    assert done.code == 0
    told = {event["event"]: event for event in events(done.err)}
    assert told["outage"]["cause"] == "http_503"
    assert told["outage"]["level"] == told["outage_over"]["level"] == "warning"
    assert told["outage_over"]["seconds"] > 0
    assert told["outage"]["host"] == told["outage_over"]["host"] == f"127.0.0.1:{server.port}"


@pytest.mark.parametrize(
    ("words", "code", "exit_code"),
    [
        (["score", "in.parquet", "--urll", "x"], "usage", 2),
        (["score", "in.parquet", "--url", "ftp://h/x", "-o", "o.arrow"], "usage", 2),
        (["score", "no.parquet", "--url", "http://127.0.0.1:9/f", "-o", "o.arrow"], "input", 2),
        (["inspect", "--url", "http://127.0.0.1:9/deployment/x/forward"], "unreachable", 75),
    ],
)
def test_an_error_is_an_event_with_code_and_exit_code(
    batchscore: Command, rows: Path, words: list[str], code: str, exit_code: int
) -> None:
    """The last two lines are the error and the end; where it comes from only with --debug."""
    assert rows.exists()
    done = batchscore(*words, "--quiet", *JSON)
    *_, error, end = events(done.err)
    assert (error["event"], error["code"], error["exit_code"]) == ("error", code, exit_code)
    assert (end["event"], end["level"], end["exit_code"]) == ("end", "error", exit_code)
    assert done.code == exit_code
    assert "traceback" not in error
    *_, error, _ = events(batchscore(*words, "--debug", *JSON).err)
    assert "Traceback (most recent call last)" in error["traceback"]


def test_quiet_tells_of_errors_alone(batchscore: Command, rows: Path) -> None:
    """A run whose failed rows were expected says nothing at all with --quiet."""
    with FaultServer(*LINEAR, script=refusing) as server:
        done = batchscore("score", rows, "--url", server.url, "-o", "out.arrow", "-q", *JSON)
    assert (done.code, done.err) == (3, "")


def test_the_form_comes_from_every_source_of_options(
    batchscore: Command, rows: Path, tmp_path: Path
) -> None:
    """A variable or a file asks for JSON as the command line does, which counts most."""
    (tmp_path / "job.toml").write_text('log-format = "json"\n')
    with FaultServer(*LINEAR) as server:
        base = ("score", rows, "--url", server.url, "-o", "out.arrow", "--overwrite")
        for done in (
            batchscore(*base, BATCHSCORE_LOG_FORMAT="json"),
            batchscore(*base, "--config", "job.toml"),
        ):
            assert [event["event"] for event in events(done.err)] == ["start", "summary", "end"]
        text = batchscore(*base, "--log-format", "text", BATCHSCORE_LOG_FORMAT="json").err
    assert text.splitlines()[-1].startswith("output ")


def test_a_signal_is_an_event_and_the_end_too(rows: Path, tmp_path: Path) -> None:
    """Ctrl-C is told as a warning; the summary says that the job can go on, the end says 130."""
    with FaultServer(*LINEAR, delay_s=0.05) as server:
        words = ["score", str(rows), "--url", server.url, "-o", str(tmp_path / "out.arrow"),
                 "--batch-size", "1", "--concurrency", "1", *JSON]  # fmt: skip
        with subprocess.Popen(
            [sys.executable, "-m", "batchscore", *words],
            stderr=subprocess.PIPE, text=True, env=clean_environment(),
        ) as process:  # fmt: skip
            assert process.stderr is not None
            first = process.stderr.readline()
            wait_for_request(server, 3, process)
            process.send_signal(signal.SIGINT)
            err = first + process.stderr.read()
            process.wait(60)
    told = {event["event"]: event for event in events(err)}
    assert list(told) == ["start", "interrupted", "summary", "end"]
    assert told["summary"]["resumable"] is True
    assert told["end"]["exit_code"] == process.returncode == 130


@pytest.mark.parametrize("command", ["demo", "bench"])
def test_other_commands_keep_to_the_form(batchscore: Command, rows: Path, command: str) -> None:
    """What a demo or a benchmark says beside its data is JSON as well, with an end."""
    with FaultServer(*LINEAR) as server:
        words = {
            "demo": ["demo", "folder", "--progress", "plain"],
            "bench": ["bench", rows, "--url", server.url, "--duration", "0.2s", "--warmup", "0s",
                      "--concurrency", "1"],
        }  # fmt: skip
        done = batchscore(*words[command], *JSON)
    told = events(done.err)
    assert told[-1]["event"] == "end"
    assert told[-1]["exit_code"] == done.code
    assert len(told) > 1
    assert done.out
