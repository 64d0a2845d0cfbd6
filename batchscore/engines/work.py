"""What the workers of an engine are sent, do and tell, where the job reads and writes files."""

from __future__ import annotations

import os
from dataclasses import dataclass
from typing import TYPE_CHECKING, Protocol, Self

from batchscore.engines.counts import PartCounts
from batchscore.engines.partition import Partition
from batchscore.errors import InputError
from batchscore.metrics import RunMetrics
from batchscore.processes.worker import portable

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence
    from pathlib import Path

    from batchscore.config import ScoreConfig
    from batchscore.engines.parts import PartWriter
    from batchscore.engines.plan import Plan
    from batchscore.engines.splits import Split
    from batchscore.metrics import Traffic


@dataclass(frozen=True)
class Work:
    """What every worker is sent once; can be pickled.

    Attributes:
        plan: what to do with the rows.
        parts: writes them.
        folder: where relative paths of the input begin.
    """

    plan: Plan
    parts: PartWriter
    folder: Path


@dataclass(frozen=True)
class Done:
    """What became of one split; can be pickled.

    Attributes:
        split: its number.
        worker: the number of the worker.
        traffic: what the worker sent since it told last.
        counts: what became of the rows; None where an error ended it.
        error: what ends the job.
    """

    split: int
    worker: int
    traffic: Traffic
    counts: PartCounts | None = None
    error: Exception | None = None


class Engine(Protocol):
    """Has workers score splits. Its methods block, and are called in threads, one at a time.

    ``start`` comes first, then ``score`` once. ``stop`` comes last in any case, also while
    ``score`` still runs in its thread, which then shall end soon, by whatever error.
    """

    def start(self, config: ScoreConfig) -> int:
        """Begin, and tell how many workers there may be.

        Raises:
            UsageError: the engine is not installed, or not there.
        """
        ...

    def score(self, work: Work, splits: Sequence[Split], tell: Callable[[Done], None]) -> None:
        """Have ``FileWorker`` objects score all splits, at most ``work.plan.workers`` at a time.

        What ``tell`` raises ends the job, and comes out of here. A split whose worker was lost is
        given to another; ``WorkerLostError`` where that happens too often.
        """
        ...

    def stop(self) -> None:
        """End what was started."""
        ...


class FileWorker:
    """Scores splits into parts, one after another; a context manager.

    Nothing happens, and nothing can fail, before the first split comes: what ends the job is told
    in the answer to a split, as an engine would change it on any other way.
    """

    def __init__(self, work: Work, number: int) -> None:
        self._work, self._number = work, number
        self._partition: Partition | None = None

    def score(self, split: Split) -> Done:
        """Score a split and write its part; an error is told, so that it travels as it is."""
        metrics = RunMetrics()
        counts = error = None
        try:
            partition = self._connected()
            batches = partition.score(split, metrics)
            self._work.parts.write(split.number, self._work.plan.output_schema, batches)
            counts = PartCounts.of(metrics)
        except Exception as reason:  # noqa: BLE001 - the driver raises it
            error = portable(reason)
        return Done(split.number, self._number, self.take_traffic(), counts, error)

    def take_traffic(self) -> Traffic:
        """What was sent since this was last asked."""
        return (self._partition or RunMetrics()).take_traffic()

    def _connected(self) -> Partition:
        if self._partition is None:
            folder = self._work.folder
            try:
                # Paths of the input are as the user typed them: the output may tell them.
                os.chdir(folder)
            except OSError as error:
                raise InputError(
                    f"a worker has no folder {str(folder)!r}: {error.strerror}; with --engine the "
                    "input has to be at the same place for all workers"
                ) from error
            self._partition = Partition(self._work.plan, self._number)
        return self._partition

    def close(self) -> None:
        """Close the connection."""
        if self._partition is not None:
            self._partition.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()
