"""The figures of one load with one batch size."""

from __future__ import annotations

import math
from collections import Counter
from dataclasses import dataclass
from functools import cached_property
from typing import TYPE_CHECKING

import numpy as np

from batchscore.bench.figures import (
    Latencies,
    drift,
    known,
    rank,
    supported_percents,
    windows,
)
from batchscore.bench.load import Closed, Load
from batchscore.bench.validity import OwnDelay, own_delays, stops_of, why_invalid

if TYPE_CHECKING:
    from batchscore.bench.echo import OwnShare
    from batchscore.bench.samples import Column, Samples


@dataclass(frozen=True, slots=True)
class Measured:
    """One load as it was measured.

    Attributes:
        load: what was asked for.
        batch_size: rows in a request.
        samples: all requests, those of the warm-up and after the end too.
        lags: (when, seconds) by which the event loop was late.
        start, end: the measured stretch.
        warmup_s: what came before.
        cpu_s: the client's processor time in it.
        unique_requests: different requests that there were rows for.
        rows_reused: each request had the same rows.
        gave_up: why the client sent no more before the end; empty where it did.
    """

    load: Load
    batch_size: int
    samples: Samples
    lags: list[tuple[float, float]]
    start: float
    end: float
    warmup_s: float
    cpu_s: float
    unique_requests: int
    rows_reused: bool = False
    gave_up: str = ""

    def __str__(self) -> str:
        same = "the same " if self.rows_reused else ""
        return f"{self.load}, {same}{rows_text(self.batch_size)}"


