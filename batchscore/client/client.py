"""The client: every request of a run goes through here, with its token, slot and retries."""

from __future__ import annotations

import asyncio
import base64
from collections.abc import Awaitable, Callable, Mapping
from typing import TYPE_CHECKING, TypeVar

from tenacity import AsyncRetrying, RetryCallState, retry_if_exception, stop_after_attempt

from batchscore.client.controller import Outcome, Result, RetryBudget
from batchscore.client.retry import RetryPolicy, parse_retry_after
from batchscore.client.transport import monotonic_s
from batchscore.errors import (
    AttemptError,
    AttemptTimeoutError,
    ConnectionFailedError,
    HTTPStatusError,
    RefusedError,
    UnreachableError,
)
from batchscore.protocols.base import Request, Response, Treatment

if TYPE_CHECKING:
    from batchscore.client.controller import SliceSize
    from batchscore.client.limiter import Limiter
    from batchscore.client.transport import Transport
    from batchscore.endpoint import Endpoint
    from batchscore.metrics import RunMetrics
    from batchscore.offload import Offload
    from batchscore.protocols.base import WireProtocol
    from batchscore.schema import ModelSignature

T = TypeVar("T")
Send = Callable[[Request, Mapping[str, str]], Awaitable[Response]]

# Before the first answer ever, an unreachable host is more likely a typing error than an outage.
_FIRST_ANSWER_WITHIN_S = 8.0


class Client:
    """Sends requests until they are answered well, refused, or out of attempts.

    A worker holds a slot of the limiter only while its request is under way, never while it
    backs off.
    """

    def __init__(
        self,
        *,
        endpoint: Endpoint,
        protocol: WireProtocol,
        transport: Transport,
        limiter: Limiter,
        policy: RetryPolicy,
        read_token: Callable[[], str | None],
        metrics: RunMetrics,
        offload: Offload,
        slice_size: SliceSize | None = None,
        on_retry: Callable[[str, int, float], None] = lambda _code, _attempt, _wait: None,
    ) -> None:
        self._endpoint = endpoint
        self._protocol = protocol
        self._transport = transport
        self._limiter = limiter
        self._policy = policy
        self._slice_size = slice_size
        self._budget = RetryBudget()
        self._metrics = metrics
        self._metrics.limit = limiter.limit
        self._offload = offload
        self._on_retry = on_retry
        self._token = _Token(read_token, offload)

    @property
    def limit(self) -> int:
        """How many requests may be in flight now."""
        return self._limiter.limit

    @property
    def max_rows(self) -> int | None:
        """How many rows the next request should have at most; None: as many as there are."""
        return self._slice_size.rows if self._slice_size else None

    async def signature(self) -> ModelSignature:
        """The deployment's signature.

        Raises:
            UnreachableError: nobody answers at that host within a few seconds.
            RefusedError: the deployment refuses.
            MetadataError: the answer is no specification.
        """
        request = self._protocol.metadata_request(self._endpoint.url)
        deadline = monotonic_s() + _FIRST_ANSWER_WITHIN_S

        def may_retry(error: BaseException) -> bool:
            return self._is_retried(error) and monotonic_s() < deadline

        async def attempt() -> ModelSignature:
            return self._protocol.parse_metadata(await self._try(request, self._transport.send))

        try:
            return await self._retrying(may_retry, self._backoff_s)(attempt)
        except ConnectionFailedError as error:
            raise UnreachableError(
                f"cannot reach {self._endpoint.host_and_port} ({error}): is the deployment "
                "running, and is --url right?"
            ) from error
        except AttemptError as error:
            raise UnreachableError(
                f"{self._endpoint.shown} gives no specification: {error.code}: {error}"
            ) from error

    async def score(self, body: bytes, rows: int, read: Callable[[Response], Awaitable[T]]) -> T:
        """Send encoded rows and read the answer; an answer that cannot be read is retried too.

        Raises:
            AttemptError: the last try's error, where attempts are used up or the rows refused.
            RefusedError: the same would happen to every batch.
        """
        request = self._protocol.score_request(self._endpoint.url, body)

        async def attempt() -> T:
            response = await self._in_slot(request, rows)
            return await read(response)

        self._budget.on_request()
        return await self._retrying(self._is_retried, self._budgeted_s)(attempt)

    async def _in_slot(self, request: Request, rows: int) -> Response:
        """One try in a slot of the limiter, which learns from what became of it."""
        ticket = await self._limiter.acquire(rows)
        started = monotonic_s()
        result, asked_to_wait = Result.OTHER, False
        try:
            response = await self._try(request, self._measured)
            result = Result.OK
            return response
        except AttemptError as error:
            result, asked_to_wait = _result(error), bool(error.retry_after_s)
            raise
        finally:
            outcome = Outcome(ticket, result, monotonic_s() - started, rows, asked_to_wait)
            self._limiter.release(outcome)
            self._metrics.limit = self._limiter.limit
            if self._slice_size:
                self._slice_size.on_outcome(outcome)

    def _retrying(
        self,
        may_retry: Callable[[BaseException], bool],
        wait_s: Callable[[RetryCallState], float],
    ) -> AsyncRetrying:
        return AsyncRetrying(
            sleep=asyncio.sleep,
            stop=stop_after_attempt(self._policy.max_attempts),
            wait=wait_s,
            retry=retry_if_exception(may_retry),
            before_sleep=self._count_retry,
            reraise=True,
        )

    def _is_retried(self, error: BaseException) -> bool:
        return isinstance(error, AttemptError) and self._policy.treatment(error) is Treatment.RETRY

    def _backoff_s(self, state: RetryCallState) -> float:
        error = state.outcome.exception() if state.outcome else None
        return self._policy.wait_s(state.attempt_number, error)

    def _budgeted_s(self, state: RetryCallState) -> float:
        if state.attempt_number >= self._policy.max_attempts:
            return 0.0  # asked for all the same, but there is no further try
        return max(self._backoff_s(state), self._budget.reserve(monotonic_s()))

    def _count_retry(self, state: RetryCallState) -> None:
        error = state.outcome.exception() if state.outcome else None
        if isinstance(error, AttemptError):
            self._metrics.retries[error.code] += 1
            self._on_retry(error.code, state.attempt_number, state.upcoming_sleep)

    async def _measured(self, request: Request, headers: Mapping[str, str]) -> Response:
        """One try for predictions, counted and timed."""
        self._metrics.requests += 1
        self._metrics.in_flight += 1
        self._metrics.bytes_sent += len(request.body or b"")
        started = monotonic_s()
        try:
            response = await self._transport.send(request, headers)
        finally:
            self._metrics.in_flight -= 1
        self._metrics.latency.record(monotonic_s() - started)
        self._metrics.bytes_received += len(response.body)
        return response

    async def _try(self, request: Request, send: Send) -> Response:
        """One try; a refused token is read again once for all workers, and costs no attempt."""
        token = await self._token.current()
        response = await send(request, self._authorization(token))
        if response.status == 401:
            fresh = await self._token.renewed(token)
            if fresh != token:
                response = await send(request, self._authorization(fresh))
        if 200 <= response.status < 300:
            return response
        raise self._error(response)

    def _authorization(self, token: str | None) -> dict[str, str]:
        if token is not None:
            return {"Authorization": f"Bearer {token}"}
        if self._endpoint.login is not None:
            login = ":".join(self._endpoint.login).encode()
            return {"Authorization": f"Basic {base64.b64encode(login).decode()}"}
        return {}

    def _error(self, response: Response) -> AttemptError | RefusedError:
        error = HTTPStatusError(
            response.status,
            self._protocol.error_text(response),
            retry_after_s=parse_retry_after(response.headers.get("retry-after")),
        )
        if self._policy.treatment(error) is Treatment.STOP:
            advice = _ADVICE.get(response.status, "")
            return RefusedError(
                f"{self._endpoint.shown} answered {response.status}: {error}{advice}"
            )
        if error.retry_after_s is not None:
            self._limiter.pause(error.retry_after_s)
        return error


