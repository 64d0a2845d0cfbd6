"""The layout of one job's output: known in part before the first answer, and in full after it."""

from __future__ import annotations

from typing import TYPE_CHECKING

from batchscore.readers.union import is_untyped
from batchscore.scoring.learned import learned_outputs, unlearned_fields, without_classes
from batchscore.sinks.layout import OutputLayout, check_collisions
from batchscore.version import __version__

if TYPE_CHECKING:
    from collections.abc import Sequence

    import pyarrow as pa

    from batchscore.job import Job
    from batchscore.run import Run
    from batchscore.schema import ModelSignature
    from batchscore.scoring.connection import Target
    from batchscore.scoring.decoding import Decoding


class JobLayout:
    """Lays out the output of a job, and tells in its metadata of the job and the model."""

    def __init__(
        self,
        run: Run,
        target: Target,
        decoding: Decoding,
        *,
        input_schema: pa.Schema,
        kept: tuple[str, ...],
        job: Job | None,
    ) -> None:
        """Take note of what there is to tell.

        Args:
            run: the run, whose fingerprint is known.
            target: the deployment.
            decoding: knows the predictions' types sooner or later.
            input_schema: the input's columns.
            kept: those that the output carries.
            job: tells of the input, where the output may be resumed.

        Raises:
            UsageError: two output columns would have one name.
        """
        self._run, self._target, self._decoding = run, target, decoding
        self._input_schema, self._kept, self._job = input_schema, kept, job
        outputs = [field.name for field in self._unlearned()]
        check_collisions(kept, outputs, run.config.prefix)

    def known(self) -> OutputLayout | None:
        """The layout, as soon as the predictions' types are known."""
        decoder = self._decoding.decoder
        if decoder is None:
            return None
        return self._with(decoder.fields, self._decoding.signature)

    def without_rows(self) -> OutputLayout:
        """The layout of a job in which no row was scored: no classes, so the list form."""
        return self._with(self._unlearned(), without_classes(self._decoding.signature))

    def _unlearned(self) -> tuple[pa.Field, ...]:
        signature, probs = self._decoding.signature, self._run.config.probs
        return unlearned_fields(self._target.connection.protocol, signature, probs)

    def _with(self, predictions: Sequence[pa.Field], signature: ModelSignature) -> OutputLayout:
        config, schema, target = self._run.config, self._input_schema, self._target
        metadata: dict[str, object] = {
            "endpoint": target.connection.endpoint.shown,
            "fingerprint": self._run.fingerprint or "",
            "version": __version__,
            "options": config.output_options(),
            "outputs": learned_outputs(signature, are_published=target.are_outputs_published),
        }
        if untyped := [name for name in self._kept if is_untyped(schema.field(name))]:
            metadata["untyped"] = untyped
        if self._job is not None:
            metadata["input"] = self._job.input_summary()
        return OutputLayout.make(
            schema, self._kept, predictions, prefix=config.prefix, metadata=metadata
        )
