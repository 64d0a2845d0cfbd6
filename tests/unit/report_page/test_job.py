"""The page of a job, made from figures that are known."""

from __future__ import annotations

import re

import pytest
from pages import sample

from batchscore.report_page import page
from batchscore.report_page.job import _stretches


def bunched(seconds: float, window_s: float) -> list[dict]:
    """A steady run whose rows are written in bunches, every fourth window."""
    return [
        sample.window(0)
        | {"at_s": (n + 1) * window_s, "seconds": window_s, "rows": 400 if n % 4 == 3 else 0,
           "failed_rows": n % 2, "retries": {"timeout": 1} if n % 3 == 0 else {}}
        for n in range(round(seconds / window_s))
    ]  # fmt: skip


@pytest.mark.parametrize(("seconds", "window_s"), [(26, 0.25), (240, 0.5), (0.75, 0.25)])
def test_rows_that_are_written_in_bunches_make_a_steady_line(seconds, window_s):
    """Stretches have the sums of all windows, end where the run ends, and show its mean rate."""
    history = bunched(seconds, window_s)
    stretches = list(_stretches(history))
    for name in ("rows", "failed_rows", "seconds"):
        assert sum(s[name] for s in stretches) == sum(w[name] for w in history)
    told = sum(s["retries"]["timeout"] for s in stretches)
    assert told == sum(w["retries"].get("timeout", 0) for w in history)
    assert stretches[-1]["at_s"] == history[-1]["at_s"]
    assert len(stretches) <= 121
    for stretch in stretches[:-1]:
        assert stretch["rows"] / stretch["seconds"] == pytest.approx(100 / window_s, rel=0.01)


def test_a_run_that_never_came_to_anything_has_no_charts():
    """What an option ended before the first row shows its error, and no empty axes."""
    report = sample.job_report() | {
        "status": "usage", "exit_code": 2, "message": "no such file", "rows_read": 0,
        "requests": 0, "retries": {}, "failed_rows": {}, "latency_s": {},
        "history": [sample.window(100)],
    }  # fmt: skip
    text = page(report)
    assert "no such file" in text
    assert "<svg" not in text
    assert 'id="over-time"' not in text


def test_latencies_are_told_line_by_line():
    """Half of the requests, nine of ten ... all of them, each with its time, on any screen."""
    text = page(sample.job_report())
    rows = re.findall(r'<td class="n">([\d.]+ %|all)</td><td class="n">([^<]+)</td>', text)
    assert [name for name, _ in rows] == ["50 %", "90 %", "95 %", "99 %", "99.9 %", "all"]
    assert rows[0][1] == "20 ms"
