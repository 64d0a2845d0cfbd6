"""Line charts as inline SVG: one drawing for narrow screens and one for wide ones."""

from __future__ import annotations

from dataclasses import dataclass, replace
from itertools import groupby, pairwise
from typing import TYPE_CHECKING

from batchscore.report_page.markup import Markup, element, joined
from batchscore.report_page.scales import (
    CHARACTER_PX,
    Scale,
    elapsed,
    linear,
    logarithmic,
    nines,
    uncrowded,
)
from batchscore.report_page.style import DASHES, LINES
from batchscore.report_page.thinning import Point, thinned

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

NARROW, WIDE = (336, 250), (580, 330)
_TOP, _BOTTOM = 26, 46
_MOST_POINTS = 600
_MOST_MARKERS = 24
_MOST_HITS = 60
_LOG_FROM = 30


@dataclass(frozen=True, slots=True)
class Line:
    """One curve.

    Attributes:
        name: what the legend says.
        points: from left to right; None in place of a value interrupts the curve.
        look: which of the colours, dashes and markers it has.
    """

    name: str
    points: Sequence[tuple[float, float | None]]
    look: int

    @property
    def known(self) -> list[Point]:
        """The points that have a value."""
        return [(x, y) for x, y in self.points if y is not None]

    def stretches(self) -> list[list[Point]]:
        """The points that are joined, few enough to be drawn."""
        groups = groupby(self.points, key=lambda point: point[1] is None)
        stretches = [[(x, y) for x, y in group if y is not None] for _, group in groups]
        most = _MOST_POINTS / max(1, len(self.points))
        return [thinned(s, max(4, round(most * len(s)))) for s in stretches if s]


@dataclass(frozen=True, slots=True)
class Axis:
    """What an axis says.

    Attributes:
        title: what is measured.
        text: writes a value.
        kind: ``linear`` from 0; ``log`` where the values span much, else as ``linear``; ``time``
            from 0 to the last value; ``nines`` for percentiles.
    """

    title: str
    text: Callable[[float], str]
    kind: str = "linear"


