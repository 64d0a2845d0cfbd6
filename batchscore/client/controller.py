"""How much a deployment is asked for: requests in flight, rows a request, retries.

Three small state machines without tasks, clocks or sockets: they are told what happened and when,
and say what may be done next. ``docs/overload.md`` tells why they work as they do.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from enum import Enum

MAX_LIMIT = 256


class Result(Enum):
    """What became of one try, as far as load is concerned."""

    OK = "ok"
    OVERLOADED = "overloaded"
    TIMEOUT = "timeout"
    TOO_LARGE = "too_large"
    OTHER = "other"


@dataclass(frozen=True, slots=True)
class Outcome:
    """How one try went.

    Attributes:
        ticket: the number that it was given when it was sent.
        result: what became of it.
        latency_s: from sending to the whole answer, or to the failure.
        rows: rows in the request.
        asked_to_wait: the server sent ``Retry-After``.
    """

    ticket: int
    result: Result
    latency_s: float
    rows: int = 1
    asked_to_wait: bool = False


class AdaptiveLimit:
    """How many requests may be in flight at a server that says nothing about its capacity.

    ``on_start`` is called when a request is sent and ``on_outcome`` when it is over; ``limit``
    may have changed after either.

    It works in rounds of about ``limit`` requests. Slow start adds one for each answer. From the
    first sign of a queue, each round lets the limit follow ``limit * base / latency`` (what the
    server works on at one time, by Little's law) plus the square root of the limit, which is room
    to find out whether there is more. Refusals lower it at once and leave a ceiling, below which
    it stays for a while, longer each time that the ceiling proves true.
    """

    _MIN_ROUND = 24
    # Refusals and timeouts up to this share of the requests are taken for ordinary noise.
    _NOISE = 0.08
    _BACK_OFF = 0.85
    _MIN_HOLD, _MAX_HOLD = 25, 200
    # Rounds in which latency held the limit down, before the base latency is measured anew.
    _STALE_AFTER = 40

    def __init__(self, max_limit: int = MAX_LIMIT) -> None:
        self._max = max_limit
        self._limit = 1.0
        self._in_flight = 0
        self._base_s: float | None = None
        self._base_rows = 0.0
        self._slow_start = True
        self._ceiling: float | None = None
        self._hold = self._MIN_HOLD
        self._held_until_ok = 0
        self._ok = 0
        self._sent = 0
        self._lowered_at = 0
        self._held_rounds = 0
        self._probe: Probe | None = None
        self._round = _Round(length=2)

    @property
    def limit(self) -> int:
        """Requests that may be in flight now."""
        limit = self._limit
        if self._probe and not self._probe.is_sent:
            limit = self._low_limit()
        return max(1, min(self._max, int(limit)))

    @property
    def settled_limit(self) -> int:
        """The limit without the measurements that lower it for a moment."""
        return int(self._limit)

    def _low_limit(self) -> float:
        """Well below, where there is no queue if the limit is about right."""
        return min(0.7 * self._limit, self._limit - 1.5 * math.sqrt(self._limit))

    def on_start(self) -> int:
        """A request is sent; its ticket."""
        ticket = self._sent
        self._sent += 1
        self._in_flight += 1
        self._round.sent += 1
        self._round.max_in_flight = max(self._round.max_in_flight, self._in_flight)
        if self._probe:
            self._probe.on_start(ticket, is_low=self._in_flight <= self.limit)
        return ticket

    def on_outcome(self, outcome: Outcome) -> None:
        """A request is over."""
        self._in_flight -= 1
        if self._probe:
            self._probe.on_outcome(outcome)
            if self._probe.is_over:
                self._end_probe(self._probe)
        if outcome.result is Result.OK:
            self._answered(outcome)
        elif outcome.ticket < self._lowered_at:
            return  # What went wrong before the limit was lowered says nothing about the new one.
        elif outcome.result is Result.TIMEOUT:
            if not self._is_noise(outcome):
                self._lower(self._limit * self._BACK_OFF**2)
        elif outcome.result is Result.OVERLOADED:
            self._refused(outcome)

    def _answered(self, outcome: Outcome) -> None:
        self._ok += 1
        # The very first answer waited for connections and caches, not for the server's queue.
        if self._probe is not None or self._ok == 1:
            return
        self._round.count(outcome)
        if self._slow_start and self._base_s is not None and self._is_used():
            self._raise_by(1)
        if self._round.answers >= self._round.length:
            self._end_round()

    def _begin_round(self) -> None:
        shortest = 4 if self._slow_start else self._MIN_ROUND
        self._round = _Round(max(shortest, int(self._limit)), max_in_flight=self._in_flight)

    def _is_used(self) -> bool:
        return self._round.max_in_flight >= int(self._limit)

    def _end_round(self) -> None:
        latency_s, rows, used = self._round.latency_s, self._round.rows, self._is_used()
        self._begin_round()
        if self._base_s is None:
            self._base_s, self._base_rows = latency_s, rows
            return
        if abs(rows - self._base_rows) > 0.25 * self._base_rows:
            # Another size of requests has another latency; a wrong guess is mended by a probe.
            self._base_s *= rows / self._base_rows
            self._base_rows = rows
        if latency_s < self._base_s * (1.0 if self._slow_start else 0.8):
            # Clearly faster than ever. To follow each faster round would follow the noise.
            self._base_s += 0.5 * (latency_s - self._base_s)
        busy = self._limit * min(1.0, self._base_s / latency_s)
        room = math.sqrt(self._limit)
        if self._slow_start:
            if self._limit - busy > room + self._limit / 8:
                self._slow_start = False
                self._limit = max(1.0, busy + room)
                self._held_rounds = self._STALE_AFTER * 3 // 4
            return
        if self._limit - busy > 0.5 * room:
            # Much too much for long means that the base is wrong, rather than the limit.
            self._held_rounds += 10 if self._limit - busy > 2 * room else 1
        if busy + room < self._limit:
            self._limit = max(1.0, (self._limit + busy + room) / 2)
        elif used:
            self._grow(busy + room - self._limit)
        self._measure_again(latency_s)

    def _grow(self, step: float) -> None:
        """A round is over that was sent at the limit and showed room for so many more."""
        self._raise_by(step)

    def _measure_again(self, latency_s: float) -> None:
        """Begin to measure the base latency anew, where it is time to."""
        if self._held_rounds >= self._STALE_AFTER:
            self._probe = Probe(max(self._MIN_ROUND, int(self._limit)), latency_s)

    def _raise_by(self, step: float) -> None:
        """Raise the limit; below a ceiling as far as it, and past it one by one."""
        new = self._limit + step
        if self._ceiling is not None:
            if self._ok < self._held_until_ok:
                new = min(new, max(1.0, 0.95 * self._ceiling, self._limit))
            elif self._limit >= self._ceiling + 1:
                # A round above the ceiling went well: it is none any more.
                self._ceiling, self._hold = None, self._MIN_HOLD
            else:
                new = min(new, math.floor(self._limit) + 1)
        self._limit = min(new, float(self._max))

    def _refused(self, outcome: Outcome) -> None:
        self._slow_start = False
        if not self._is_noise(outcome):
            proved = self._ceiling is not None and self._limit >= 0.95 * self._ceiling
            self._hold = min(self._MAX_HOLD, 2 * self._hold) if proved else self._MIN_HOLD
            self._ceiling = max(2.0, self._limit)
            self._held_until_ok = self._ok + max(self._hold, int(self._limit))
            self._lower(self._limit * self._BACK_OFF)

    def _is_noise(self, outcome: Outcome) -> bool:
        """Count a refusal or a timeout; whether these are so few that they tell nothing."""
        self._round.failed += 1
        expected = self._NOISE * self._round.sent
        most = 1 + expected + 2 * math.sqrt(expected)
        return not outcome.asked_to_wait and self._round.failed <= most

    def _lower(self, limit: float) -> None:
        self._limit = max(1.0, limit)
        self._slow_start = False
        self._lowered_at = self._sent
        self._probe = None
        self._begin_round()

    def _end_probe(self, probe: Probe) -> None:
        """Take the latency at a lower limit for the base, if that is what it shows."""
        assert self._base_s is not None  # noqa: S101 - there is no probe before the first round
        latency_s = probe.latency_s
        if latency_s is not None and (
            latency_s < self._base_s or latency_s > 0.87 * probe.before_s
        ):
            # Fewer requests wait no shorter: so there was no queue, the server is just slower.
            self._base_s = latency_s
        self._probe = None
        self._held_rounds = 0
        self._begin_round()


@dataclass(slots=True)
class _Round:
    """What happened in a round."""

    length: int
    sent: int = 0
    answers: int = 0
    failed: int = 0
    max_in_flight: int = 0
    total_s: float = 0.0
    total_rows: int = 0

    def count(self, outcome: Outcome) -> None:
        self.answers += 1
        self.total_s += outcome.latency_s
        self.total_rows += outcome.rows

    @property
    def latency_s(self) -> float:
        return max(self.total_s / self.answers, 1e-9)

    @property
    def rows(self) -> float:
        return max(self.total_rows / self.answers, 1e-9)


@dataclass(slots=True)
class Probe:
    """The latency of some requests sent at a lower limit, where no queue should be left.

    All of them are waited for: to take those that are answered first would be to take the quick
    ones. The limit is low only until the last of them was sent.

    Attributes:
        length: how many requests.
        before_s: the latency before.
        skip: how many are sent at the lower limit before the first of them.
        first: the ticket of the first of them.
    """

    length: int
    before_s: float
    skip: int = 0
    first: int | None = None
    _sent: int = 0
    _over: int = 0
    _answers: int = 0
    _total_s: float = 0.0

    def on_start(self, ticket: int, *, is_low: bool) -> None:
        if self.first is None and is_low:
            self.first = ticket + self.skip
        self._sent += self.first is not None

    def on_outcome(self, outcome: Outcome) -> None:
        if self.first is not None and self.first <= outcome.ticket < self.first + self.length:
            self._over += 1
            if outcome.result is Result.OK:
                self._answers += 1
                self._total_s += outcome.latency_s

    @property
    def is_sent(self) -> bool:
        return self._sent >= self.skip + self.length

    @property
    def is_over(self) -> bool:
        return self._over >= self.length

    @property
    def latency_s(self) -> float | None:
        return max(self._total_s / self._answers, 1e-9) if self._answers else None


class SliceSize:
    """How many rows a request may have.

    Args:
        max_rows: rows of a chunk: a request never has more.
        timeout_s: how long a request may take. None: only 413 changes the size.
    """

    _RESTORE_AFTER = 16
    # After so many quick answers in a row a timeout is an accident, and not about the size.
    _PROVED_AFTER = 4
    _MIN_HOLD, _MAX_HOLD = 64, 1024

    def __init__(self, max_rows: int, timeout_s: float | None = None) -> None:
        self._max = self._ceiling = max_rows
        self._timeout_s = timeout_s
        self._streak = 0
        self._hold = self._MIN_HOLD
        self.rows = max_rows

    def on_outcome(self, outcome: Outcome) -> None:
        """A request is over."""
        rows, result = outcome.rows, outcome.result
        if result is Result.TOO_LARGE:
            if 1 < rows <= self._ceiling:
                # One huge row is enough for a 413, so the ceiling is tried again, later and later.
                self._hold = min(self._MAX_HOLD, 2 * self._hold)
                self._ceiling = rows - 1
                self._shrink_to(rows // 2)
        elif self._timeout_s is not None and self._is_slow(outcome):
            if result is Result.TIMEOUT and self._streak >= self._PROVED_AFTER:
                self._streak = 0  # a second one soon after it counts
            else:
                self._shrink_to(rows // 2)
        elif result is Result.OK and rows >= min(self.rows, self._max) // 2:
            self._grow(outcome)

    def _is_slow(self, outcome: Outcome) -> bool:
        if outcome.result is Result.TIMEOUT:
            return True
        assert self._timeout_s is not None  # noqa: S101 - asked by the caller
        return outcome.result is Result.OK and outcome.latency_s > self._timeout_s / 2

    def _shrink_to(self, rows: int) -> None:
        self.rows = max(1, min(self.rows, rows))
        self._streak = 0

    def _grow(self, outcome: Outcome) -> None:
        """Double the size after a row of good answers that left room for more."""
        if self._timeout_s is not None and outcome.latency_s > self._timeout_s / 5:
            self._streak = 0
            return
        self._streak += 1
        if self.rows < self._ceiling and self._streak >= self._RESTORE_AFTER:
            self.rows = min(2 * self.rows, self._ceiling)
            self._streak = 0
        elif self._ceiling < self._max and self._streak >= self._hold:
            self._ceiling = min(2 * self._ceiling, self._max)


class RetryBudget:
    """Retries are at most a share of the requests, and a few a second.

    A retry over the budget is not dropped: it waits for its turn, which the time brings.

    Args:
        parts: among how many processes the job's budget is divided. Each has a few retries all
            the same, lest one that is refused for a while never gets out of its waiting.
    """

    SHARE = 0.2
    PER_SECOND = 5.0
    BURST = 30.0
    MIN_PER_SECOND, MIN_BURST = 0.5, 4.0

    def __init__(self, parts: int = 1) -> None:
        self._burst = max(self.MIN_BURST, self.BURST / parts)
        self._per_second = max(self.MIN_PER_SECOND, self.PER_SECOND / parts)
        self._balance = self._burst
        self._at: float | None = None

    def on_request(self) -> None:
        """A request is sent for the first time."""
        self._balance = min(self._burst, self._balance + self.SHARE)

    def reserve(self, now: float) -> float:
        """Take the place of one retry; how many seconds from now it is."""
        if self._at is not None:
            self._balance += self._per_second * (now - self._at)
        self._at = now
        self._balance = min(self._burst, self._balance) - 1
        return max(0.0, -self._balance / self._per_second)
