"""Ray Data: workers are the actors of a pool, each with a connection that lasts."""

from __future__ import annotations

import logging
import os
import pickle
import socket
from collections import Counter
from contextlib import contextmanager
from importlib.util import find_spec
from math import prod
from typing import TYPE_CHECKING, Any, cast

import pyarrow as pa

from batchscore.engines.partition import Partition
from batchscore.engines.plan import plan_rows
from batchscore.engines.rows import rows_config
from batchscore.engines.work import Done, FileWorker
from batchscore.errors import BatchscoreError, StoppedError, UsageError, WorkerLostError

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Sequence

    from ray.data import Dataset

    from batchscore.config import ScoreConfig, Token
    from batchscore.engines.plan import Plan
    from batchscore.engines.splits import Split
    from batchscore.engines.work import Work

_FIRST_ROWS = 1024
_OBJECT_STORE_BYTES = 256 * 2**20
_CONNECT_S = 10.0
_INSTALL = "pip install 'batchscore[ray]'"
_MAX_BEGUN = 5
"""Workers that a split may take with it; Ray itself would go on forever."""

_TENSOR = "ray.data.arrow_tensor"
_log = logging.getLogger("batchscore")


def score_dataset(
    ds: Dataset,
    *,
    url: str,
    token: Token = None,
    workers: int | None = None,
    num_cpus: float | None = None,
    **options: Any,
) -> Dataset:
    """Score the rows of a Ray Dataset; the columns are those that ``score_table`` gives.

    One row is scored at once, here, to fix the columns; for that the first rows of the dataset are
    computed. All else happens when the result is. Rows keep their order within a block; where
    blocks shall keep theirs, say so to Ray: ``DataContext.execution_options.preserve_order``.

    Args:
        ds: the rows.
        url: the deployment's address.
        token: the token, or a function of a module that gives it; else ``BATCHSCORE_TOKEN``.
        workers: actors; else one for each CPU of the cluster but one, which is left for reading.
        num_cpus: CPUs that Ray sets aside for an actor; else 1, or less so that one is left.
        **options: as of ``batchscore.score_table``; ``concurrency`` bounds all actors together.

    Raises:
        UsageError, StoppedError, TemporaryError: as of ``score_table``, for what is found before
            the first block. What comes later is the ``cause`` of Ray's own error.
    """
    ray = _ray()
    config = rows_config("score_dataset", "ray", {**options, "workers": workers}, url=url,
                         token=token)  # fmt: skip
    schema = ds.schema()
    if schema is None or not isinstance(schema.base_schema, pa.Schema):
        raise UsageError(
            "score_dataset: the dataset has no columns that Arrow could hold"
            "; give one with named columns"
        )
    cpus = int(ray.cluster_resources().get("CPU", 1))
    plan = plan_rows(
        config, _plain_schema(schema.base_schema), _first_rows(ds), workers or max(1, cpus - 1)
    )
    return ds.map_batches(
        _RowsActor,
        fn_constructor_args=(plan, _desk()),
        batch_format="pyarrow",
        batch_size=None,
        compute=ray.data.ActorPoolStrategy(size=plan.workers),
        # One CPU is left for what reads the rows, or nothing would ever come.
        num_cpus=min(1.0, (cpus - 1) / plan.workers) if num_cpus is None else num_cpus,
        udf_modifying_row_count=False,
    )


def _first_rows(ds: Dataset) -> Iterator[pa.RecordBatch]:
    """The rows of a dataset; so that Ray computes few of them, the first ones by themselves."""
    for part in (ds.limit(_FIRST_ROWS), ds):
        for table in part.iter_batches(
            batch_size=_FIRST_ROWS, batch_format="pyarrow", prefetch_batches=0
        ):
            yield from _plain_batches(cast("pa.Table", table))


class _Desk:
    """The one place that the actors of a job know of: who is who, and which split was begun."""

    def __init__(self) -> None:
        self._numbers: dict[str, int] = {}
        self._begun: Counter[int] = Counter()

    def number(self, actor: str) -> int:
        """The number of an actor; one that was started again has the same as before."""
        return self._numbers.setdefault(actor, len(self._numbers))

    def begin(self, split: int) -> int:
        """How often a split was begun, now included."""
        self._begun[split] += 1
        return self._begun[split]


