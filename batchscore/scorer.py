"""The composition root: the one place where the parts of a job are chosen and put together."""

from __future__ import annotations

import asyncio
from contextlib import asynccontextmanager, nullcontext
from dataclasses import replace
from math import prod
from pathlib import Path
from typing import TYPE_CHECKING

from batchscore.client.share import Share
from batchscore.client.turns import LocalTurns
from batchscore.endpoint import Endpoint
from batchscore.errors import UsageError
from batchscore.job import Job
from batchscore.job_layout import JobLayout
from batchscore.metrics import RunMetrics
from batchscore.observers import NullObserver
from batchscore.offload import uninterrupted
from batchscore.processes.count import process_count
from batchscore.processes.pool import process_pool
from batchscore.readers import OpenedInput, ReadOptions, open_reader, table_reader
from batchscore.readers.chunks import chunks, leave
from batchscore.readers.discover import STDIN as STANDARD_INPUT
from batchscore.resume import ends_as_before, take_all_rows
from batchscore.run import Run, whole_run
from batchscore.runtime import Runtime
from batchscore.scoring.connection import Limits, Target, connect, with_protocol
from batchscore.scoring.declared import with_inputs
from batchscore.scoring.features import Features, kept_columns
from batchscore.scoring.learned import tells_outputs, with_classes, with_learned
from batchscore.scoring.packing import encoder_of
from batchscore.scoring.pipeline import Window, ordered_map, watching
from batchscore.scoring.predictor import Predictor
from batchscore.sinks.file import FileOutput
from batchscore.sinks.finished import FinishedOutput, RowCounts
from batchscore.sinks.memory import MemorySink
from batchscore.sinks.writer import OrderedWriter

if TYPE_CHECKING:
    from collections.abc import AsyncGenerator, AsyncIterator, Sequence
    from contextlib import AbstractAsyncContextManager

    import pyarrow as pa

    from batchscore.batches import Chunk, ScoredBatch
    from batchscore.config import EndpointConfig, ScoreConfig
    from batchscore.metrics import RunReport
    from batchscore.observers import Observer
    from batchscore.processes.pool import ProcessPool
    from batchscore.schema import ModelSignature
    from batchscore.sinks.work import UnfinishedOutput
    from batchscore.sinks.writer import BatchSink

_MIN_WINDOW_REQUESTS = 32
_WINDOW_BYTES = 256 * 2**20
_CHECK_MODEL_EVERY_S = 180.0


async def score(
    config: ScoreConfig, *, observer: Observer | None = None, runtime: Runtime | None = None
) -> RunReport:
    """Score the input of a configuration into its output file.

    Raises:
        BatchscoreError: the job ended early; its reports are written all the same.
    """
    run = Run(config, observer or NullObserver(), runtime or Runtime())
    return await whole_run(run, _score_files)


async def score_data(
    config: ScoreConfig, data: object, *, observer: Observer | None = None
) -> pa.Table:
    """Score anything that exports an Arrow stream; the output as a table.

    Raises:
        BatchscoreError: the job ended early.
    """
    sink = MemorySink()

    async def score_table(run: Run) -> None:
        run.config = await with_protocol(run.config, run.ground)
        here = Path.cwd()
        opened = OpenedInput(
            reader=table_reader(data), files=(), image_base=here, image_root=here, is_pictures=False
        )
        await _score_all(run, opened, sink)

    await whole_run(Run(config, observer or NullObserver(), Runtime()), score_table)
    return sink.table()


async def inspect(config: EndpointConfig) -> tuple[str, ModelSignature]:
    """The protocol that a deployment speaks, and its signature."""
    with Runtime().ground(RunMetrics()) as ground:
        config = await with_protocol(config, ground)
        async with connect(config, ground, Limits()) as connection:
            return connection.protocol.name, await connection.client.signature()


