"""A deployment as a Python object: rows in, predictions out."""

from __future__ import annotations

import asyncio
import threading
from collections import deque
from collections.abc import Mapping
from contextlib import AsyncExitStack
from dataclasses import replace
from itertools import islice
from typing import TYPE_CHECKING, Any

import pyarrow as pa

from batchscore.batches import Chunk, RowBatch
from batchscore.codecs.objects import column_from_objects, objects_from_columns
from batchscore.config import ClientConfig, configured
from batchscore.errors import InputError, PredictionError, UsageError
from batchscore.metrics import RunMetrics
from batchscore.runtime import Runtime
from batchscore.scoring.connection import Limits, connect, with_protocol
from batchscore.scoring.declared import by_columns, inputs_of_objects
from batchscore.scoring.predictor import Predictor

if TYPE_CHECKING:
    from collections.abc import (
        AsyncIterator,
        Callable,
        Coroutine,
        Iterable,
        Iterator,
        Sequence,
    )
    from typing import Self

    from batchscore.protocols.base import EncodedRows, RowEncoder, WireProtocol
    from batchscore.schema import FeatureSpec, ModelSignature
    from batchscore.scoring.decoding import Predictions

Row = dict[str, Any]

_MAX_BATCH_BYTES = 8 * 2**20


class AsyncDeployment:
    """A deployment for async code; an async context manager.

    Values go in and come out as Python objects: numbers, strings, PIL images, NumPy arrays; a
    category comes out as a mapping from class to probability. None is a missing value.
    """

    def __init__(
        self,
        url: str,
        token: str | Callable[[], str | None] | None = None,
        **options: Any,
    ) -> None:
        """Remember where the deployment is; nothing is sent before it is entered.

        Args:
            url: the address, ``http(s)://HOST/deployment/ID/forward``.
            token: the token, or a function that gives it; else ``BATCHSCORE_TOKEN``.
            **options: ``batch_size`` (rows in a request, 128), ``concurrency`` (requests in
                flight, 8), ``max_attempts`` (5), and what else the command line has for an
                endpoint: ``protocol``, ``features``, ``schema``, ``timeout``, ``header``, ...

        Raises:
            UsageError: an option is wrong.
        """
        self._config = configured(ClientConfig, {"url": url, "token": token, **options})
        self._opened: Predictor | None = None
        self._stack = AsyncExitStack()

    async def __aenter__(self) -> Self:
        async with AsyncExitStack() as stack:
            ground = stack.enter_context(Runtime().ground(RunMetrics()))
            config = await with_protocol(self._config, ground)
            limits = Limits(config.concurrency, config.max_attempts)
            connection = await stack.enter_async_context(connect(config, ground, limits))
            signature = await connection.client.signature()
            self._encoder = _EncoderBySchema(connection.protocol, signature)
            self._opened = Predictor(
                connection,
                signature,
                self._encoder,
                ground,
                probs="struct",
                max_batch_bytes=_MAX_BATCH_BYTES,
            )
            self._offload = ground.offload
            self._stack = stack.pop_all()
        return self

    async def __aexit__(self, *_: object) -> None:
        self._opened = None
        await self._stack.aclose()

    @property
    def _predictor(self) -> Predictor:
        if self._opened is None:
            raise UsageError("the deployment is not open; use it inside its with block")
        return self._opened

    @property
    def feature_specs_in(self) -> list[FeatureSpec]:
        """The features that the deployment takes; if it tells none, those that rows have shown."""
        _ = self._predictor  # which tells whether it is open
        return list(self._encoder.inputs)

    @property
    def feature_specs_out(self) -> list[FeatureSpec]:
        """The features that the deployment gives; none until it has, if it does not tell."""
        return list(self._predictor.decoding.signature.outputs)

    async def predict(self, **row: Any) -> Row:
        """The prediction for one row, its features given by name."""
        return (await self._predict_batch([row]))[0]

    async def predict_many(self, rows: Iterable[Mapping[str, Any]]) -> list[Row]:
        """The predictions for many rows, in their order.

        Raises:
            InputError: a row lacks a feature, or a value is of a type that cannot serve it.
            PredictionError: the deployment refused rows, or did not answer in the end.
        """
        return [prediction async for prediction in self.predict_lazy(rows)]

    async def predict_lazy(self, rows: Iterable[Mapping[str, Any]]) -> AsyncIterator[Row]:
        """The predictions one by one, in order, while a bounded number of rows is read ahead."""
        batches = self._batches(rows)
        pending: deque[asyncio.Task[list[Row]]] = deque()
        try:
            while True:
                for start, batch in islice(batches, self._config.concurrency - len(pending)):
                    pending.append(asyncio.create_task(self._predict_batch(batch, start)))
                if not pending:
                    return
                for prediction in await pending.popleft():
                    yield prediction
        finally:
            for task in pending:
                task.cancel()
            await asyncio.gather(*pending, return_exceptions=True)

    def _batches(
        self, rows: Iterable[Mapping[str, Any]]
    ) -> Iterator[tuple[int, list[Mapping[str, Any]]]]:
        """The rows of each request, and how many stand before them."""
        iterator, start = iter(rows), 0
        while batch := list(islice(iterator, self._config.batch_size)):
            yield start, batch
            start += len(batch)

    async def _predict_batch(self, rows: Sequence[Mapping[str, Any]], start: int = 0) -> list[Row]:
        predictor = self._predictor
        self._encoder.learn(rows, self._config)
        columns = await self._offload(_columns, rows, start, self._encoder.inputs)
        scored = await predictor.score(Chunk(0, RowBatch(columns)))
        if scored.failures or scored.predictions is None:
            raise PredictionError({start + row: why for row, why in scored.failures.items()})
        return await self._offload(self._rows, scored.predictions)

    def _rows(self, predictions: Predictions) -> list[Row]:
        """The prediction columns as a dict a row."""
        decoding = self._predictor.decoding
        arrays = dict(zip(decoding.schema.names, predictions, strict=True))
        outputs = {
            spec.name: objects_from_columns(
                spec, [arrays[name] for name in (spec.name, f"{spec.name}_probs") if name in arrays]
            )
            for spec in decoding.signature.outputs
        }
        return [
            dict(zip(outputs, values, strict=True))
            for values in zip(*outputs.values(), strict=True)
        ]


