"""What a run counts while it runs, and the report it leaves."""

from __future__ import annotations

import json
import math
import time
from bisect import bisect_left
from collections import Counter
from dataclasses import asdict, dataclass, field
from itertools import accumulate
from typing import TYPE_CHECKING, NamedTuple

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence

    from batchscore.batches import RowFailure

REPORT_SCHEMA_VERSION = 1
MAX_EXAMPLES = 3
"""Failed rows of one code that a report quotes."""

_MAX_EXAMPLE_CODES = 50


class LatencyHistogram:
    """Latencies in logarithmic buckets 2 % wide: constant memory, percentiles within 1 %."""

    _GROWTH = math.log(1.02)
    _SMALLEST_S = 1e-6

    def __init__(self) -> None:
        self._buckets: Counter[int] = Counter()
        self.count = 0
        self.max_s = 0.0
        self.total_s = 0.0

    def record(self, seconds: float) -> None:
        """Count one latency."""
        self._buckets[self._bucket(seconds)] += 1
        self.count += 1
        self.total_s += seconds
        self.max_s = max(self.max_s, seconds)

    def _bucket(self, seconds: float) -> int:
        return round(math.log(max(seconds, self._SMALLEST_S) / self._SMALLEST_S) / self._GROWTH)

    def up_to(self, bounds: Sequence[float]) -> list[int]:
        """How many latencies were at most each bound in seconds; rising bounds, kept within 1 %."""
        last = [self._bucket(bound) for bound in bounds]
        counts = [0] * (len(last) + 1)
        for bucket, count in self._buckets.items():
            counts[bisect_left(last, bucket)] += count
        return list(accumulate(counts[:-1]))

    def percentile(self, percent: float) -> float | None:
        """The latency in seconds that so many percent of the requests stayed within."""
        # Rounded first: 99.9 % of 20,000 must not become 19,980.000000000004, and so one more.
        wanted = math.ceil(round(self.count * percent / 100, 6))
        seen = 0
        for bucket in sorted(self._buckets):
            seen += self._buckets[bucket]
            if seen >= wanted:
                return min(self._SMALLEST_S * math.exp(bucket * self._GROWTH), self.max_s)
        return None

    def add(self, buckets: Mapping[int, int], max_s: float, total_s: float) -> None:
        """Count latencies that were counted elsewhere."""
        self._buckets.update(buckets)
        self.count += sum(buckets.values())
        self.total_s += total_s
        self.max_s = max(self.max_s, max_s)

    def buckets(self) -> Counter[int]:
        """How many latencies each bucket has by now."""
        return self._buckets.copy()

    def since(self, earlier: Counter[int], total_s: float) -> LatencyHistogram:
        """What was counted since buckets and total were as these; a maximum within 1 %."""
        later = LatencyHistogram()
        later.add(self._buckets - earlier, self.max_s, self.total_s - total_s)
        return later

    def take(self) -> tuple[dict[int, int], float, float]:
        """What was counted, maximum and total, to be added elsewhere; nothing is left here."""
        taken = dict(self._buckets), self.max_s, self.total_s
        self._buckets.clear()
        self.count, self.max_s, self.total_s = 0, 0.0, 0.0
        return taken

    def summary(self) -> dict[str, float | None]:
        """The percentiles that a report shows, in seconds."""
        points = {f"p{p:g}": self.percentile(p) for p in (50, 90, 95, 99, 99.9)}
        return {**points, "max": self.max_s if self.count else None}


class Traffic(NamedTuple):
    """What one process sent since it last told; ``in_flight`` and ``limit`` are as they are now."""

    requests: int
    bytes_sent: int
    bytes_received: int
    nonfinite_as_null: int
    retries: dict[str, int]
    latencies: dict[int, int]
    max_latency_s: float
    total_latency_s: float
    in_flight: int
    limit: int


class FailedRow(NamedTuple):
    """A failed row: its place in the input, from 1, and what was said of it."""

    row: int
    text: str


