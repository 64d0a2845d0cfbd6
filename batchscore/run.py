"""One run: its options, its counters, and how it ends."""

from __future__ import annotations

import asyncio
import os
from dataclasses import dataclass, field
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING

from batchscore.endpoint import Endpoint, redacted
from batchscore.environment import environment
from batchscore.errors import (
    EXIT_FAILED_ROWS,
    EXIT_INTERRUPTED,
    EXIT_OK,
    EXIT_STOPPED,
    EXIT_TEMPORARY,
    EXIT_TERMINATED,
    EXIT_USAGE,
    BatchscoreError,
    ShortageError,
    UsageError,
)
from batchscore.metrics import RunMetrics, RunReport
from batchscore.observers.exposition import About
from batchscore.observers.history import History
from batchscore.observers.scrapes import Scrapes
from batchscore.shown import shown_options
from batchscore.stores import StoredFile
from batchscore.version import __version__

if TYPE_CHECKING:
    from collections.abc import Callable, Coroutine, Iterable

    from batchscore.config import ScoreConfig
    from batchscore.observers import Observer
    from batchscore.runtime import Ground, Runtime

_STATUS = {
    EXIT_OK: "ok",
    EXIT_STOPPED: "stopped",
    EXIT_USAGE: "usage",
    EXIT_FAILED_ROWS: "failed_rows",
    EXIT_TEMPORARY: "temporary",
    EXIT_INTERRUPTED: "interrupted",
    EXIT_TERMINATED: "terminated",
}


@dataclass
class Run:
    """What all parts of one run share.

    Attributes:
        kind: ``score``, ``rescore`` or ``check``.
        ground: what it stands on, inside ``whole_run``.
    """

    config: ScoreConfig
    observer: Observer
    runtime: Runtime
    kind: str = "score"
    ground: Ground = field(init=False)

    def __post_init__(self) -> None:
        self.metrics = RunMetrics(clock=self.runtime.clock, is_sending=self.kind != "check")
        self.started_at = datetime.now(UTC)
        self.fingerprint: str | None = None
        self.resumable: Callable[[], bool] = lambda: False
        self.reports = self.config.report
        self.history = History()
        self.history.on_start(self.metrics)
        self.observer.on_start(self.metrics)

    def check_image_root(self) -> None:
        """Raise ``UsageError`` where no picture could be read."""
        root = self.config.image_root
        if isinstance(root, Path) and not root.is_dir():
            raise UsageError(
                f"--image-root: there is no folder {str(root)!r}"
                "; name the one that the paths begin in"
            )

    def check_reports(self) -> None:
        """Raise ``UsageError`` where a report could not be written at the end."""
        for path in self.config.report:
            if not path.parent.is_dir():
                raise UsageError(
                    f"--report: there is no folder {str(path.parent)!r}; make it, or name another"
                )
            if path.is_dir():
                raise UsageError(
                    f"--report: {str(path)!r} is a folder, not a file; name a file in it"
                )
        self.protect([*self.config.inputs, self.config.output])

    def protect(self, files: Iterable[Path | StoredFile | str]) -> None:
        """Refuse, and never write, a report that would replace the input or the output.

        Raises:
            UsageError: naming it.
        """
        real = {os.path.realpath(file) for file in files if not isinstance(file, StoredFile)}
        clashing = [path for path in self.reports if os.path.realpath(path) in real]
        self.reports = tuple(path for path in self.reports if path not in clashing)
        if clashing:
            raise UsageError(
                f"--report: {str(clashing[0])!r} is the input or the output; name another"
            )

    def exit_code(self) -> int:
        """0 where every row was scored, or the failures are within an explicit limit."""
        if self.metrics.rows_failed == 0 or self.config.max_failed_rows is not None:
            return EXIT_OK
        return EXIT_FAILED_ROWS

    def report(self, exit_code: int, message: str | None = None) -> RunReport:
        metrics = self.metrics
        return RunReport(
            status=_STATUS[exit_code],
            exit_code=exit_code,
            message=message,
            resumable=message is not None and self.resumable(),
            input=tuple(map(redacted, self.config.inputs)),
            output=redacted(self.config.output),
            endpoint=self._endpoint(),
            fingerprint=self.fingerprint,
            version=__version__,
            started_at=self.started_at.isoformat(timespec="milliseconds"),
            rows_read=metrics.rows_read,
            rows_scored=metrics.rows_scored,
            rows_failed=metrics.rows_failed,
            rows_resumed=metrics.rows_resumed,
            requests=metrics.requests,
            retries=dict(metrics.retries),
            concurrency=metrics.total_limit,
            failed_rows=dict(metrics.failed_rows),
            bytes_sent=metrics.bytes_sent,
            bytes_received=metrics.bytes_received,
            nonfinite_as_null=metrics.nonfinite_as_null,
            seconds=round(metrics.seconds, 6),
            rows_per_second=round(metrics.rows_per_second, 3),
            latency_s=metrics.latency.summary(),
            kind=self.kind,
            failed_examples={
                code: [example._asdict() for example in examples]
                for code, examples in metrics.failed_examples.items()
            },
            history=[window.as_dict() for window in self.history.windows()],
            options=shown_options(self.config.model_dump(mode="json", exclude_defaults=True)),
            environment=dict(environment()),
        )

    def scrapes(self) -> Scrapes:
        """What serves the counters, where that is asked for."""
        run = {"kind": self.kind, "endpoint": self._endpoint() or "",
               "output": redacted(self.config.output)}  # fmt: skip
        build = {"version": __version__, "python": environment()["python"]}
        about = About({k: str(v) for k, v in build.items()}, run, self.started_at.timestamp())
        return Scrapes(self.config.metrics_port, self.config.metrics_linger, self.metrics, about)

    def _endpoint(self) -> str | None:
        """The address as it may be printed and stored; None for one that is no address."""
        try:
            return Endpoint.parse(self.config.url).shown
        except UsageError:
            return None

    def finish(self, report: RunReport) -> None:
        """Tell the observer and write the reports, whatever the end was."""
        self.history.close()
        self.observer.on_finish(report)
        for path in self.reports:
            try:
                write_report(report, path)
            except OSError as error:
                if report.exit_code in {EXIT_OK, EXIT_FAILED_ROWS}:
                    raise UsageError(
                        f"--report: cannot write {str(path)!r}: {error.strerror}"
                    ) from error


