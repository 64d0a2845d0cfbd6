"""The part of a job's limits that one of its processes may use."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Literal

from batchscore.client.controller import MAX_LIMIT
from batchscore.client.limiter import AdaptiveLimiter, FixedLimiter

if TYPE_CHECKING:
    from batchscore.client.limiter import Limiter
    from batchscore.client.turns import Turns
    from batchscore.units import Rate


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
        """The limiter for this part of the requests in flight and of the rate."""
        if rate is not None:
            rate = rate._replace(per_second=rate.per_second / self.of)
        if concurrency == "auto":
            return AdaptiveLimiter(rate, max_limit=max(1, MAX_LIMIT // self.of))
        return FixedLimiter(concurrency // self.of + (self.number < concurrency % self.of), rate)


WHOLE = Share()
"""All of it: the share of a process that works alone."""
