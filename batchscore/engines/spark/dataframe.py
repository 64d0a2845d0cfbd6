"""A DataFrame in, a DataFrame out: its partitions scored by Spark's Python workers."""

from __future__ import annotations

import uuid
from dataclasses import dataclass
from itertools import chain
from typing import TYPE_CHECKING, Any

import pyarrow as pa

from batchscore.engines.partition import Partition
from batchscore.engines.plan import plan_rows
from batchscore.engines.rows import rows_config
from batchscore.engines.spark.kept import Kept
from batchscore.engines.spark.session import check_installed, without_warnings
from batchscore.errors import UsageError

if TYPE_CHECKING:
    from collections.abc import Iterator

    from pyspark.sql import DataFrame

    from batchscore.config import Token
    from batchscore.engines.plan import Plan

_FIRST_ROWS = 1
_MORE = 32
"""How many times as many rows are fetched where none of the first ones could be scored."""


def score_dataframe(df: DataFrame, *, url: str, token: Token = None, **options: Any) -> DataFrame:
    """Score the rows of a Spark DataFrame; the columns are those that ``score_table`` gives.

    One row is scored at once, here, which fixes the columns. The others are when Spark is asked
    for them, as often as it is asked: write the result, or ``cache`` it, before it is used twice.
    Partitions and the order of their rows stay as they are. What Spark cannot hold becomes the
    nearest type that can: an unsigned integer the next wider one (of 64 bits, a decimal), a tensor
    lists of lists.

    Args:
        df: the rows.
        url: as in ``batchscore.score``.
        token: as in ``batchscore.score``; a function has to be one that can be pickled.
        **options: as in ``batchscore.score_table``, but for ``limit``, ``max_failed_rows``,
            ``processes`` and ``report``, which are about all rows together. ``workers``: how many
            tasks Spark runs at a time, which share ``concurrency`` and ``rate_limit``; else as many
            as the cluster has cores now. Where there may be fewer requests in flight than that,
            partitions are put together, so that there are no more tasks.

    Raises:
        UsageError: an option or a column is wrong, or the extra is not installed.
        StoppedError, TemporaryError: as in ``batchscore.score``, for the first row. For the others
            see ``errors``.
    """
    check_installed()
    config = rows_config("score_dataframe", "spark", options, url=url, token=token)
    with without_warnings():
        from batchscore.engines.spark.types import (  # noqa: PLC0415 (PySpark is an extra)
            arrow_schema,
            held_type,
            output_fields,
        )

        room = _room(df)
        workers = config.workers or room
        if workers is None:
            raise UsageError("score_dataframe: say workers=..., the tasks that run at a time")
        plan = plan_rows(config, arrow_schema(df.schema), _first_rows(df), workers)
        fields = output_fields(
            plan.output_schema,
            df.schema,
            plan.kept,
            is_case_sensitive=df.sparkSession.conf.get("spark.sql.caseSensitive") == "true",
        )
        predicted = plan.output_schema.types[len(plan.kept) :]
        rows = _Rows(uuid.uuid4().hex, plan, tuple(map(held_type, predicted)))
        if room is None or room > plan.workers:
            df = df.coalesce(plan.workers)
        return df.mapInArrow(rows, fields)


def _room(df: DataFrame) -> int | None:
    """How many tasks run at a time, where the session tells."""
    context = getattr(df.sparkSession, "_sc", None)  # a session of Spark Connect has none
    return None if context is None else int(context.defaultParallelism)


def _first_rows(df: DataFrame) -> Iterator[pa.RecordBatch]:
    """The rows in order, fetched in ever larger runs; most often one row is all that is taken."""
    start, count = 0, _FIRST_ROWS
    while True:
        table = df.offset(start).limit(count).toArrow()
        yield from table.to_batches()
        if table.num_rows < count:
            return
        start, count = start + count, count * _MORE


@dataclass(frozen=True)
class _Rows:
    """What ``mapInArrow`` calls for each partition, on an executor.

    Attributes:
        job: tells one job from others that the executors' processes may have worked for.
        plan: what to do with the rows.
        predicted: the types of the columns behind the kept ones, as Spark holds them.
    """

    job: str
    plan: Plan
    predicted: tuple[pa.DataType, ...]

    def __call__(self, batches: Iterator[pa.RecordBatch]) -> Iterator[pa.RecordBatch]:
        first = next(batches, None)
        if first is None:
            return
        from batchscore.engines.spark.types import held  # noqa: PLC0415 (PySpark is an extra)

        # Nobody tells one task from another that runs beside it: each takes the smallest share.
        number = self.plan.workers - 1
        partition = Kept.get(self.job, lambda: Partition(self.plan, number))
        num_kept, names = len(self.plan.kept), self.plan.output_schema.names
        for batch in partition.score_batches(chain([first], batches)):
            columns = batch.columns
            arrays = [held(*pair) for pair in zip(columns[num_kept:], self.predicted, strict=True)]
            yield pa.RecordBatch.from_arrays(columns[:num_kept] + arrays, names=names)
