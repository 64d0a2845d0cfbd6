"""The client: every request of a run goes through here, with its token, slot and retries."""

from __future__ import annotations

import asyncio
import math
from contextlib import suppress
from functools import partial
from typing import TYPE_CHECKING, TypeVar

from batchscore.client.authorized import Authorized
from batchscore.client.clock import monotonic_s
from batchscore.client.controller import Outcome, Result, RetryBudget
from batchscore.client.measured import Measured
from batchscore.client.metadata import Metadata
from batchscore.client.outage import Outage
from batchscore.client.retry import RetryPolicy, retried
from batchscore.client.share import WHOLE
from batchscore.client.token import SharedToken
from batchscore.client.tries import AfreshError, HeldError, Tries
from batchscore.errors import (
    AttemptError,
    DecodeError,
    DeploymentAwayError,
    HTTPStatusError,
    RowsRefusedError,
)

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable, Collection
    from contextlib import AbstractAsyncContextManager

    from batchscore.client.controller import SliceSize
    from batchscore.client.limiter import Limiter
    from batchscore.client.share import Share
    from batchscore.client.token import Token
    from batchscore.client.transport import Transport
    from batchscore.endpoint import Endpoint
    from batchscore.metrics import RunMetrics
    from batchscore.offload import Offload
    from batchscore.protocols.base import Body, Request, Response, WireProtocol
    from batchscore.schema import ModelSignature


T = TypeVar("T")

_SILENT_PROBES = 3
# Turns of the event loop that whoever waits for a slot needs to wake up and to write its request.
# Answers often come many at once; if each were read first, the server would idle meanwhile.
_TURNS_TO_SEND = 2


