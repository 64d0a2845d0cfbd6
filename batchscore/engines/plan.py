"""What is decided once, before any worker begins, so that every worker writes the same columns."""

from __future__ import annotations

import os
import pickle
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from batchscore.batches import Chunk
from batchscore.client.share import Share
from batchscore.client.token import TOKEN_VARIABLE
from batchscore.config import AUTO_ROWS
from batchscore.engines.loop import LoopThread
from batchscore.engines.rows import GivenRows
from batchscore.errors import UsageError
from batchscore.job_layout import JobLayout
from batchscore.observers import NullObserver
from batchscore.offload import uninterrupted
from batchscore.readers import OpenedInput
from batchscore.run import Run
from batchscore.runtime import Runtime
from batchscore.scorer import target_of
from batchscore.scoring.connection import Target, with_protocol
from batchscore.scoring.features import Features, kept_columns
from batchscore.scoring.packing import encoder_of
from batchscore.scoring.predictor import Predictor

if TYPE_CHECKING:
    from collections.abc import Generator, Iterable

    import pyarrow as pa

    from batchscore.batches import RowBatch
    from batchscore.config import ScoreConfig
    from batchscore.job import Job
    from batchscore.protocols.base import RowEncoder
    from batchscore.readers import Reader
    from batchscore.schema import ModelSignature
    from batchscore.stores import StoreURI


@dataclass(frozen=True)
class Plan:
    """All that a worker has to know of a job; can be pickled.

    Attributes:
        config: the options, the protocol known; it may hold the token.
        signature: of the deployment, with what one scored row told of it.
        are_outputs_published: the deployment itself tells its outputs.
        has_scored: a row was scored, so the input is not bad throughout.
        fingerprint: of the deployment's specification.
        input_schema: the columns of the rows, as every worker has to give them.
        kept: those that the output carries.
        output_schema: the columns that every worker writes, with metadata.
        image_base: the folder that relative picture paths in the data start from, where known.
        image_root: the folder that no picture may be outside of, where known.
        is_pictures: whether the rows are picture files.
        workers: how many share the job's limits.
    """

    config: ScoreConfig = field(repr=False)
    signature: ModelSignature
    are_outputs_published: bool
    has_scored: bool
    fingerprint: str
    input_schema: pa.Schema
    kept: tuple[str, ...]
    output_schema: pa.Schema
    image_base: Path | StoreURI | None
    image_root: Path | StoreURI | None
    is_pictures: bool
    workers: int = 1

    def for_workers(self, wanted: int) -> Plan:
        """The plan for so many workers, or for as many as there may be requests in flight."""
        most = self.config.concurrency
        count = wanted if most == "auto" else min(wanted, most)
        return replace(self, workers=max(1, count))

    def share(self, number: int) -> Share:
        """The part of the job's limits that a worker may use.

        A number of its own is given to each worker from 0 on. One that comes later, in the place
        of a worker that is gone, takes the smallest share.
        """
        return Share(min(number, self.workers - 1), self.workers)

    def opened(self, reader: Reader) -> OpenedInput:
        """Rows of the job, as the scorer takes them."""
        return OpenedInput(
            reader=reader,
            files=(),
            image_base=self.image_base,
            image_root=self.image_root,
            is_pictures=self.is_pictures,
        )


async def make_plan(run: Run, target: Target, opened: OpenedInput, job: Job | None = None) -> Plan:
    """Decide what a job's workers have to know, and score one row to be sure of it.

    Of the rows that can be sent, one after another is, until one is scored: that shows classes
    that only an answer tells, and that the deployment takes these rows at all.

    Args:
        run: the run; what is sent here is counted in it.
        target: the deployment.
        opened: the input; only its first rows are read.
        job: what the output's metadata tells of the job, where there is an input to tell of.

    Raises:
        UsageError: an option, or a column, is wrong; the same as without workers.
        BatchscoreError: the deployment refuses, or is away.
    """
    config, connection = run.config, target.connection
    schema = opened.reader.schema
    kept = kept_columns(schema, config.keep, config.drop, config.source_column)
    features = Features.of(target.signature, opened, config)
    encoder = encoder_of(connection.protocol, target.signature, features)
    predictor = Predictor(
        connection,
        target.signature,
        encoder,
        run.ground,
        probs=config.probs,
        max_batch_bytes=config.max_batch_bytes,
    )
    decoding = predictor.decoding
    layout = JobLayout(run, target, decoding, input_schema=schema, kept=kept, job=job)
    has_scored = await _score_one_row(run, predictor, encoder, opened, features.columns.names)
    return Plan(
        config=_for_workers(config),
        signature=decoding.signature,
        are_outputs_published=target.are_outputs_published,
        has_scored=has_scored,
        fingerprint=run.fingerprint or "",
        input_schema=schema,
        kept=kept,
        output_schema=(layout.known() or layout.without_rows()).schema,
        image_base=opened.image_base,
        image_root=opened.image_root,
        is_pictures=opened.is_pictures,
    )


