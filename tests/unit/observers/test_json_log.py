"""A run as events with fields."""

from __future__ import annotations

import asyncio
import json
import logging
from datetime import datetime, timedelta
from typing import Any

from batchscore.cli.events import code_of, end_line, event_line, wants_json
from batchscore.errors import AttemptTimeoutError, ModelChangedError, UsageError
from batchscore.metrics import RunMetrics, RunReport
from batchscore.observers.json_log import EventLog

Events = list[tuple[int, str, str, dict[str, Any]]]


def log(**options: Any) -> tuple[EventLog, Events]:
    """A log, and the events it writes."""
    events: Events = []

    def emit(level: int, event: str, message: str, **fields: Any) -> None:
        json.dumps(fields)
        events.append((level, event, message, fields))

    return EventLog(emit, {"kind": "score", "output": "out.arrow"}, **options), events


REPORT = RunReport(
    status="failed_rows",
    exit_code=3,
    output="out.arrow",
    rows_read=100,
    rows_scored=97,
    rows_failed=3,
    requests=10,
    failed_rows={"timeout": 1, "http_422": 2},
    failed_examples={"http_422": [{"row": 7, "text": "too small"}]},
    history=[{"at_s": 1.0}],
)


async def test_a_run_is_told_from_its_start_to_its_summary():
    """Start, progress while it lasts, failed rows most first, and a summary: in that order."""
    observer, events = log(every_s=0.01, retries=True)
    metrics = RunMetrics(total_rows=100)
    observer.on_start(metrics)
    metrics.rows_read, metrics.rows_scored = 20, 10
    observer.on_retry("http_503", 2, 0.25)
    while not any(event == "progress" for _, event, _, _ in events):
        await asyncio.sleep(0.005)
    observer.on_finish(REPORT)
    told = len(events)
    await asyncio.sleep(0.03)
    assert len(events) == told
    names = [event for _, event, _, _ in events]
    assert names[:2] == ["start", "retry"]
    assert names[-3:] == ["failed_rows", "failed_rows", "summary"]
    by_name = {event: (level, message, fields) for level, event, message, fields in events}
    assert by_name["start"][2] == {"kind": "score", "output": "out.arrow"}
    assert by_name["retry"][2] == {"code": "http_503", "attempt": 2, "wait_s": 0.25}
    progress = by_name["progress"][2]
    assert (progress["rows_total"], progress["rows_read"], progress["rows_scored"]) == (100, 20, 10)
    assert progress["latency_s"] == {"p50": None, "p99": None}
    failed = [fields for _, event, _, fields in events if event == "failed_rows"]
    assert [(f["code"], f["rows"]) for f in failed] == [("http_422", 2), ("timeout", 1)]
    assert failed[0]["examples"] == [{"row": 7, "text": "too small"}]
    assert by_name["failed_rows"][0] == logging.WARNING
    summary = by_name["summary"][2]
    assert (summary["status"], summary["exit_code"], summary["rows_failed"]) == (
        "failed_rows",
        3,
        3,
    )
    assert "history" not in summary
    assert "100 read, 97 scored" in by_name["summary"][1]


async def test_retries_and_progress_are_left_out_where_nobody_wants_them():
    """Without --verbose no retry is an event, and with --progress none there is no progress."""
    observer, events = log(every_s=0.001, progress=False)
    observer.on_start(RunMetrics())
    observer.on_retry("timeout", 1, 0.1)
    await asyncio.sleep(0.02)
    observer.close()
    assert [event for _, event, _, _ in events] == ["start"]


def test_an_event_is_one_line_of_ascii_with_its_time_in_utc():
    """Whatever a message holds, it is one line that any program can read."""
    line = event_line(logging.WARNING, "log", "first\nsecond\u2028third é", path="a\\b")
    assert line.endswith("\n")
    assert len(line.splitlines()) == 1
    assert line.isascii()
    event = json.loads(line)
    assert list(event) == ["time", "level", "event", "message", "path"]
    assert (event["level"], event["message"]) == ("warning", "first\nsecond\u2028third é")
    assert datetime.fromisoformat(event["time"]).utcoffset() == timedelta(0)


def test_the_end_is_as_bad_as_its_exit_code():
    """0 is information, 3 a warning, all else an error."""
    levels = {code: json.loads(end_line(code))["level"] for code in (0, 3, 1, 2, 75, 130, 143)}
    assert levels == {0: "info", 3: "warning", **dict.fromkeys((1, 2, 75, 130, 143), "error")}


def test_errors_have_stable_names():
    """An error is called as its class, without the word Error; what is not ours is internal."""
    named = [UsageError(""), ModelChangedError(""), AttemptTimeoutError(""), ValueError("")]
    assert [*map(code_of, named)] == ["usage", "model_changed", "attempt_timeout", "internal"]


def test_json_is_known_to_be_wanted_before_the_options_are_parsed():
    """The command line counts before the environment, in either form of the option."""
    variable = {"BATCHSCORE_LOG_FORMAT": "json"}
    assert wants_json(["score", "--log-format", "json"], {})
    assert wants_json(["--log-format=json"], {})
    assert wants_json(["score"], variable)
    assert not wants_json(["score", "--log-format", "text"], variable)
    assert not wants_json(["score", "json"], {})
    assert not wants_json(["score", "--log-format"], {})
