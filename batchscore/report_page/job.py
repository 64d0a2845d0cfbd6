"""The page of ``score`` and ``rescore``."""

from __future__ import annotations

from collections import Counter
from typing import TYPE_CHECKING, Any

from batchscore.endpoint import redacted
from batchscore.observers import count_text, duration_text
from batchscore.report_page.chart import Axis, Chart, Line
from batchscore.report_page.markup import (
    Markup,
    document,
    element,
    facts,
    joined,
    section,
    table,
    tiles,
)
from batchscore.report_page.parts import Report, figures, head, surroundings, when_text
from batchscore.report_page.scales import clock_text, number_text, seconds_text

if TYPE_CHECKING:
    from collections.abc import Iterator

_TIME = Axis("time since the start", clock_text, "time")
_MOST_CAUSES = 6
# Rows are written in bunches, so rates are those of stretches, of which there are so many at most.
_LEAST_STRETCH_S, _MOST_STRETCHES = 1.0, 120


def job_page(report: Report) -> str:
    """The whole page, from the JSON of a run's report."""
    name = "Rescore" if report.get("kind") == "rescore" else "Score"
    what = redacted(str(report.get("output") or "")) or "a job"
    title = f"{name}: {what}"
    return document(
        title,
        head(title, report),
        _tiles(report),
        section("Over time", _over_time(_busy(report)), id_="over-time"),
        section("Failed rows", _failed(report), id_="failed-rows"),
        section("Retries", _counts(report.get("retries") or {}, "retries"), id_="retries"),
        section("Latency of a request", _latency(report), id_="latency"),
        section("Summary", facts(_summary(report)), id_="summary"),
        surroundings(report),
    )


def _tiles(report: Report) -> Markup:
    latency = report.get("latency_s") or {}
    values = {
        "rows scored": f"{report['rows_scored']:,}",
        "rows failed": f"{report['rows_failed']:,}",
        "time": duration_text(report["seconds"]),
        "rows a second": count_text(report["rows_per_second"]),
        "requests": f"{report['requests']:,}",
        "retries": f"{sum(report['retries'].values()):,}",
    }
    for percentile in ("p50", "p99"):
        if latency.get(percentile) is not None:
            values[f"latency, {percentile}"] = duration_text(latency[percentile])
    return tiles(values)


def _busy(report: Report) -> list[dict[str, Any]]:
    """How the run went; nothing where it never came to anything."""
    if report["rows_read"] or report["requests"] or report["retries"]:
        return report.get("history") or []
    return []


def _over_time(history: list[dict[str, Any]]) -> Markup:
    if not history:
        return joined(())
    stretches = list(_stretches(history))

    def line(name: str, key: str, look: int) -> Line:
        return Line(name, [(s["at_s"], s[key]) for s in history], look)

    def rate(name: str, key: str, look: int) -> Line:
        return Line(name, [(s["at_s"], s[key] / s["seconds"]) for s in stretches], look)

    failed = any(s["failed_rows"] for s in history)
    rows = [rate("rows decided", "rows", 0)]
    if failed:
        rows.append(rate("of them failed", "failed_rows", 1))
    return figures(
        Chart("Throughput", _TIME, Axis("rows a second", number_text), rows).drawn(),
        Chart(
            "Latency of the answered requests",
            _TIME,
            Axis("latency", seconds_text, "log"),
            [line("p50", "p50_s", 0), line("p99", "p99_s", 1)],
        ).drawn(),
        Chart(
            "Requests in flight, and how many might be",
            _TIME,
            Axis("requests", number_text),
            [line("limit", "limit", 0), line("in flight", "in_flight", 1)],
        ).drawn(),
        Chart(
            "Retries by cause",
            _TIME,
            Axis("retries a second", number_text),
            _retry_lines(stretches),
        ).drawn(),
    )