class Cell:
    """The figures of a load: of the requests that were meant for the measured stretch.

    Throughput is that of the answers which came in it.

    Attributes:
        own_share: what such a request takes at a server that does nothing, once that was measured.
    """

    own_share: OwnShare | None = None

    def __init__(self, measured: Measured, *, max_client_share: float, max_drift: float) -> None:
        self.measured = measured
        self._max_share, self._max_drift = max_client_share, max_drift
        everything, start, end = measured.samples, measured.start, measured.end
        self.seconds = end - start
        self.samples = samples = everything.chosen(everything.between(start, end))
        good = samples.chosen(samples.ok)
        self.requests, self.failed_requests = len(samples), len(samples) - len(good)
        self._answered = good.column("last_byte") - good.column("intended")
        self.response = Latencies(self._answered)
        self.service = Latencies(good.column("last_byte") - good.column("sent"))
        self.first_byte = Latencies(good.column("first_byte") - good.column("sent"))
        connecting = samples.column("connected") - samples.column("connect_began")
        self.connect = Latencies(connecting[samples.column("connected") > 0])
        self.windows = windows(everything, start, end)
        came = everything.chosen(everything.between(start, end, "ended"))
        self._came, self._came_good = len(came), int(came.ok.sum())
        self._came_rows = int(came.column("rows").sum())
        self.goodput_rows_per_s = float(came.column("rows")[came.ok].sum()) / self.seconds
        self.good_requests_per_s = self._came_good / self.seconds

    @cached_property
    def _send_delays(self) -> Column:
        """How late each request was sent by the client's own doing, in seconds; else NaN."""
        samples = self.samples
        first = (samples.column("attempts") == 1) & (samples.column("sent") > 0)
        connecting = samples.column("connected") - samples.column("connect_began")
        late: Column = samples.column("sent") - samples.column("due") - connecting
        return np.where(first, late, np.nan)

    @property
    def _known_send_delays(self) -> Column:
        return self._send_delays[~np.isnan(self._send_delays)]

    @cached_property
    def own_delays(self) -> tuple[OwnDelay, ...]:
        """The client's part in the response times."""
        load, good = self.measured.load, self.samples.ok
        late = np.nan_to_num(self._send_delays[good])
        closed = load.concurrency if isinstance(load, Closed) else None
        answered = self.samples.column("last_byte")[good]
        return own_delays(
            self._answered, late if closed is None else 0 * late, answered, self._stops, closed
        )

    @cached_property
    def _lags(self) -> Column:
        measured = self.measured
        table = np.array(measured.lags, dtype=np.float64).reshape(-1, 2)
        inside: Column = table[(table[:, 0] >= measured.start) & (table[:, 0] < measured.end)]
        return inside

    @property
    def _stops(self) -> Column:
        return stops_of(*self._lags.T)

    @cached_property
    def responses(self) -> Column:
        """The response time of each request in seconds, a failed one being infinite."""
        samples = self.samples
        times: Column = samples.column("last_byte") - samples.column("intended")
        return np.where(samples.ok, times, np.inf)

    @property
    def answered_share(self) -> float:
        """Requests that ended in the measured stretch, well or not, to those meant for it."""
        return self._came / self.requests if self.requests else 0.0

    @property
    def client_cpu(self) -> float:
        """The client's processor time as a share of one core."""
        return self.measured.cpu_s / self.seconds

    @property
    def client_share_s(self) -> float:
        """The client's own part of a response time at the median, in seconds; NaN: not known.

        What a request takes where nothing is served, and, where it was due at a certain time, how
        late it was sent.
        """
        own = math.nan if self.own_share is None else self.own_share.p50
        is_closed = isinstance(self.measured.load, Closed)
        return own if is_closed else own + _quantile(self._known_send_delays, 0.5)

    @property
    def is_stable(self) -> bool:
        """Whether the later windows are as the earlier ones."""
        return drift(self.windows) <= self._max_drift

    @cached_property
    def why_invalid(self) -> tuple[str, ...]:
        """Why it is the client that was measured; empty where it is the deployment."""
        cpu = self.client_cpu if isinstance(self.measured.load, Closed) else 0.0
        return why_invalid(
            self.own_delays, self._max_share, closed_cpu=cpu, gave_up=self.measured.gave_up
        )

    @property
    def errors(self) -> dict[str, int]:
        """The failed requests by code."""
        return dict(Counter(error for error in self.samples.errors.tolist() if error))

    def percentile(self, percent: float) -> float:
        """The response time of so many percent of the requests, failed ones being infinite."""
        if not self.requests:
            return math.inf
        return float(np.sort(self.responses)[rank(self.requests, percent) - 1])

    def as_dict(self) -> dict[str, object]:
        """As it stands in the report."""
        measured, samples = self.measured, self.samples
        percents = supported_percents(self.response.count)
        response, service = (each.percentiles(percents) for each in (self.response, self.service))
        return {
            "load": measured.load.as_dict(),
            "batch_size": measured.batch_size,
            "rows_reused": measured.rows_reused,
            "unique_requests": measured.unique_requests,
            "seconds": self.seconds,
            "warmup_s": measured.warmup_s,
            "requests": self.requests,
            "rows": int(samples.column("rows").sum()),
            "failed_requests": self.failed_requests,
            "attempts": int(samples.column("attempts").sum()),
            "bytes_sent": int(samples.column("bytes_sent").sum()),
            "bytes_received": int(samples.column("bytes_received").sum()),
            "requests_per_s": self._came / self.seconds,
            "rows_per_s": self._came_rows / self.seconds,
            "goodput_rows_per_s": self.goodput_rows_per_s,
            "response_s": self.response.summary(),
            "service_s": self.service.summary(),
            "first_byte_s": self.first_byte.summary(),
            "connect_s": self.connect.summary(),
            "distribution": [[each, response[each], service[each]] for each in percents],
            "over_time": [window.as_dict() for window in self.windows],
            "errors": self.errors,
            "send_delay_s": _spread(self._known_send_delays),
            "loop_lag_s": _spread(self._lags[:, 1]),
            "client_cpu": self.client_cpu,
            "echo_s": None if self.own_share is None else self.own_share.as_dict(),
            "client_share_s": known(self.client_share_s),
            "own_delay_s": {f"p{each.percent}": each.seconds for each in self.own_delays},
            "valid": not self.why_invalid,
            "why_invalid": list(self.why_invalid),
            "is_stable": self.is_stable,
        }


def rows_text(rows: int) -> str:
    """``1 row``, ``32 rows``."""
    return f"{rows} row{'' if rows == 1 else 's'}"


def _quantile(values: Column, share: float) -> float:
    return float(np.quantile(values, share)) if len(values) else math.nan


def _spread(values: Column) -> dict[str, float | None]:
    found = {name: known(_quantile(values, share)) for name, share in (("p50", 0.5), ("p99", 0.99))}
    return {**found, "max": known(float(values.max())) if len(values) else None}