@dataclass(frozen=True, slots=True)
class Chart:
    """A chart.

    Attributes:
        title: stands above it.
        x, y: its axes.
        lines: its curves.
        note: stands below it.
        flags: values of x that are marked, from left to right, and the words for them.
        high: the least that the y axis reaches to, so that two charts can be compared.
    """

    title: str
    x: Axis
    y: Axis
    lines: Sequence[Line]
    note: object = ""
    flags: Sequence[tuple[float, str]] = ()
    high: float = 0.0

    def drawn(self) -> Markup:
        """The chart with its legend; none where there is nothing to draw."""
        lines = [line for line in self.lines if line.known]
        if not lines:
            return Markup("")
        return element(
            "figure",
            element("h3", self.title),
            _legend(lines) if len(lines) > 1 else "",
            self._svg(lines, NARROW, "narrow"),
            self._svg(lines, WIDE, "wide"),
            element("figcaption", self.note) if self.note else "",
        )

    def _svg(self, lines: Sequence[Line], size: tuple[int, int], which: str) -> Markup:
        width, height = size
        ys = [y for line in lines for _, y in line.known]
        vertical = self._vertical(ys, height - _BOTTOM, _TOP)
        left = 12 + max(len(text) for _, text in vertical.ticks) * CHARACTER_PX
        horizontal = self._horizontal(lines, left, width)
        right = horizontal.end_px
        parts = [
            *_grid(horizontal, vertical),
            _label(left, 12, self.y.title, "start"),
            _label((left + right) / 2, height - 6, self.x.title, "middle"),
            *(_curve(line, horizontal, vertical) for line in lines),
            *self._flags(horizontal, vertical),
            *self._hits(lines, horizontal, vertical),
        ]
        return element(
            "svg",
            *parts,
            class_=which,
            viewBox=f"0 0 {width} {height}",
            role="img",
            aria_label=f"{self.title}: {self.y.title} over {self.x.title}",
        )

    def _vertical(self, ys: Sequence[float], start_px: float, end_px: float) -> Scale:
        high = max(*ys, self.high, 0.0)
        above = [y for y in ys if y > 0]
        if self.y.kind == "log" and above and high > _LOG_FROM * min(above):
            return logarithmic(min(above), high, start_px, end_px, self.y.text)
        return linear(0.0, high, start_px, end_px, self.y.text)

    def _horizontal(self, lines: Sequence[Line], start_px: float, width: float) -> Scale:
        xs = [x for line in lines for x, _ in line.known]
        # Half of the last text stands to the right of the axis.
        end_px = width - 4 - CHARACTER_PX * max(2, len(self.x.text(max(xs)))) / 2
        if self.x.kind == "nines":
            return nines(max(xs), start_px, end_px)
        if self.x.kind == "time":
            return elapsed(max(xs), start_px, end_px, self.x.text)
        if self.x.kind == "log" and 0 < _LOG_FROM * min(xs) < max(xs):
            scale = logarithmic(min(xs), max(xs), start_px, end_px, self.x.text)
        else:
            scale = linear(0.0, max(xs), start_px, end_px, self.x.text)
        return replace(scale, ticks=uncrowded(scale.ticks, scale))

    def _flags(self, horizontal: Scale, vertical: Scale) -> list[Markup]:
        parts = []
        for number, (value, word) in enumerate(self.flags):
            x, room = horizontal(value), 6 + CHARACTER_PX * len(word)
            fits_left = x - room > horizontal.start_px
            fits_right = x + room < horizontal.end_px
            # The first of several stands before its line, and the last one behind.
            is_before = fits_left and (number < len(self.flags) - 1 or not fits_right)
            anchor, beside = ("end", x - 6) if is_before else ("start", x + 6)
            path = f"M{x:.1f} {vertical.start_px:.1f}V{vertical.end_px:.1f}"
            # Those of neighbours stand above each other.
            low = vertical.start_px - 8 - 17 * number
            parts.append(element("path", d=path, class_="flag"))
            parts.append(_label(beside, low, word, anchor, class_="flagged"))
        return parts

    def _hits(self, lines: Sequence[Line], across: Scale, up: Scale) -> list[Markup]:
        """Columns that tell their values when the pointer rests on them, without a script."""
        xs = sorted({x for line in lines for x, _ in line.known})
        xs = xs[:: -(-len(xs) // _MOST_HITS)]
        edges = [across.start_px, *((across(a) + across(b)) / 2 for a, b in pairwise(xs))]
        edges.append(across.end_px)
        values = [dict(line.known) for line in lines]
        hits = []
        for x, left, right in zip(xs, edges[:-1], edges[1:], strict=True):
            told = [f"{self.x.title}: {self.x.text(x)}"] + [
                f"{line.name}: {self.y.text(of[x])}"
                for line, of in zip(lines, values, strict=True)
                if x in of
            ]
            hits.append(
                element(
                    "rect",
                    element("title", "\n".join(told)),
                    x=f"{left:.1f}",
                    y=f"{up.end_px:.1f}",
                    width=f"{max(0.1, right - left):.1f}",
                    height=f"{up.start_px - up.end_px:.1f}",
                    class_="hit",
                )
            )
        return hits


def _grid(horizontal: Scale, vertical: Scale) -> list[Markup]:
    left, right = horizontal.start_px, horizontal.end_px
    bottom, top = vertical.start_px, vertical.end_px
    parts = []
    for value, text in vertical.ticks:
        y = vertical(value)
        parts.append(element("path", d=f"M{left:.1f} {y:.1f}H{right:.1f}", class_="grid"))
        parts.append(_label(left - 6, y + 4, text, "end"))
    for value, text in horizontal.ticks:
        x = horizontal(value)
        parts.append(element("path", d=f"M{x:.1f} {bottom:.1f}V{top:.1f}", class_="grid"))
        parts.append(_label(x, bottom + 19, text, "middle"))
    box = f"M{left:.1f} {top:.1f}V{bottom:.1f}H{right:.1f}"
    return [*parts, element("path", d=box, class_="grid frame")]


def _label(x: float, y: float, text: str, anchor: str, class_: str | None = None) -> Markup:
    return element("text", text, x=f"{x:.1f}", y=f"{y:.1f}", text_anchor=anchor, class_=class_)


def _curve(line: Line, horizontal: Scale, vertical: Scale) -> Markup:
    stretches = [[(horizontal(x), vertical(y)) for x, y in s] for s in line.stretches()]
    path = "".join("M" + "L".join(f"{x:.1f} {y:.1f}" for x, y in s) for s in stretches)
    points = [point for stretch in stretches for point in stretch]
    step = -(-len(points) // _MOST_MARKERS)
    marks = joined(_marker(line.look, x, y) for x, y in points[::step])
    return element("g", element("path", d=path, **_stroke(line.look)), marks, class_="line")


def _stroke(look: int) -> dict[str, str | None]:
    return {
        "class_": "curve",
        "style": f"stroke:var(--c{look % LINES})",
        "stroke_dasharray": DASHES[look % LINES] or None,
    }


def _marker(look: int, x: float, y: float) -> Markup:
    r = 3.2
    shapes = (
        f"M{x - r:.1f} {y:.1f}a{r} {r} 0 1 0 {2 * r} 0a{r} {r} 0 1 0 {-2 * r} 0z",
        f"M{x - r:.1f} {y - r:.1f}h{2 * r}v{2 * r}h{-2 * r}z",
        f"M{x:.1f} {y - r - 1:.1f}l{r + 0.8} {2 * r}h{-2 * (r + 0.8)}z",
        f"M{x:.1f} {y - r - 1:.1f}l{r + 1} {r + 1}l{-r - 1} {r + 1}l{-r - 1} {-r - 1}z",
        f"M{x:.1f} {y + r + 1:.1f}l{r + 0.8} {-2 * r}h{-2 * (r + 0.8)}z",
        f"M{x - 1.2:.1f} {y - r - 1:.1f}h2.4v{2 * r + 2}h-2.4z",
        f"M{x - r - 1:.1f} {y - 1.2:.1f}h{2 * r + 2}v2.4h{-2 * r - 2}z",
    )
    return element("path", d=shapes[look % LINES], style=f"fill:var(--c{look % LINES})")


def _legend(lines: Sequence[Line]) -> Markup:
    items = []
    for line in lines:
        sample = element(
            "svg",
            element("path", d="M1 7H33", **_stroke(line.look)),
            _marker(line.look, 17, 7),
            viewBox="0 0 34 14",
            aria_hidden="true",
        )
        items.append(element("li", sample, element("span", line.name)))
    return element("ul", *items, class_="legend")