def _desk() -> Any:
    return _ray().remote(_Desk).options(num_cpus=0).remote()


def _number(desk: Any) -> int:
    ray = _ray()
    return int(ray.get(desk.number.remote(ray.get_runtime_context().get_actor_id())))


class _RowsActor:
    """Scores blocks of a dataset."""

    def __init__(self, plan: Plan, desk: Any) -> None:
        self._schema = plan.output_schema
        self._partition = Partition(plan, _number(desk))

    def __call__(self, table: pa.Table) -> Iterator[pa.Table]:
        count = 0
        for batch in self._partition.score_batches(_plain_batches(table)):
            count += 1
            yield pa.Table.from_batches([batch])
        if not count:
            yield self._schema.empty_table()


class RayEngine:
    """``Engine`` whose workers are actors of a cluster, or of one that is started here."""

    def __init__(self) -> None:
        """Begin nothing yet; Ray is imported when it is started, as that takes its time.

        Raises:
            UsageError: the extra is not installed.
        """
        if find_spec("ray") is None:
            raise UsageError(f"Ray Data is not installed; {_INSTALL}")
        self._is_ours, self._cpus = False, 1.0

    def start(self, config: ScoreConfig) -> int:
        """See ``Engine``."""
        address = config.ray_address or os.environ.get("RAY_ADDRESS")
        if address is None:
            _set_up_alone()
        ray = _ray()
        if not ray.is_initialized():
            given: dict[str, Any] = {"logging_level": "ERROR", "log_to_driver": False}
            if address is None:
                given |= {"include_dashboard": False, "object_store_memory": _OBJECT_STORE_BYTES}
                given |= {"num_cpus": config.workers} if config.workers else {}
            self._is_ours = True
            try:
                _look_for(address)
                ray.init(address, **given)
            except (OSError, RuntimeError, ValueError) as error:
                reason = str(error).strip().splitlines()[0]
                raise UsageError(
                    f"--ray-address: no Ray cluster at {address!r}: {reason}"
                    "; name the address of its head, or leave it out for one of this computer's own"
                    if address
                    else f"--engine ray: Ray does not start on this computer: {reason}"
                ) from error
        self._cpus = float(ray.cluster_resources().get("CPU", 1))
        return max(1, int(self._cpus))

    def score(self, work: Work, splits: Sequence[Split], tell: Callable[[Done], None]) -> None:
        """See ``Engine``."""
        ray, workers = _ray(), work.plan.workers
        with _quiet():
            items = [{"split": pickle.dumps(split)} for split in splits]
            done = ray.data.from_items(items, override_num_blocks=len(items)).map_batches(
                _SplitsActor,
                fn_constructor_args=(work, _desk()),
                batch_format="pyarrow",
                batch_size=1,
                compute=ray.data.ActorPoolStrategy(size=workers, max_tasks_in_flight_per_actor=1),
                # All shall find room, or the limits would be shared with workers that never come.
                num_cpus=min(1.0, self._cpus / workers),
            )
            try:
                for table in done.iter_batches(
                    batch_size=None, batch_format="pyarrow", prefetch_batches=0
                ):
                    for told in table["done"].to_pylist():
                        tell(pickle.loads(told))  # noqa: S301 - made by our own workers
            except ray.exceptions.RayError as error:
                raise _given_up(error) from error

    def stop(self) -> None:
        """See ``Engine``."""
        if self._is_ours:
            _ray().shutdown()


