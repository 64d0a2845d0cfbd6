"""One bench, put together: rows, connection, loads one after another, report."""

from __future__ import annotations

import os
from contextlib import suppress
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any

from batchscore.bench.compare import changes, key_of, read_report
from batchscore.bench.find_max import Search, find_max
from batchscore.bench.load import Closed, Load, Open
from batchscore.bench.measure import Display, measured_cell
from batchscore.bench.report import BenchReport, SloResult, is_of_bench, write_requests
from batchscore.bench.target import Target, prepared
from batchscore.bench.timed import TimedTransport
from batchscore.endpoint import Endpoint
from batchscore.environment import raise_file_limit
from batchscore.errors import (
    EXIT_FAILED_ROWS,
    EXIT_STOPPED,
    EXIT_USAGE,
    OutputError,
    UsageError,
)
from batchscore.metrics import RunMetrics
from batchscore.readers import ReadOptions, open_reader
from batchscore.run import exit_code_of
from batchscore.runtime import Runtime
from batchscore.scoring.connection import Limits, connect, with_protocol
from batchscore.scoring.pipeline import first_error

if TYPE_CHECKING:
    from pathlib import Path

    from batchscore.bench.cells import Cell
    from batchscore.bench.options import BenchConfig

_CONCURRENCY = (1, 2, 4, 8)
_FIRST_RATE = 10.0


def loads(config: BenchConfig) -> tuple[Load, ...]:
    """What is asked for: closed loops, then open ones."""
    is_told = config.rate or config.find_max
    concurrency = config.concurrency or (() if is_told else _CONCURRENCY)
    closed = [Closed(count) for count in concurrency]
    rates = () if config.find_max else config.rate
    opened = [Open(rate, config.arrivals, config.seed) for rate in rates]
    return (*closed, *opened)


async def bench(config: BenchConfig, display: Display) -> BenchReport:
    """Measure a deployment.

    Raises:
        BatchscoreError: it could not be measured; the reports are written all the same.
    """
    report = BenchReport(datetime.now(UTC).isoformat(timespec="milliseconds"))
    report.options, report.seed = _shown(config), config.seed
    _check_places(config)
    old = None if config.compare is None else _earlier(config, config.compare)
    try:
        report.endpoint = Endpoint.parse(config.url).shown
        await _measured(config, report, display)
        if old is not None:
            _compare(config, report, old)
        _judge(config, report)
    except BaseException as error:
        report.exit_code = exit_code_of(error)
        report.status = {EXIT_USAGE: "usage", EXIT_STOPPED: "stopped"}.get(
            report.exit_code, "interrupted" if report.exit_code > 128 else "temporary"
        )
        report.message = str(error) or type(error).__name__
        with suppress(OSError):  # the error that came first is what matters
            _write(config, report)
        raise
    try:
        _write(config, report)
    except OSError as error:
        raise OutputError(f"cannot write {error.filename!r}: {error.strerror}") from error
    return report


def _earlier(config: BenchConfig, path: Path) -> dict[str, Any]:
    """The report to compare with; raises ``UsageError`` where no load of it is measured now."""
    old = read_report(path)
    planned = [
        {"load": load.as_dict(), "batch_size": size}
        for load in loads(config)
        for size in config.batch_size
    ]
    if not {key_of(cell) for cell in planned} & {key_of(cell) for cell in old["cells"]}:
        raise UsageError(
            f"--compare: {str(path)!r} has none of the loads to be measured; give the same "
            "--concurrency or --rate, and --batch-size"
        )
    return old


def _write(config: BenchConfig, report: BenchReport) -> None:
    report.write(config.report)
    if config.output is not None and report.cells:
        write_requests(report.cells, config.output)


def _shown(config: BenchConfig) -> dict[str, object]:
    """The options as they may be stored: none that could hold a secret."""
    secret = {"url", "header", "header_file", "token_command", "token_file", "inputs", "instances"}
    return config.model_dump(mode="json", exclude=secret)


def _check_places(config: BenchConfig) -> None:
    """Raise ``UsageError`` where the figures could not be written, before they are measured."""
    inputs = {os.path.realpath(path) for path in config.inputs}
    places = [("--report", path) for path in config.report]
    if config.output is not None:
        places.append(("--output", config.output))
        if config.output.exists() and not is_of_bench(config.output):
            # A config file that serves several commands may name the predictions of score.
            raise UsageError(
                f"--output: {str(config.output)!r} is there and holds no requests of a bench; "
                "name another file"
            )
    for option, path in places:
        if not path.parent.is_dir():
            raise UsageError(f"{option}: there is no folder {str(path.parent)!r}")
        if path.is_dir():
            raise UsageError(f"{option}: {str(path)!r} is a folder, not a file")
        if os.path.realpath(path) in inputs:
            raise UsageError(f"{option}: {str(path)!r} is the input; name another")


