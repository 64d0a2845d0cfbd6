"""From a chunk to its predictions: encode, have it sent, put the answers together."""

from __future__ import annotations

import asyncio
from dataclasses import dataclass
from typing import TYPE_CHECKING, ParamSpec, TypeVar

import numpy as np
import numpy.typing as npt
import pyarrow as pa

from batchscore.batches import Chunk, RowBatch, RowFailure, ScoredBatch
from batchscore.client.gate import Gate
from batchscore.errors import UsageError
from batchscore.offload import by_size
from batchscore.scoring.decoding import Decoding, Predictions
from batchscore.scoring.isolate import Decided, Refusals, decide
from batchscore.scoring.pipeline import first_error
from batchscore.scoring.requests import Requests, equal_share, runs_on_the_wire, slices

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence

    from batchscore.config import Probs
    from batchscore.protocols.base import EncodedRows, RowEncoder
    from batchscore.runtime import Ground
    from batchscore.schema import ModelSignature
    from batchscore.scoring.connection import Connection

# What 32-bit offsets can reach in one array of pictures.
_MAX_COLUMN_BYTES = 2**31 - 1
P = ParamSpec("P")
T = TypeVar("T")

_MIN_ENCODED = 4
_ENCODED_BYTES = 256 * 2**20


@dataclass(frozen=True, slots=True)
class _Scored:
    """A run of rows that is decided: predictions for the scored ones, reasons for the others."""

    positions: npt.NDArray[np.int64]
    predictions: Predictions | None
    failures: Mapping[int, RowFailure]


class Predictor:
    """Scores chunks over one connection.

    Attributes:
        decoding: reads the answers, and holds what is known of the model by now.
        refusals: tell a bad file from bad rows.
    """

    def __init__(
        self,
        connection: Connection,
        signature: ModelSignature,
        encoder: RowEncoder,
        ground: Ground,
        *,
        probs: Probs,
        max_batch_bytes: int,
    ) -> None:
        self._client = client = connection.client
        self._encoder = encoder
        self._offload = ground.offload
        self._metrics = ground.metrics
        self._max_batch_bytes = max_batch_bytes
        # Encoded bodies are the largest things in memory: no more of them than can soon be sent,
        # and a few for the requests that wait to be tried again.
        self._encoded = Gate(lambda: max(_MIN_ENCODED, 2 * client.limit), _ENCODED_BYTES)
        self.refusals = Refusals()
        self.decoding = Decoding(connection.protocol, signature, probs)
        self._learning = asyncio.Lock()

    async def score(self, chunk: Chunk) -> ScoredBatch:
        """Decide every row of a chunk. Only what stops the whole job is raised."""
        async with self._learning:
            if self.decoding.in_order():
                return await self._score(chunk)
        return await self._score(chunk)

    async def _score(self, chunk: Chunk) -> ScoredBatch:
        rows = chunk.rows
        bounds, size = await self._encoding(
            rows.columns.nbytes, runs_on_the_wire, rows, self._encoder, self._max_batch_bytes
        )
        await self._encoded.enter(size)
        # Cut when its turn comes, to the size that has proved good by then.
        if len(bounds) == 1 and self._next_rows(rows.num_rows) == rows.num_rows:
            try:
                return _join(chunk, [0], [await self._score_run(rows, size)])
            finally:
                self._encoded.leave(size)
        return await self._score_parts(chunk, bounds, size)

    async def _score_parts(
        self, chunk: Chunk, bounds: Sequence[tuple[int, int]], size: int
    ) -> ScoredBatch:
        """Score a chunk in several requests; the place for the first is taken already."""
        starts: list[int] = []
        tasks: list[asyncio.Task[_Scored]] = []
        try:
            async with asyncio.TaskGroup() as group:
                for start, stop in bounds:
                    at = start
                    while at < stop:
                        if tasks:
                            await self._encoded.enter(size)
                        end = at + self._next_rows(stop - at)
                        run = chunk.rows.slice(at, end)
                        task = group.create_task(self._score_run(run, size))
                        task.add_done_callback(lambda _: self._encoded.leave(size))
                        starts.append(at)
                        tasks.append(task)
                        at = end
                        if self.decoding.in_order():
                            await asyncio.wait([task])
        except BaseExceptionGroup as errors:
            raise first_error(errors) from None
        return _join(chunk, starts, [task.result() for task in tasks])

    def _next_rows(self, left: int) -> int:
        return equal_share(left, self._client.max_rows)

    async def _score_run(self, rows: RowBatch, size: int) -> _Scored:
        """Score rows that are about one request: encoded, they may turn out to be several."""
        encoded = await self._encoding(size, self._encoder.encode, rows)
        total = len(encoded.positions)
        if total == 0:
            self._metrics.nonfinite_as_null += encoded.nonfinite
            return _Scored(encoded.positions, None, encoded.failures)
        bounds = slices(total, encoded.size, self._max_batch_bytes)
        requests = Requests(encoded, self._client, self.decoding, self._offload)

        async def decide_run(run: tuple[int, int]) -> list[Decided[Predictions]]:
            return await decide(requests, *run, self.refusals)

        decided = await self.decoding.run_all(decide_run, bounds)
        # Only now is it sure in which form they went.
        self._metrics.nonfinite_as_null += encoded.nonfinite
        return _merge(encoded, [part for run in decided for part in run])

    async def _encoding(
        self, size: int, function: Callable[P, T], *args: P.args, **kwargs: P.kwargs
    ) -> T:
        """Run a part of the encoding of so many bytes."""
        if self._encoder.blocks:
            return await self._offload(function, *args, **kwargs)
        return await by_size(self._offload, size, function, *args, **kwargs)