class _SplitsActor:
    """Scores splits of files."""

    def __init__(self, work: Work, desk: Any) -> None:
        self._desk, self._number = desk, _number(desk)
        self._worker = FileWorker(work, self._number)

    def __call__(self, table: pa.Table) -> pa.Table:
        splits = [pickle.loads(split) for split in table["split"].to_pylist()]  # noqa: S301
        return pa.table({"done": [pickle.dumps(self._score(split)) for split in splits]})

    def _score(self, split: Split) -> Done:
        if _ray().get(self._desk.begin.remote(split.number)) > _MAX_BEGUN:
            lost = WorkerLostError(
                f"split {split.number} of the input was begun {_MAX_BEGUN} times, and each time "
                "its worker was lost: out of memory? fewer --workers may help, or a smaller "
                "--batch-size"
            )
            return Done(split.number, self._number, self._worker.take_traffic(), error=lost)
        return self._worker.score(split)


def _given_up(error: Exception) -> BatchscoreError:
    """What Ray does not repeat: most often a worker that cannot begin as this program did."""
    reason = str(error).strip().splitlines()[-1]
    if isinstance(error, _ray().exceptions.RayTaskError) or "creation task" in str(error):
        return StoppedError(
            f"a worker of Ray failed: {reason}; has each node the same Python and packages?"
        )
    return WorkerLostError(
        f"Ray gave up a part of the job: {reason}"
        "; look at the memory of its nodes, then run the same command again"
    )


def _set_up_alone() -> None:
    """What a cluster of this computer alone is to know before Ray is imported and begins.

    Nothing of it is told to anybody, and its processes meet at the loopback address.
    """
    os.environ.setdefault("RAY_USAGE_STATS_ENABLED", "0")
    # Its name notwithstanding: without, other computers are let in.
    os.environ.setdefault("RAY_ENABLE_WINDOWS_OR_OSX_CLUSTER", "0")
    if not _log.isEnabledFor(logging.DEBUG):
        os.environ.setdefault("RAY_BACKEND_LOG_LEVEL", "fatal")


def _look_for(address: str | None) -> None:
    """Raise ``OSError`` where nobody listens at HOST:PORT; Ray itself would wait for minutes."""
    host, colon, port = (address or "").removeprefix("ray://").rpartition(":")
    if colon and port.isdigit():
        socket.create_connection((host, int(port)), timeout=_CONNECT_S).close()


@contextmanager
def _quiet() -> Iterator[None]:
    """Datasets that are made here show no progress of their own, and the user's do as before."""
    context = _ray().data.DataContext
    mine = context.get_current().copy()
    mine.enable_progress_bars = mine.print_on_execution_start = False
    shown = [
        (handler, handler.level)
        for handler in logging.getLogger("ray.data").handlers
        if isinstance(handler, logging.StreamHandler)
    ]
    for handler, _ in shown:
        handler.setLevel(logging.CRITICAL)
    try:
        with context.current(mine):
            yield
    finally:
        for handler, level in shown:
            handler.setLevel(level)


def _ray() -> Any:
    try:
        import ray.data  # noqa: PLC0415 - an extra, and heavy
    except ImportError as error:
        raise UsageError(f"Ray Data is not installed ({error}); {_INSTALL}") from error
    return ray


def _plain_schema(schema: pa.Schema) -> pa.Schema:
    """A schema with the tensors of Arrow in place of those that Ray had before Arrow had any."""
    return pa.schema([field.with_type(_plain_type(field.type)) for field in schema])


def _plain_batches(table: pa.Table) -> Iterator[pa.RecordBatch]:
    schema = _plain_schema(table.schema)
    for batch in table.to_batches():
        arrays = map(_plain_array, batch.columns)
        yield pa.RecordBatch.from_arrays(list(arrays), schema=schema)


def _is_tensor(dtype: pa.DataType) -> bool:
    return isinstance(dtype, pa.BaseExtensionType) and dtype.extension_name.startswith(_TENSOR)


def _plain_type(dtype: pa.DataType) -> pa.DataType:
    if not _is_tensor(dtype):
        return dtype
    return pa.fixed_shape_tensor(dtype.storage_type.value_type, dtype.shape)


def _plain_array(array: pa.Array) -> pa.Array:
    if not _is_tensor(array.type):
        return array
    dtype = _plain_type(array.type)
    lists = pa.FixedSizeListArray.from_arrays(
        array.storage.flatten(), prod(dtype.shape), mask=array.is_null()
    )
    return pa.ExtensionArray.from_storage(dtype, lists)