_ADVICE = {
    401: "; check the token (BATCHSCORE_TOKEN, --token-file or --token-command)",
    403: "; is the deployment enabled, and the token its own?",
    404: "; check --url: it ends in /deployment/ID/forward",
}


def _result(error: AttemptError) -> Result:
    """What an error says about the load."""
    if isinstance(error, AttemptTimeoutError):
        return Result.TIMEOUT
    if isinstance(error, HTTPStatusError):
        return _LOAD.get(error.status, Result.OTHER)
    return Result.OTHER


_LOAD = {
    408: Result.TIMEOUT,
    413: Result.TOO_LARGE,
    429: Result.OVERLOADED,
    503: Result.OVERLOADED,
    504: Result.TIMEOUT,
}


class _Token:
    """The token that all workers share, read again when one of them is refused."""

    def __init__(self, read: Callable[[], str | None], offload: Offload) -> None:
        self._read = read
        self._offload = offload
        self._lock = asyncio.Lock()
        self._is_read = False
        self._token: str | None = None

    async def current(self) -> str | None:
        if not self._is_read:
            async with self._lock:
                if not self._is_read:
                    self._token = await self._offload(self._read)
                    self._is_read = True
        return self._token

    async def renewed(self, refused: str | None) -> str | None:
        """A token other than the refused one, if the source has one by now."""
        async with self._lock:
            if self._token == refused:
                self._token = await self._offload(self._read)
            return self._token
