"""The failed tries of one request, and what they tell."""

from __future__ import annotations

from batchscore.client.clock import monotonic_s
from batchscore.errors import AttemptError, AttemptTimeoutError


class Tries:
    """Which tries of a request have failed since it began, or since an outage that it waited for.

    Attributes:
        count: how many.
    """

    def __init__(self) -> None:
        self.begin_anew()

    def begin_anew(self) -> None:
        """What failed before tells nothing any more."""
        self.count = 0
        self._timeouts = 0
        self._before_s = self._last_s = monotonic_s()
        self._lasted_s = 0.0

    def failed(self, error: AttemptError) -> None:
        """A try failed."""
        self.count += 1
        self._before_s, self._last_s = self._last_s, monotonic_s()
        is_timeout = isinstance(error, AttemptTimeoutError)
        self._timeouts += is_timeout
        self._lasted_s = error.lasted_s if is_timeout else 0.0

    @property
    def all_timed_out(self) -> bool:
        """Whether nothing but time ran out."""
        return self._timeouts == self.count

    @property
    def others_since_s(self) -> float:
        """Who was answered after this shows that the server was there for this request too.

        While a request waited in vain others had time to be answered. One that is refused at once
        gives them none, but for its backoff.
        """
        return self._last_s - self._lasted_s if self._lasted_s else self._before_s


class AfreshError(Exception):
    """Raised when a request waited through an outage: its failed tries tell nothing."""


class HeldError(Exception):
    """Raised when a request is not sent, as the deployment went away meanwhile."""
