"""Whether, when and how often a failed request is tried again: the one place that decides."""

from __future__ import annotations

import asyncio
import math
import random
from dataclasses import dataclass, field
from datetime import UTC, datetime
from email.utils import parsedate_to_datetime
from typing import TYPE_CHECKING, TypeVar

from tenacity import AsyncRetrying, RetryCallState

from batchscore.client.clock import monotonic_s
from batchscore.client.controller import Result
from batchscore.errors import AttemptError, AttemptTimeoutError, DecodeError, HTTPStatusError
from batchscore.protocols.base import Treatment

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable

    from batchscore.option_types import RetryTable

T = TypeVar("T")

_BASE_WAIT_S = 0.25
_MAX_WAIT_S = 30.0
ANSWERED_FOR_IT = frozenset({502, 503, 504})
"""A proxy answers these in the deployment's place."""
_LOAD = {
    408: Result.TIMEOUT,
    413: Result.TOO_LARGE,
    429: Result.OVERLOADED,
    503: Result.OVERLOADED,
    504: Result.TIMEOUT,
}
# A server that asks for more than this does not want the job done; it is asked again anyway.
_MAX_RETRY_AFTER_S = 300.0


@dataclass(frozen=True, slots=True)
class Verdict:
    """What a failed try tells.

    Attributes:
        treatment: what is done about it.
        load: what it says about the load of the deployment.
        blames_rows: once the tries are used up, whether it is the rows for sure. A server that
            answers is there, and one bad row can make it answer 500 or nonsense. Where there was
            no answer, the deployment may be away.
    """

    treatment: Treatment
    load: Result
    blames_rows: bool


@dataclass(frozen=True, slots=True)
class RetryPolicy:
    """What is done about a failed request.

    Attributes:
        max_attempts: tries of one request, the first included.
        by_protocol: what a status means in the protocol.
        moved: what the user's ``[retry]`` table says instead, by status or ``5xx``.
        random: the source of jitter.
    """

    max_attempts: int
    by_protocol: Callable[[int], Treatment]
    moved: dict[str, Treatment] = field(default_factory=dict)
    random: random.Random = field(default_factory=random.Random)

    def verdict(self, error: AttemptError) -> Verdict:
        """What an error means; the status of an answer is judged here alone."""
        if isinstance(error, AttemptTimeoutError):
            return Verdict(Treatment.RETRY, Result.TIMEOUT, blames_rows=False)
        if not isinstance(error, HTTPStatusError):
            is_answer = isinstance(error, DecodeError)
            return Verdict(Treatment.RETRY, Result.OTHER, blames_rows=is_answer)
        status = error.status
        moved = self.moved.get(str(status)) or self.moved.get(f"{status // 100}xx")
        treatment = moved or self.by_protocol(status)
        return Verdict(
            treatment,
            _LOAD.get(status, Result.OTHER),
            blames_rows=treatment in {Treatment.ISOLATE, Treatment.HALVE}
            or (status >= 500 and status not in ANSWERED_FOR_IT),
        )

    def treatment(self, error: AttemptError) -> Treatment:
        """What an error means: retry it, isolate its rows, or stop the job."""
        return self.verdict(error).treatment

    def is_retried(self, error: AttemptError, rows: int) -> bool:
        """Whether a request for so many rows is tried again as it is."""
        treatment = self.treatment(error)
        return treatment is Treatment.RETRY or (treatment is Treatment.HALVE and rows <= 1)

    def blames_rows(self, error: AttemptError, *, others_answered: bool) -> bool:
        """Whether it is the rows, once a request has failed for good; else it is the deployment.

        It is also where there was no answer, but others are answered meanwhile.
        """
        return others_answered or self.verdict(error).blames_rows

    def wait_s(self, attempt: int, error: BaseException | None) -> float:
        """How long to wait after the n-th try: full jitter, at least what the server asked."""
        ceiling = min(_MAX_WAIT_S, _BASE_WAIT_S * 2 ** (attempt - 1))
        jitter = self.random.uniform(0, ceiling)
        asked = error.retry_after_s if isinstance(error, AttemptError) else None
        return jitter if asked is None else asked + jitter


def moved_treatments(table: RetryTable) -> dict[str, Treatment]:
    """The user's ``[retry]`` table as a mapping from status (or ``5xx``) to treatment."""
    return {
        status: treatment for treatment in Treatment for status in getattr(table, treatment.value)
    }


def parse_retry_after(value: str | None, now: datetime | None = None) -> float | None:
    """Seconds of a ``Retry-After`` header, which holds seconds or an HTTP date (RFC 9110)."""
    if value is None:
        return None
    value = value.strip()
    if value.isascii() and value.isdigit():
        return min(float(value), _MAX_RETRY_AFTER_S)
    try:
        date = parsedate_to_datetime(value)
    except ValueError:
        return None
    if date.tzinfo is None:
        date = date.replace(tzinfo=UTC)
    seconds = (date - (now or datetime.now(UTC))).total_seconds()
    return min(max(seconds, 0.0), _MAX_RETRY_AFTER_S)


async def retried(
    attempt: Callable[[], Awaitable[T]],
    policy: RetryPolicy,
    *,
    on_retry: Callable[[str, int, float], None],
    rows: int = 1,
    until_s: float = math.inf,
    least_wait_s: Callable[[], float] = lambda: 0.0,
) -> T:
    """Try until it works or is given up.

    Args:
        attempt: one try; what it raises but an ``AttemptError`` ends them all.
        policy: says whether and when the next one follows.
        on_retry: told the code of what failed, the number of the try and the wait for the next.
        rows: how many rows the request has.
        until_s: no try that failed later is followed by another.
        least_wait_s: asked for each retry how long it has to wait at least.

    Raises:
        AttemptError: that of the last try.
    """
    try:
        # Most requests need no more, and none of the machinery of retrying.
        return await attempt()
    except AttemptError as error:
        failed = [error]

    async def next_attempt() -> T:
        if failed:
            raise failed.pop()
        return await attempt()

    def is_retried(state: RetryCallState) -> bool:
        error = _failure(state)
        return (
            error is not None
            and state.attempt_number < policy.max_attempts
            and policy.is_retried(error, rows)
            and monotonic_s() < until_s
        )

    def wait_s(state: RetryCallState) -> float:
        return max(policy.wait_s(state.attempt_number, _failure(state)), least_wait_s())

    def tell(state: RetryCallState) -> None:
        if error := _failure(state):
            on_retry(error.code, state.attempt_number, state.upcoming_sleep)

    retrying = AsyncRetrying(sleep=asyncio.sleep, retry=is_retried, wait=wait_s, before_sleep=tell)
    result: T = await retrying(next_attempt)
    return result


def _failure(state: RetryCallState) -> AttemptError | None:
    error = state.outcome.exception() if state.outcome else None
    return error if isinstance(error, AttemptError) else None
