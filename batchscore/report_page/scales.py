"""From values to places on a plot: scales, their ticks, and how ticks are written."""

from __future__ import annotations

import math
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

CHARACTER_PX = 7.0
"""A digit's width at most, at the size in which ticks are written."""


@dataclass(frozen=True, slots=True)
class Scale:
    """One axis.

    Attributes:
        low, high: the values at its ends.
        start_px, end_px: where its ends are; a vertical axis ends above where it starts.
        place: makes values evenly spaced, such as a logarithm.
        ticks: what is marked, with its text; all of it lies on the axis.
    """

    low: float
    high: float
    start_px: float
    end_px: float
    place: Callable[[float], float]
    ticks: tuple[tuple[float, str], ...]

    def __call__(self, value: float) -> float:
        """Where a value is; one beyond an end is at that end."""
        low, high = self.place(self.low), self.place(self.high)
        share = (self.place(min(max(value, self.low), self.high)) - low) / (high - low)
        return self.start_px + share * (self.end_px - self.start_px)


def linear(
    low: float, high: float, start_px: float, end_px: float, text: Callable[[float], str]
) -> Scale:
    """An axis of even steps, which reaches to the next full step at both ends."""
    high = high if high > low else low + 1
    room = abs(end_px - start_px) / 64
    step = _full(high - low, max(2, min(8, room)))
    first, last = math.floor(low / step + 1e-9), math.ceil(high / step - 1e-9)
    values = [step * n for n in range(first, last + 1)]
    return Scale(values[0], values[-1], start_px, end_px, float, _texts(values, text))


def logarithmic(
    low: float, high: float, start_px: float, end_px: float, text: Callable[[float], str]
) -> Scale:
    """An axis of decades; ``low`` must be above 0."""
    first, last = math.floor(math.log10(low) + 1e-9), math.ceil(math.log10(high) - 1e-9)
    last = max(last, first + 1)
    parts = (1, 2, 5) if last - first <= 2 else (1,)
    values = [m * 10.0**n for n in range(first, last + 1) for m in parts]
    # Only as much of the first and last decade as is needed.
    start = max((v for v in values if v <= low * (1 + 1e-9)), default=values[0])
    end = min((v for v in values if v >= high * (1 - 1e-9)), default=values[-1])
    if start == end:
        end = next(v for v in values if v > start)
    kept = [v for v in values if start <= v <= end]
    return Scale(start, end, start_px, end_px, math.log10, _texts(kept, text))


_STEPS_S = (1, 2, 5, 10, 15, 30, 60, 120, 300, 600, 900, 1800, 3600, 7200, 14400, 28800, 86400)


def elapsed(high: float, start_px: float, end_px: float, text: Callable[[float], str]) -> Scale:
    """An axis of seconds from 0 to exactly the last one, marked at full seconds or minutes."""
    high = high if high > 0 else 1.0
    most = max(3, abs(end_px - start_px) / 70)
    whole = [step for step in _STEPS_S if step <= high]
    step = next((s for s in whole if s >= high / most), whole[-1]) if whole else _full(high, most)
    values = [step * n for n in range(math.floor(high / step + 1e-9) + 1)]
    scale = Scale(0.0, high, start_px, end_px, float, ())
    return replace(scale, ticks=uncrowded(_texts(values, text), scale))


def log_nines(percent: float) -> float:
    """How many nines a percentile has: 0 for 0 %, 1 for 90 %, 2 for 99 %."""
    return -math.log10(1 - percent / 100)


def nines(highest: float, start_px: float, end_px: float) -> Scale:
    """The axis of percentiles as HDR plots have it: each nine more takes the same room.

    Args:
        highest: the largest percentile, below 100.
        start_px: where 0 % is.
        end_px: where ``highest`` is.
    """
    if not 0 < highest < 100:
        raise ValueError(f"{highest} is no percentile that can be placed")
    named = [0, 50, 90, 99, 99.9, 99.99, 99.999, 99.9999]
    values = [p for p in named if p <= highest]
    if highest - values[-1] > 1e-9:
        values.append(highest)
    ticks = [(float(v), percent_text(v)) for v in values]
    scale = Scale(0.0, highest, start_px, end_px, log_nines, ())
    return replace(scale, ticks=uncrowded(ticks, scale))


def uncrowded(ticks: Sequence[tuple[float, str]], scale: Scale) -> tuple[tuple[float, str], ...]:
    """The ticks whose texts do not touch; the first and the last are always kept."""
    kept: list[tuple[float, str]] = []
    ends = ticks[-1:]
    for tick in ticks[:-1]:
        neighbours = [*kept[-1:], *ends]
        if all(_is_apart(scale, tick, other) for other in neighbours):
            kept.append(tick)
    return (*kept, *ends)


def _is_apart(scale: Scale, one: tuple[float, str], other: tuple[float, str]) -> bool:
    needed = CHARACTER_PX * (len(one[1]) + len(other[1])) / 2 + 8
    return abs(scale(one[0]) - scale(other[0])) >= needed


def _full(span: float, parts: float) -> float:
    """The step of 1, 2 or 5 times a power of ten that cuts a span in at most so many parts."""
    rough = span / parts
    power = 10.0 ** math.floor(math.log10(rough))
    return next(m * power for m in (1, 2, 5, 10) if m * power >= rough * (1 - 1e-9))


def _texts(values: Sequence[float], text: Callable[[float], str]) -> tuple[tuple[float, str], ...]:
    return tuple((value, text(value)) for value in values)


def percent_text(percent: float) -> str:
    """A percentile with as many digits as tell it from 100: ``50%``, ``99.95%``."""
    text = f"{percent:.{max(1, math.ceil(log_nines(percent)) - 1)}f}"
    return text.rstrip("0").rstrip(".") + "%"


def seconds_text(seconds: float) -> str:
    """A time with its unit: ``0``, ``250 µs``, ``1.5 ms``, ``12 s``."""
    if seconds == 0:
        return "0"
    for size, unit in ((1e-6, "µs"), (1e-3, "ms")):
        if seconds < 999.5 * size:
            return f"{_three_digits(seconds / size)} {unit}"
    return f"{_three_digits(seconds)} s"


def clock_text(seconds: float) -> str:
    """A time since the start: ``12 s``, ``1:30`` minutes, ``2:05:00`` hours."""
    if seconds < 100:
        return f"{seconds:g} s" if seconds else "0"
    whole = round(seconds)
    minutes = f"{whole // 60 % 60}:{whole % 60:02}"
    return minutes if whole < 3600 else f"{whole // 3600}:{whole // 60 % 60:02}:{whole % 60:02}"


def number_text(value: float) -> str:
    """A count or a rate: ``0.4``, ``950``, ``5.1k``, ``2M``."""
    for size, unit in ((1e9, "G"), (1e6, "M"), (1e3, "k")):
        if abs(value) >= 0.9995 * size:
            return f"{_three_digits(value / size)}{unit}"
    return _three_digits(value)


def _three_digits(value: float) -> str:
    """Three digits that count, without an exponent."""
    if value == 0:
        return "0"
    decimals = max(0, 2 - math.floor(math.log10(abs(value))))
    text = f"{value:.{decimals}f}"
    return text.rstrip("0").rstrip(".") if "." in text else text