def write_report(report: RunReport, path: Path) -> None:
    """Write a report as JSON, or as a page where the file's name ends in ``.html``."""
    text = _page(report) if path.suffix == ".html" else report.as_json()
    path.write_text(text, encoding="utf-8")


def _page(report: RunReport) -> str:
    from batchscore.report_page import page  # noqa: PLC0415 (most runs are quicker without)

    return page(report.as_dict())


def may_replace(path: Path) -> bool:
    """Whether nothing is lost where a report is written: no file is there, or a report."""
    from batchscore.report_page import MARK  # noqa: PLC0415 (most runs are quicker without)

    if not path.exists():
        return True
    with path.open("rb") as file:
        start = file.read(64)
    return b'"schema_version"' in start or start.startswith(MARK.encode())


async def whole_run(run: Run, work: Callable[[Run], Coroutine[None, None, None]]) -> RunReport:
    """Do the work of a run, and report it whatever its end is."""
    scrapes = run.scrapes()
    try:
        return await _reported(run, work, scrapes)
    finally:
        await scrapes.close()


async def _reported(
    run: Run, work: Callable[[Run], Coroutine[None, None, None]], scrapes: Scrapes
) -> RunReport:
    try:
        run.check_reports()
        await scrapes.open()
        with run.runtime.ground(run.metrics, run.observer.on_retry) as run.ground:
            await _worked(work(run))
        report = run.report(run.exit_code())
    except BaseException as error:
        if isinstance(error, BatchscoreError):
            error.is_reported = True
        report = run.report(exit_code_of(error), str(error) or type(error).__name__)
        run.finish(report)
        if isinstance(error, Exception) and not isinstance(error, UsageError):
            await scrapes.last(report.exit_code)
        raise
    run.finish(report)
    await scrapes.last(report.exit_code)
    return report


async def _worked(work: Coroutine[None, None, None]) -> None:
    try:
        await work
    except OSError as error:
        ShortageError.check(error)
        raise


def exit_code_of(error: BaseException) -> int:
    """The exit code of a run that this error ended."""
    if isinstance(error, BatchscoreError):
        return error.exit_code
    if isinstance(error, asyncio.CancelledError):
        # Whoever cancels a run says why, as the signal's name.
        return EXIT_TERMINATED if "SIGTERM" in error.args else EXIT_INTERRUPTED
    if isinstance(error, KeyboardInterrupt):
        return EXIT_INTERRUPTED
    return EXIT_STOPPED