async def _score_files(run: Run) -> None:
    config, offload = run.config, run.ground.offload
    Endpoint.parse(config.url)
    if config.resume and STANDARD_INPUT in config.inputs:
        raise UsageError("--resume: standard input cannot be read again; store it in a file")
    output = FileOutput(config, run.runtime)
    run.resumable = output.resumable
    try:
        await uninterrupted(offload(output.reach))
        options = replace(ReadOptions.of(config), not_input=output.places)
        opened = await offload(open_reader, config.inputs, options)
        try:
            output.check_apart_from(opened.files)
            run.protect(opened.files)
            config = run.config = await with_protocol(config, run.ground)
            job = await offload(Job.of, config, opened)
            earlier = await offload(output.begin, job)
            run.check_image_root()
            if isinstance(earlier, FinishedOutput):
                if await ends_as_before(run, earlier, target_of(run, opened)):
                    return
                earlier = None
            if earlier is not None and output.only_delivers:
                await take_all_rows(run, output, earlier)
            else:
                await _score_all(run, opened, output, job, earlier)
        finally:
            opened.close()
        counts = RowCounts(run.metrics.rows_done, run.metrics.failed_rows)
        await uninterrupted(offload(output.finish, counts), output.stop)
    finally:
        output.close()


async def _score_all(
    run: Run,
    opened: OpenedInput,
    sink: BatchSink,
    job: Job | None = None,
    earlier: UnfinishedOutput | None = None,
) -> None:
    """Score opened rows into a sink, with the columns that the user wants beside them."""
    config = run.config
    kept = kept_columns(opened.reader.schema, config.keep, config.drop, config.source_column)
    async with target_of(run, opened) as target:
        await score_rows(
            run, target, opened, sink, kept=kept, limit=config.limit, job=job, earlier=earlier
        )


@asynccontextmanager
async def target_of(run: Run, opened: OpenedInput) -> AsyncIterator[Target]:
    """The deployment that scores these rows, and takes note of its specification in the run."""
    config = run.config
    share = Share(of=process_count(config), turns=LocalTurns())
    async with connect(config, run.ground, Limits.of(config), share=share) as connection:
        published = await connection.client.signature()
        signature = with_inputs(
            published, config, opened.reader.schema, config.map, is_pictures=opened.is_pictures
        )
        run.fingerprint = signature.fingerprint()
        yield Target(connection, with_classes(signature, config), tells_outputs(published))


async def score_rows(
    run: Run,
    target: Target,
    opened: OpenedInput,
    sink: BatchSink,
    *,
    kept: tuple[str, ...],
    limit: int | None,
    job: Job | None = None,
    earlier: UnfinishedOutput | None = None,
) -> None:
    """Score opened rows into a sink.

    Args:
        run: the run.
        target: what scores them.
        opened: the input.
        sink: where the output goes.
        kept: the input columns that the output carries.
        limit: the row to stop before; None: score all.
        job: what the output's metadata tells of the job, where it may be resumed.
        earlier: what an earlier run of the job left in the sink.
    """
    if earlier is not None:
        earlier.check_specification(run.fingerprint or "")
        signature = with_learned(target.signature, earlier.schema.metadata)
        target = replace(target, signature=signature)
    await _Scoring(run, target, opened, kept, limit, job).run(sink, earlier)