async def plan_for(config: ScoreConfig, reader: Reader) -> Plan:
    """The plan of a job whose rows an engine has; raises as ``make_plan`` does.

    Args:
        config: the options.
        reader: has the columns of the rows, and gives the first of them.
    """
    run = Run(config, NullObserver(), Runtime())
    run.history.close()
    here = Path.cwd()
    opened = OpenedInput(
        reader=reader, files=(), image_base=here, image_root=here, is_pictures=False
    )
    with run.runtime.ground(run.metrics) as run.ground:
        run.config = await with_protocol(run.config, run.ground)
        run.check_image_root()
        async with target_of(run, opened) as target:
            return await make_plan(run, target, opened)


def plan_rows(
    config: ScoreConfig, schema: pa.Schema, first: Iterable[pa.RecordBatch], workers: int
) -> Plan:
    """``plan_for`` of rows that come as batches, for whoever has no event loop to block.

    Args:
        config: the options.
        schema: the columns of the rows.
        first: batches of them, gone through only until one row was scored.
        workers: how many there may be.
    """
    with LoopThread() as loop:
        return loop.run(plan_for(config, GivenRows(schema, first))).for_workers(workers)


async def _score_one_row(
    run: Run,
    predictor: Predictor,
    encoder: RowEncoder,
    opened: OpenedInput,
    columns: list[str],
) -> bool:
    """Whether a row of the input was scored; rows that cannot be sent are passed over."""
    batches = _first_rows(opened, columns, run.config.limit)
    offload, size = run.ground.offload, 1
    try:
        while (batch := await uninterrupted(offload(next, batches, None))) is not None:
            start = 0
            while start < batch.num_rows:
                rows = batch.slice(start, min(start + size, batch.num_rows))
                encoded = await offload(encoder.encode, rows)
                for row in encoded.positions.tolist():
                    scored = await predictor.score(Chunk(0, rows.slice(row, row + 1)))
                    if not scored.failures:
                        return True
                # Few at first: to encode pictures takes its time.
                start, size = start + size, min(2 * size, AUTO_ROWS)
    finally:
        batches.close()
    return False


def _first_rows(
    opened: OpenedInput, columns: list[str], limit: int | None
) -> Generator[RowBatch, None, None]:
    """The rows of an input, up to a limit."""
    row = 0
    for batch in opened.reader.batches(0, columns) if limit != 0 else ():
        rows = batch if limit is None else batch.slice(0, min(limit - row, batch.num_rows))
        yield rows
        row += rows.num_rows
        if row == limit:
            return


def _for_workers(config: ScoreConfig) -> ScoreConfig:
    """The options as a worker needs them: it has another working directory, and no output."""
    changed: dict[str, Any] = {
        name: value.absolute()
        for name in type(config).model_fields
        if isinstance(value := getattr(config, name), Path)
    }
    # What counts for all workers together is looked at where they are counted together.
    changed |= {"token": _travelling_token(config), "max_failed_rows": None, "limit": None}
    changed |= {"report": (), "work_dir": None, "processes": 1}
    return config.model_copy(update=changed)


def _travelling_token(config: ScoreConfig) -> Any:
    """The token, or what gives it, where no file or command that workers have does."""
    if config.token is None and config.token_command is None and config.token_file is None:
        return os.environ.get(TOKEN_VARIABLE)
    if callable(config.token):
        try:
            pickle.dumps(config.token)
        except Exception:  # noqa: BLE001 - whatever an object of the user's does
            raise UsageError(
                "token: workers cannot be sent this function (it cannot be pickled); give one that "
                "is defined in a module, or --token-file or --token-command"
            ) from None
    return config.token
