"""Fewer points for the same picture."""

from hypothesis import given
from hypothesis import strategies as st

from batchscore.report_page.thinning import thinned


@given(st.lists(st.floats(-1e6, 1e6), min_size=1, max_size=3000), st.integers(10, 200))
def test_peaks_and_ends_outlive_the_thinning(heights, most):
    """No more points than asked for, in order, with the ends, the highest and the lowest."""
    points = [(float(x), y) for x, y in enumerate(heights)]
    kept = thinned(points, most)
    assert len(kept) <= most
    assert kept == sorted(set(kept))
    assert set(kept) <= set(points)
    assert {points[0], points[-1]} <= set(kept)
    assert max(y for _, y in kept) == max(heights)
    assert min(y for _, y in kept) == min(heights)


def test_what_is_few_enough_stays_as_it_is():
    """Nothing is lost of a short line."""
    points = [(0.0, 1.0), (1.0, 5.0), (2.0, 5.0)]
    assert thinned(points, 3) == points
