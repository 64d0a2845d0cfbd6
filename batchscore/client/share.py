"""The part of a job's limits that one of its processes may use."""

from __future__ import annotations

from dataclasses import dataclass
from random import Random
from typing import TYPE_CHECKING, Literal

from batchscore.client.controller import MAX_LIMIT
from batchscore.client.limiter import AdaptiveLimiter, FixedLimiter, SharedLimiter
from batchscore.client.sharing import SharedLimit
from batchscore.errors import UsageError

if TYPE_CHECKING:
    from batchscore.client.limiter import Limiter
    from batchscore.client.turns import Turns
    from batchscore.units import Rate

# With less there would be nothing to find out, and nobody to take what others leave.
_MIN_LIMIT = 16


@dataclass(frozen=True)
class Share:
    """One of ``of`` equal parts; the first ones take what does not divide evenly.

    Attributes:
        number: which part, from 0.
        of: how many parts there are.
        turns: gives turns while the deployment is away; None: there is nobody else.
    """

    number: int = 0
    of: int = 1
    turns: Turns | None = None

    def limiter(self, concurrency: int | Literal["auto"], rate: Rate | None) -> Limiter:
        """The limiter for this part of the requests in flight and of the rate.

        Raises:
            UsageError: there are more parts than requests that may be in flight, so that one of
                them would never send any.
        """
        if rate is not None:
            rate = rate._replace(per_second=rate.per_second / self.of)
        if concurrency == "auto":
            if self.of == 1:
                return AdaptiveLimiter(rate)
            most = max(_MIN_LIMIT, MAX_LIMIT // self.of)
            return SharedLimiter(SharedLimit(most, random=Random(self.number)), rate)  # noqa: S311
        if concurrency < self.of:
            raise UsageError(
                f"--concurrency {concurrency} cannot be shared out among {self.of} workers: "
                f"each needs one request in flight; use at most {concurrency} workers, or a "
                "higher --concurrency"
            )
        return FixedLimiter(concurrency // self.of + (self.number < concurrency % self.of), rate)


WHOLE = Share()
"""All of it: the share of a process that works alone."""
