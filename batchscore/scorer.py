"""The composition root: the one place where the parts of a job are chosen and put together."""

from __future__ import annotations

import asyncio
import os
from dataclasses import replace
from math import prod
from pathlib import Path
from typing import TYPE_CHECKING

from batchscore import __version__
from batchscore.client.controller import SliceSize
from batchscore.codecs import ImageFolder
from batchscore.columns import feature_columns, kept_columns
from batchscore.connection import connect
from batchscore.endpoint import Endpoint
from batchscore.errors import BatchscoreError, UsageError
from batchscore.layout import OutputLayout, check_collisions
from batchscore.metrics import RunMetrics
from batchscore.observers import NullObserver
from batchscore.offload import Threads, uninterrupted
from batchscore.output import FileOutput
from batchscore.pipeline import Window, ordered_map, watching
from batchscore.predictor import Predictor
from batchscore.readers import OpenedInput, ReadOptions, open_reader, table_reader
from batchscore.readers.chunks import AUTO_ROWS, chunks
from batchscore.run import Run, check_reports, exit_code_of, shown
from batchscore.writer import MemorySink, OrderedWriter

if TYPE_CHECKING:
    from collections.abc import AsyncGenerator, Callable, Coroutine

    import pyarrow as pa

    from batchscore.batches import Chunk, ScoredBatch
    from batchscore.client.client import Client
    from batchscore.config import EndpointConfig, ScoreConfig
    from batchscore.metrics import RunReport
    from batchscore.observers import Observer
    from batchscore.offload import Offload
    from batchscore.protocols.base import WireProtocol
    from batchscore.schema import ModelSignature
    from batchscore.writer import BatchSink

_MIN_WINDOW_REQUESTS = 32
_WINDOW_BYTES = 256 * 2**20
_CHECK_MODEL_EVERY_S = 180.0


async def score(config: ScoreConfig, *, observer: Observer | None = None) -> RunReport:
    """Score the input of a configuration into its output file.

    Raises:
        BatchscoreError: the job ended early; its reports are written all the same.
    """
    return await _whole_run(Run(config, observer or NullObserver()), _score_files)


async def score_data(
    config: ScoreConfig, data: object, *, observer: Observer | None = None
) -> pa.Table:
    """Score anything that exports an Arrow stream; the output as a table.

    Raises:
        BatchscoreError: the job ended early.
    """
    sink = MemorySink()

    async def score_table(run: Run, offload: Offload) -> None:
        here = Path.cwd()
        opened = OpenedInput(
            reader=table_reader(data), files=(), image_base=here, image_root=here, is_pictures=False
        )
        await score_rows(run, opened, sink, offload)

    await _whole_run(Run(config, observer or NullObserver()), score_table)
    return sink.table()


async def _whole_run(
    run: Run, work: Callable[[Run, Offload], Coroutine[None, None, None]]
) -> RunReport:
    """Do the work of a run, and report it whatever its end is."""
    try:
        check_reports(run.config)
        with Threads(_threads()) as offload:
            await work(run, offload)
        report = run.report(run.exit_code())
    except BaseException as error:
        if isinstance(error, BatchscoreError):
            error.is_reported = True
        run.finish(run.report(exit_code_of(error), str(error) or type(error).__name__))
        raise
    run.finish(report)
    return report


async def inspect(config: EndpointConfig) -> tuple[str, ModelSignature]:
    """The protocol that a deployment speaks, and its signature."""
    from batchscore.config import RetryTable  # noqa: PLC0415

    with Threads(1) as offload:
        async with connect(
            config,
            concurrency=1,
            max_attempts=3,
            retry=RetryTable(),
            metrics=RunMetrics(),
            offload=offload,
        ) as (client, protocol):
            return protocol.name, await client.signature()


async def _score_files(run: Run, offload: Offload) -> None:
    config = run.config
    Endpoint.parse(config.url)
    identity = {"endpoint": shown(config.url), "options": config.output_options()}
    output = FileOutput(config, identity)
    try:
        options = ReadOptions(
            input_format=config.input_format,
            delimiter=config.delimiter,
            encoding=config.encoding,
            null=config.null,
            types=config.type,
            source_column=config.source_column,
            work_dir=config.work_dir,
        )
        opened = await offload(open_reader, config.inputs, options)
        try:
            output.check_apart_from(opened.files)
            await score_rows(run, opened, output, offload)
        finally:
            opened.close()
        await uninterrupted(offload(output.finish))
    finally:
        output.close()


async def score_rows(run: Run, opened: OpenedInput, sink: BatchSink, offload: Offload) -> None:
    """Score opened rows into a sink."""
    config = run.config
    kept = kept_columns(opened.reader.schema, config.keep, config.drop, config.source_column)
    async with connect(
        config,
        concurrency=config.concurrency,
        max_attempts=config.max_attempts,
        retry=config.retry,
        rate=config.rate_limit,
        slice_size=_slice_size(config),
        max_outage_s=config.max_outage,
        metrics=run.metrics,
        offload=offload,
        on_retry=run.observer.on_retry,
    ) as (client, protocol):
        signature = await client.signature()
        run.fingerprint = signature.fingerprint()
        signature = _with_classes(signature, config)
        job = _Job(run, opened, kept, client, protocol, signature, offload)
        await job.run(sink)


