"""One bench, put together: rows, connection, loads one after another, report."""

from __future__ import annotations

import gc
import os
from bisect import bisect_left
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from datetime import UTC, datetime
from operator import attrgetter
from typing import TYPE_CHECKING, Any, Protocol

from batchscore.batches import INVALID_INPUT
from batchscore.bench.bodies import Bodies, encoded_rows, make_bodies
from batchscore.bench.cells import Cell, Measured
from batchscore.bench.compare import changes, key_of, read_report
from batchscore.bench.figures import drift, windows
from batchscore.bench.load import Closed, Load, Open, generated, measured_stretch
from batchscore.bench.report import BenchReport, SloResult, write_requests
from batchscore.bench.samples import Samples
from batchscore.bench.sender import Sender
from batchscore.bench.timed import TimedTransport
from batchscore.endpoint import Endpoint
from batchscore.errors import (
    EXIT_FAILED_ROWS,
    EXIT_STOPPED,
    EXIT_USAGE,
    AttemptError,
    InputError,
    OutputError,
    RefusedError,
    UsageError,
)
from batchscore.metrics import RunMetrics
from batchscore.protocols.base import FallsBack
from batchscore.readers import ReadOptions, open_reader
from batchscore.run import exit_code_of
from batchscore.runtime import Runtime
from batchscore.scoring.connection import Connection, Limits, connect, with_protocol
from batchscore.scoring.declared import with_inputs
from batchscore.scoring.decoding import Decoding
from batchscore.scoring.features import Features
from batchscore.scoring.learned import with_classes
from batchscore.scoring.packing import encoder_of
from batchscore.scoring.pipeline import first_error

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from batchscore.bench.load import Traffic
    from batchscore.bench.options import BenchConfig
    from batchscore.config import ScoreConfig
    from batchscore.protocols.base import Body, EncodedRows, RowEncoder
    from batchscore.readers import OpenedInput
    from batchscore.runtime import Ground

_CONCURRENCY = (1, 2, 4, 8)
_GLANCE = 5_000
_ended = attrgetter("ended")


class Display(Protocol):
    """Shows a bench while it runs; called from the event loop, so nothing may block for long.

    ``on_load`` comes before each load, ``on_tick`` meanwhile, ``on_cell`` after.
    """

    def on_load(self, number: int, of: int, text: str, expected_s: float) -> None: ...

    def on_tick(self, seconds: float, done: int, failed: int, in_flight: int) -> None: ...

    def on_cell(self, cell: Cell) -> None: ...


@dataclass(frozen=True)
class _Target:
    """What the loads are sent to, and what of."""

    sender: Sender
    bodies: dict[int, Bodies]


def loads(config: BenchConfig) -> tuple[Load, ...]:
    """What is asked for: closed loops, then open ones."""
    concurrency = config.concurrency or (() if config.rate else _CONCURRENCY)
    closed = [Closed(count) for count in concurrency]
    opened = [Open(rate, config.arrivals, config.seed) for rate in config.rate]
    return (*closed, *opened)


async def bench(config: BenchConfig, display: Display) -> BenchReport:
    """Measure a deployment.

    Raises:
        BatchscoreError: it could not be measured; the reports are written all the same.
    """
    report = BenchReport(datetime.now(UTC).isoformat(timespec="milliseconds"))
    report.options = _shown(config)
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
    _raise_handles()
    with runtime.ground(RunMetrics()) as ground:
        job = await with_protocol(config.as_score(), ground)
        opened = await ground.offload(open_reader, job.inputs, ReadOptions.of(job))
        try:
            if opened.is_stream and len(config.batch_size) > 1:
                raise UsageError("an input that is read once serves one --batch-size; store it")
            async with connect(job, ground, Limits(max_attempts=1)) as connection:
                report.protocol = connection.protocol.name
                target = await _target(config, job, opened, connection, ground)
                await _all_cells(config, report, target, display)
        except BaseExceptionGroup as errors:
            error = first_error(errors)
            raise error from error.__cause__
        finally:
            opened.close()


async def _target(
    config: BenchConfig,
    job: ScoreConfig,
    opened: OpenedInput,
    connection: Connection,
    ground: Ground,
) -> _Target:
    """Encode the rows, and send the first one, which completes what is known of the model."""
    schema = opened.reader.schema
    published = await connection.client.signature()
    signature = with_inputs(published, job, schema, job.map, is_pictures=opened.is_pictures)
    signature = with_classes(signature, job)
    features = Features.of(signature, opened, job)
    encoder = encoder_of(connection.protocol, signature, features)
    decoding = Decoding(connection.protocol, signature, job.probs)
    dice = ground.runtime.random
    sender = Sender(connection, decoding, config.max_attempts, dice)

    def all_bodies(size: int) -> Bodies:
        return make_bodies(encoded_rows(opened.reader, encoder, features, size, job.limit), size)

    if not opened.is_stream:
        await _try_one(encoder, features, opened, connection, decoding, ground)
    bodies = {size: await ground.offload(all_bodies, size) for size in config.batch_size}
    if opened.is_stream:
        ((size, first),) = bodies.items()
        await _answered(connection, decoding, first.items[0], size)
    return _Target(sender, bodies)


