"""The pages as Chromium draws them: everything is there, in its place, and can be read."""

from __future__ import annotations

import itertools
from html.parser import HTMLParser
from pathlib import Path
from typing import Any

import pytest
from PIL import Image

from batchscore.report_page import page
from pages import browser, sample

in_chromium = pytest.mark.skipif(browser.CHROMIUM is None, reason=browser.INSTALL)
REPORTS = {"bench": sample.bench_report, "job": sample.job_report}
CHARTS = {
    # Two searches, throughput of three kinds of load, their percentiles (those of the open one
    # twice), twelve measurements over time.
    "bench": 2 + 3 + 4 + 12,
    "job": 4,
}
WIDTHS = (360, 1280)
SLACK_PX = 1.5
"""Half of a curve's width and what rounding costs."""


@pytest.fixture(scope="module", params=list(REPORTS))
def kind(request: pytest.FixtureRequest) -> str:
    return request.param


@pytest.fixture(scope="module")
def file(kind: str, tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp(kind) / "page.html"
    path.write_text(page(REPORTS[kind]()), encoding="utf-8")
    return path


@pytest.fixture(scope="module", params=WIDTHS)
def width(request: pytest.FixtureRequest) -> int:
    return request.param


@pytest.fixture(scope="module")
def drawn(file: Path, width: int) -> browser.Drawn:
    return browser.drawn(file, width)


def overlap(one: dict[str, float], other: dict[str, float]) -> bool:
    across = min(one["right"], other["right"]) - max(one["left"], other["left"])
    along = min(one["bottom"], other["bottom"]) - max(one["top"], other["top"])
    return across > 1 and along > 1


def is_inside(inner: dict[str, float], outer: dict[str, float]) -> bool:
    return (
        inner["left"] >= outer["left"] - SLACK_PX
        and inner["right"] <= outer["right"] + SLACK_PX
        and inner["top"] >= outer["top"] - SLACK_PX
        and inner["bottom"] <= outer["bottom"] + SLACK_PX
    )


def overlapping(texts: list[dict[str, Any]]) -> list[tuple[str, str]]:
    pairs = itertools.combinations(texts, 2)
    return [(a["text"], b["text"]) for a, b in pairs if overlap(a["box"], b["box"])]


@in_chromium
def test_the_page_fits_its_window_and_shows_every_chart(drawn, kind, width):
    """Nothing is wider than the window, and each chart is drawn once, with curves and ticks."""
    assert drawn.width <= width
    assert len(drawn.charts) == CHARTS[kind]
    for chart in drawn.charts:
        assert chart["curves"], chart["name"]
        assert len(chart["texts"]) >= 6, chart["name"]
        assert all(curve["length"] > 20 for curve in chart["curves"]), chart["name"]


@in_chromium
def test_curves_stay_in_their_plots_and_texts_in_their_drawings(drawn, width):
    """No curve leaves the box of its axes, no text its drawing, no drawing the window."""
    for chart in drawn.charts:
        assert 0 <= chart["box"]["left"] < chart["box"]["right"] <= width, chart["name"]
        assert is_inside(chart["frame"], chart["box"]), chart["name"]
        for curve in chart["curves"]:
            assert is_inside(curve["box"], chart["frame"]), chart["name"]
        for text in chart["texts"]:
            assert is_inside(text["box"], chart["box"]), (chart["name"], text)


@in_chromium
def test_no_text_lies_on_another(drawn):
    """Ticks, titles and legends of a chart, and the texts of the page, keep apart."""
    for chart in drawn.charts:
        assert not overlapping(chart["texts"]), chart["name"]
    assert len(drawn.blocks) > 40
    assert not overlapping(drawn.blocks)


@in_chromium
def test_lines_of_a_chart_differ_in_more_than_their_colour(drawn):
    """Whoever sees no colours tells the lines apart by their dashes."""
    for chart in drawn.charts:
        looks = [(curve["stroke"], curve["dash"]) for curve in chart["curves"]]
        assert len({stroke for stroke, _ in looks}) == len(looks), chart["name"]
        assert len({dash for _, dash in looks}) == len(looks), chart["name"]


@in_chromium
def test_in_the_dark_the_page_is_dark_and_can_be_read(file):
    """Where the reader wishes it, light text stands on a dark ground, else the other way round."""
    light, dark = (browser.drawn(file, 1280, is_dark=is_dark) for is_dark in (False, True))
    assert brightness(light.background) > 240
    assert brightness(light.colour) < 60
    assert brightness(dark.background) < 40
    assert brightness(dark.colour) > 200


def brightness(colour: str) -> float:
    """The mean of ``rgb(r, g, b)``."""
    parts = colour.removeprefix("rgb(").removesuffix(")").split(",")
    return sum(map(float, parts)) / 3


@in_chromium
def test_what_is_drawn_is_to_be_seen(file, width, tmp_path):
    """The picture is not blank: there is ink all over it, and the colours of the curves."""
    shot = browser.screenshot(file, width, 3000, tmp_path / "shot.png")
    with Image.open(shot) as opened:
        image = opened.convert("RGB").crop((0, 0, width, 3000))
    for top in range(0, 2000, 500):
        colours = image.crop((0, top, width, top + 500)).getcolors(1 << 24)
        assert colours
        ink = sum(count for count, colour in colours if sum(colour) < 600)
        assert ink > 0.002 * width * 500, f"nothing from {top} px on"
    counted = {colour: count for count, colour in image.getcolors(1 << 24) or []}
    assert counted.get((0x00, 0x72, 0xB2), 0) > 200
    assert counted.get((0xD5, 0x5E, 0x00), 0) > 100


class Tags(HTMLParser):
    """What elements a page has, with their attributes."""

    def __init__(self) -> None:
        super().__init__()
        self.found: list[tuple[str, dict[str, str | None]]] = []

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.found.append((tag, dict(attrs)))


def test_the_page_loads_nothing_and_runs_nothing(file):
    """There is no script, no handler, no address: the one file is all, and its policy says so."""
    text = file.read_text()
    tags = Tags()
    tags.feed(text)
    assert len(tags.found) > 500
    for tag, attributes in tags.found:
        assert tag not in {"script", "link", "iframe", "img", "object", "embed", "image", "use"}
        for name in attributes:
            assert name not in {"src", "href", "srcset", "xlink:href", "action", "data"}
            assert not name.startswith("on")
    assert "@import" not in text
    assert "url(" not in text
    assert "default-src &#x27;none&#x27;" in text or "default-src 'none'" in text


def test_neither_secrets_nor_markup_of_others_come_onto_the_page():
    """Whatever the JSON holds: no token, header value, user or query, and text is text."""
    text = page(sample.job_report())
    assert not [secret for secret in sample.SECRETS if secret in text]
    assert "<script>" not in text
    assert "&lt;script&gt;alert(1)&lt;/script&gt; &amp; a price below 0: -1" in text
    assert "http://127.0.0.1:8080/deployment/penguins/forward" in text
    assert "X-Key" in text


def test_a_benchmark_that_measured_nothing_still_gets_its_page():
    """A page without cells tells how the run ended."""
    report = sample.bench_report() | {
        "cells": [], "slo": [], "find_max": [], "reuse": None, "comparison": None,
        "status": "invalid", "message": "no answer from <the server>",
    }  # fmt: skip
    text = page(report)
    assert "no answer from &lt;the server&gt;" in text
    assert "<svg" not in text
