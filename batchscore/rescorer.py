"""Rescoring: the main job, reading only the rows that failed and merging what comes back."""

from __future__ import annotations

from dataclasses import replace
from functools import partial
from typing import TYPE_CHECKING

from batchscore.codecs.columns import is_text, plain_type
from batchscore.endpoint import Endpoint
from batchscore.errors import InputError, ModelChangedError, UsageError
from batchscore.job import Job, told
from batchscore.nearest import nearest
from batchscore.observers import NullObserver
from batchscore.offload import uninterrupted
from batchscore.readers import OpenedInput, ReadOptions, open_reader
from batchscore.readers.failed import FailedRows
from batchscore.run import Run, whole_run
from batchscore.runtime import Runtime
from batchscore.scorer import score_rows, target_of
from batchscore.scoring.declared import packs_of
from batchscore.scoring.learned import tells_outputs, unlearned_fields, with_learned
from batchscore.sinks.rescored import RescoredOutput

if TYPE_CHECKING:
    from batchscore.config import RescoreConfig, ScoreConfig
    from batchscore.metrics import RunReport
    from batchscore.observers import Observer
    from batchscore.schema import ModelSignature
    from batchscore.scoring.connection import Target
    from batchscore.sinks.finished import FinishedOutput


async def rescore(
    config: RescoreConfig, *, observer: Observer | None = None, runtime: Runtime | None = None
) -> RunReport:
    """Score the failed rows of an output again, and put what comes back in their places.

    Raises:
        BatchscoreError: the run ended early, and the output is as it was; the reports are
            written all the same.
    """
    run = Run(config.as_score({}), observer or NullObserver(), runtime or Runtime(), "rescore")
    return await whole_run(run, partial(_rescore, config))


async def _rescore(config: RescoreConfig, run: Run) -> None:
    Endpoint.parse(config.url)
    offload = run.ground.offload
    output = RescoredOutput(config, run.runtime)
    run.resumable = output.resumable
    try:
        scored = await offload(output.reserve)
        try:
            run.config = config.as_score(scored.options)
        except UsageError as error:
            raise UsageError(
                f"{config.output}: another version of batchscore wrote it ({error}); score again"
            ) from error
        counts = await offload(scored.counts)
        failed = sum(counts.failed.values())
        earlier = await offload(output.begin, failed)
        run.metrics.total_rows = counts.rows
        count_scored = partial(run.metrics.count_earlier, counts.rows - failed, {})
        if not failed:
            count_scored()
            return
        with await offload(_open, config, run.config, scored, counts.rows) as opened:
            async with target_of(run, opened) as found:
                target = _completed(run, scored, bool(config.input), found)
                # Of a run that its options or the deployment did not let begin, none are told.
                count_scored()
                # The kept columns stay where they are: only predictions come back.
                await score_rows(run, target, opened, output, kept=(), limit=None, earlier=earlier)
        await uninterrupted(offload(output.finish))
    finally:
        output.close()


def _open(
    config: RescoreConfig, job: ScoreConfig, scored: FinishedOutput, rows: int
) -> OpenedInput:
    """The failed rows, from the output or from the original input.

    Raises:
        UsageError: the input is another one.
    """
    options = ReadOptions(input_format=scored.output_format)
    output = open_reader([str(scored.path)], options).reader
    if not config.input:
        failed = FailedRows(output, scored.error, untyped=scored.untyped)
        # Where paths start from is known only if it was said.
        return OpenedInput(failed, (scored.path,), None, None, is_pictures=False)
    opened = open_reader(config.input, ReadOptions.of(job))
    try:
        _check_same_input(job, scored, opened)
        found = opened.reader.num_rows
        if found is not None and rows != (found if job.limit is None else min(found, job.limit)):
            raise InputError(
                f"--input: it has {found:,} rows, {scored.path} {rows:,}; give the one that it was "
                "scored from"
            )
        source = opened.reader
        kept = {*source.schema.names} & {*scored.schema.names}
        opened.reader = FailedRows(output, scored.error, source=source, also=kept, limit=job.limit)
    except BaseException:
        opened.close()
        raise
    return opened


def _check_same_input(config: ScoreConfig, scored: FinishedOutput, opened: OpenedInput) -> None:
    if opened.is_stream or "digest" not in scored.input_summary:
        which = "this input" if opened.is_stream else f"the input of {scored.path}"
        raise UsageError(
            f"--input: {which} is a pipe, so that nothing tells whether its rows are those of "
            f"{scored.path}; score again, from a file"
        )
    job = Job.of(config, opened)
    written_ns = scored.path.stat().st_mtime_ns
    differences = job.differences_from_output(job.options, scored.input_summary, written_ns)
    if differences:
        raise UsageError(
            f"--input: not what {scored.path} was scored from: {told(differences)}; rows could "
            "get the predictions of others, so score again"
        )


def _completed(run: Run, scored: FinishedOutput, has_input: bool, target: Target) -> Target:
    """The deployment, with what the output tells of its model.

    Raises:
        ModelChangedError: it is another model than the one that the output is of.
        UsageError: the output does not hold what the model needs.
    """
    if run.fingerprint != scored.fingerprint:
        raise ModelChangedError(
            f"the deployment's specification is not the one that {scored.path} was scored with; "
            "two models must not be mixed in one file, so score again"
        )
    signature = target.signature
    completed = with_learned(signature, scored.schema.metadata, no_classes_are_unknown=True)
    known = signature if tells_outputs(signature) else completed
    fields = unlearned_fields(target.connection.protocol, known, run.config.probs)
    outputs = [run.config.prefix + field.name for field in fields]
    if scored.schema.names[-1 - len(outputs) : -1] != outputs:
        raise UsageError(
            f"{scored.path}: the columns before {scored.error!r} are not the predictions of the "
            f"deployment ({', '.join(outputs)}); rescore works on a file as score wrote it, so "
            "score again"
        )
    if not has_input:
        _check_features(run.config, scored, signature, len(outputs))
    return replace(target, signature=completed)


def _check_features(
    config: ScoreConfig, scored: FinishedOutput, signature: ModelSignature, num_outputs: int
) -> None:
    kept = scored.schema.names[: -1 - num_outputs]
    packs = packs_of(config, signature)
    columns = [
        (spec, column)
        for spec in signature.inputs
        for column in packs.get(spec.name, (config.map.get(spec.name, spec.name),))
    ]
    for spec, column in columns:
        if column not in kept:
            hint = nearest(column, kept, " (did you mean {!r}?)")
            raise UsageError(
                f"{scored.path} does not hold the column {column!r}, which the deployment needs"
                f"{hint}; give the original input with --input"
            )
        is_paths = is_text(plain_type(scored.schema.field(column).type))
        if spec.kind == "image" and is_paths and config.image_root is None:
            raise UsageError(
                f"{scored.path} does not tell in which folder the files of its column {column!r} "
                "are; name it with --image-root, or give the original input with --input"
            )
