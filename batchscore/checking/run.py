"""A whole check: the input read once, every row judged, perhaps a few of them sent."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING

from batchscore.checking.columns import Served, served
from batchscore.checking.found import Found
from batchscore.checking.judge import Judge, Judged
from batchscore.checking.probe import AT_ONCE, MAX_AT_ONCE, MAX_REQUESTS, Prober
from batchscore.checking.report import CheckReport
from batchscore.endpoint import Endpoint, redacted
from batchscore.errors import EXIT_FAILED_ROWS, EXIT_OK, UsageError
from batchscore.metrics import RunMetrics
from batchscore.observers import NullObserver
from batchscore.offload import uninterrupted
from batchscore.partial import partial_folder
from batchscore.readers import OpenedInput, ReadOptions, open_reader
from batchscore.readers.chunks import chunks, leave
from batchscore.run import Run, whole_run
from batchscore.runtime import Runtime
from batchscore.scoring.connection import Connection, Limits, connect, with_protocol
from batchscore.scoring.decoding import Decoding
from batchscore.scoring.features import kept_columns
from batchscore.scoring.learned import unlearned_fields, with_classes
from batchscore.scoring.pipeline import Window, ordered_map
from batchscore.version import __version__

if TYPE_CHECKING:
    from collections.abc import AsyncGenerator, Sequence

    from batchscore.batches import Chunk
    from batchscore.checking.judge import Sendable
    from batchscore.checking.options import CheckConfig
    from batchscore.checking.report import Probe
    from batchscore.config import ScoreConfig
    from batchscore.observers import Observer
    from batchscore.schema import ModelSignature

_WINDOW_CHUNKS = 32
_WINDOW_BYTES = 64 * 2**20


async def check(
    config: CheckConfig, *, observer: Observer | None = None, runtime: Runtime | None = None
) -> CheckReport:
    """Read an input as ``score`` would, and tell all that would keep rows from being scored.

    Raises:
        UsageError: an option is wrong, or the input cannot be opened.
        StoppedError: the deployment refuses to tell its specification.
        TemporaryError: it cannot be reached.
    """
    # The reports and metrics of the configuration are those of score.
    run = Run(
        config.model_copy(update={"report": (), "metrics_port": None}),
        observer or NullObserver(),
        runtime or Runtime(),
        "check",
    )
    checked = _Check(run, is_probing=config.probe)
    await whole_run(run, checked.work)
    return checked.report()


class _Check:
    """One check while it goes on."""

    def __init__(self, run: Run, *, is_probing: bool) -> None:
        self._run, self._is_probing = run, is_probing
        self._judged = Judged(0)
        self._sample: list[Sendable] = []
        self._begun = 0
        self._read_s = 0.0
        self._unreadable: UsageError | None = None
        self._probe: Probe | None = None
        self._served: Served
        self._found: Found
        self._protocol = self._fingerprint = ""
        self._seconds = 0.0

    async def work(self, run: Run) -> None:
        """Read, judge, and where it is asked for send a few requests."""
        Endpoint.parse(run.config.url)
        options = replace(ReadOptions.of(run.config), not_input=_own_places(run.config))
        opened = await run.ground.offload(open_reader, run.config.inputs, options)
        try:
            # What the client counts is no part of what the check shows.
            network = replace(run.ground, metrics=RunMetrics(clock=run.runtime.clock))
            config = run.config = await with_protocol(run.config, network)
            run.check_image_root()
            kept = kept_columns(
                opened.reader.schema, config.keep, config.drop, config.source_column
            )
            limits = Limits(
                concurrency=_at_once(config),
                max_attempts=config.max_attempts,
                rate=config.rate_limit,
                retry=config.retry,
            )
            async with connect(config, network, limits) as connection:
                await self._check(opened, connection, kept)
        finally:
            opened.close()
        self._seconds = run.metrics.seconds

    async def _check(
        self, opened: OpenedInput, connection: Connection, kept: tuple[str, ...]
    ) -> None:
        config, found = self._run.config, Found(self._run.config, opened)
        self._found = found
        published = await connection.client.signature()
        self._protocol, self._fingerprint = connection.protocol.name, published.fingerprint()
        self._served = fit = served(published, opened, config, connection.protocol)
        found.refused(fit)
        signature = with_classes(fit.signature, config)
        fields = unlearned_fields(connection.protocol, signature, config.probs)
        found.output(kept, fields)
        await self._read(opened, Judge(fit, config.max_batch_bytes), kept)
        found.rows(self._judged, self._unreadable)
        if self._is_probing and self._sample and not fit.refused:
            await self._send(connection, signature, kept)

    async def _read(self, opened: OpenedInput, judge: Judge, kept: tuple[str, ...]) -> None:
        config, metrics, offload = self._run.config, self._run.metrics, self._run.ground.offload
        total = opened.reader.num_rows
        if total is not None:
            metrics.total_rows = total if config.limit is None else min(total, config.limit)

        async def judged(chunk: Chunk) -> Judged:
            self._begun += 1
            keep = self._is_probing and self._begun <= MAX_REQUESTS
            return await uninterrupted(offload(judge.judge, chunk, keep=keep))

        async def collect(results: Sequence[Judged]) -> None:
            for result in results:
                self._collect(result)
                for found in (*result.problems.values(), *result.notes.values()):
                    if self._judged.is_shown(found.key):
                        judge.exemplified.add(found.key)
            self._run.observer.on_batch(metrics)

        columns = {*kept, *self._served.features.columns.names}
        window = Window(_WINDOW_CHUNKS * config.chunk_rows, _WINDOW_BYTES)
        began = metrics.seconds
        await ordered_map(self._chunks(opened, columns), judged, collect, window)
        self._read_s = metrics.seconds - began

    def _collect(self, result: Judged) -> None:
        metrics, whole = self._run.metrics, self._judged
        metrics.rows_scored += result.rows - result.failed
        metrics.rows_failed += result.failed
        whole.add(result)
        self._sample += result.sendable[: MAX_REQUESTS - len(self._sample)]

    async def _chunks(self, opened: OpenedInput, columns: set[str]) -> AsyncGenerator[Chunk, None]:
        """The chunks of the job, up to where the input cannot be read any further."""
        config = self._run.config
        iterator = chunks(
            opened.reader, batch_rows=config.batch_rows, columns=columns, limit=config.limit
        )
        try:
            while True:
                try:
                    group = await uninterrupted(self._run.ground.offload(next, iterator, None))
                except UsageError as error:
                    self._unreadable = error
                    return
                if group is None:
                    return
                for chunk in group:
                    self._run.metrics.rows_read += chunk.rows.num_rows
                    yield chunk
        finally:
            leave(iterator)

    async def _send(
        self, connection: Connection, signature: ModelSignature, kept: tuple[str, ...]
    ) -> None:
        config, whole = self._run.config, self._judged
        prober = Prober(
            connection.client,
            Decoding(connection.protocol, signature, config.probs),
            self._run.ground.offload,
            self._run.runtime.clock,
            connection.endpoint.host_and_port,
            _at_once(config),
        )
        self._probe = await prober.probe(
            self._sample,
            whole.rows - whole.failed,
            whole.requests,
            rate=config.rate_limit,
            least_s=self._read_s,
        )
        self._found.refusals(prober.refusals, len(self._sample))
        if prober.decoding.decoder is not None:
            # An answer may have shown columns that the specification leaves open.
            self._found.output(kept, prober.decoding.decoder.fields)

    def report(self) -> CheckReport:
        """What was found."""
        run, whole, found = self._run, self._judged, self._found
        is_bad = bool(found.problems)
        can_send = not self._served.refused
        return CheckReport(
            status="problems" if is_bad else "ok",
            exit_code=EXIT_FAILED_ROWS if is_bad else EXIT_OK,
            input=tuple(map(redacted, run.config.inputs)),
            endpoint=Endpoint.parse(run.config.url).shown,
            protocol=self._protocol,
            fingerprint=self._fingerprint,
            rows=whole.rows,
            rows_failed=whole.failed,
            is_whole=self._unreadable is None,
            requests=whole.requests if can_send else None,
            request_bytes=whole.nbytes if can_send else None,
            nonfinite_as_null=whole.nonfinite,
            problems=tuple(found.problems),
            notes=tuple(found.notes),
            probe=self._probe,
            seconds=round(self._seconds, 6),
            version=__version__,
        )


def _at_once(config: ScoreConfig) -> int:
    """How many requests of the probe are in flight."""
    return AT_ONCE if config.concurrency == "auto" else min(config.concurrency, MAX_AT_ONCE)


def _own_places(config: ScoreConfig) -> tuple[Path, ...]:
    """What ``score`` would leave in a folder of the input without meaning it as input."""
    if config.output == "-" or "://" in config.output:
        return ()
    return (partial_folder(Path(config.output), config.work_dir),)
