"""``batchscore bench``: a deployment's latency and throughput."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING, Any

from batchscore.bench.options import BenchConfig
from batchscore.cli.commands import as_function
from batchscore.cli.options import Command, GeneralOptions
from batchscore.cli.score import DEPLOYMENT, METAVARS, STORES
from batchscore.cli.terminal import TERMINAL

if TYPE_CHECKING:
    from collections.abc import Sequence

    from batchscore.bench.cells import Cell
    from batchscore.bench.report import BenchReport

_TABLE_WIDTH = 120


def _bench(config: BenchConfig, general: GeneralOptions) -> int:
    from batchscore.bench.report import BenchReport
    from batchscore.bench.run import bench as measure
    from batchscore.cli import runner
    from batchscore.cli.bench_display import BenchDisplay

    for note in config.notes:
        TERMINAL.note(f"note: {note}")
    has_lines = general.progress != "none"
    display = BenchDisplay(TERMINAL.live_console(general.progress), has_lines=has_lines)
    report = BenchReport()
    try:
        runner.run(measure(config, display, report))
    except BaseException:
        TERMINAL.finish(display)
        if report.cells or report.searches:
            _print_table(report)
            TERMINAL.note("note: the bench did not come to its end; these are the figures so far")
        raise
    TERMINAL.finish(display)
    _print_table(report)
    for note in report.notes:
        TERMINAL.note(f"note: {note}")
    if report.message:
        TERMINAL.error(report.message, report.status, report.exit_code)
    return report.exit_code


def _print_table(report: BenchReport) -> None:
    from rich.table import Table

    from batchscore.bench.outcome import found_text

    table = Table(box=None, pad_edge=False, header_style="bold")
    table.add_column("load", no_wrap=True)
    for column in ("rows", "req/s", "rows/s", "p50", "p90", "p99", "p99.9", "max",
                   "service p50", "errors", "client"):  # fmt: skip
        table.add_column(column, justify="right")
    table.add_column("", overflow="fold")
    for cell in report.cells:
        table.add_row(*_row(cell))
    endpoint = f"{report.endpoint}, protocol {report.protocol}"
    TERMINAL.data(f"{endpoint}; times in ms, from the intended send\n")
    TERMINAL.data("client: its own part of p50, measured at a server that does nothing\n")
    if report.cells:
        TERMINAL.data("\n")
        TERMINAL.table(table, _TABLE_WIDTH)
    if report.reuse is not None and isinstance(ratio := report.reuse["ratio"], float):
        TERMINAL.data(f"\nthe same rows in each request: {ratio:.0%} of the service time (p50)\n")
    for search in (search for search in report.searches if search.steps):
        TERMINAL.data(f"\n{found_text(search, is_best=search is report.best_search)}\n")
    if report.compared_with is not None:
        _print_changes(report, report.compared_with)
    if report.slo:
        TERMINAL.data("\n")
    for result in report.slo:
        word, cell = "kept" if result.is_kept else "missed", report.cells[result.cell]
        where = f"{cell.measured}{', invalid' if cell.why_invalid else ''}"
        TERMINAL.data(f"{word}  {result.slo.text}  {result.slo.told(result.value)}  ({where})\n")


def _print_changes(report: BenchReport, old: dict[str, Any]) -> None:
    """What became of the loads since an earlier report."""
    from batchscore.bench.compare import CONFIDENCE, METRICS

    how = f"means over windows, {CONFIDENCE:.0%} confidence"
    TERMINAL.data(f"\nsince {old['started_at']} ({how})\n")
    for difference in old["differences"]:
        TERMINAL.data(f"  other: {difference}\n")
    for missing in old["missing"]:
        TERMINAL.data(f"  not measured then: {missing}\n")
    for change in report.changes:
        name = METRICS[change.metric]
        is_rate = name == "rows/s"
        before, now = (
            f"{value:,.0f}" if is_rate else _ms(value) for value in (change.old, change.new)
        )
        invalid = ", invalid then" if change.was_invalid else ""
        TERMINAL.data(
            f"{name:<6}  {before:>9} -> {now:<9}  {change.change:+.1%} ({change.low:+.1%} to "
            f"{change.high:+.1%})  {report.cells[change.cell].measured}{invalid}\n"
        )


def _row(cell: Cell) -> Sequence[str]:
    figures, service = cell.response.summary(), cell.service.summary()
    notes = [
        *(["same rows"] if cell.measured.rows_reused else []),
        *(["invalid"] if cell.why_invalid else [] if cell.is_stable else ["not stable"]),
    ]
    return (
        str(cell.measured.load),
        str(cell.measured.batch_size),
        f"{cell.good_requests_per_s:.1f}",
        f"{cell.goodput_rows_per_s:,.0f}",
        *(_ms(figures[name]) for name in ("p50", "p90", "p99")),
        # Where fewer than a thousand were measured, that is their maximum.
        _ms(figures["p99.9"]) if cell.response.count >= 1000 else "-",
        _ms(figures["max"]),
        _ms(service["p50"]),
        str(cell.failed_requests),
        _ms(cell.client_share_s),
        ", ".join(notes),
    )


def _ms(seconds: float | None) -> str:
    if seconds is None or math.isnan(seconds):
        return "-"
    return f"{seconds * 1000:.2f}" if seconds < 1 else f"{seconds * 1000:.0f}"


COMMAND = Command(
    name="bench",
    model=BenchConfig,
    call=_bench,
    positional="inputs",
    groups={
        "Input": (
            "inputs", "input_format", "map", "delimiter", "encoding", "null", "type", "image_root",
            "hive", "limit",
        ),
        "Load": (
            "concurrency", "rate", "arrivals", "batch_size", "reuse_rows", "duration", "warmup",
            "min_requests", "max_drift", "max_duration", "seed", "max_client_share",
        ),
        "Sending": ("timeout", "max_attempts", "max_response_bytes"),
        "Deployment": DEPLOYMENT,
        "Output": ("slo", "find_max", "compare", "max_regression", "output", "report"),
        "Stores": STORES,
    },
    short={"output": "-o"},
    metavars={
        **METAVARS, "concurrency": "N,...", "rate": "REQUESTS,...", "batch_size": "ROWS,...",
        "duration": "TIME", "warmup": "TIME", "max_duration": "TIME", "min_requests": "N",
        "max_drift": "P%", "max_client_share": "P%", "seed": "N", "slo": "METRIC=VALUE",
        "output": "FILE.arrow", "compare": "OLD.json", "max_regression": "P%",
    },
)  # fmt: skip
bench = as_function(COMMAND)