class Client:
    """Sends requests until they are answered well, refused, or out of attempts.

    A worker holds a slot of the limiter only while its request is under way, never while it
    backs off.

    Attributes:
        token: given with the requests; where none is given to the client, it is made of
            ``read_token``, which may block.
        answered_s: when a good answer came last, to anybody who sends for this job.
        on_pause: told for how many seconds the server asked not to be sent anything.
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
        max_outage_s: float = 0.0,
        secrets: Collection[str] = (),
        on_retry: Callable[[str, int, float], None] = lambda _code, _attempt, _wait: None,
        share: Share = WHOLE,
        token: Token | None = None,
    ) -> None:
        self.token: Token = token or SharedToken(read_token, offload)
        self._endpoint = endpoint
        self._protocol = protocol
        self._limiter = limiter
        self._policy = policy
        self._slice_size = slice_size
        self._budget = RetryBudget(share.of)
        self._metrics = metrics
        self._metrics.limit = limiter.limit
        self._on_retry = on_retry
        authorized = partial(
            Authorized,
            endpoint=endpoint,
            protocol=protocol,
            policy=policy,
            token=self.token,
            secrets=secrets,
            on_pause=self._asked_to_wait,
        )
        self._scoring = authorized(Measured(transport, metrics))
        self._outage = Outage(max_outage_s, endpoint.host_and_port, self.check_model, share.turns)
        self._metadata = Metadata(
            endpoint,
            protocol,
            authorized=authorized(transport),
            policy=policy,
            on_retry=self._count_retry,
        )
        self.answered_s = -math.inf
        self.on_pause: Callable[[float], None] = lambda _seconds: None

    @property
    def authorized(self) -> Authorized:
        """One try of a request, out of turn: for whoever decides himself when to send."""
        return self._scoring

    def pause(self, seconds: float) -> None:
        """Send nothing for so long: the server asked for it, of this process or another."""
        self._limiter.pause(seconds)

    @property
    def limit(self) -> int:
        """How many requests may be in flight now."""
        return self._limiter.limit

    @property
    def max_rows(self) -> int | None:
        """How many rows the next request should have at most; None: as many as there are."""
        return self._slice_size.rows if self._slice_size else None

    async def signature(self) -> ModelSignature:
        """The deployment's signature; see ``Metadata``."""
        return await self._metadata.signature()

    @property
    def fingerprint(self) -> str | None:
        """Of the specification as the deployment publishes it, when the job began."""
        return self._metadata.fingerprint

    def began_with(self, fingerprint: str) -> None:
        """The specification that the job began with, where another process read it."""
        self._metadata.fingerprint = fingerprint

    async def check_model(self) -> None:
        """Raise ``ModelChangedError`` where the model is another; see ``Metadata``."""
        await self._metadata.check_model()

    async def score(
        self,
        body: Body,
        rows: int,
        read: Callable[[Response], Awaitable[T]],
        *,
        alone: bool = False,
    ) -> T:
        """Send encoded rows and read the answer; an answer that cannot be read is retried too.

        Args:
            body: the encoded rows.
            rows: how many they are.
            read: reads the answer; its ``DecodeError`` counts as a failed try.
            alone: the caller holds everybody else back, see ``alone``.

        Raises:
            RowsRefusedError: these rows cannot be scored together.
            DeploymentAwayError: attempts are used up, and nobody else got through meanwhile.
            RefusedError: the same would happen to every batch.
        """
        request = self._protocol.score_request(self._endpoint.url, body)
        tries = Tries()

        async def attempt() -> T:
            try:
                response = await self._in_turn(request, rows, tries, alone=alone)
                arrived_s = monotonic_s()
                for _ in range(_TURNS_TO_SEND):
                    await asyncio.sleep(0)
                result = await read(response)
            except DecodeError as error:
                tries.failed(error)
                # Its traceback holds the answer in memory, for as long as this request is retried.
                error.__traceback__ = None
                raise DecodeError(self._scoring.without_secrets(str(error))) from error
            except AttemptError as error:
                tries.failed(error)
                raise
            self.answered_s = max(self.answered_s, arrived_s)
            return result

        self._budget.on_request()
        try:
            return await self._tried(attempt, tries, rows)
        except AttemptError as error:
            # When an answer came counts, not when it was read.
            others_answered = self.answered_s > tries.others_since_s
            if self._policy.blames_rows(error, others_answered=others_answered):
                # Rows that always time out would take their time again to be sure of them.
                is_certain = tries.all_timed_out or self._policy.verdict(error).blames_rows
                raise RowsRefusedError(error, is_certain=is_certain) from error
            raise DeploymentAwayError(error) from error

    async def _tried(self, attempt: Callable[[], Awaitable[T]], tries: Tries, rows: int) -> T:
        """Try until it works or is given up; an outage that was waited for begins it anew."""
        while True:
            try:
                return await retried(
                    attempt,
                    self._policy,
                    on_retry=self._count_retry,
                    rows=rows,
                    least_wait_s=lambda: self._budget.reserve(monotonic_s()),
                )
            except AfreshError:
                tries.begin_anew()

    def alone(self) -> AbstractAsyncContextManager[None]:
        """Hold everybody else back while the deployment is away, and while suspects are tried."""
        return self._outage.alone()

    async def ride_out(self, away: DeploymentAwayError, body: Body | None) -> None:
        """Wait until the deployment is back; inside ``alone``.

        Args:
            away: what showed that it is away.
            body: one encoded row to ask with. None: these rows took it down when they were alone
                in flight, so it is asked for its specification instead.

        Raises:
            OutageError: it was away for longer than ``--max-outage``.
            ModelChangedError: what came back is another model.
        """
        if body is None:
            self._outage.went_away_again()
            await self._outage.ride_out(away.last, self._metadata.is_there)
            return
        request = self._protocol.score_request(self._endpoint.url, body)
        silent = 0

        async def probe() -> bool:
            nonlocal silent
            if silent >= _SILENT_PROBES:
                # The row that asks may itself be what takes the server down.
                return await self._metadata.is_there()
            try:
                await self._in_slot(request, 1)
            except AttemptError as error:
                # A proxy may answer in its place, and its specification too.
                silent += not isinstance(error, HTTPStatusError)
                return self._policy.verdict(error).blames_rows
            return True

        await self._outage.ride_out(away.last, probe)

    async def _in_turn(self, request: Request, rows: int, tries: Tries, *, alone: bool) -> Response:
        """One try, when nobody is alone with the deployment, or the caller is."""
        while not alone:
            if await self._outage.passed() and tries.count:
                raise AfreshError
            with suppress(HeldError):
                return await self._in_slot(request, rows, may_be_held=True)
        return await self._in_slot(request, rows)

    async def _in_slot(self, request: Request, rows: int, *, may_be_held: bool = False) -> Response:
        """One try in a slot of the limiter, which learns from what became of it.

        Raises:
            HeldError: the deployment went away while the request waited for its slot.
        """
        ticket = await self._limiter.acquire(rows)
        started = monotonic_s()
        result, asked_to_wait = Result.OTHER, False
        try:
            if may_be_held and self._outage.is_holding:
                raise HeldError
            response = await self._scoring.send(request)
            result = Result.OK
            return response
        except AttemptError as error:
            error.lasted_s = monotonic_s() - started
            result, asked_to_wait = self._policy.verdict(error).load, bool(error.retry_after_s)
            raise
        finally:
            outcome = Outcome(ticket, result, monotonic_s() - started, rows, asked_to_wait)
            self._limiter.release(outcome)
            self._metrics.limit = self._limiter.limit
            if self._slice_size:
                self._slice_size.on_outcome(outcome)

    def _count_retry(self, code: str, attempt: int, wait_s: float) -> None:
        self._metrics.retries[code] += 1
        self._on_retry(code, attempt, wait_s)

    def _asked_to_wait(self, seconds: float) -> None:
        """Where the server asks one request to wait, all workers do, of every process."""
        self.pause(seconds)
        self.on_pause(seconds)
