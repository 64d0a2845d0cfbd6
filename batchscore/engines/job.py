"""A job of files whose rows an engine's workers score: the composition root beside ``scorer``."""

from __future__ import annotations

import asyncio
import logging
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING

from batchscore.engines.counts import Tally
from batchscore.engines.output import parts_output
from batchscore.engines.plan import make_plan
from batchscore.engines.splits import cut
from batchscore.engines.work import Work
from batchscore.errors import UsageError
from batchscore.job import Job
from batchscore.observers import NullObserver
from batchscore.offload import uninterrupted
from batchscore.readers import ReadOptions, open_reader
from batchscore.run import Run, whole_run
from batchscore.runtime import Runtime
from batchscore.scorer import target_of
from batchscore.scoring.connection import with_protocol
from batchscore.sinks import exporter
from batchscore.sinks.writer import check_failures

if TYPE_CHECKING:
    from batchscore.client.client import Client
    from batchscore.config import ScoreConfig
    from batchscore.engines.parts import PartsOutput
    from batchscore.engines.plan import Plan
    from batchscore.engines.splits import Split
    from batchscore.engines.work import Done, Engine
    from batchscore.metrics import RunReport
    from batchscore.observers import Observer
    from batchscore.readers import OpenedInput


_log = logging.getLogger("batchscore")


async def score_files(
    config: ScoreConfig,
    engine: Engine,
    *,
    observer: Observer | None = None,
    runtime: Runtime | None = None,
) -> RunReport:
    """Score the input of a configuration into a folder of parts, with an engine's workers.

    Raises:
        BatchscoreError: the job ended early; its reports are written all the same.
    """
    run = Run(config, observer or NullObserver(), runtime or Runtime())
    return await whole_run(run, partial(_score, engine=engine))


async def _score(run: Run, engine: Engine) -> None:
    config, offload = run.config, run.ground.offload
    _check_options(config)
    output = parts_output(config)
    await offload(output.reach)
    options = replace(ReadOptions.of(config), not_input=output.own)
    opened = await offload(open_reader, config.inputs, options)
    try:
        if opened.is_stream:
            raise UsageError(
                f"--engine {config.engine}: the input is a pipe, which workers cannot read; store "
                "it in a file"
            )
        output.check_apart_from(opened.files)
        run.protect(opened.files)
        run.config = await with_protocol(config, run.ground)
        job = await offload(Job.of, run.config, opened)
        run.check_image_root()
        async with target_of(run, opened) as target:
            plan = await make_plan(run, target, opened, job)
            if (export := exporter(output.output_format)) is not None:
                export.check_schema(plan.output_schema)
            await _Scoring(run, engine, output, plan, opened).run(target.connection.client)
    finally:
        opened.close()
        await uninterrupted(offload(output.close))


def _check_options(config: ScoreConfig) -> None:
    engine = config.engine
    if config.resume:
        raise UsageError(
            f"--resume: a job of --engine {engine} cannot be gone on with; the engine itself "
            "repeats what a lost worker did not finish"
        )
    if config.processes != 1:
        raise UsageError(
            f"--processes: with --engine {engine} the workers are the engine's; say --workers"
        )
    if "-" in config.inputs:
        raise UsageError(
            f"--engine {engine}: workers cannot read standard input; store it in a file"
        )


class _Scoring:
    """One job whose plan is made: splits to the workers, parts from them."""

    def __init__(
        self, run: Run, engine: Engine, output: PartsOutput, plan: Plan, opened: OpenedInput
    ) -> None:
        self._run, self._engine, self._output = run, engine, output
        self._plan, self._opened = plan, opened
        self._tally = Tally(run.metrics)

    async def run(self, client: Client) -> None:
        """Score all splits, and let OUT appear."""
        run, offload = self._run, self._run.ground.offload
        try:
            room = await offload(self._engine.start, run.config)
            splits = self._cut(run.config.workers or room)
            writer = await offload(self._output.begin, len(splits))
            engine, workers = run.config.engine, self._plan.workers
            _log.info("%d parts for %d workers of %s", len(splits), workers, engine)
            # From here on the limits are those of the workers.
            run.metrics.limit = 0
            work = Work(self._plan, writer, Path.cwd())
            loop = asyncio.get_running_loop()

            def tell(done: Done) -> None:
                # From the engine's thread: the counters are the event loop's alone.
                asyncio.run_coroutine_threadsafe(self._told(done), loop).result()

            try:
                if splits:
                    await offload(self._engine.score, work, splits, tell)
            finally:
                self._tally.quote()
        finally:
            await uninterrupted(offload(self._engine.stop))
        metrics = run.metrics
        if metrics.requests:
            # What changed since the last look must not come into an output that is whole.
            await client.check_model()
        check_failures(run.config.max_failed_rows, metrics, metrics.rows_read)
        if not splits:
            await offload(writer.write, 0, self._plan.output_schema, ())
        await uninterrupted(offload(self._output.commit, max(1, len(splits))))

    def _cut(self, workers: int) -> list[Split]:
        config = self._run.config
        self._plan = self._plan.for_workers(workers)
        splits = cut(
            self._opened.reader,
            workers=self._plan.workers,
            chunk_rows=config.chunk_rows,
            limit=config.limit,
        )
        # Limits are shared among those that have something to do.
        self._plan = self._plan.for_workers(max(1, min(self._plan.workers, len(splits))))
        rows = [split.rows for split in splits if split.rows is not None]
        if len(rows) == len(splits):
            self._run.metrics.total_rows = sum(rows)
        return splits

    async def _told(self, done: Done) -> None:
        metrics, limit = self._run.metrics, self._run.config.max_failed_rows
        self._tally.told(done.worker, done.traffic)
        if done.error is not None:
            raise done.error
        if done.counts is not None:
            self._tally.done(done.split, done.counts)
        if limit is not None and not (limit.is_share and metrics.total_rows is None):
            check_failures(limit, metrics, metrics.total_rows or 0)
        self._run.observer.on_batch(metrics)
