"""The part of a benchmark's page that tells the highest throughput, and how it was found."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from batchscore.observers import count_text
from batchscore.report_page.chart import Axis, Chart, Line
from batchscore.report_page.loads import rows_text
from batchscore.report_page.markup import Markup, element, table
from batchscore.report_page.parts import figures
from batchscore.report_page.scales import number_text, seconds_text

if TYPE_CHECKING:
    from batchscore.report_page.parts import Report

_VERDICTS = {
    "kept": "✓ kept",
    "missed": "✗ missed",
    "unsure": "? not sure",
    "client": "! invalid",
}
_POINTS = ("p50", "p99")
_HEAD = ("req/s", "result", *_POINTS, "rows/s", "requests", "failed", "runs")


def highest(report: Report) -> Markup:
    """What was found with each batch size, the best one first."""
    searches: list[dict[str, Any]] = report.get("find_max") or []
    ordered = sorted(searches, key=lambda search: not search["is_best"])
    return figures(*(_search(search, is_only=len(searches) == 1) for search in ordered))


def _search(search: dict[str, Any], *, is_only: bool) -> Markup:
    size, steps = search["batch_size"], search["steps"]
    best = " (the best)" if search["is_best"] and not is_only else ""
    lines = [
        Line(point, [(s["rate"], s["response_s"][point]) for s in steps], look)
        for look, point in enumerate(_POINTS)
    ]
    chart = Chart(
        f"{rows_text(size)} a request{best}: response time over rate".capitalize(),
        Axis("requests a second that were sent", number_text, "log"),
        Axis("response time", seconds_text, "log"),
        lines,
        flags=_flags(search),
    )
    tried = table(_HEAD, [_row(step) for step in steps], numbers=(0, *range(2, len(_HEAD))))
    return element("div", chart.drawn(), _found(search), tried)


def _found(search: dict[str, Any]) -> Markup:
    if not search["rows_per_s"]:
        return element("p", "No rate that was tried keeps the objectives.")
    size, confidence = search["batch_size"], f"{search['confidence']:.0%}"
    low, high = search["low"], search["high"]
    told = [f", at {number_text(search['load']['rate'])} req/s."]
    if low:
        told.append(
            f"With {confidence} confidence the objectives are kept up to {_both(low, size)}."
        )
    else:
        told.append("Too few requests were sent to be sure of a rate that keeps the objectives.")
    if high is not None:
        told.append(f"With {confidence} confidence they are missed from {_both(high, size)} on.")
    elif search["client_limit"]:
        told.append("Beyond that it is the client: " + "; ".join(search["client_limit"]) + ".")
    else:
        told.append("No rate was found that misses them for sure.")
    best = element("b", f"{count_text(search['rows_per_s'])} rows a second")
    return element("p", best, " ".join(told))


def _both(rows_per_s: float, size: int) -> str:
    return f"{count_text(rows_per_s)} rows/s ({number_text(rows_per_s / size)} req/s)"


def _flags(search: dict[str, Any]) -> list[tuple[float, str]]:
    size = search["batch_size"]
    marks = [
        (search["low"] / size, "kept"),
        (search["rows_per_s"] / size, "highest"),
        ((search["high"] or 0.0) / size, "missed"),
    ]
    return [(rate, word) for rate, word in marks if rate]


def _row(step: dict[str, Any]) -> tuple[str, ...]:
    points = [step["response_s"][point] for point in _POINTS]
    return (
        number_text(step["rate"]),
        _VERDICTS[step["verdict"]],
        *("-" if point is None else seconds_text(point) for point in points),
        number_text(step["rows_per_s"]),
        f"{step['requests']:,}",
        f"{step['failed_requests']:,}",
        str(step["measurements"]),
    )
