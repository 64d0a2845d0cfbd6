"""What the figures mean for the exit code: first whether there are any to be trusted."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING, NamedTuple

from batchscore.bench.cells import rows_text
from batchscore.bench.compare import METRICS
from batchscore.bench.report import SloResult
from batchscore.bench.verdict import CONFIDENCE
from batchscore.errors import EXIT_FAILED_ROWS, EXIT_STOPPED

if TYPE_CHECKING:
    from collections.abc import Sequence

    from batchscore.bench.cells import Cell
    from batchscore.bench.find_max import Search
    from batchscore.bench.report import BenchReport
    from batchscore.bench.slo import Slo


_ADVICE = "measure with less load, or from a computer that has less to do"


class Outcome(NamedTuple):
    """How a bench ends.

    Attributes:
        status: as in the report.
        exit_code: what the command exits with.
        message: why.
    """

    status: str
    exit_code: int
    message: str


def judge(report: BenchReport, slos: Sequence[Slo]) -> None:
    """Hold the loads against the objectives, and let the report say how it all ends."""
    report.slo = [
        SloResult(slo, number, slo.value(cell))
        for number, cell in enumerate(report.cells)
        for slo in slos
    ]
    for found in (
        _unanswered(report),
        _invalid(report.cells),
        _client_bound(report),
        _none_kept(report),
        _missed(report),
        _regressed(report),
    ):
        if found is not None:
            report.status, report.exit_code, report.message = found
            return


def _unanswered(report: BenchReport) -> Outcome | None:
    lowest = [search.steps[0].cells[-1] for search in report.searches if not search.best]
    silent = [cell for cell in (*report.cells, *lowest) if cell.failed_requests == cell.requests]
    if not silent:
        return None
    where, told = f"{silent[0].measured}{_more(silent)}", errors_text(silent[0])
    text = f"at {where} no request was answered well: {told or 'none was sent'}"
    return Outcome("failed", EXIT_STOPPED, text)


def _invalid(cells: Sequence[Cell]) -> Outcome | None:
    invalid = [cell for cell in cells if cell.why_invalid]
    if not invalid:
        return None
    where, why = f"{invalid[0].measured}{_more(invalid)}", "; ".join(invalid[0].why_invalid)
    text = f"invalid: at {where} the client was the bottleneck: {why}; {_ADVICE}"
    return Outcome("invalid", EXIT_STOPPED, text)


def _client_bound(report: BenchReport) -> Outcome | None:
    bounded = [search for search in report.searches if search.client_limit]
    if not bounded:
        return None
    search = bounded[0]
    text = (
        f"invalid: --find-max with {rows_text(search.batch_size)} a request came to the client's "
        f"own bound at {search.sure[1]:.4g} req/s: {'; '.join(search.client_limit)}; "
    )
    text += (
        f"the deployment takes at least {search.rows_per_s:,.0f} rows/s" if search.best else _ADVICE
    )
    return Outcome("invalid", EXIT_STOPPED, text)


def _none_kept(report: BenchReport) -> Outcome | None:
    if not report.searches or report.best_search is not None:
        return None
    search = report.searches[0]
    step = search.steps[0]
    asked = ", ".join(slo.text for slo in search.slos)
    cell = step.cells[-1]
    figures = ", ".join(f"{slo.name} {slo.told(slo.value(cell))}" for slo in search.slos)
    failed = f"; {errors_text(cell)}" if cell.errors else ""
    text = f"--find-max: no rate keeps {asked}; at {cell.measured}: {figures}{failed}"
    return Outcome("slo_missed", EXIT_FAILED_ROWS, text)


def _missed(report: BenchReport) -> Outcome | None:
    missed = [result for result in report.slo if not result.is_kept]
    texts = []
    for text in dict.fromkeys(result.slo.text for result in missed):
        results = [result for result in missed if result.slo.text == text]
        worst = results[0]
        value, where = worst.slo.told(worst.value), report.cells[worst.cell].measured
        texts.append(f"{text} ({value} at {where}{_more(results)})")
    return Outcome("slo_missed", EXIT_FAILED_ROWS, f"missed: {', '.join(texts)}") if texts else None


def _regressed(report: BenchReport) -> Outcome | None:
    if not report.regressions:
        return None
    worst = max(report.regressions, key=lambda change: abs(change.change))
    text = (
        f"regressed: {METRICS[worst.metric]} by {worst.change:+.1%} ({worst.low:+.1%} to "
        f"{worst.high:+.1%}) at {report.cells[worst.cell].measured}"
    )
    return Outcome("regressed", EXIT_FAILED_ROWS, text)


def found_text(search: Search, *, is_best: bool) -> str:
    """The highest throughput with one batch size, and how sure that is."""
    rows = rows_text(search.batch_size)
    asked = ", ".join(slo.text for slo in search.slos)
    if search.best is None:
        return f"highest throughput with {rows} a request: no rate keeps {asked}"
    kept, missed = search.sure
    low = (
        f"kept for sure up to {kept:,.4g} req/s"
        if kept
        else "there were too few requests to be sure of a rate that keeps it"
    )
    if search.client_limit:
        high = f"from {missed:,.4g} req/s on the client was the bottleneck"
    elif math.isfinite(missed):
        high = f"missed for sure from {missed:,.4g} req/s on"
    else:
        high = "no rate was found that misses it for sure"
    return (
        f"highest throughput with {rows} a request: {search.rows_per_s:,.0f} rows/s, at "
        f"{search.best.rate:,.4g} req/s{' (the best)' if is_best else ''}\n"
        f"  {asked}, at {CONFIDENCE:.0%} confidence: {low}, {high}"
    )


def errors_text(cell: Cell) -> str:
    """``http_503 12 times, timeout once``."""
    return ", ".join(
        f"{code} {'once' if count == 1 else f'{count:,} times'}"
        for code, count in cell.errors.items()
    )


def _more(found: Sequence[object]) -> str:
    rest = len(found) - 1
    return "" if not rest else f" and {rest} load{'s' if rest > 1 else ''} more"
