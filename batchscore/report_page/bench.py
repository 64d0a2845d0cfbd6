"""The page of ``bench``."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from batchscore.observers import count_text
from batchscore.report_page.chart import Axis, Chart, Line
from batchscore.report_page.highest import highest
from batchscore.report_page.loads import (
    Cell,
    amount,
    cell_text,
    group_text,
    grouped,
    is_open,
    knee,
    load_text,
)
from batchscore.report_page.markup import (
    Markup,
    document,
    element,
    joined,
    section,
    table,
    text,
    tiles,
)
from batchscore.report_page.parts import Report, figures, head, surroundings, when_text
from batchscore.report_page.scales import clock_text, number_text, percent_text, seconds_text
from batchscore.report_page.style import LINES

if TYPE_CHECKING:
    from collections.abc import Sequence

NOTHING = "-"
_PERCENT = Axis("percentile", percent_text, "nines")
_LATENCY = Axis("latency", seconds_text, "log")
_TIME = Axis("time since the start of the measurement", clock_text, "time")


def bench_page(report: Report) -> str:
    """The whole page, from the JSON of a benchmark's report."""
    cells: list[Cell] = report.get("cells") or []
    title = "Latency and throughput of a deployment"
    return document(
        title,
        head(title, report),
        _tiles(report, cells),
        section("Can these figures be trusted?", _validity(report, cells), id_="validity"),
        section("Objectives", _slos(report, cells), id_="slo"),
        section("Highest throughput that keeps the objectives", highest(report), id_="find-max"),
        section("Compared with before", _comparison(report, cells), id_="comparison"),
        section("Throughput over load", _throughput(cells), id_="throughput"),
        section("Latency over percentile", _percentiles(cells), id_="percentiles"),
        section("Latency over time", _over_time(cells), id_="over-time"),
        section("All measurements", _all(cells), id_="cells"),
        section("Errors", _errors(cells), id_="errors"),
        section("The same rows again", _reuse(report, cells), id_="reuse"),
        section("The client's own part", _client(cells), id_="client"),
        surroundings(report),
    )


def _tiles(report: Report, cells: Sequence[Cell]) -> Markup:
    valid = [cell for cell in cells if cell["valid"]]
    if not valid:
        return Markup("")
    most = max(valid, key=lambda cell: cell["goodput_rows_per_s"])
    quickest = min(valid, key=lambda cell: _seconds(cell, "response_s", "p50") or 0)
    return tiles(
        {
            "measurements": len(cells),
            "requests": f"{sum(cell['requests'] for cell in cells):,}",
            f"most rows a second ({cell_text(most)})": count_text(most["goodput_rows_per_s"]),
            f"least median response ({cell_text(quickest)})": _time(quickest, "response_s", "p50"),
        }
    )


def _validity(report: Report, cells: Sequence[Cell]) -> Markup:
    bad = [cell for cell in cells if not cell["valid"]]
    items = [
        element("li", element("b", f"{cell_text(cell)}: invalid. "), "; ".join(cell["why_invalid"]))
        for cell in bad
    ] + [
        element(
            "li",
            element("b", f"{cell_text(cell)}: not stable. "),
            "The windows of this measurement differ more than chance explains; measure for longer.",
        )
        for cell in cells
        if cell["valid"] and not cell["is_stable"]
    ]
    if not cells:
        return Markup("")
    yes = "Yes: the client was never the bottleneck, and every measurement settled down."
    notes = [element("li", note[:1].upper(), note[1:], ".") for note in report.get("notes") or []]
    return joined(
        [
            "" if items else element("p", yes),
            element("ul", *items, *notes, class_="told") if items or notes else "",
        ]
    )


def _slos(report: Report, cells: Sequence[Cell]) -> Markup:
    return table(
        ("objective", "result", "value", "measurement"),
        [
            (
                slo["text"],
                "✓ kept" if slo["is_kept"] else "✗ missed",
                _value(slo["text"], slo["value"]),
                _named(cells, slo["cell"]),
            )
            for slo in report.get("slo") or []
        ],
        numbers=(2,),
    )


def _value(of: str, value: float | None) -> str:
    """A latency in its unit; anything else, such as a share of errors, as a number."""
    if value is None:
        return "never: too many failed"
    is_time = of.lstrip().startswith(("p", "max", "mean", "min"))
    return seconds_text(value) if is_time else number_text(value)


