"""From a chunk to its predictions: encode, cut into requests, send, decode, put together."""

from __future__ import annotations

import asyncio
import math
from dataclasses import dataclass
from itertools import pairwise
from typing import TYPE_CHECKING, Any, ParamSpec, TypeVar

import numpy as np
import numpy.typing as npt
import pyarrow as pa

from batchscore.batches import Chunk, RowBatch, RowFailure, ScoredBatch
from batchscore.client.gate import Gate
from batchscore.errors import DecodeError, RowsRefusedError, UsageError
from batchscore.isolate import Decided, Refusals, decide
from batchscore.layout import scatter
from batchscore.pipeline import first_error, gather
from batchscore.protocols.base import FallsBack

if TYPE_CHECKING:
    from collections.abc import Callable, Coroutine, Mapping, Sequence

    from batchscore.client.client import Client
    from batchscore.config import Probs
    from batchscore.errors import DeploymentAwayError
    from batchscore.metrics import RunMetrics
    from batchscore.offload import Offload
    from batchscore.protocols.base import (
        AnswerDecoder,
        Body,
        EncodedRows,
        Response,
        RowEncoder,
        WireProtocol,
    )
    from batchscore.schema import ModelSignature

Predictions = tuple[pa.Array, ...]
# What 32-bit offsets can reach in one array of pictures.
_MAX_COLUMN_BYTES = 2**31 - 1
P = ParamSpec("P")
T = TypeVar("T")
A = TypeVar("A")
R = TypeVar("R")

_MIN_ENCODED = 4
_ENCODED_BYTES = 256 * 2**20
# What takes less time than the switches to a thread and back, or little more: one that holds
# the interpreter's lock would stop the event loop all the same.
_INLINE_BYTES = 2**20


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
        self.refusals = Refusals()
        self.decoder: AnswerDecoder | None = None
        if protocol.is_complete(signature):
            self.decoder = protocol.decoder(signature, probs=probs)

    async def score(self, chunk: Chunk) -> ScoredBatch:
        """Decide every row of a chunk. Only what stops the whole job is raised."""
        rows = chunk.rows
        bounds, size = await self._encoding(rows.columns.nbytes, self._runs, rows)
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
                        if self.decoder is None:
                            await asyncio.wait([task])
        except BaseExceptionGroup as errors:
            raise first_error(errors) from None
        return _join(chunk, starts, [task.result() for task in tasks])

    def _next_rows(self, left: int) -> int:
        """Rows of the next request, when so many are left: an equal share of them."""
        most = self._client.max_rows or left
        return math.ceil(left / math.ceil(left / most)) if left else 0

    async def _score_run(self, rows: RowBatch, size: int) -> _Scored:
        """Score rows that are about one request: encoded, they may turn out to be several."""
        encoded = await self._encoding(size, self._encoder.encode, rows)
        total = len(encoded.positions)
        if total == 0:
            self._metrics.nonfinite_as_null += encoded.nonfinite
            return _Scored(encoded.positions, None, encoded.failures)
        bounds = slices(total, encoded.size, self._max_batch_bytes)
        sender = _Slices(
            encoded,
            self._client,
            self._sized,
            self._read,
            self._run_all,
            in_order=lambda: self.decoder is None,
        )

        async def decide_run(run: tuple[int, int]) -> list[Decided[Predictions]]:
            return await decide(sender, *run, self.refusals)

        decided = await self._run_all(decide_run, bounds)
        # Only now is it sure in which form they went.
        self._metrics.nonfinite_as_null += encoded.nonfinite
        return _merge(encoded, [part for run in decided for part in run])

    def _runs(self, rows: RowBatch) -> tuple[list[tuple[int, int]], int]:
        """Where rows are cut because of their bytes, and how many bytes a run has at most."""

        def wire_bytes(start: int, stop: int) -> int:
            return self._encoder.wire_bytes(rows.slice(start, stop))

        size = wire_bytes(0, rows.num_rows)
        if size <= self._max_batch_bytes:
            return [(0, rows.num_rows)], size
        return slices(rows.num_rows, wire_bytes, self._max_batch_bytes), self._max_batch_bytes

    async def _encoding(
        self, size: int, function: Callable[P, T], *args: P.args, **kwargs: P.kwargs
    ) -> T:
        """Run a part of the encoding of so many bytes."""
        if self._encoder.blocks:
            return await self._offload(function, *args, **kwargs)
        return await self._sized(size, function, *args, **kwargs)

    async def _sized(
        self, size: int, function: Callable[P, T], *args: P.args, **kwargs: P.kwargs
    ) -> T:
        """Run work on so many bytes, in a thread if that is many."""
        if size > _INLINE_BYTES:
            return await self._offload(function, *args, **kwargs)
        return function(*args, **kwargs)

    def _read(self, response: Response, num_rows: int) -> Predictions:
        if self.decoder is not None:
            return self.decoder.decode(response, num_rows)
        # Alone in flight, so no other answer can be read meanwhile.
        learned = self._protocol.learn(self.signature, response, num_rows)
        if not self._protocol.is_complete(learned):
            raise DecodeError(
                "the first answer is null throughout, which does not show its type or classes"
            )
        decoder = self._protocol.decoder(learned, probs=self._probs)
        predictions = decoder.decode(response, num_rows)
        self.signature, self.decoder = learned, decoder
        return predictions

    async def _run_all(
        self, score: Callable[[A], Coroutine[None, None, R]], parts: Sequence[A]
    ) -> list[R]:
        """The results of all parts: one after another while learning, else side by side."""
        results: list[R] = []
        while len(results) < len(parts) and (self.decoder is None or len(parts) == 1):
            results.append(await score(parts[len(results)]))
        if len(results) < len(parts):
            results += await gather([score(part) for part in parts[len(results) :]])
        return results


