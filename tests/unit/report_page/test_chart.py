"""A chart from lines to SVG."""

import re

from batchscore.report_page.chart import Axis, Chart, Line
from batchscore.report_page.scales import number_text

X, Y = Axis("load", number_text), Axis("rows", number_text)


def test_a_curve_is_interrupted_where_nothing_is_known():
    """While no request is answered there is no latency, and no line that claims one."""
    line = Line("p50", [(0, 1.0), (1, 2.0), (2, None), (3, None), (4, 2.0), (5, 1.0)], 0)
    svg = str(Chart("c", X, Y, [line]).drawn())
    narrow, wide = re.findall(r'<path d="([^"]*)" class="curve"', svg)
    assert narrow.count("M") == wide.count("M") == 2
    assert narrow.count("L") == wide.count("L") == 2


def test_many_points_are_drawn_as_few():
    """A long run does not make a large page, and its peak is still there."""
    points = [(float(x), 100.0 if x == 5017 else 1.0) for x in range(20_000)]
    svg = str(Chart("c", X, Y, [Line("a", points, 0)]).drawn())
    assert len(svg) < 80_000
    (narrow, _) = re.findall(r'<path d="([^"]*)" class="curve"', svg)
    heights = [float(y) for y in re.findall(r"[ML]\S+ ([\d.]+)", narrow)]
    assert min(heights) == 26.0
    assert heights.count(min(heights)) == 1


def test_a_chart_of_nothing_is_nothing():
    """Neither no lines nor lines without values leave an empty frame behind."""
    assert Chart("c", X, Y, []).drawn() == ""
    assert Chart("c", X, Y, [Line("a", [(0, None)], 0)]).drawn() == ""


def test_values_are_told_where_the_pointer_rests():
    """Without a script, a column over the plot has the values of all lines as its title."""
    lines = [Line("scored", [(1, 10.0), (2, 20.0)], 0), Line("failed", [(2, 5.0)], 1)]
    svg = str(Chart("c", X, Y, lines).drawn())
    assert "<title>load: 2\nscored: 20\nfailed: 5</title>" in svg
    assert "<title>load: 1\nscored: 10</title>" in svg


def test_one_point_alone_can_be_drawn():
    """A run of one window has a chart, too."""
    assert "<path" in Chart("c", X, Y, [Line("a", [(0.0, 0.0)], 0)]).drawn()
