"""Service level objectives: what a load has to keep, and whether it did."""

from __future__ import annotations

import math
import re
from dataclasses import dataclass
from typing import TYPE_CHECKING, Literal

from batchscore.units import Rate, parse_duration, parse_rate, parse_share

if TYPE_CHECKING:
    from batchscore.bench.cells import Cell

_EXAMPLE = "p99=100ms, throughput=500rows/s or errors=1%"


@dataclass(frozen=True, slots=True)
class Slo:
    """One objective.

    Attributes:
        text: as it was given.
        metric: what is bounded.
        percent: of a percentile.
        bound: seconds, a share, or rows or requests a second.
        unit: of a throughput.
    """

    text: str
    metric: Literal["percentile", "mean", "max", "throughput", "errors"]
    bound: float
    percent: float = 0.0
    unit: str = ""

    @classmethod
    def parse(cls, text: str) -> Slo:
        """Read ``p99=100ms``.

        Raises:
            ValueError: it is no objective.
        """
        name, sign, value = (part.strip() for part in text.partition("="))
        if not sign:
            raise ValueError(f"{text!r} is no objective; write it like {_EXAMPLE}")
        match name:
            case "throughput":
                rate = parse_rate(value)
                assert isinstance(rate, Rate)  # noqa: S101 - of a text it is nothing else
                return cls(text, "throughput", rate.per_second, unit=rate.unit)
            case "errors":
                return cls(text, "errors", _number(parse_share(value)))
            case "mean" | "max":
                return cls(text, name, _number(parse_duration(value)))
        found = re.fullmatch(r"p(\d+(?:\.\d+)?)", name)
        if not found or not 0 < float(found[1]) <= 100:
            raise ValueError(f"{name!r} cannot be asked for; write it like {_EXAMPLE}")
        seconds = _number(parse_duration(value))
        return cls(text, "percentile", seconds, percent=float(found[1]))

    def value(self, cell: Cell) -> float:
        """What a load did.

        A failed request keeps no latency: it counts as one that is never answered.
        """
        match self.metric:
            case "percentile":
                return cell.percentile(self.percent)
            case "mean":
                return math.inf if cell.failed_requests else cell.response.mean
            case "max":
                return cell.percentile(100)
            case "errors":
                return cell.failed_requests / cell.requests if cell.requests else 1.0
            case "throughput":
                is_rows = self.unit == "rows"
                return cell.goodput_rows_per_s if is_rows else cell.good_requests_per_s

    @property
    def name(self) -> str:
        """What is bounded: ``p99``, ``errors``."""
        return self.text.partition("=")[0].strip()

    def told(self, value: float) -> str:
        """A value in its unit."""
        if not math.isfinite(value):
            return "never, as too many failed"
        match self.metric:
            case "errors":
                return f"{value:.2%}"
            case "throughput":
                return f"{value:,.1f} {'rows' if self.unit == 'rows' else 'req'}/s"
        return f"{value * 1000:.2f} ms" if value < 1 else f"{value:.2f} s"

    def is_kept(self, value: float) -> bool:
        """Whether so much keeps it."""
        return value >= self.bound if self.metric == "throughput" else value <= self.bound


def _number(value: object) -> float:
    assert isinstance(value, float)  # noqa: S101 - of a text these are nothing else
    return value