async def _try_one(
    encoder: RowEncoder,
    features: Features,
    opened: OpenedInput,
    connection: Connection,
    decoding: Decoding,
    ground: Ground,
) -> None:
    """Send one row; where its form is refused, all rows take the other one from then on."""

    def first_good() -> EncodedRows:
        for encoded in encoded_rows(opened.reader, encoder, features, 1, None):
            if len(encoded.positions):
                return encoded
            failure = next(iter(encoded.failures.values()), None)
            raise InputError(f"none of the first rows can be sent: {failure or INVALID_INPUT}")
        raise InputError("the input has no rows")

    encoded = await ground.offload(first_good)
    falling_back = encoded if isinstance(encoded, FallsBack) else None
    body = encoded.body(0, 1)
    try:
        await _sent(connection, decoding, body, 1)
    except AttemptError as error:
        if falling_back is None or not falling_back.fall_back(body, error):
            raise _unanswered(connection, error) from error
        await _answered(connection, decoding, encoded.body(0, 1), 1)


async def _answered(connection: Connection, decoding: Decoding, body: Body, rows: int) -> None:
    """One request before the load; raises ``RefusedError`` where it is not answered well."""
    try:
        await _sent(connection, decoding, body, rows)
    except AttemptError as error:
        raise _unanswered(connection, error) from error


async def _sent(connection: Connection, decoding: Decoding, body: Body, rows: int) -> None:
    request = connection.protocol.score_request(connection.endpoint.url, body)
    decoding.read(await connection.client.authorized.send(request), rows)


def _unanswered(connection: Connection, error: AttemptError) -> RefusedError:
    return RefusedError(
        f"{connection.endpoint.shown} does not answer its first request well, so there is nothing "
        f"to measure: {error.code}: {error}"
    )


async def _all_cells(
    config: BenchConfig, report: BenchReport, target: _Target, display: Display
) -> None:
    plan = [(load, size) for size in config.batch_size for load in loads(config)]
    total = len(plan) + config.reuse_rows
    for number, (load, size) in enumerate(plan, 1):
        text = f"{load}, {size} rows"
        display.on_load(number, total, text, config.warmup + config.duration)
        report.cells.append(await _cell(config, load, target.bodies[size], target.sender, display))
        display.on_cell(report.cells[-1])
    if config.reuse_rows:
        load, size = plan[0]
        text = f"{load}, the same {size} rows"
        display.on_load(total, total, text, config.warmup + config.duration)
        same = target.bodies[size].same()
        reused = await _cell(config, load, same, target.sender, display, rows_reused=True)
        report.cells.append(reused)
        display.on_cell(reused)
        report.reuse = _reuse(report.cells)


def _reuse(cells: list[Cell]) -> dict[str, object]:
    unique, reused = (cell.service.summary()["p50"] for cell in (cells[0], cells[-1]))
    ratio = reused / unique if unique and reused else None
    return {"unique": 0, "reused": len(cells) - 1, "ratio": ratio}


async def _cell(
    config: BenchConfig,
    load: Load,
    bodies: Bodies,
    sender: Sender,
    display: Display,
    *,
    rows_reused: bool = False,
) -> Cell:
    """Measure one load."""
    with _collector_held_back():
        async with generated(load, bodies, sender) as traffic:

            def tick(seconds: float) -> None:
                failed = sum(bool(sample.error) for sample in traffic.samples[-1000:])
                display.on_tick(seconds, len(traffic.samples), failed, sender.in_flight)

            start, end, cpu_s = await measured_stretch(
                traffic,
                warmup_s=config.warmup,
                duration_s=config.duration,
                longest_s=config.longest_s,
                is_enough=lambda start, end: _is_enough(config, traffic, start, end),
                on_tick=tick,
            )
    measured = Measured(
        load=load,
        batch_size=bodies.rows,
        samples=Samples(traffic.samples),
        lags=traffic.lags,
        start=start,
        end=end,
        warmup_s=config.warmup,
        cpu_s=cpu_s,
        unique_requests=len(bodies.items),
        rows_reused=rows_reused,
        gave_up=traffic.gave_up,
    )
    return Cell(measured, max_client_share=config.max_client_share, max_drift=config.max_drift)


def _is_enough(config: BenchConfig, traffic: Traffic, start: float, end: float) -> bool:
    # They stand in the order of their ends.
    first, last = (bisect_left(traffic.samples, at, key=_ended) for at in (start, end))
    if last - first < config.min_requests:
        return False
    # Asked amid the load, so that a glance has to do.
    few = traffic.samples[first : last : max(1, (last - first) // _GLANCE)]
    return drift(windows(Samples(few), start, end)) <= config.max_drift


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
    if silent:
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


@contextmanager
def _collector_held_back() -> Iterator[None]:
    """Keep the collector from stopping the client while it measures.

    What is young is still looked through, which takes microseconds; what is old never.
    """
    gc.collect()
    gc.freeze()
    before = gc.get_threshold()
    gc.set_threshold(before[0], before[1], 10**9)
    try:
        yield
    finally:
        gc.set_threshold(*before)


def _raise_handles() -> None:
    """Let this process have as many connections as the system allows."""
    with suppress(ImportError, ValueError, OSError):
        import resource  # noqa: PLC0415 - not on every system

        _, most = resource.getrlimit(resource.RLIMIT_NOFILE)
        resource.setrlimit(resource.RLIMIT_NOFILE, (most, most))