class Deployment:
    """A deployment for ordinary code; a context manager, connected as soon as it is made.

    Requests run on an event loop in a thread of its own, so it works inside notebooks too.
    """

    def __init__(
        self,
        url: str,
        token: str | Callable[[], str | None] | None = None,
        **options: Any,
    ) -> None:
        """Connect and read the specification; the options are those of ``AsyncDeployment``.

        Raises:
            UsageError: an option is wrong.
            UnreachableError: nobody answers there.
            RefusedError: the deployment refuses: wrong token, disabled, not there.
        """
        self._deployment = AsyncDeployment(url, token, **options)
        self._loop = asyncio.new_event_loop()
        self._thread = threading.Thread(
            target=self._loop.run_forever, name="batchscore-deployment", daemon=True
        )
        self._thread.start()
        try:
            self._run(self._deployment.__aenter__())
        except BaseException:
            self._stop()
            raise

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def close(self) -> None:
        """Close the connections; a second call does nothing."""
        if not self._loop.is_closed():
            self._run(self._deployment.__aexit__(None, None, None))
            self._stop()

    @property
    def feature_specs_in(self) -> list[FeatureSpec]:
        """The features that the deployment takes."""
        return self._deployment.feature_specs_in

    @property
    def feature_specs_out(self) -> list[FeatureSpec]:
        """The features that the deployment gives."""
        return self._deployment.feature_specs_out

    def predict(self, **row: Any) -> Row:
        """See ``AsyncDeployment.predict``."""
        prediction: Row = self._run(self._deployment.predict(**row))
        return prediction

    def predict_many(self, rows: Iterable[Mapping[str, Any]]) -> list[Row]:
        """See ``AsyncDeployment.predict_many``."""
        return list(self.predict_lazy(rows))

    def predict_lazy(self, rows: Iterable[Mapping[str, Any]]) -> Iterator[Row]:
        """See ``AsyncDeployment.predict_lazy``; rows are read in the caller's thread."""
        inner = self._deployment
        batches = inner._batches(rows)  # noqa: SLF001
        pending: deque[Any] = deque()
        try:
            while True:
                for start, batch in islice(batches, inner._config.concurrency - len(pending)):  # noqa: SLF001
                    pending.append(self._submit(inner._predict_batch(batch, start)))  # noqa: SLF001
                if not pending:
                    return
                yield from pending.popleft().result()
        finally:
            for future in pending:
                future.cancel()

    def _submit(self, work: Coroutine[Any, Any, Any]) -> Any:
        if self._loop.is_closed():
            work.close()
            raise UsageError("the deployment is closed; make another")
        return asyncio.run_coroutine_threadsafe(work, self._loop)

    def _run(self, work: Coroutine[Any, Any, Any]) -> Any:
        return self._submit(work).result()

    def _stop(self) -> None:
        self._loop.call_soon_threadsafe(self._loop.stop)
        self._thread.join()
        self._loop.close()


class _EncoderBySchema:
    """A row encoder for rows whose column types may differ from call to call."""

    def __init__(self, protocol: WireProtocol, signature: ModelSignature) -> None:
        self._protocol = protocol
        self._signature = signature
        self._encoders: dict[pa.Schema, RowEncoder] = {}

    @property
    def blocks(self) -> bool:
        """See ``RowEncoder``."""
        return any(spec.kind == "image" or spec.datatype == "bytes" for spec in self.inputs)

    @property
    def inputs(self) -> tuple[FeatureSpec, ...]:
        """The features, as far as they are known."""
        return self._signature.inputs

    def learn(self, rows: Sequence[Mapping[str, Any]], config: ClientConfig) -> None:
        """Where the deployment does not tell its features, the first rows show them."""
        if not self.inputs:
            self._signature = replace(self._signature, inputs=inputs_of_objects(config, rows))

    def encode(self, rows: RowBatch) -> EncodedRows:
        """See ``RowEncoder.encode``."""
        return self._encoder(rows).encode(rows)

    def wire_bytes(self, rows: RowBatch) -> int:
        """See ``RowEncoder.wire_bytes``."""
        return self._encoder(rows).wire_bytes(rows)

    def _encoder(self, rows: RowBatch) -> RowEncoder:
        schema = rows.columns.schema
        if schema not in self._encoders:
            signature = replace(self._signature, inputs=by_columns(self.inputs, schema))
            self._encoders[schema] = self._protocol.encoder(signature, list(schema), None)
        return self._encoders[schema]


def _columns(
    rows: Sequence[Mapping[str, Any]], start: int, specs: Iterable[FeatureSpec]
) -> pa.RecordBatch:
    for number, row in enumerate(rows, start):
        if not isinstance(row, Mapping):
            raise InputError(
                f"row {number} is no mapping of features to values but {type(row).__name__}"
                "; give {'feature': value, ...}"
            )
    columns = {}
    for spec in specs:
        try:
            values = [row[spec.name] for row in rows]
        except KeyError:
            lacking = next(n for n, row in enumerate(rows, start) if spec.name not in row)
            raise InputError(f"row {lacking} has no feature {spec.name!r}") from None
        columns[spec.name] = column_from_objects(spec, values)
    return pa.RecordBatch.from_pydict(columns)