def _comparison(report: Report, cells: Sequence[Cell]) -> Markup:
    comparison: dict[str, Any] | None = report.get("comparison")
    if not comparison:
        return Markup("")

    def written(metric: str, value: float) -> str:
        return number_text(value) if metric.endswith("per_s") else seconds_text(value)

    old = comparison["old"]
    about = [f"the report of {when_text(str(old['started_at']))}"]
    about += [f"{name} {old[key]}" for name, key in _OLD if old.get(key)]
    confidence = f"interval, {comparison['confidence']:.0%}"
    rows = table(
        ("measurement", "what", "result", "change", confidence, "before", "now"),
        [
            (
                _named(cells, row["cell"]),
                _METRICS.get(row["metric"], row["metric"]),
                _changed(row),
                f"{row['change']:+.1%}",
                f"{row['low']:+.1%} to {row['high']:+.1%}",
                written(row["metric"], row["old"]),
                written(row["metric"], row["new"]),
            )
            for row in comparison["cells"]
        ],
        numbers=(3, 4, 5, 6),
    )
    notes = [f"Other: {each}." for each in old.get("differences") or []]
    notes += [f"Not measured before: {each}." for each in old.get("missing") or []]
    most = comparison.get("max_regression")
    allowed = "" if most is None else f" Up to {100 * most:.3g} % worse is allowed."
    return joined(
        [
            element("p", f"Before is {', '.join(about)}.{allowed}", class_="soft"),
            element("ul", *(element("li", note) for note in notes), class_="told") if notes else "",
            rows,
        ]
    )


_OLD = (("batchscore", "version"), ("of", "endpoint"))
_METRICS = {
    "goodput_rows_per_s": "scored rows/s",
    "response_s.p50": "response p50",
    "response_s.p99": "response p99",
}


def _changed(row: dict[str, Any]) -> str:
    """What a change means: one whose interval has no zero in it is none of chance."""
    if row.get("was_invalid"):
        return "? invalid before"
    if row["is_regression"]:
        return "✗ worse than allowed"
    if row["low"] <= 0 <= row["high"]:
        return "≈ may be chance"
    is_more = row["change"] > 0
    return "✓ better" if is_more == row["metric"].endswith("per_s") else "! worse"


def _throughput(cells: Sequence[Cell]) -> Markup:
    drawn = []
    for group, members in grouped(cells).items():
        if len(members) < 2:
            continue
        found = knee(members)
        lines = [Line("scored", _at_load(members, "goodput_rows_per_s"), 0)]
        if any(cell["goodput_rows_per_s"] != cell["rows_per_s"] for cell in members):
            lines.append(Line("failed ones included", _at_load(members, "rows_per_s"), 1))
        x = Axis("requests a second that were sent", number_text, "log")
        if not is_open(members[0]):
            x = Axis("requests in flight", number_text, "log")
        drawn.append(
            Chart(
                group_text(group).capitalize(),
                x,
                Axis("rows a second", number_text),
                lines,
                note=_knee_text(members),
                flags=[(amount(found.cell), "knee")] if found and found.is_inside else (),
            ).drawn()
        )
    return figures(*drawn)


def _at_load(cells: Sequence[Cell], key: str) -> list[tuple[float, float]]:
    return [(amount(cell), cell[key]) for cell in cells]


def _knee_text(cells: Sequence[Cell]) -> str:
    found = knee(cells)
    if found is None:
        return "Too few valid measurements to tell where the knee is."
    load = load_text(found.cell)
    if found.is_inside:
        return (
            f"The knee is at {load}: throughput divided by mean response time is highest there. "
            "More load than that buys more waiting than throughput."
        )
    is_last = amount(found.cell) == max(amount(cell) for cell in cells if cell["valid"])
    if is_last:
        return f"No knee up to {load}: more load may still bring more throughput."
    return f"The knee is at {load} or below, the smallest load: more only waits."


_KINDS = (
    (1, "response time", "From the moment at which a request was meant to be sent."),
    (2, "service time", "From the moment at which a request was sent."),
)
_ONE_KIND = ((1, "response time", "Of a closed loop it is the service time, too."),)


