"""What a check found, as text for people."""

from __future__ import annotations

from typing import TYPE_CHECKING

from rich.padding import Padding
from rich.table import Table
from rich.text import Text

from batchscore.observers import count_text, duration_text

if TYPE_CHECKING:
    from collections.abc import Sequence

    from rich.console import Console, RenderableType

    from batchscore.checking.report import CheckReport, Problem, ProblemRow

_MAX_WIDTH = 100
_UNITS = ("B", "kB", "MB", "GB", "TB", "PB")


def printed(report: CheckReport, console: Console) -> str:
    """The report as it is printed on this console: within its width, coloured as it is."""
    console.width = min(console.width, _MAX_WIDTH)
    has_files = len({row.file for problem in report.problems for row in problem.rows}) > 1
    has_files = has_files or len(report.input) > 1
    with console.capture() as capture:
        console.print(Text(f"{report.endpoint}, protocol {report.protocol}", overflow="fold"))
        if report.problems:
            console.print()
            console.print(Text(_headline(report), style="bold red"))
        else:
            console.print()
            console.print(Text("no problem: every row can be sent", style="bold green"))
        for problem in report.problems:
            _print(console, problem, "bold", has_files=has_files)
        if report.notes:
            console.print()
            console.print(Text("worth knowing", style="bold yellow"))
        for note in report.notes:
            _print(console, note, "bold", has_files=has_files)
        console.print()
        console.print(_facts(report))
    # The grids are filled up with spaces, which nobody wants to copy.
    return "".join(f"{line.rstrip()}\n" for line in capture.get().splitlines())


def _headline(report: CheckReport) -> str:
    count = len(report.problems)
    kinds = "1 problem" if count == 1 else f"{count:,} problems"
    if not report.rows_failed:
        return kinds
    return f"{kinds}, in {report.rows_failed:,} of {report.rows:,} rows (counted from 1)"


def _print(console: Console, problem: Problem, style: str, *, has_files: bool) -> None:
    console.print()
    line = Table.grid(expand=True, padding=(0, 2, 0, 0))
    line.add_column(ratio=1, overflow="fold")
    line.add_column(justify="right", no_wrap=True)
    title = Text(style="")
    if problem.column is not None and problem.count:
        title.append(problem.column, style=style).append(": ")
        title.append(problem.text)
    else:
        title.append(problem.text, style="" if problem.count else style)
    plural = "" if problem.count == 1 else "s"
    line.add_row(title, f"{problem.count:,} row{plural}" if problem.count else "")
    console.print(line)
    if problem.rows:
        console.print(Padding(_rows(problem, has_files=has_files), (0, 0, 0, 4)))
    remedy = Table.grid(padding=(0, 1, 0, 0))
    remedy.add_column(style="green", no_wrap=True)
    remedy.add_column(overflow="fold")
    remedy.add_row("->", Text(problem.remedy))
    console.print(Padding(remedy, (0, 0, 0, 4)))


def _rows(problem: Problem, *, has_files: bool) -> RenderableType:
    if all(_line(row, problem) == "" for row in problem.rows) and not has_files:
        numbers = ", ".join(f"{row.row:,}" for row in problem.rows)
        return Text(f"row{'s' * (len(problem.rows) > 1)} {numbers}{_more(problem)}")
    table = Table.grid(padding=(0, 2, 0, 0))
    table.add_column(no_wrap=True)
    table.add_column(overflow="fold")
    for row in problem.rows:
        table.add_row(_place(row, has_files=has_files), Text(_line(row, problem)))
    if _more(problem):
        table.add_row("...", "")
    return table


def _more(problem: Problem) -> str:
    return ", ..." if problem.count > len(problem.rows) else ""


def _place(row: ProblemRow, *, has_files: bool) -> str:
    if not has_files or row.file is None or row.file_row is None:
        return f"row {row.row:,}"
    file = "standard input" if row.file == "-" else row.file
    return f"{file} row {row.file_row:,}"


def _line(row: ProblemRow, problem: Problem) -> str:
    """What is said of a row beside its number: the cell, and what the title leaves open."""
    if row.text == problem.text:
        return row.value or ""
    return row.text if row.value is None or row.value in row.text else f"{row.value}: {row.text}"


def _facts(report: CheckReport) -> RenderableType:
    table = Table.grid(padding=(0, 2, 0, 0))
    table.add_column(no_wrap=True)
    table.add_column(overflow="fold")
    for name, text in _facts_of(report):
        table.add_row(name, Text(text))
    return table


def _facts_of(report: CheckReport) -> Sequence[tuple[str, str]]:
    speed = f", read in {duration_text(report.seconds)}"
    whole = "" if report.is_whole else ", up to where reading stopped"
    good = report.rows - report.rows_failed
    count = "all" if good == report.rows else f"{good:,}"
    ready = f", {count} ready to be sent" if report.requests is not None and report.rows else ""
    facts = [("rows", f"{report.rows:,}{whole}{ready}{speed}")]
    if report.requests is None or report.request_bytes is None:
        return [*facts, ("requests", "none can be sent before the columns are mended")]
    facts.append(("requests", f"{report.requests:,}, {size_text(report.request_bytes)} in all"))
    if report.nonfinite_as_null:
        plural = "" if report.nonfinite_as_null == 1 else "s"
        many = f"{report.nonfinite_as_null:,} NaN or infinite number{plural}"
        facts.append(("sent", f"{many} as null"))
    facts.append(("time", _time(report)))
    if report.probe is not None:
        sent, rows = report.probe.requests, report.probe.rows
        were = "1 request was" if sent == 1 else f"{sent} requests were"
        facts.append(("probe", f"{were} sent, {rows:,} row{'s' * (rows != 1)} in all"))
    return facts


def _time(report: CheckReport) -> str:
    probe = report.probe
    if not report.requests:
        return "none, as there is no row to be sent"
    if probe is None:
        return "not measured; --probe sends a few requests to tell it"
    if probe.rows_per_s is None or probe.expected_s is None or probe.latency_s is None:
        return "not known, as no request was answered well"
    at_once = "one request at a time" if probe.at_once == 1 else f"{probe.at_once} at once"
    return (
        f"about {duration_text(probe.expected_s)}, at {count_text(probe.rows_per_s)} rows/s with "
        f"{at_once}, {duration_text(probe.latency_s)} each"
    )


def size_text(size: float) -> str:
    """``34 kB`` of 34,000 bytes."""
    for unit in _UNITS[:-1]:
        if size < 999.5:
            return f"{size:.3g} {unit}"
        size /= 1000
    return f"{size:.3g} {_UNITS[-1]}"
