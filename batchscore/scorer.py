"""The composition root: the one place where the parts of a job are chosen and put together."""

from __future__ import annotations

import asyncio
from contextlib import nullcontext
from dataclasses import replace
from math import prod
from pathlib import Path
from typing import TYPE_CHECKING

from batchscore import __version__
from batchscore.client.share import WHOLE, Share
from batchscore.client.turns import LocalTurns
from batchscore.codecs import ImageFolder
from batchscore.columns import feature_sources, kept_columns
from batchscore.connection import chunk_rows, connect, connect_job, with_protocol
from batchscore.declared import with_inputs
from batchscore.endpoint import Endpoint
from batchscore.errors import UsageError
from batchscore.finished import FinishedOutput, RowCounts
from batchscore.job import Job
from batchscore.layout import OutputLayout, check_collisions
from batchscore.learned import (
    learned_outputs,
    tells_outputs,
    with_classes,
    with_learned,
    without_classes,
)
from batchscore.metrics import RunMetrics
from batchscore.observers import NullObserver
from batchscore.offload import Threads, uninterrupted
from batchscore.output import FileOutput, UnfinishedOutput
from batchscore.packing import encoder_of
from batchscore.pipeline import Window, ordered_map, watching
from batchscore.predictor import Predictor
from batchscore.processes.count import process_count
from batchscore.processes.pool import process_pool
from batchscore.readers import OpenedInput, ReadOptions, open_reader, table_reader
from batchscore.readers.chunks import chunks, leave
from batchscore.readers.discover import STDIN as STANDARD_INPUT
from batchscore.readers.union import is_untyped
from batchscore.resume import ends_as_before
from batchscore.run import Run, shown, whole_run
from batchscore.runtime import Runtime
from batchscore.writer import MemorySink, OrderedWriter

if TYPE_CHECKING:
    from collections.abc import AsyncGenerator, Callable, Sequence
    from contextlib import AbstractAsyncContextManager

    import pyarrow as pa

    from batchscore.batches import Chunk, ScoredBatch
    from batchscore.client.client import Client
    from batchscore.config import EndpointConfig, ScoreConfig
    from batchscore.metrics import RunReport
    from batchscore.observers import Observer
    from batchscore.offload import Offload
    from batchscore.processes.pool import ProcessPool
    from batchscore.protocols.base import WireProtocol
    from batchscore.schema import ModelSignature
    from batchscore.writer import BatchSink

    Complete = Callable[[WireProtocol, ModelSignature], ModelSignature]

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

    async def score_table(run: Run, offload: Offload) -> None:
        run.config = await with_protocol(run.config, offload=offload, runtime=run.runtime)
        here = Path.cwd()
        opened = OpenedInput(
            reader=table_reader(data), files=(), image_base=here, image_root=here, is_pictures=False
        )
        await score_rows(run, opened, sink, offload)

    await whole_run(Run(config, observer or NullObserver(), Runtime()), score_table)
    return sink.table()


async def inspect(config: EndpointConfig) -> tuple[str, ModelSignature]:
    """The protocol that a deployment speaks, and its signature."""
    from batchscore.config import RetryTable  # noqa: PLC0415

    runtime = Runtime()
    with Threads(1) as offload:
        config = await with_protocol(config, offload=offload, runtime=runtime)
        async with connect(
            config,
            concurrency=1,
            max_attempts=3,
            retry=RetryTable(),
            metrics=RunMetrics(),
            offload=offload,
            runtime=runtime,
        ) as (client, protocol):
            return protocol.name, await client.signature()


async def _score_files(run: Run, offload: Offload) -> None:
    run.config = await with_protocol(run.config, offload=offload, runtime=run.runtime)
    config = run.config
    Endpoint.parse(config.url)
    if config.resume and STANDARD_INPUT in config.inputs:
        raise UsageError("--resume: standard input cannot be read again; store it in a file")
    output = FileOutput(config, run.runtime)
    run.resumable = output.resumable
    try:
        options = replace(ReadOptions.of(config), not_input=output.places)
        opened = await offload(open_reader, config.inputs, options)
        try:
            output.check_apart_from(opened.files)
            run.protect(opened.files)
            job = await offload(Job.of, config, opened)
            earlier = await offload(output.begin, job)
            run.check_image_root()
            if isinstance(earlier, FinishedOutput):
                if await ends_as_before(run, earlier, _connected(run, offload), offload):
                    return
                earlier = None
            await score_rows(run, opened, output, offload, job, earlier)
        finally:
            opened.close()
        counts = RowCounts(run.metrics.rows_done, run.metrics.failed_rows)
        await uninterrupted(offload(output.finish, counts))
    finally:
        output.close()