async def _measured(config: BenchConfig, report: BenchReport, display: Display) -> None:
    """Measure each load with each batch size."""
    runtime = Runtime(transport=TimedTransport)
    raise_file_limit()
    with runtime.ground(RunMetrics()) as ground:
        job = await with_protocol(config.as_score(), ground)
        opened = await ground.offload(open_reader, job.inputs, ReadOptions.of(job))
        try:
            if opened.is_stream and len(config.batch_size) > 1:
                raise UsageError("an input that is read once serves one --batch-size; store it")
            async with connect(job, ground, Limits(max_attempts=1)) as connection:
                report.protocol = connection.protocol.name
                target = await prepared(config, job, opened, connection, ground)
                await _all_cells(config, report, target, display)
        except BaseExceptionGroup as errors:
            error = first_error(errors)
            raise error from error.__cause__
        finally:
            opened.close()


async def _all_cells(
    config: BenchConfig, report: BenchReport, target: Target, display: Display
) -> None:
    plan = [(load, size) for size in config.batch_size for load in loads(config)]
    total = len(plan) + config.reuse_rows
    for number, (load, size) in enumerate(plan, 1):
        text = f"{load}, {size} rows"
        display.on_load(number, total, text, config.warmup + config.duration)
        report.cells.append(
            await measured_cell(config, load, target.bodies[size], target.sender, display)
        )
        display.on_cell(report.cells[-1])
    if config.find_max:
        report.search = await _search(config, target, display)
    if config.reuse_rows:
        load, size = plan[0]
        text = f"{load}, the same {size} rows"
        display.on_load(total, total, text, config.warmup + config.duration)
        same = target.bodies[size].same()
        reused = await measured_cell(config, load, same, target.sender, display, rows_reused=True)
        report.cells.append(reused)
        display.on_cell(reused)
        report.reuse = _reuse(report.cells)


async def _search(config: BenchConfig, target: Target, display: Display) -> Search:
    bodies = target.bodies[config.batch_size[0]]
    count = 0

    async def measure(rate: float) -> Cell:
        nonlocal count
        count += 1
        load = Open(rate, config.arrivals, config.seed)
        text = f"search: {rate:.4g} req/s, {bodies.rows} rows"
        display.on_load(count, 0, text, config.warmup + config.duration)
        return await measured_cell(config, load, bodies, target.sender, display)

    first = config.rate[0] if config.rate else _FIRST_RATE
    return await find_max(measure, config.slos, first)


def _reuse(cells: list[Cell]) -> dict[str, object]:
    unique, reused = (cell.service.summary()["p50"] for cell in (cells[0], cells[-1]))
    ratio = reused / unique if unique and reused else None
    return {"unique": 0, "reused": len(cells) - 1, "ratio": ratio}


def _judge(config: BenchConfig, report: BenchReport) -> None:
    """What the figures mean for the exit code: first whether there are any to be trusted."""
    report.slo = [
        SloResult(slo, number, slo.value(cell))
        for number, cell in enumerate(report.cells)
        for slo in config.slos
    ]
    invalid = [cell for cell in report.cells if cell.why_invalid]
    silent = [cell for cell in report.cells if cell.failed_requests == cell.requests]
    missed = [result for result in report.slo if not result.is_met]
    if report.search is not None and report.search.best is None and not report.search.client_limit:
        report.status, report.exit_code = "slo_missed", EXIT_FAILED_ROWS
        report.message = "--find-max: no rate keeps " + ", ".join(slo.text for slo in config.slos)
    elif report.search is not None and report.search.client_limit:
        report.status, report.exit_code = "invalid", EXIT_STOPPED
        report.message = "invalid: --find-max came to the client's own bound: " + "; ".join(
            report.search.client_limit
        )
    elif silent:
        cell = silent[0]
        counts = ", ".join(f"{code} {count} times" for code, count in cell.errors.items())
        where = f"{cell.measured.load}, {cell.measured.batch_size} rows"
        report.status, report.exit_code = "failed", EXIT_STOPPED
        report.message = f"at {where} no request was answered well: {counts or 'none was sent'}"
    elif invalid:
        cell = invalid[0]
        where = f"{cell.measured.load}, {cell.measured.batch_size} rows"
        more = f" (and {len(invalid) - 1} loads more)" if len(invalid) > 1 else ""
        report.status, report.exit_code = "invalid", EXIT_STOPPED
        report.message = f"invalid: at {where}{more} the client was the bottleneck: " + "; ".join(
            cell.why_invalid
        )
    elif missed:
        report.status, report.exit_code = "slo_missed", EXIT_FAILED_ROWS
        texts = dict.fromkeys(result.slo.text for result in missed)
        report.message = f"missed: {', '.join(texts)}"
    elif report.regressions:
        worst = max(report.regressions, key=lambda change: abs(change.change))
        cell = report.cells[worst.cell]
        report.status, report.exit_code = "regressed", EXIT_FAILED_ROWS
        report.message = (
            f"regressed: {worst.metric} by {worst.change:+.1%} ({worst.low:+.1%} to "
            f"{worst.high:+.1%}) at {cell.measured.load}, {cell.measured.batch_size} rows"
        )


def _compare(config: BenchConfig, report: BenchReport, old: dict[str, Any]) -> None:
    """What became of the loads of an earlier report."""
    report.max_regression = config.max_regression
    names = ("started_at", "version", "endpoint", "environment", "status")
    report.compared_with = {name: old.get(name) for name in names}
    report.changes = changes(old["cells"], [cell.as_dict() for cell in report.cells], config.seed)