class _Job:
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
    ) -> None:
        config = run.config
        schema = opened.reader.schema
        sent = feature_columns(signature, schema, config.map, is_pictures=opened.is_pictures)
        folder = ImageFolder(opened.image_base, opened.image_root)
        if config.image_root is not None:
            folder = ImageFolder(config.image_root, config.image_root)
        self._predictor = Predictor(
            protocol=protocol,
            signature=signature,
            encoder=protocol.encoder(signature, [schema.field(name) for name in sent], folder),
            client=client,
            offload=offload,
            metrics=run.metrics,
            probs=config.probs,
            max_batch_bytes=config.max_batch_bytes,
        )
        self._run, self._opened, self._offload = run, opened, offload
        self._kept, self._columns = kept, {*kept, *sent}
        self._protocol, self._client = protocol, client
        check_collisions(kept, self._output_names(), config.prefix)

    async def run(self, sink: BatchSink) -> None:
        """Score all rows."""
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
            scored = await self._predictor.score(chunk)
            window.one_at_a_time = self._predictor.decoder is None
            window.max_rows = self._window_rows()
            window.expect(chunk.rows.num_rows, scored.result_bytes)
            return scored

        async def write(scored: ScoredBatch) -> None:
            await uninterrupted(self._offload(writer.write, scored))
            self._run.observer.on_batch(metrics)

        try:
            async with watching(self._watch_model()):
                await ordered_map(self._chunks(batch_rows), score, write, window)
            await uninterrupted(self._offload(writer.finish, self._layout_without_rows()))
        finally:
            writer.close()

    def _window_rows(self) -> int:
        """Rows for some requests a slot, so that one slow request does not stop the others."""
        requests = max(_MIN_WINDOW_REQUESTS, 4 * self._client.limit)
        return requests * _chunk_rows(self._run.config)

    async def _chunks(self, batch_rows: int | None) -> AsyncGenerator[Chunk, None]:
        config, metrics = self._run.config, self._run.metrics
        total = self._opened.reader.num_rows
        if total is not None:
            metrics.total_rows = total if config.limit is None else min(total, config.limit)
        iterator = chunks(
            self._opened.reader,
            batch_rows=batch_rows,
            columns=self._columns,
            limit=config.limit,
        )
        while (chunk := await self._offload(next, iterator, None)) is not None:
            metrics.rows_read += chunk.rows.num_rows
            yield chunk

    async def _watch_model(self) -> None:
        while True:
            await asyncio.sleep(_CHECK_MODEL_EVERY_S)
            await self._client.check_model()

    def _layout(self) -> OutputLayout | None:
        """The output's layout, as soon as the predictions' types are known."""
        decoder = self._predictor.decoder
        return None if decoder is None else self._layout_with(decoder.fields)

    def _layout_without_rows(self) -> OutputLayout:
        """The layout of a job in which no row was scored: no classes, so the list form."""
        signature = _without_classes(self._predictor.signature)
        decoder = self._protocol.decoder(signature, probs=self._run.config.probs)
        return self._layout_with(decoder.fields)

    def _layout_with(self, predictions: tuple[pa.Field, ...]) -> OutputLayout:
        config = self._run.config
        return OutputLayout.make(
            self._opened.reader.schema,
            self._kept,
            predictions,
            prefix=config.prefix,
            metadata={
                "endpoint": shown(config.url),
                "fingerprint": self._run.fingerprint or "",
                "version": __version__,
                "options": config.output_options(),
            },
        )

    def _output_names(self) -> list[str]:
        return [
            field.name
            for field in self._protocol.decoder(
                _without_classes(self._predictor.signature), probs=self._run.config.probs
            ).fields
        ]


def _with_classes(signature: ModelSignature, config: ScoreConfig) -> ModelSignature:
    """The signature with the user's classes in its categorical output."""
    if not config.classes:
        return signature
    classes = tuple(sorted(config.classes))
    categories = [spec for spec in signature.outputs if spec.kind == "category"]
    if len(categories) != 1:
        raise UsageError(
            f"--classes is for one categorical output; this deployment has {len(categories)}"
        )
    published = categories[0].classes
    if published is not None and published != classes:
        raise UsageError(
            f"--classes: the deployment itself says that its classes are {', '.join(published)}"
        )
    outputs = tuple(
        replace(spec, classes=classes) if spec is categories[0] else spec
        for spec in signature.outputs
    )
    return replace(signature, outputs=outputs)


def _without_classes(signature: ModelSignature) -> ModelSignature:
    """The signature with what only an answer can tell left empty, where it is not known."""
    outputs = tuple(
        replace(spec, classes=()) if spec.kind == "category" and spec.classes is None else spec
        for spec in signature.outputs
    )
    return replace(signature, outputs=outputs)


def _chunk_rows(config: ScoreConfig) -> int:
    return AUTO_ROWS if config.batch_size == "auto" else config.batch_size


def _slice_size(config: ScoreConfig) -> SliceSize:
    """Rows a request: a size that was asked for gives way to a 413 alone."""
    return SliceSize(
        _chunk_rows(config), timeout_s=config.timeout if config.batch_size == "auto" else None
    )


def _array_bytes(signature: ModelSignature) -> int:
    """Bytes a row of the array outputs, whose size is known before the first answer."""
    return sum(4 * prod(spec.shape) for spec in signature.outputs if spec.kind == "array")


def _threads() -> int:
    # One reads, one writes, the others encode and decode.
    return 2 + (os.cpu_count() or 1)