async def score_rows(
    run: Run,
    opened: OpenedInput,
    sink: BatchSink,
    offload: Offload,
    job: Job | None = None,
    earlier: UnfinishedOutput | None = None,
    complete: Complete | None = None,
) -> None:
    """Score opened rows into a sink.

    Args:
        run: the run.
        opened: the input.
        sink: where the output goes.
        offload: runs what blocks.
        job: what the output's metadata tells of the job, where it may be resumed.
        earlier: what an earlier run of the job left in the sink.
        complete: checks the signature, and adds what is known of the model besides.
    """
    config = run.config
    kept = kept_columns(opened.reader.schema, config.keep, config.drop, config.source_column)
    share = Share(of=process_count(config), turns=LocalTurns())
    async with _connected(run, offload, share) as (client, protocol):
        published = await client.signature()
        signature = with_inputs(
            published, config, opened.reader.schema, config.map, is_pictures=opened.is_pictures
        )
        run.fingerprint = signature.fingerprint()
        signature = with_classes(signature, config)
        if complete is not None:
            signature = complete(protocol, signature)
        if earlier is not None:
            earlier.check_specification(run.fingerprint)
            signature = with_learned(signature, earlier.schema.metadata)
        scoring = _Scoring(
            run,
            opened,
            kept,
            client,
            protocol,
            signature,
            offload,
            job,
            share=share,
            are_outputs_published=tells_outputs(published),
        )
        await scoring.run(sink, earlier)


def _connected(
    run: Run, offload: Offload, share: Share = WHOLE
) -> AbstractAsyncContextManager[tuple[Client, WireProtocol]]:
    return connect_job(
        run.config,
        metrics=run.metrics,
        offload=offload,
        runtime=run.runtime,
        on_retry=run.observer.on_retry,
        share=share,
    )


