"""From a chunk to its predictions: encode, cut into requests, send, decode, put together."""

from __future__ import annotations

import asyncio
import math
from dataclasses import dataclass
from itertools import pairwise
from typing import TYPE_CHECKING, TypeVar

import numpy as np
import numpy.typing as npt
import pyarrow as pa

from batchscore.batches import Chunk, RowBatch, RowFailure, ScoredBatch
from batchscore.client.gate import Gate
from batchscore.errors import AttemptError, DecodeError
from batchscore.layout import scatter
from batchscore.pipeline import first_error, gather

if TYPE_CHECKING:
    from collections.abc import Callable, Coroutine, Mapping, Sequence

    from batchscore.client.client import Client
    from batchscore.config import Probs
    from batchscore.metrics import RunMetrics
    from batchscore.offload import Offload
    from batchscore.protocols.base import (
        AnswerDecoder,
        EncodedRows,
        Response,
        RowEncoder,
        WireProtocol,
    )
    from batchscore.schema import ModelSignature

Predictions = tuple[pa.Array, ...]
A = TypeVar("A")
R = TypeVar("R")

_MIN_ENCODED = 4
_ENCODED_BYTES = 256 * 2**20


@dataclass(frozen=True, slots=True)
class _Scored:
    """A run of rows that is decided: predictions for the scored ones, reasons for the others."""

    positions: npt.NDArray[np.int64]
    predictions: Predictions | None
    failures: Mapping[int, RowFailure]


class Predictor:
    """Scores chunks over one client.

    Until the signature is complete (the classes of a category may be known only from an answer)
    requests go out one at a time, in input order; nothing is sent twice to learn them.
    """

    def __init__(
        self,
        *,
        protocol: WireProtocol,
        signature: ModelSignature,
        encoder: RowEncoder,
        client: Client,
        offload: Offload,
        metrics: RunMetrics,
        probs: Probs,
        max_batch_bytes: int,
    ) -> None:
        self._protocol = protocol
        self.signature = signature
        self._encoder = encoder
        self._client = client
        self._offload = offload
        self._metrics = metrics
        self._probs = probs
        self._max_batch_bytes = max_batch_bytes
        # Encoded bodies are the largest things in memory: no more of them than can soon be sent,
        # and a few for the requests that wait to be tried again.
        self._encoded = Gate(lambda: max(_MIN_ENCODED, 2 * client.limit), _ENCODED_BYTES)
        self.decoder: AnswerDecoder | None = None
        if protocol.is_complete(signature):
            self.decoder = protocol.decoder(signature, probs=probs)

    async def score(self, chunk: Chunk) -> ScoredBatch:
        """Decide every row of a chunk. Only what stops the whole job is raised."""
        rows = chunk.rows
        size = await self._offload(self._encoder.wire_bytes, rows)
        by_bytes = math.ceil(rows.num_rows / max(1, math.ceil(size / self._max_batch_bytes)))
        run_bytes = min(size, self._max_batch_bytes)
        starts: list[int] = []
        tasks: list[asyncio.Task[_Scored]] = []
        try:
            async with asyncio.TaskGroup() as group:
                start = 0
                while start < rows.num_rows or not tasks:
                    # Cut when its turn comes, to the size that has proved good by then.
                    await self._encoded.enter(run_bytes)
                    stop = start + self._next_rows(rows.num_rows - start, by_bytes)
                    task = group.create_task(self._score_run(rows.slice(start, stop)))
                    task.add_done_callback(lambda _: self._encoded.leave(run_bytes))
                    starts.append(start)
                    tasks.append(task)
                    start = stop
                    if self.decoder is None:
                        await asyncio.wait([task])
        except BaseExceptionGroup as errors:
            raise first_error(errors) from None
        scored = [task.result() for task in tasks]
        return _join(chunk, starts, scored)

    def _next_rows(self, rows: int, by_bytes: int) -> int:
        """Rows of the next request, when so many are left: an equal share of them."""
        most = min(by_bytes, self._client.max_rows or by_bytes)
        return math.ceil(rows / math.ceil(rows / most)) if rows else 0

    async def _score_run(self, rows: RowBatch) -> _Scored:
        """Score rows that are about one request: encoded, they may turn out to be several."""
        encoded = await self._offload(self._encoder.encode, rows)
        self._metrics.nonfinite_as_null += encoded.nonfinite
        total = len(encoded.positions)
        if total == 0:
            return _Scored(encoded.positions, None, encoded.failures)
        bounds = slices(total, math.ceil(encoded.size(0, total) / self._max_batch_bytes))

        async def send(bound: tuple[int, int]) -> Predictions | RowFailure:
            return await self._request(encoded, *bound)

        answers = await self._all(send, bounds)
        return _merge(encoded, bounds, answers)

    async def _request(
        self, encoded: EncodedRows, start: int, stop: int
    ) -> Predictions | RowFailure:
        """Send a slice of encoded rows; a batch that fails in the end fails as a whole."""
        body = await self._offload(encoded.body, start, stop)

        async def read(response: Response) -> Predictions:
            return await self._offload(self._read, response, stop - start)

        try:
            return await self._client.score(body, stop - start, read)
        except AttemptError as error:
            return RowFailure(error.code, str(error))

    def _read(self, response: Response, num_rows: int) -> Predictions:
        if self.decoder is not None:
            return self.decoder.decode(response, num_rows)
        # Alone in flight, so no other answer can be read meanwhile.
        learned = self._protocol.learn(self.signature, response, num_rows)
        if not self._protocol.is_complete(learned):
            raise DecodeError("the first answer shows no classes, only null")
        decoder = self._protocol.decoder(learned, probs=self._probs)
        predictions = decoder.decode(response, num_rows)
        self.signature, self.decoder = learned, decoder
        return predictions

    async def _all(
        self, score: Callable[[A], Coroutine[None, None, R]], parts: Sequence[A]
    ) -> list[R]:
        """The results of all parts: one after another while learning, else side by side."""
        results: list[R] = []
        while len(results) < len(parts) and (self.decoder is None or len(parts) == 1):
            results.append(await score(parts[len(results)]))
        if len(results) < len(parts):
            results += await gather([score(part) for part in parts[len(results) :]])
        return results


def slices(length: int, count: int) -> list[tuple[int, int]]:
    """Cut ``length`` rows into about ``count`` equal runs, none of them empty."""
    count = max(1, min(count, length))
    bounds = [length * index // count for index in range(count + 1)]
    return list(pairwise(bounds))


def _merge(
    encoded: EncodedRows,
    bounds: Sequence[tuple[int, int]],
    answers: Sequence[Predictions | RowFailure],
) -> _Scored:
    """Put the answers to the slices of a run together."""
    failures = dict(encoded.failures)
    positions: list[npt.NDArray[np.int64]] = []
    predictions: list[Predictions] = []
    for (start, stop), answer in zip(bounds, answers, strict=True):
        run = encoded.positions[start:stop]
        if isinstance(answer, RowFailure):
            failures.update(dict.fromkeys(run.tolist(), answer))
        else:
            positions.append(run)
            predictions.append(answer)
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
    return tuple(pa.concat_arrays(arrays) for arrays in zip(*parts, strict=True))
