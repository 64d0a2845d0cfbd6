"""Whether, when and how often a failed request is tried again: the one place that decides."""

from __future__ import annotations

import random
from dataclasses import dataclass, field
from datetime import UTC, datetime
from email.utils import parsedate_to_datetime
from typing import TYPE_CHECKING, TypeVar

from batchscore.errors import AttemptError, DecodeError, HTTPStatusError
from batchscore.protocols.base import Treatment

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable

    from batchscore.config import RetryTable

T = TypeVar("T")

_BASE_WAIT_S = 0.25
_MAX_WAIT_S = 30.0
# A proxy answers these in the deployment's place.
ANSWERED_FOR_IT = frozenset({502, 503, 504})
# A server that asks for more than this does not want the job done; it is asked again anyway.
_MAX_RETRY_AFTER_S = 300.0


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

    def treatment(self, error: AttemptError) -> Treatment:
        """What an error means: retry it, isolate its rows, or stop the job."""
        if not isinstance(error, HTTPStatusError):
            return Treatment.RETRY
        exact, family = str(error.status), f"{error.status // 100}xx"
        moved = self.moved.get(exact) or self.moved.get(family)
        return moved or self.by_protocol(error.status)

    def is_retried(self, error: AttemptError, rows: int) -> bool:
        """Whether a request for so many rows is tried again as it is."""
        treatment = self.treatment(error)
        return treatment is Treatment.RETRY or (treatment is Treatment.HALVE and rows <= 1)

    def blames_rows(self, error: AttemptError, *, others_answered: bool) -> bool:
        """Whether it is the rows, once a request has failed for good; else it is the deployment.

        A server that answers is there, and one bad row can make it answer 500 or nonsense. Where
        there was no answer it may be away, unless others are answered meanwhile.
        """
        if self.treatment(error) in {Treatment.ISOLATE, Treatment.HALVE} or others_answered:
            return True
        if isinstance(error, HTTPStatusError):
            return error.status >= 500 and error.status not in ANSWERED_FOR_IT
        return isinstance(error, DecodeError)

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


def after(failure: AttemptError, attempt: Callable[[], Awaitable[T]]) -> Callable[[], Awaitable[T]]:
    """Attempts of which the first is over already, and ended in this failure."""
    earlier = [failure]

    async def next_attempt() -> T:
        if earlier:
            raise earlier.pop()
        return await attempt()

    return next_attempt
