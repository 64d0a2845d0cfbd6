"""The counters of a run in the two texts that Prometheus reads.

Names and units follow Prometheus' conventions: counters end in ``_total``, times are seconds,
sizes bytes. The same families are written in either format; a scrape makes them anew from the
live counters, so that a run which nobody scrapes pays nothing.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import TYPE_CHECKING, Literal

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Mapping, Sequence

    from batchscore.metrics import LatencyHistogram, RunMetrics

TEXT = "text/plain; version=0.0.4; charset=utf-8"
OPENMETRICS = "application/openmetrics-text; version=1.0.0; charset=utf-8"

LATENCY_BOUNDS_S = (
    0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0, 30.0, 60.0,
    120.0, 300.0,
)  # fmt: skip
"""Upper ends of the histogram's buckets: Prometheus' usual ones, and on to long timeouts."""

_PREFIX = "batchscore_"
_MEDIA_RANGE = re.compile(r"\s*([^;,\s]+)\s*((?:;[^,]*)?)")


@dataclass(frozen=True)
class Sample:
    """One line: what follows the family's name, the labels, the value."""

    suffix: str
    value: float
    labels: Mapping[str, str]


@dataclass(frozen=True)
class Family:
    """A metric: its samples share name and meaning.

    Attributes:
        name: without ``batchscore_``, and without the suffixes of its samples.
        kind: what it is; an ``info`` is always 1, and its labels tell.
        told: its meaning, in one line.
        samples: may be none, as long as nothing of the kind has happened.
        unit: the last part of the name, where it has one.
    """

    name: str
    kind: Literal["counter", "gauge", "histogram", "info"]
    told: str
    samples: Sequence[Sample]
    unit: str = ""


def families(metrics: RunMetrics, about: About) -> list[Family]:
    """All that a run tells of itself, as it is now.

    Args:
        metrics: its counters.
        about: what does not change while it runs.
    """
    found = [
        _info("build", "Version of the program that runs.", about.build),
        _info("run", "What is scored: kind of run, deployment, output.", about.run),
        _gauge("start_time_seconds", "When the run began, since 1970.", about.start_s, "seconds"),
        _gauge("duration_seconds", "How long the run has lasted.", metrics.seconds, "seconds"),
        _gauge("input_rows", "Rows that the input has, where that is known.", metrics.total_rows),
        _counter("rows_read", "Rows read, resumed ones among them.", metrics.rows_read),
        _counter("rows_scored", "Rows scored, resumed ones among them.", metrics.rows_scored),
        _by("rows_failed", "Rows that failed, by error.", "code", metrics.failed_rows),
        _counter("rows_resumed", "Rows that earlier runs decided.", metrics.rows_resumed),
        _counter("attempts", "Requests sent, retries included.", metrics.requests),
        _by("retries", "Attempts after the first, by what went wrong.", "cause", metrics.retries),
        _gauge("requests_in_flight", "Requests under way.", metrics.in_flight),
        _gauge("requests_limit", "Requests that may be under way.", metrics.total_limit),
        _histogram(metrics.latency),
        _counter("sent_bytes", "Bytes of requests' bodies.", metrics.bytes_sent, "bytes"),
        _counter("received_bytes", "Bytes of answers' bodies.", metrics.bytes_received, "bytes"),
    ]
    if about.exit_code is not None:
        found.append(_gauge("exit_code", "What the command exits with.", about.exit_code))
    return found


@dataclass
class About:
    """What a run tells of itself beside its counters.

    Attributes:
        build, run: labels; nothing in them may be a secret.
        start_s: when it began, in seconds since 1970.
        exit_code: None until it has ended.
    """

    build: Mapping[str, str]
    run: Mapping[str, str]
    start_s: float
    exit_code: int | None = None


def _info(name: str, told: str, labels: Mapping[str, str]) -> Family:
    return Family(name, "info", told, [Sample("_info", 1, labels)])


def _gauge(name: str, told: str, value: float | None, unit: str = "") -> Family:
    return Family(name, "gauge", told, [] if value is None else [Sample("", value, {})], unit)


def _counter(name: str, told: str, value: float, unit: str = "") -> Family:
    return Family(name, "counter", told, [Sample("_total", value, {})], unit)


def _by(name: str, told: str, label: str, counts: Mapping[str, int]) -> Family:
    samples = [Sample("_total", count, {label: key}) for key, count in sorted(counts.items())]
    return Family(name, "counter", told, samples)


def _histogram(latency: LatencyHistogram) -> Family:
    counts = [*latency.up_to(LATENCY_BOUNDS_S), latency.count]
    bounds = [*map(str, LATENCY_BOUNDS_S), "+Inf"]
    samples = [
        Sample("_bucket", count, {"le": bound}) for bound, count in zip(bounds, counts, strict=True)
    ]
    samples += [Sample("_count", latency.count, {}), Sample("_sum", latency.total_s, {})]
    told = "Time from sending a request to the last byte of its answer."
    return Family("request_duration_seconds", "histogram", told, samples, "seconds")


def exposition(found: Iterable[Family], content_type: str) -> bytes:
    """The families as one of the two texts."""
    is_open = content_type == OPENMETRICS
    lines = [line for family in found for line in _lines(family, is_open=is_open)]
    return "".join(f"{line}\n" for line in [*lines, *(["# EOF"] if is_open else [])]).encode()


def _lines(family: Family, *, is_open: bool) -> Iterator[str]:
    if not family.samples:
        return
    name, kind = _PREFIX + family.name, family.kind
    if not is_open:
        # There a family is called as its samples are, and nothing is known of infos.
        name += {"counter": "_total", "info": "_info"}.get(kind, "")
        kind = "gauge" if kind == "info" else kind
    yield f"# HELP {name} {family.told}"
    yield f"# TYPE {name} {kind}"
    if is_open and family.unit:
        yield f"# UNIT {name} {family.unit}"
    for sample in family.samples:
        labels = ",".join(f'{key}="{_escaped(text)}"' for key, text in sample.labels.items())
        written = f"{{{labels}}}" if labels else ""
        yield f"{_PREFIX}{family.name}{sample.suffix}{written} {sample.value!r}"


def _escaped(text: str) -> str:
    return text.replace("\\", r"\\").replace('"', r"\"").replace("\n", r"\n")


def negotiated(accept: str) -> str:
    """The content type for whoever accepts this: OpenMetrics where that is liked at least as well.

    Args:
        accept: the ``Accept`` header, empty where there is none.
    """
    liked = {TEXT: 0.0, OPENMETRICS: 0.0}
    for media_type, parameters in _MEDIA_RANGE.findall(accept):
        pairs = [part.partition("=") for part in parameters.split(";")]
        given = {name.strip().lower(): value.strip(' "') for name, _, value in pairs}
        quality = _quality(given.get("q", "1"))
        if media_type.lower() == "application/openmetrics-text":
            if given.get("version", "1.0.0") == "1.0.0":
                liked[OPENMETRICS] = max(liked[OPENMETRICS], quality)
        elif media_type.lower() == "text/plain" and given.get("version", "0.0.4") == "0.0.4":
            liked[TEXT] = max(liked[TEXT], quality)
    return OPENMETRICS if liked[OPENMETRICS] >= max(liked[TEXT], 0.001) else TEXT


def _quality(text: str) -> float:
    try:
        return float(text)
    except ValueError:
        return 0.0
