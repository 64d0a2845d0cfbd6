"""One bench, put together: rows, connection, loads one after another, report."""

from __future__ import annotations

import logging
import os
from contextlib import suppress
from typing import TYPE_CHECKING, Any

from batchscore.bench.cells import rows_text
from batchscore.bench.compare import changes, differences, key_of, read_report
from batchscore.bench.echo import own_share
from batchscore.bench.find_max import Search, find_max
from batchscore.bench.load import Closed, Load, Open
from batchscore.bench.measure import Display, measured_cell
from batchscore.bench.outcome import judge
from batchscore.bench.report import BenchReport, is_of_bench, write_requests
from batchscore.bench.target import Target, prepared
from batchscore.bench.timed import TimedTransport
from batchscore.endpoint import Endpoint
from batchscore.environment import raise_file_limit
from batchscore.errors import EXIT_STOPPED, EXIT_USAGE, AttemptError, OutputError, UsageError
from batchscore.metrics import RunMetrics
from batchscore.processes.count import usable_cores
from batchscore.readers import ReadOptions, open_reader
from batchscore.run import exit_code_of
from batchscore.runtime import Runtime
from batchscore.scoring.connection import Limits, connect, with_protocol
from batchscore.scoring.pipeline import first_error

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable
    from pathlib import Path

    from batchscore.bench.cells import Cell
    from batchscore.bench.options import BenchConfig

_log = logging.getLogger("batchscore")

_CONCURRENCY = (1, 2, 4, 8)
_FIRST_RATE = 10.0
_SIGNALLED = 128


def loads(config: BenchConfig) -> tuple[Load, ...]:
    """What is asked for: closed loops, then open ones."""
    is_told = config.rate or config.find_max
    concurrency = config.concurrency or (() if is_told else _CONCURRENCY)
    closed = [Closed(count) for count in concurrency]
    rates = () if config.find_max else config.rate
    opened = [Open(rate, config.arrivals, config.seed) for rate in rates]
    return (*closed, *opened)


async def bench(
    config: BenchConfig, display: Display, report: BenchReport | None = None
) -> BenchReport:
    """Measure a deployment.

    Args:
        config: what is asked for.
        display: shows it meanwhile.
        report: where the figures go; whatever ends the bench, it has those that there are.

    Raises:
        BatchscoreError: it could not be measured; the reports are written all the same.
    """
    report = report or BenchReport()
    report.options = _shown(config)
    report.notes += _busy_before(report.load_average)
    _check_places(config)
    old = None if config.compare is None else _earlier(config, config.compare)
    try:
        report.endpoint = Endpoint.parse(config.url).shown
        await _measured(config, report, display)
        if old is not None:
            _compare(config, report, old)
        judge(report, config.slos)
    except BaseException as error:
        report.exit_code = exit_code_of(error)
        report.status = {EXIT_USAGE: "usage", EXIT_STOPPED: "stopped"}.get(
            report.exit_code, "interrupted" if report.exit_code > _SIGNALLED else "temporary"
        )
        report.message = str(error) or type(error).__name__
        if report.exit_code > _SIGNALLED:
            report.message = f"{report.status} by {report.message}"
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
    if not planned:
        raise UsageError(
            "--compare compares loads, not what --find-max finds; give --concurrency, too"
        )
    if not {key_of(cell) for cell in planned} & {key_of(cell) for cell in old["cells"]}:
        raise UsageError(
            f"--compare: {str(path)!r} has none of the loads to be measured; give the same "
            "--concurrency or --rate, and --batch-size"
        )
    return old


def _write(config: BenchConfig, report: BenchReport) -> None:
    report.write(config.report)
    if config.output is not None:
        write_requests(report, config.output)


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
            raise UsageError(
                f"{option}: there is no folder {str(path.parent)!r}; make it, or name another"
            )
        if path.is_dir():
            raise UsageError(f"{option}: {str(path)!r} is a folder, not a file; name a file in it")
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
    report.notes += _left_out(target)
    for number, (load, size) in enumerate(plan, 1):
        text = f"{load}, {rows_text(size)}"
        display.on_load(number, total, text, config.warmup + config.duration)
        report.cells.append(
            await measured_cell(config, load, target.bodies[size], target.sender, display)
        )
        display.on_cell(report.cells[-1])
    if config.find_max:
        await _searches(config, report, target, display)
    report.notes += _repeated(target)
    if config.reuse_rows:
        load, size = plan[0]
        text = f"{load}, the same {rows_text(size)}"
        display.on_load(total, total, text, config.warmup + config.duration)
        same = target.bodies[size].same()
        reused = await measured_cell(config, load, same, target.sender, display, rows_reused=True)
        report.cells.append(reused)
        display.on_cell(reused)
        report.reuse = _reuse(report.cells)
    await _own_shares(report, target)