class _Scoring:
    """One job whose signature is known: reader, predictor and writer around the pipeline."""

    def __init__(
        self,
        run: Run,
        opened: OpenedInput,
        kept: tuple[str, ...],
        client: Client,
        protocol: WireProtocol,
        signature: ModelSignature,
        offload: Offload,
        job: Job | None,
        *,
        share: Share,
        are_outputs_published: bool,
    ) -> None:
        config = run.config
        schema = opened.reader.schema
        sources = feature_sources(
            signature, schema, config.map, config.pack, is_pictures=opened.is_pictures
        )
        sent = [column for source in sources for column in source.columns]
        base, root = opened.image_base, opened.image_root
        if config.image_root is not None:
            base = root = config.image_root
        folder = ImageFolder(base, root) if base is not None and root is not None else None
        self._predictor = Predictor(
            protocol=protocol,
            signature=signature,
            encoder=encoder_of(protocol, signature, schema, sources, folder),
            client=client,
            offload=offload,
            metrics=run.metrics,
            probs=config.probs,
            max_batch_bytes=config.max_batch_bytes,
        )
        self._run, self._opened, self._offload = run, opened, offload
        self._kept, self._columns = kept, {*kept, *sent}
        self._protocol, self._client, self._job = protocol, client, job
        self._are_outputs_published = are_outputs_published
        check_collisions(kept, self._output_names(), config.prefix)
        self._pool: ProcessPool | None = None
        if share.of > 1:
            self._pool = process_pool(
                run,
                share,
                (client, self._predictor),
                schema=schema,
                sources=sources,
                folder=folder,
            )

    async def run(self, sink: BatchSink, earlier: UnfinishedOutput | None) -> None:
        """Score all rows, or those that come after the ones of an earlier run."""
        sink.check(self._layout_without_rows().schema)
        config, metrics = self._run.config, self._run.metrics
        writer = OrderedWriter(
            sink,
            layout_of=self._layout,
            metrics=metrics,
            max_failed_rows=config.max_failed_rows,
            spool_dir=config.work_dir,
        )
        batch_rows = None if config.batch_size == "auto" else config.batch_size
        window = Window(
            max_rows=self._window_rows(),
            max_bytes=_WINDOW_BYTES,
            one_at_a_time=self._predictor.decoder is None,
        )

        window.expect(1, _array_bytes(self._predictor.signature))

        async def score(chunk: Chunk) -> ScoredBatch:
            scored = await (self._pool or self._predictor).score(chunk)
            window.one_at_a_time = self._predictor.decoder is None
            window.max_rows = self._window_rows()
            window.expect(chunk.rows.num_rows, scored.result_bytes)
            return scored

        async def write(run: Sequence[ScoredBatch]) -> None:
            await uninterrupted(self._offload(writer.write_all, run))
            self._run.observer.on_batch(metrics)

        try:
            self._count_total()
            start_row = 0 if earlier is None else await self._go_on(earlier, writer)
            if metrics.rows_scored:
                self._predictor.refusals.scored()
            async with watching(self._watch_model()), self._other_processes():
                await ordered_map(self._chunks(batch_rows, start_row), score, write, window)
            if metrics.requests:
                # What changed since the last look must not come into a file that is whole.
                await self._client.check_model()
            await uninterrupted(self._offload(writer.finish, self._layout_without_rows()))
        finally:
            writer.close()

    def _other_processes(self) -> AbstractAsyncContextManager[None]:
        return nullcontext() if self._pool is None else self._pool.running()

    def _window_rows(self) -> int:
        """Rows for some requests a slot, so that one slow request does not stop the others."""
        least = _MIN_WINDOW_REQUESTS * (self._pool.size if self._pool else 1)
        requests = max(least, 4 * (self._pool or self._client).limit)
        return requests * chunk_rows(self._run.config)

    def _count_total(self) -> None:
        total, limit = self._opened.reader.num_rows, self._run.config.limit
        if total is not None:
            self._run.metrics.total_rows = total if limit is None else min(total, limit)

    async def _go_on(self, earlier: UnfinishedOutput, writer: OrderedWriter) -> int:
        """Open what an earlier run left; the number of rows that are there.

        Its schema counts: in the metadata stand the address and the version of the first run.
        """
        layout = self._layout()
        if layout is None or not layout.schema.remove_metadata().equals(
            earlier.schema.remove_metadata(), check_metadata=True
        ):
            raise earlier.refused(["the columns of the output differ"])
        counts = await uninterrupted(self._offload(earlier.go_on))
        self._run.metrics.count_earlier(counts.rows, counts.failed)
        writer.go_on(replace(layout, schema=earlier.schema))
        return counts.rows

    async def _chunks(self, batch_rows: int | None, start_row: int) -> AsyncGenerator[Chunk, None]:
        config, metrics = self._run.config, self._run.metrics
        iterator = chunks(
            self._opened.reader,
            batch_rows=batch_rows,
            columns=self._columns,
            limit=config.limit,
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

    def _layout(self) -> OutputLayout | None:
        """The output's layout, as soon as the predictions' types are known."""
        decoder = self._predictor.decoder
        if decoder is None:
            return None
        return self._layout_with(decoder.fields, self._predictor.signature)

    def _layout_without_rows(self) -> OutputLayout:
        """The layout of a job in which no row was scored: no classes, so the list form."""
        signature = without_classes(self._predictor.signature)
        decoder = self._protocol.decoder(signature, probs=self._run.config.probs)
        return self._layout_with(decoder.fields, signature)

    def _layout_with(
        self, predictions: tuple[pa.Field, ...], signature: ModelSignature
    ) -> OutputLayout:
        config = self._run.config
        metadata: dict[str, object] = {
            "endpoint": shown(config.url),
            "fingerprint": self._run.fingerprint or "",
            "version": __version__,
            "options": config.output_options(),
            "outputs": learned_outputs(signature, are_published=self._are_outputs_published),
        }
        schema = self._opened.reader.schema
        if untyped := [name for name in self._kept if is_untyped(schema.field(name))]:
            metadata["untyped"] = untyped
        if self._job is not None:
            metadata["input"] = self._job.input_summary()
        return OutputLayout.make(
            schema,
            self._kept,
            predictions,
            prefix=config.prefix,
            metadata=metadata,
        )

    def _output_names(self) -> list[str]:
        return [
            field.name
            for field in self._protocol.decoder(
                without_classes(self._predictor.signature), probs=self._run.config.probs
            ).fields
        ]


def _array_bytes(signature: ModelSignature) -> int:
    """Bytes a row of the array outputs, whose size is known before the first answer."""
    return sum(4 * prod(spec.shape) for spec in signature.outputs if spec.kind == "array")
