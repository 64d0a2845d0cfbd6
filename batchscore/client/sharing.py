"""How the workers of one job come to equal shares of a deployment without talking to each other.

A state machine like its base: it is told what happened and what the time is. ``docs/overload.md``
tells why it works as it does.
"""

from __future__ import annotations

import heapq
import math
from collections import deque
from typing import TYPE_CHECKING

from batchscore.client.controller import MAX_LIMIT, AdaptiveLimit, Outcome, Probe, Result

if TYPE_CHECKING:
    from random import Random


class SharedLimit(AdaptiveLimit):
    """The limit of one of several workers that do not know of each other.

    A worker alone cannot measure a latency without a queue, since the queue is the others'; and
    one that is never refused does not know that others always are. So at the same instants, the
    *beats*, all of them lower their limits to half. There the base latency is measured, and the
    share of refusals that have nothing to do with the load. Then the limits grow by the same step
    each, so that from beat to beat half of what they differ by is gone.

    Args:
        max_limit: the most that this worker may have in flight.
        random: chance, other than that of the other workers.

    Attributes:
        rest_s: nothing should be sent for so long, counted from the last ``on_time`` or
            ``on_outcome``.
    """

    # Seconds between beats where answers come soon, else a power of four times as many, that are
    # so many latencies at least. So the beats of the slowest are beats of all.
    _PERIOD_S, _PERIOD = 8.0, 50
    # What is measured takes so many latencies and seconds at least: clocks differ.
    _MEASURED, _SKEW_S = 4.0, 0.1
    # The limit grows by this part of its maximum in the time of one answer.
    _STEP = 1 / 32
    _BACK_OFF = 0.97
    # Measurements of the base that a mean is taken of, and a factor that is no noise any more.
    _KEPT, _CLEARLY = 8, 1.4
    # Refusals are noise up to a bucket of credit, which each request fills a little: the more, the
    # more was refused when there was room.
    _MAX_CREDIT, _CREDIT, _FIRST_NOISE = 2.0, 0.02, 0.03
    _FIRST_LATENCY_S = 0.05
    _MAX_RESTS = 10

    def __init__(self, max_limit: int = MAX_LIMIT, *, random: Random) -> None:
        super().__init__(max_limit)
        self._slow_start = False
        self._random = random
        self._now_s = 0.0
        self._next_s = self._period_s = 0.0
        self._latency_s = self._FIRST_LATENCY_S
        self._measured: deque[float] = deque(maxlen=self._KEPT)
        self._above = 0
        self._noise = self._FIRST_NOISE
        self._credit = self._max_credit
        self._probed = self._probed_refused = 0.0
        self._is_crowded = False
        self._shows_noise = False
        self._resting: list[float] = []
        self._rests = 0
        self.rest_s = 0.0

    @property
    def limit(self) -> int:
        """Requests that may be in flight now; the place of one that was refused rests a while."""
        return max(1, super().limit - len(self._resting))

    @property
    def resting_s(self) -> float | None:
        """How long the next place still rests. None: none does."""
        return max(0.0, self._resting[0] - self._now_s) if self._resting else None

    def on_time(self, now_s: float) -> None:
        """Tell the seconds since the epoch, before ``on_start`` and ``on_outcome``."""
        self._now_s, self.rest_s = now_s, 0.0
        while self._resting and self._resting[0] <= now_s:
            heapq.heappop(self._resting)
        if now_s < self._next_s <= now_s + self._period_s:
            return
        is_beat = now_s >= self._next_s > 0
        periods = max(1.0, self._PERIOD * self._latency_s / self._PERIOD_S)
        self._period_s = self._PERIOD_S * 4.0 ** math.ceil(math.log(periods, 4))
        self._next_s = (math.floor(now_s / self._period_s) + 1) * self._period_s
        if is_beat:
            self._begin_anew()

    def _begin_anew(self) -> None:
        self._shows_noise = self._limit >= 2
        if self._is_crowded and self._limit < 3 and self._in_flight:
            # Where places are fewer than workers, each beat draws anew who has one.
            self.rest_s = self._random.uniform(0, 2 * self._latency_s)
        self._limit = max(1.0, self._limit / 2)
        self._ceiling, self._rests = None, 0
        self._is_crowded = False
        self._resting.clear()
        if self._base_s is not None:
            answers = max(self._MEASURED, self._SKEW_S / self._latency_s)
            low = self.limit
            self._probe = Probe(math.ceil(answers * low), self._latency_s, skip=low)

    @property
    def _max_credit(self) -> float:
        return self._MAX_CREDIT + 100 * self._noise

    def _low_limit(self) -> float:
        return self._limit

    def on_start(self) -> int:
        """A request is sent; its ticket."""
        self._credit = min(self._max_credit, self._credit + self._CREDIT + 3 * self._noise)
        ticket = super().on_start()
        self._probed += self._is_probed(ticket)
        return ticket

    def _is_probed(self, ticket: int) -> bool:
        first = self._probe.first if self._probe and self._shows_noise else None
        return first is not None and ticket >= first

    def on_outcome(self, outcome: Outcome) -> None:
        """A request is over."""
        if outcome.result is Result.OK:
            self._rests = 0
            self._latency_s += (outcome.latency_s - self._latency_s) / min(16, self._ok + 1)
            self._grow_a_little()
        super().on_outcome(outcome)

    def _grow_a_little(self) -> None:
        """All grow at the same pace, whatever their limits are."""
        if self._probe is not None or self._base_s is None or self._ceiling is not None:
            return
        queued = self._limit * (1 - self._base_s / self._latency_s)
        if self._is_used() and queued < math.sqrt(self._limit):
            self._limit = min(self._limit + self._STEP * self._max / self._limit, float(self._max))

    def _grow(self, step: float) -> None:
        """Not by rounds, which come sooner where the limit is high."""

    def _measure_again(self, latency_s: float) -> None:
        """Not when it pleases this worker: at the next beat."""

    def _refused(self, outcome: Outcome) -> None:
        before = self._limit
        self._is_crowded = True
        super()._refused(outcome)
        if self._limit < before:
            self._ceiling = before  # no growth until the next beat
        after_s = self._random.uniform(0.5, 1.5) * self._latency_s
        heapq.heappush(self._resting, self._now_s + after_s)
        if self._in_flight == 0 and self._limit < 2:
            self._rest()

    def _rest(self) -> None:
        """There is no place for this worker: ask later and later, but at each beat."""
        rest_s = self._random.uniform(0, 16 * 2**self._rests * self._latency_s)
        self._rests = min(self._rests + 1, self._MAX_RESTS)
        late_s = self._random.uniform(0, 2 * self._latency_s)
        self.rest_s = min(rest_s, min(self._next_s - self._now_s, self._PERIOD_S) + late_s)

    def _is_noise(self, outcome: Outcome) -> bool:
        if outcome.result is Result.OVERLOADED:
            self._probed_refused += self._is_probed(outcome.ticket)
        self._credit = max(0.0, self._credit - 1)
        return not outcome.asked_to_wait and self._credit > 0

    def _end_probe(self, probe: Probe) -> None:
        if probe.latency_s is not None:
            self._take_base(probe.latency_s)
        if self._probed:
            self._noise = min(self._NOISE, self._probed_refused / self._probed)
        self._probed, self._probed_refused = 0.9 * self._probed, 0.9 * self._probed_refused
        self._credit = self._max_credit
        self._probe = None
        self._begin_round()

    def _take_base(self, latency_s: float) -> None:
        """Take the mean of what was measured; what is clearly other begins it anew.

        Clearly more counts the second time: once it may be that not all made room.
        """
        mean_s = sum(self._measured) / len(self._measured) if self._measured else latency_s
        self._above = self._above + 1 if latency_s > self._CLEARLY * mean_s else 0
        if self._above == 1:
            return
        if self._above or latency_s < mean_s / self._CLEARLY:
            self._measured.clear()
            self._above = 0
        self._measured.append(latency_s)
        self._base_s = sum(self._measured) / len(self._measured)