def _percentiles(cells: Sequence[Cell]) -> Markup:
    drawn = []
    for group, members in grouped(cells).items():
        times = [time for cell in members for _, *of in cell["distribution"] for time in of]
        for column, name, note in _KINDS if group.kind == "open" else _ONE_KIND:
            lines = [
                Line(load_text(cell), _curve(cell, column), look % LINES)
                for look, cell in enumerate(members)
            ]
            title = f"{group_text(group).capitalize()}: {name}"
            high = max(times, default=0.0)
            drawn.append(Chart(title, _PERCENT, _LATENCY, lines, note, high=high).drawn())
    return figures(*drawn)


def _curve(cell: Cell, column: int) -> list[tuple[float, float]]:
    return [
        (float(row[0]), row[column])
        for row in cell["distribution"]
        if row[0] < 100 and row[column] is not None
    ]


def _over_time(cells: Sequence[Cell]) -> Markup:
    def line(cell: Cell, key: str, look: int) -> Line:
        return Line(key, [(w["at_s"], w[key]) for w in cell["over_time"]], look)

    return figures(
        *(
            Chart(
                cell_text(cell).capitalize(),
                _TIME,
                Axis("response time", seconds_text, "log"),
                [line(cell, key, look) for look, key in enumerate(("p50", "p99", "max"))],
            ).drawn()
            for cell in cells
        )
    )


_POINTS = ("p50", "p90", "p99", "p99.9", "max")


def _all(cells: Sequence[Cell]) -> Markup:
    head_ = (
        "load", "rows a request", "requests", "failed", "requests/s", "rows/s", "scored rows/s",
        *(f"response {p}" for p in _POINTS), *(f"service {p}" for p in ("p50", "p99")), "valid",
    )  # fmt: skip
    rows = [
        (
            load_text(cell),
            cell["batch_size"],
            f"{cell['requests']:,}",
            f"{cell['failed_requests']:,}",
            number_text(cell["requests_per_s"]),
            number_text(cell["rows_per_s"]),
            number_text(cell["goodput_rows_per_s"]),
            *(_time(cell, "response_s", p) for p in _POINTS),
            *(_time(cell, "service_s", p) for p in ("p50", "p99")),
            "✓ yes" if cell["valid"] else "✗ no",
        )
        for cell in cells
    ]
    return table(head_, rows, numbers=range(1, len(head_) - 1))


def _errors(cells: Sequence[Cell]) -> Markup:
    rows = [
        (cell_text(cell), code, f"{count:,}")
        for cell in cells
        for code, count in sorted(cell["errors"].items(), key=lambda item: (-item[1], item[0]))
    ]
    return table(("measurement", "error", "requests"), rows, numbers=(2,))


def _reuse(report: Report, cells: Sequence[Cell]) -> Markup:
    reuse: dict[str, Any] | None = report.get("reuse")
    if not reuse or reuse["ratio"] is None:
        return Markup("")
    return element(
        "p",
        f"The median service time of rows that had been sent before "
        f"({_named(cells, reuse['reused'])}) is {reuse['ratio']:.2f} times that of new rows "
        f"({_named(cells, reuse['unique'])}). Well below 1, the server has a cache.",
    )


def _client(cells: Sequence[Cell]) -> Markup:
    rows = [
        (
            cell_text(cell),
            _seconds_text(cell["client_share_s"]),
            *(_time(cell, "own_delay_s", p) for p in ("p50", "p99")),
            f"{cell['client_cpu']:.0%}" if cell["client_cpu"] is not None else NOTHING,
            *(_time(cell, "loop_lag_s", p) for p in ("p50", "p99", "max")),
            _time(cell, "connect_s", "p50"),
            _time(cell, "first_byte_s", "p50"),
        )
        for cell in cells
    ]
    head_ = (
        "measurement", "own share of a response", "own delay in p50", "in p99",
        "processor, share of a core", "loop lag p50",
        "p99", "max", "connect p50", "first byte p50",
    )  # fmt: skip
    return joined([table(head_, rows, numbers=range(1, len(head_)))])


def _named(cells: Sequence[Cell], index: int | None) -> Markup:
    if index is None or not 0 <= index < len(cells):
        return text(NOTHING)
    return text(cell_text(cells[index]))


def _seconds(cell: Cell, which: str, point: str) -> float | None:
    value = (cell.get(which) or {}).get(point)
    return None if value is None else float(value)


def _time(cell: Cell, which: str, point: str) -> str:
    return _seconds_text(_seconds(cell, which, point))


def _seconds_text(seconds: float | None) -> str:
    return NOTHING if seconds is None else seconds_text(seconds)