@dataclass
class RunMetrics:
    """The counters of one run. Written by the event loop alone, read by observers at any time.

    Attributes:
        total_rows: how many rows the input has, where it is known before it is read.
        rows_read, rows_scored, rows_failed: rows; scored and failed are counted when written.
        rows_resumed: how many of them earlier runs of the job decided.
        failed_resumed: how many of the failed ones.
        requests: HTTP tries for predictions, retries included.
        retries: retries by the code of what went wrong before.
        failed_rows: failed rows by code.
        failed_examples: the first failed rows of a code that this run decided: which, and why.
        in_flight: requests under way now.
        limit: requests that this process may have in flight now.
        other_limits: requests that the other processes of the run may have in flight now.
        bytes_sent, bytes_received: bodies of requests and answers.
        nonfinite_as_null: NaN and infinite numbers that were sent as null.
        latency: of each answered request, from send to last byte.
        is_sending: whether the run sends rows; else nothing of requests is shown.
    """

    total_rows: int | None = None
    rows_read: int = 0
    rows_scored: int = 0
    rows_failed: int = 0
    rows_resumed: int = 0
    failed_resumed: int = 0
    requests: int = 0
    retries: Counter[str] = field(default_factory=Counter)
    failed_rows: Counter[str] = field(default_factory=Counter)
    failed_examples: dict[str, list[FailedRow]] = field(default_factory=dict)
    in_flight: int = 0
    limit: int | None = None
    other_limits: int = 0
    bytes_sent: int = 0
    bytes_received: int = 0
    nonfinite_as_null: int = 0
    latency: LatencyHistogram = field(default_factory=LatencyHistogram)
    is_sending: bool = True
    clock: Callable[[], float] = time.monotonic
    started: float = field(init=False)

    def __post_init__(self) -> None:
        self.started = self.clock()

    def count_earlier(self, rows: int, failed: Mapping[str, int]) -> None:
        """Count rows that earlier runs of the job decided, the failed ones by code."""
        self.rows_resumed += rows
        self.rows_read += rows
        self.failed_resumed += sum(failed.values())
        self.rows_failed += sum(failed.values())
        self.rows_scored += rows - sum(failed.values())
        self.failed_rows.update(failed)

    def count_failed(self, row: int, failure: RowFailure) -> None:
        """Count a row that failed, and quote it if it is one of the first with its code."""
        self.rows_failed += 1
        self.failed_rows[failure.code] += 1
        examples = self.failed_examples.get(failure.code, [])
        if len(examples) == MAX_EXAMPLES:
            return
        if not examples:
            if len(self.failed_examples) == _MAX_EXAMPLE_CODES:
                return
            self.failed_examples[failure.code] = examples
        examples.append(FailedRow(row, str(failure).partition(": ")[2]))

    def take_traffic(self) -> Traffic:
        """What was sent since this was last asked, for the process that counts for all."""
        latencies, max_s, total_s = self.latency.take()
        taken = Traffic(
            self.requests,
            self.bytes_sent,
            self.bytes_received,
            self.nonfinite_as_null,
            dict(self.retries),
            latencies,
            max_s,
            total_s,
            self.in_flight,
            self.limit or 0,
        )
        self.requests = self.bytes_sent = self.bytes_received = self.nonfinite_as_null = 0
        self.retries.clear()
        return taken

    def add_traffic(self, now: Traffic, before: Traffic | None) -> None:
        """Count what another process sent since the ``before`` that it told last."""
        self.requests += now.requests
        self.bytes_sent += now.bytes_sent
        self.bytes_received += now.bytes_received
        self.nonfinite_as_null += now.nonfinite_as_null
        self.retries.update(now.retries)
        self.latency.add(now.latencies, now.max_latency_s, now.total_latency_s)
        self.in_flight += now.in_flight - (before.in_flight if before else 0)
        self.other_limits += now.limit - (before.limit if before else 0)

    @property
    def total_limit(self) -> int | None:
        """Requests that may be in flight now, those of all processes."""
        return None if self.limit is None else self.limit + self.other_limits

    @property
    def seconds(self) -> float:
        """Time since the run began."""
        return self.clock() - self.started

    @property
    def rows_done(self) -> int:
        """Rows decided and written."""
        return self.rows_scored + self.rows_failed

    @property
    def rows_per_second(self) -> float:
        """Rows that this run decided a second."""
        return (self.rows_done - self.rows_resumed) / max(self.seconds, 1e-9)


@dataclass(frozen=True, slots=True)
class RunReport:
    """How a run ended. ``as_dict`` is the JSON of ``--report``.

    Attributes:
        status: ``ok``, ``failed_rows``, ``stopped``, ``usage``, ``temporary``, ``interrupted``
            or ``terminated``.
        exit_code: what the command exits with.
        message: the error that ended the run, None at a good end.
        input: what was scored.
        output: the file that was to be written.
        endpoint: the address that rows went to, without user and query.
        resumable: whether there is work in progress that ``--resume`` goes on with.
        fingerprint: names the specification of the model that was met.
        version: that of batchscore.
        started_at: when the run began, ISO 8601 in UTC.
        rows_read, rows_scored, rows_failed: rows, those of earlier runs included.
        rows_resumed: how many of them earlier runs of the job decided.
        requests: HTTP tries for predictions, retries included.
        retries, failed_rows: counts by code.
        concurrency: requests that might be in flight at the end.
        bytes_sent, bytes_received: bodies of requests and answers.
        nonfinite_as_null: NaN and infinite numbers that were sent as null.
        seconds: how long the run took.
        rows_per_second: rows that this run decided, by its seconds.
        latency_s: percentiles of the answered requests in seconds.
        kind: ``score`` or ``rescore``.
        failed_examples: by code the first rows that this run saw fail; ``row`` counts from 1, in
            the input, or for ``rescore`` in the rows that were sent again.
        history: how the run went, window by window; see ``observers.history.Window``.
        options: what was asked for other than the defaults, without secrets.
        environment: the machine and the software.
    """

    status: str
    exit_code: int
    message: str | None = None
    resumable: bool = False
    input: tuple[str, ...] = ()
    output: str | None = None
    endpoint: str | None = None
    fingerprint: str | None = None
    version: str | None = None
    started_at: str | None = None
    rows_read: int = 0
    rows_scored: int = 0
    rows_failed: int = 0
    rows_resumed: int = 0
    requests: int = 0
    retries: dict[str, int] = field(default_factory=dict)
    concurrency: int | None = None
    failed_rows: dict[str, int] = field(default_factory=dict)
    bytes_sent: int = 0
    bytes_received: int = 0
    nonfinite_as_null: int = 0
    seconds: float = 0.0
    rows_per_second: float = 0.0
    latency_s: dict[str, float | None] = field(default_factory=dict)
    kind: str = "score"
    failed_examples: dict[str, list[dict[str, object]]] = field(default_factory=dict)
    history: list[dict[str, object]] = field(default_factory=list)
    options: dict[str, object] = field(default_factory=dict)
    environment: dict[str, object] = field(default_factory=dict)

    def as_dict(self) -> dict[str, object]:
        """The report as JSON-ready values."""
        return {"schema_version": REPORT_SCHEMA_VERSION, **asdict(self)}

    def as_json(self) -> str:
        """The report as the text of a JSON file."""
        return json.dumps(self.as_dict(), indent=2) + "\n"