def _merge(encoded: EncodedRows, decided: Sequence[Decided[Predictions]]) -> _Scored:
    """Put what was decided about the slices of a run together."""
    failures = dict(encoded.failures)
    positions: list[npt.NDArray[np.int64]] = []
    predictions: list[Predictions] = []
    for part in decided:
        run = encoded.positions[part.start : part.stop]
        if isinstance(part.result, RowFailure):
            failures.update(dict.fromkeys(run.tolist(), part.result))
        else:
            positions.append(run)
            predictions.append(part.result)
    return _Scored(_concatenate(positions), _concatenate_columns(predictions), failures)


def _join(chunk: Chunk, starts: Sequence[int], scored: Sequence[_Scored]) -> ScoredBatch:
    """Put the runs of a chunk together: every row gets a prediction or a reason."""
    failures: dict[int, RowFailure] = {}
    for start, run in zip(starts, scored, strict=True):
        failures.update({start + row: failure for row, failure in run.failures.items()})
    num_rows = chunk.rows.num_rows
    positions = _concatenate(
        [run.positions + start for start, run in zip(starts, scored, strict=True)]
    )
    if len(positions) + len(failures) != num_rows:
        raise AssertionError(f"{num_rows} rows, but {len(positions)} + {len(failures)} decided")
    columns = _concatenate_columns([run.predictions for run in scored if run.predictions])
    if columns is not None:
        columns = tuple(scatter(column, positions, num_rows) for column in columns)
    return ScoredBatch(chunk, columns, failures)


def _concatenate(positions: Sequence[npt.NDArray[np.int64]]) -> npt.NDArray[np.int64]:
    return np.concatenate(positions) if positions else np.empty(0, np.int64)


def _concatenate_columns(parts: Sequence[Predictions]) -> Predictions | None:
    if len(parts) <= 1:
        return parts[0] if parts else None
    for arrays in zip(*parts, strict=True):
        if sum(array.nbytes for array in arrays) >= _MAX_COLUMN_BYTES:
            raise UsageError(
                "the predictions of one chunk take more than 2 GiB; lower --batch-size"
            )
    return tuple(pa.concat_arrays(arrays) for arrays in zip(*parts, strict=True))


def scatter(array: pa.Array, positions: np.ndarray, num_rows: int) -> pa.Array:
    """Put the n-th value at row ``positions[n]`` of ``num_rows``; rows without one are null."""
    if len(positions) == num_rows:
        return array
    indices = np.zeros(num_rows, np.int64)
    absent = np.ones(num_rows, bool)
    indices[positions] = np.arange(len(positions))
    absent[positions] = False
    taken = pa.array(indices, mask=absent)
    if isinstance(array.type, pa.BaseExtensionType):
        return pa.ExtensionArray.from_storage(array.type, array.storage.take(taken))
    return array.take(taken)