async def _own_shares(report: BenchReport, target: Target) -> None:
    """Measure what the client itself takes of requests like those that were answered."""
    for rows, (request, response) in sorted(target.sender.answered.items()):
        try:
            share = await own_share(request, response, rows)
        except (OSError, AttemptError) as error:
            # The figures stand without it; a computer that is out of handles says so elsewhere.
            _log.warning("the client's own share of the times is not known: %s", error)
            return
        for cell in report.cells:
            if cell.measured.batch_size == rows:
                cell.own_share = share


def _busy_before(load_average: list[float]) -> list[str]:
    """Where other programs already keep the processor busy, the client will be late."""
    cores = usable_cores()
    if not load_average or load_average[0] <= cores:
        return []
    busy = f"load average {load_average[0]:.1f} on {cores} core{'' if cores == 1 else 's'}"
    return [f"this computer was busy before ({busy}), which makes the client late"]


def _left_out(target: Target) -> list[str]:
    failed = max(bodies.failed_rows for bodies in target.bodies.values())
    if not failed:
        return []
    return [f"{rows_text(failed)} cannot be sent and {'is' if failed == 1 else 'are'} left out"]


def _repeated(target: Target) -> list[str]:
    """Where there were not rows enough: a server that keeps its answers is measured by them."""
    return [
        f"with {rows_text(size)} a request the input lasts for {len(bodies.items):,} of "
        f"{bodies.given:,} requests; after that the same rows came again, which a cache may answer"
        for size, bodies in target.bodies.items()
        if bodies.given > len(bodies.items)
    ]


async def _searches(
    config: BenchConfig, report: BenchReport, target: Target, display: Display
) -> None:
    """Search with each batch size, from the rate on that was found with the one before."""
    # The times that a rate is measured are to be as long as each other; doubt brings one more.
    config = config.model_copy(update={"max_duration": config.duration, "min_requests": 1})
    first = config.rate[0] if config.rate else _FIRST_RATE
    for size in config.batch_size:
        search = Search(size, config.slos, config.duration)
        report.searches.append(search)
        measure = _searched(config, target, size, display)
        await find_max(search, measure, first)
        first = search.best.rate if search.best else first


def _searched(
    config: BenchConfig, target: Target, size: int, display: Display
) -> Callable[[float, int], Awaitable[Cell]]:
    bodies = target.bodies[size]

    async def measure(rate: float, number: int) -> Cell:
        load = Open(rate, config.arrivals, config.seed + number)
        text = f"search, step {number + 1}: {rate:.4g} req/s, {rows_text(size)}"
        display.on_load(0, 0, text, config.warmup + config.duration)
        cell = await measured_cell(config, load, bodies, target.sender, display)
        display.on_cell(cell)
        return cell

    return measure


def _reuse(cells: list[Cell]) -> dict[str, object]:
    unique, reused = (cell.service.summary()["p50"] for cell in (cells[0], cells[-1]))
    ratio = reused / unique if unique and reused else None
    return {"unique": 0, "reused": len(cells) - 1, "ratio": ratio}


def _compare(config: BenchConfig, report: BenchReport, old: dict[str, Any]) -> None:
    """What became of the loads of an earlier report."""
    report.max_regression = config.max_regression
    names = ("started_at", "version", "endpoint", "environment", "status")
    keys = {key_of(cell) for cell in old["cells"]}
    new = [cell for cell in report.cells if key_of(cell.as_dict()) not in keys]
    report.compared_with = {name: old.get(name) for name in names} | {
        "differences": differences(old, report.as_dict()),
        "missing": [str(cell.measured) for cell in new],
    }
    report.changes = changes(old["cells"], [cell.as_dict() for cell in report.cells], config.seed)