def _stretches(history: list[dict[str, Any]]) -> Iterator[dict[str, Any]]:
    """Neighbours of the history as one, with the sums of their rows and retries."""
    least_s = max(_LEAST_STRETCH_S, history[-1]["at_s"] / _MOST_STRETCHES)
    seconds, rows, failed, retries = 0.0, 0, 0, Counter[str]()
    for number, window in enumerate(history, start=1):
        seconds += window["seconds"]
        rows += window["rows"]
        failed += window["failed_rows"]
        retries.update(window["retries"])
        if seconds >= 0.999 * least_s or number == len(history):
            yield {
                "at_s": window["at_s"],
                "seconds": seconds,
                "rows": rows,
                "failed_rows": failed,
                "retries": retries,
            }
            seconds, rows, failed, retries = 0.0, 0, 0, Counter()


def _retry_lines(history: list[dict[str, Any]]) -> list[Line]:
    totals: Counter[str] = Counter()
    for sample in history:
        totals.update(sample["retries"])
    causes = sorted(totals, key=lambda code: (-totals[code], code))
    shown, rest = causes[:_MOST_CAUSES], causes[_MOST_CAUSES:]
    groups = [(code, [code]) for code in shown] + ([("others", rest)] if rest else [])
    return [
        Line(
            name,
            [
                (s["at_s"], sum(s["retries"].get(code, 0) for code in codes) / s["seconds"])
                for s in history
            ],
            look,
        )
        for look, (name, codes) in enumerate(groups)
    ]


def _failed(report: Report) -> Markup:
    examples = report.get("failed_examples") or {}
    counts = report.get("failed_rows") or {}
    # Of a rescore the place in the file is not known, only the place among the rows that were sent.
    word = "row sent" if report.get("kind") == "rescore" else "row"
    parts = []
    for code, count in _ordered(counts):
        parts.append(
            element("h3", f"{code}: {count:,} {'row' if count == 1 else 'rows'}", class_="error")
        )
        told = [
            element("li", element("b", f"{word} {example['row']:,}: "), example["text"])
            for example in examples.get(code) or []
        ]
        parts.append(
            element("ul", *told, class_="told")
            if told
            else element("p", "All of them failed in an earlier run.", class_="soft")
        )
    if parts:
        note = "The first rows of each kind, counted from 1; the output tells of all."
        parts.append(element("p", note, class_="soft"))
    return joined(parts)


def _ordered(counts: dict[str, int]) -> list[tuple[str, int]]:
    return sorted(counts.items(), key=lambda item: (-item[1], item[0]))


def _counts(counts: dict[str, int], what: str) -> Markup:
    rows = [(code, f"{count:,}") for code, count in _ordered(counts)]
    return table(("cause", what), rows, numbers=(1,))


def _latency(report: Report) -> Markup:
    points = {k: v for k, v in (report.get("latency_s") or {}).items() if v is not None}
    rows = [
        ("all" if name == "max" else f"{name.removeprefix('p')} %", seconds_text(value))
        for name, value in points.items()
    ]
    return table(("of the requests", "answered within"), rows, numbers=(0, 1))


def _summary(report: Report) -> dict[str, object]:
    concurrency = report.get("concurrency")
    values: dict[str, object] = {
        "input": ", ".join(map(redacted, report.get("input") or ())),
        "output": redacted(report.get("output") or ""),
        "endpoint": redacted(report.get("endpoint") or ""),
        "rows read": f"{report['rows_read']:,}",
        "of earlier runs": f"{report['rows_resumed']:,}" if report["rows_resumed"] else "",
        "bytes sent": f"{report['bytes_sent']:,}",
        "bytes received": f"{report['bytes_received']:,}",
        "requests at once, in the end": "" if concurrency is None else str(concurrency),
        "NaN or infinite numbers sent as null": f"{report['nonfinite_as_null']:,}",
        "can go on with --resume": "yes" if report["resumable"] else "",
        "specification": report.get("fingerprint") or "",
        "started": when_text(report.get("started_at") or ""),
    }
    return {name: value for name, value in values.items() if value not in {"", "0"}}
