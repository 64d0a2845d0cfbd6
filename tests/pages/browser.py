"""A page as headless Chromium draws it: what stands where, and what it looks like.

The window cannot be made as narrow as a phone, so the page stands in a frame of that width; a
script beside the frame, not in the page, measures what was drawn and writes it into the document,
which Chromium then prints.
"""

from __future__ import annotations

import html
import json
import re
import shutil
import subprocess
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from pathlib import Path

CHROMIUM = shutil.which("chromium") or shutil.which("chromium-browser")
INSTALL = "needs Chromium: apt-get install --no-install-recommends chromium fonts-dejavu-core"

_FRAME = """<!doctype html><meta charset="utf-8"><style>body{{margin:0}}</style>
<iframe src="{page}" style="width:{width}px;height:{height}px;border:0"></iframe>
<script>onload = () => {{
  const page = document.querySelector("iframe").contentDocument;
  const box = (node) => {{
    const r = node.getBoundingClientRect();
    return {{left: r.left, right: r.right, top: r.top, bottom: r.bottom}};
  }};
  const seen = [...page.querySelectorAll("figure > svg")].filter((s) => box(s).right > 0);
  const charts = seen.map((svg) => ({{
    name: svg.getAttribute("aria-label"),
    box: box(svg),
    frame: box(svg.querySelector(".frame")),
    curves: [...svg.querySelectorAll(".line > path:first-child")].map((curve) => ({{
      box: box(curve), length: curve.getTotalLength(),
      stroke: getComputedStyle(curve).stroke, dash: getComputedStyle(curve).strokeDasharray,
    }})),
    texts: [...svg.querySelectorAll("text")].map(
      (text) => ({{text: text.textContent, box: box(text)}})),
  }}));
  const blocks = [...page.querySelectorAll(
    "h1,h2,h3,p,li,dt,dd,th,td,figcaption,.tile b,.tile span")]
    .filter((n) => n.textContent.trim() && !n.querySelector("p,li"))
    .map((n) => ({{text: n.textContent, box: box(n), scrolls: !!n.closest(".scroll")}}));
  const out = document.createElement("script");
  out.type = "application/json"; out.id = "measured";
  out.textContent = JSON.stringify({{
    charts, blocks, scripts: page.scripts.length,
    width: page.documentElement.scrollWidth, height: page.documentElement.scrollHeight,
    loaded: performance.getEntriesByType("resource").length,
    background: getComputedStyle(page.body).backgroundColor,
    colour: getComputedStyle(page.body).color,
  }}).replaceAll("<", "\\\\u003c");
  document.body.append(out);
}}</script>
"""


@dataclass(frozen=True)
class Drawn:
    """What was drawn of a page.

    Attributes:
        charts: each chart that is seen, with the boxes of its frame, curves and texts.
        blocks: the texts outside charts, with their boxes.
        width, height: of the whole page, which is wider than its window if it does not fit.
        colour, background: of the page.
        scripts: how many scripts the page has.
    """

    charts: list[dict[str, Any]]
    blocks: list[dict[str, Any]]
    scripts: int
    width: int
    height: int
    loaded: int
    background: str
    colour: str


def drawn(page: Path, width: int, *, is_dark: bool = False) -> Drawn:
    """Let Chromium draw a page in a window so wide, and measure."""
    frame = _frame(page, width, 4000)
    words = ["--dump-dom", "--virtual-time-budget=5000", "--allow-file-access-from-files"]
    text = _run(frame, width, 4000, is_dark, *words).decode()
    found = re.search(r'<script type="application/json" id="measured">(.*?)</script>', text)
    assert found, text[-2000:]
    return Drawn(**json.loads(html.unescape(found[1])))


def screenshot(page: Path, width: int, height: int, to: Path, *, is_dark: bool = False) -> Path:
    """Let Chromium draw a page into a PNG."""
    frame = _frame(page, width, height)
    _run(frame, width, height, is_dark, f"--screenshot={to}", "--virtual-time-budget=5000")
    return to


def _frame(page: Path, width: int, height: int) -> Path:
    frame = page.with_name(f"frame-{width}.html")
    frame.write_text(_FRAME.format(page=page.name, width=width, height=height), encoding="utf-8")
    return frame


def _run(frame: Path, width: int, height: int, is_dark: bool, *words: str) -> bytes:
    assert CHROMIUM
    done = subprocess.run(
        [
            CHROMIUM, "--headless", "--no-sandbox", "--disable-gpu", "--hide-scrollbars",
            "--disable-dev-shm-usage", "--no-first-run",
            f"--user-data-dir={frame.parent / 'profile'}",
            f"--window-size={max(width, 500)},{height}",
            *(["--blink-settings=preferredColorScheme=0"] if is_dark else []),
            *words, frame.as_uri(),
        ],
        capture_output=True, timeout=90, check=True,
    )  # fmt: skip
    return done.stdout