class _Slices:
    """Runs of one encoded batch, for isolation to send."""

    def __init__(
        self,
        encoded: EncodedRows,
        client: Client,
        sized: Callable[..., Coroutine[None, None, Any]],
        read: Callable[[Response, int], Predictions],
        run_all: Callable[..., Any],
        in_order: Callable[[], bool],
    ) -> None:
        self._encoded = encoded
        self._client = client
        self._sized = sized
        self._read = read
        self.run_all = run_all
        self.alone = client.alone
        self.in_order = in_order

    async def send(self, start: int, stop: int, *, alone: bool) -> Predictions:
        """See ``Sender``."""
        body = await self._body(start, stop)

        async def read(response: Response) -> Predictions:
            found: Predictions = await self._sized(
                len(response.body), self._read, response, stop - start
            )
            return found

        try:
            return await self._client.score(body, stop - start, read, alone=alone)
        except RowsRefusedError as refused:
            encoded = self._encoded
            if isinstance(encoded, FallsBack) and encoded.fall_back(body, refused.last):
                return await self.send(start, stop, alone=alone)
            raise

    async def ride_out(self, away: DeploymentAwayError, row: int | None) -> None:
        """See ``Sender``."""
        body = None
        if row is not None:
            body = await self._body(row, row + 1)
        await self._client.ride_out(away, body)

    async def _body(self, start: int, stop: int) -> Body:
        if stop - start == len(self._encoded.positions):
            return self._encoded.body(start, stop)
        size = self._encoded.size(start, stop)
        body: Body = await self._sized(size, self._encoded.body, start, stop)
        return body


def slices(length: int, size: Callable[[int, int], int], max_bytes: int) -> list[tuple[int, int]]:
    """Cut rows into equal runs of at most ``max_bytes``; where rows differ much, unequal ones.

    One row is never cut, however large it is.
    """
    if length == 0:
        return [(0, 0)]
    count = min(length, math.ceil(size(0, length) / max_bytes))
    bounds = [length * index // count for index in range(count + 1)]
    runs = list(pairwise(bounds))
    if count == 1:
        return runs
    return [part for run in runs for part in _halved(run, size, max_bytes)]


def _halved(
    run: tuple[int, int], size: Callable[[int, int], int], max_bytes: int
) -> list[tuple[int, int]]:
    start, stop = run
    if stop - start <= 1 or size(start, stop) <= max_bytes:
        return [run]
    middle = (start + stop) // 2
    halves = [(start, middle), (middle, stop)]
    return [part for half in halves for part in _halved(half, size, max_bytes)]


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
