"""The client: every request of a run goes through here, with its token, slot and retries."""

from __future__ import annotations

import asyncio
import base64
from collections.abc import Awaitable, Callable, Mapping
from typing import TYPE_CHECKING, TypeVar

from tenacity import AsyncRetrying, RetryCallState, retry_if_exception, stop_after_attempt

from batchscore.client.retry import RetryPolicy, parse_retry_after
from batchscore.client.transport import monotonic_s
from batchscore.errors import (
    AttemptError,
    ConnectionFailedError,
    HTTPStatusError,
    RefusedError,
    UnreachableError,
)
from batchscore.protocols.base import Request, Response, Treatment

if TYPE_CHECKING:
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
        on_retry: Callable[[str, int, float], None] = lambda _code, _attempt, _wait: None,
    ) -> None:
        self._endpoint = endpoint
        self._protocol = protocol
        self._transport = transport
        self._limiter = limiter
        self._policy = policy
        self._metrics = metrics
        self._offload = offload
        self._on_retry = on_retry
        self._token = _Token(read_token, offload)

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
            return await self._retrying(may_retry)(attempt)
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
            await self._limiter.acquire(rows)
            try:
                response = await self._try(request, self._measured)
            finally:
                self._limiter.release()
            return await read(response)

        return await self._retrying(self._is_retried)(attempt)

    def _retrying(self, may_retry: Callable[[BaseException], bool]) -> AsyncRetrying:
        return AsyncRetrying(
            sleep=asyncio.sleep,
            stop=stop_after_attempt(self._policy.max_attempts),
            wait=self._wait,
            retry=retry_if_exception(may_retry),
            before_sleep=self._count_retry,
            reraise=True,
        )

    def _is_retried(self, error: BaseException) -> bool:
        return isinstance(error, AttemptError) and self._policy.treatment(error) is Treatment.RETRY

    def _wait(self, state: RetryCallState) -> float:
        error = state.outcome.exception() if state.outcome else None
        return self._policy.wait_s(state.attempt_number, error)

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