class _Scoring:
    """One job whose signature is known: reader, predictor and writer around the pipeline."""

    def __init__(
        self,
        run: Run,
        target: Target,
        opened: OpenedInput,
        kept: tuple[str, ...],
        limit: int | None,
        job: Job | None,
    ) -> None:
        config, connection = run.config, target.connection
        features = Features.of(target.signature, opened, config)
        self._predictor = Predictor(
            connection,
            target.signature,
            encoder_of(connection.protocol, target.signature, features),
            run.ground,
            probs=config.probs,
            max_batch_bytes=config.max_batch_bytes,
        )
        self._decoding = self._predictor.decoding
        self._layout = JobLayout(
            run, target, self._decoding, input_schema=opened.reader.schema, kept=kept, job=job
        )
        self._run, self._reader, self._limit = run, opened.reader, limit
        self._has_scored = target.has_scored
        self._columns = {*kept, *features.columns.names}
        self._client, self._offload = connection.client, run.ground.offload
        self._pool: ProcessPool | None = None
        # Workers of an engine share the limits too, but each is a scorer by itself.
        if connection.share.of > 1 and connection.share.turns is not None:
            self._pool = process_pool(run, connection, self._predictor, features)

    async def run(self, sink: BatchSink, earlier: UnfinishedOutput | None) -> None:
        """Score all rows, or those that come after the ones of an earlier run."""
        sink.check(self._layout.without_rows().schema)
        config, metrics = self._run.config, self._run.metrics
        writer = OrderedWriter(
            sink,
            layout_of=self._layout.known,
            metrics=metrics,
            max_failed_rows=config.max_failed_rows,
            spool_dir=config.work_dir,
        )
        window = Window(
            max_rows=self._window_rows(),
            max_bytes=_WINDOW_BYTES,
            one_at_a_time=self._decoding.in_order(),
        )

        window.expect(1, _array_bytes(self._decoding.signature))

        async def score(chunk: Chunk) -> ScoredBatch:
            scored = await (self._pool or self._predictor).score(chunk)
            window.one_at_a_time = self._decoding.in_order()
            window.max_rows = self._window_rows()
            window.expect(chunk.rows.num_rows, scored.result_bytes)
            return scored

        async def write(run: Sequence[ScoredBatch]) -> None:
            await uninterrupted(self._offload(writer.write_all, run))
            self._run.observer.on_batch(metrics)

        try:
            self._count_total()
            start_row = 0 if earlier is None else await self._go_on(earlier, writer)
            if metrics.rows_scored or self._has_scored:
                self._predictor.refusals.scored()
            async with watching(self._watch_model()), self._other_processes():
                await ordered_map(self._chunks(start_row), score, write, window)
            if metrics.requests:
                # What changed since the last look must not come into a file that is whole.
                await self._client.check_model()
            await uninterrupted(self._offload(writer.finish, self._layout.without_rows()))
        finally:
            writer.close()

    def _other_processes(self) -> AbstractAsyncContextManager[None]:
        return nullcontext() if self._pool is None else self._pool.running()

    def _window_rows(self) -> int:
        """Rows for some requests a slot, so that one slow request does not stop the others."""
        least = _MIN_WINDOW_REQUESTS * (self._pool.size if self._pool else 1)
        requests = max(least, 4 * (self._pool or self._client).limit)
        return requests * self._run.config.chunk_rows

    def _count_total(self) -> None:
        total, limit = self._reader.num_rows, self._limit
        if total is not None:
            self._run.metrics.total_rows = total if limit is None else min(total, limit)

    async def _go_on(self, earlier: UnfinishedOutput, writer: OrderedWriter) -> int:
        """Open what an earlier run left; the number of rows that are there.

        Its schema counts: in the metadata stand the address and the version of the first run.
        """
        layout = self._layout.known()
        if layout is None or not layout.schema.remove_metadata().equals(
            earlier.schema.remove_metadata(), check_metadata=True
        ):
            raise earlier.refused(["the columns of the output differ"])
        layout = replace(layout, schema=earlier.schema)
        return await uninterrupted(self._offload(writer.go_on, layout))

    async def _chunks(self, start_row: int) -> AsyncGenerator[Chunk, None]:
        metrics = self._run.metrics
        iterator = chunks(
            self._reader,
            batch_rows=self._run.config.batch_rows,
            columns=self._columns,
            limit=self._limit,
            start_row=start_row,
        )
        try:
            while (group := await uninterrupted(self._offload(next, iterator, None))) is not None:
                for chunk in group:
                    metrics.rows_read += chunk.rows.num_rows
                    yield chunk
        finally:
            leave(iterator)

    async def _watch_model(self) -> None:
        while True:
            await asyncio.sleep(_CHECK_MODEL_EVERY_S)
            await self._client.check_model()


def _array_bytes(signature: ModelSignature) -> int:
    """Bytes a row of the array outputs, whose size is known before the first answer."""
    return sum(4 * prod(spec.shape) for spec in signature.outputs if spec.kind == "array")
