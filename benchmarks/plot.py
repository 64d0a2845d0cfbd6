"""The figures of a run as a plot: one panel a kind, one bar a client."""

from __future__ import annotations

from html import escape
from typing import TYPE_CHECKING

from clients import ONE, TRANSPORT, TWO

if TYPE_CHECKING:
    from collections.abc import Mapping

WIDTH, LABELS, VALUES = 760, 190, 190
BAR, GAP, TITLE, MARGIN = 16, 7, 30, 18
COLOURS = {ONE: "#0f6fb8", TWO: "#0b4f86", TRANSPORT: "#c9ced6"}
OTHER = "#8d99a8"
STYLE = (
    "text{font:13px system-ui,sans-serif;fill:#1f2328}"
    ".title{font-weight:600}.value{fill:#57606a}.spread{stroke:#1f2328;stroke-width:1.2}"
)


def plot(kinds: Mapping[str, Mapping[str, Mapping[str, float]]]) -> str:
    """An SVG of rows a second; a thin line is the spread, a panel has a scale of its own."""
    parts, top = [], MARGIN
    for kind, figures in kinds.items():
        panel, top = _panel(kind, figures, top)
        parts += panel
    height = top + 4
    return (
        f'<svg xmlns="http://www.w3.org/2000/svg" width="{WIDTH}" height="{height}" '
        f'viewBox="0 0 {WIDTH} {height}" role="img">'
        "<title>Rows a second of each way to score a file</title>"
        f"<style>{STYLE}</style>"
        f'<rect width="{WIDTH}" height="{height}" fill="#ffffff"/>\n'
        + "\n".join(parts)
        + "\n</svg>\n"
    )


def _panel(
    kind: str, figures: Mapping[str, Mapping[str, float]], top: int
) -> tuple[list[str], int]:
    parts = [_text(MARGIN, top + 10, f"{kind}, rows/s", "title")]
    top += TITLE
    room = WIDTH - LABELS - VALUES - 2 * MARGIN
    scale = room / max(of["rows_per_s_max"] for of in figures.values())
    for name, of in figures.items():
        left, middle = MARGIN + LABELS, top + BAR / 2
        length = max(1.0, of["rows_per_s"] * scale)
        low, high = (left + of[f"rows_per_s_{end}"] * scale for end in ("min", "max"))
        ratio = f"  ({of['ratio']:.1f} x loop)" if "ratio" in of else ""
        parts += [
            _text(left - 10, middle + 4.5, name, anchor="end"),
            _bar(left, top, length, COLOURS.get(name, OTHER)),
            f'<path class="spread" d="M{low:.1f} {middle:.1f}H{high:.1f}"/>',
            _text(
                max(left + length, high) + 8,
                middle + 4.5,
                f"{of['rows_per_s']:,.0f}{ratio}",
                "value",
            ),
        ]
        top += BAR + GAP
    return parts, top + MARGIN


def _text(x: float, y: float, text: str, kind: str = "", anchor: str = "start") -> str:
    return (
        f'<text x="{x:.1f}" y="{y:.1f}" text-anchor="{anchor}" class="{kind}">{escape(text)}</text>'
    )


def _bar(left: float, top: float, length: float, colour: str) -> str:
    return (
        f'<rect x="{left}" y="{top}" width="{length:.1f}" height="{BAR}" rx="2" fill="{colour}"/>'
    )
