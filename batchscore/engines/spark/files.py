"""``--engine spark``: Spark's executors score the splits of a job of files."""

from __future__ import annotations

import threading
import uuid
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

from batchscore.engines.spark.failures import told_by_spark
from batchscore.engines.spark.kept import Kept
from batchscore.engines.spark.session import OwnSpark, SharedSpark, check_installed
from batchscore.engines.work import FileWorker, Work
from batchscore.errors import BatchscoreError
from batchscore.processes.worker import portable

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Sequence

    from batchscore.config import ScoreConfig
    from batchscore.engines.splits import Split
    from batchscore.engines.work import Done


class SparkEngine:
    """``Engine`` of Spark tasks, one a split.

    As many threads as the plan has workers give Spark one split each, as a job of one task, and
    the next when that is done. So no more tasks than that are ever at work, however many cores the
    cluster has or gets, each has the share of the limits that goes with its thread's number, and
    Spark itself gives a split whose executor was lost to another one.
    """

    def __init__(self) -> None:
        """Begin nothing yet.

        Raises:
            UsageError: the extra is not installed.
        """
        check_installed()
        self._spark: SharedSpark | None = None

    def start(self, config: ScoreConfig) -> int:
        """See ``Engine``."""
        self._spark = SharedSpark.find(config.master) or OwnSpark(config.master, config.workers)
        return self._spark.room

    def score(self, work: Work, splits: Sequence[Split], tell: Callable[[Done], None]) -> None:
        """See ``Engine``."""
        assert self._spark is not None  # noqa: S101 - it was started
        lanes = _Lanes(self._spark, work, splits, tell)
        with ThreadPoolExecutor(work.plan.workers, thread_name_prefix="spark-lane") as threads:
            for ended in [threads.submit(lanes.run, n) for n in range(work.plan.workers)]:
                ended.result()
        if lanes.error is not None:
            raise lanes.error

    def stop(self) -> None:
        """See ``Engine``."""
        if self._spark is not None:
            self._spark.stop()


class _Lanes:
    """The threads that wait for Spark's tasks.

    Attributes:
        error: what ends the job.
    """

    def __init__(
        self,
        spark: SharedSpark,
        work: Work,
        splits: Sequence[Split],
        tell: Callable[[Done], None],
    ) -> None:
        self._spark, self._tell = spark, tell
        self._task = _Task(uuid.uuid4().hex, work)
        self._splits = iter(splits)
        self._lock = threading.Lock()
        self.error: BaseException | None = None

    def run(self, number: int) -> None:
        """Have one split after another scored, until there are no more, or the job is to end."""
        try:
            self._spark.name_jobs()
            while (split := self._next()) is not None:
                self._tell(replace(self._score(number, split), worker=number))
        except BaseException as error:  # noqa: BLE001 - raised where the threads are waited for
            with self._lock:
                if self.error is not None:
                    return
                self.error = error
            # The others wait for tasks of which nobody wants to know any more.
            self._spark.cancel_jobs()

    def _next(self) -> Split | None:
        with self._lock:
            return None if self.error is not None else next(self._splits, None)

    def _score(self, number: int, split: Split) -> Done:
        try:
            rdd = self._spark.context.parallelize([(number, split)], 1)
            done: Done | Exception = rdd.mapPartitions(self._task).collect()[0]
        except BatchscoreError:
            raise
        except Exception as error:
            raise told_by_spark(error, f"part {split.number}") from error
        if isinstance(done, Exception):
            raise done
        return done


@dataclass(frozen=True)
class _Task:
    """What a task does, on an executor.

    Attributes:
        job: tells one job from others that the executors' processes may have worked for.
        work: the same for all tasks.
    """

    job: str
    work: Work

    def __call__(self, given: Iterator[tuple[int, Split]]) -> Iterator[Done | Exception]:
        (number, split), *_ = given
        # Without a fixed number of requests to share out, all shares are the same.
        share = number if self.work.plan.config.concurrency != "auto" else 0
        try:
            worker = Kept.get((self.job, share), lambda: FileWorker(self.work, share))
            yield worker.score(split)
        except Exception as error:  # noqa: BLE001 - Spark would try again what will not help
            yield portable(error)
