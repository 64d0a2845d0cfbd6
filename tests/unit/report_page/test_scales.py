"""Where values stand on an axis, and how they are written."""

import itertools

import pytest
from hypothesis import given
from hypothesis import strategies as st

from batchscore.report_page.scales import (
    CHARACTER_PX,
    clock_text,
    elapsed,
    linear,
    log_nines,
    logarithmic,
    nines,
    number_text,
    percent_text,
    seconds_text,
)

POSITIVE = st.floats(1e-6, 1e6)


@given(POSITIVE, st.floats(0, 1))
def test_a_linear_axis_holds_its_values_in_proportion(high, share):
    """Every value lies between the ends, as far along as it is large."""
    scale = linear(0, high, 10, 210, str)
    assert scale.low <= 0
    assert scale.high >= high * (1 - 1e-9)
    value = share * scale.high
    assert scale(value) == pytest.approx(10 + 200 * share)


@given(POSITIVE, st.floats(1, 1e6))
def test_a_logarithmic_axis_gives_each_factor_the_same_room(low, factor):
    """Its ends hold the values, its ticks rise, and equal ratios are equally far apart."""
    scale = logarithmic(low, low * factor, 300, 20, str)
    assert scale.low <= low * (1 + 1e-6)
    assert scale.high >= low * factor * (1 - 1e-6)
    places = [scale(value) for value, _ in scale.ticks]
    assert places == sorted(places, reverse=True)
    middle = (scale.low * scale.high) ** 0.5
    assert scale(middle) == pytest.approx(160)


@given(st.floats(0.2, 4e5), st.floats(120, 900))
def test_an_axis_of_time_ends_with_the_run(seconds, width):
    """It ends at the last second, not at a round one after it, and has two ticks or more."""
    scale = elapsed(seconds, 0, width, clock_text)
    assert (scale(0), scale(seconds)) == (0, pytest.approx(width))
    assert len(scale.ticks) >= 2
    assert all(0 <= value <= seconds * (1 + 1e-6) for value, _ in scale.ticks)
    for (a, text), (b, other) in itertools.pairwise(scale.ticks):
        assert scale(b) - scale(a) > CHARACTER_PX * (len(text) + len(other)) / 2


def test_each_nine_takes_the_same_room():
    """From 90 to 99 % is as far as from 99 to 99.9 %, and from 0 to 90 %."""
    scale = nines(99.9, 0, 300)
    assert [scale(p) for p in (0, 90, 99, 99.9)] == pytest.approx([0, 100, 200, 300])
    assert [text for _, text in scale.ticks] == ["0%", "50%", "90%", "99%", "99.9%"]
    assert log_nines(99.99) == pytest.approx(4)


@pytest.mark.parametrize("highest", [0.0, 100.0])
def test_what_is_no_place_among_nines_is_refused(highest):
    """The hundredth percentile has infinitely many nines."""
    with pytest.raises(ValueError, match="no percentile"):
        nines(highest, 0, 300)


@given(st.floats(50, 99.99999), st.floats(120, 900))
def test_texts_of_the_percentiles_never_touch(highest, width):
    """However many percentiles there are and however narrow the plot, neighbours keep apart."""
    scale = nines(highest, 0, width)
    for (a, text), (b, other) in itertools.pairwise(scale.ticks):
        assert scale(b) - scale(a) > CHARACTER_PX * (len(text) + len(other)) / 2
    assert scale.ticks[-1][0] == pytest.approx(highest)


def test_a_value_beyond_the_axis_is_put_at_its_end():
    """No curve leaves its plot."""
    scale = linear(0, 10, 0, 100, str)
    assert (scale(-5), scale(99)) == (0, 100)


@pytest.mark.parametrize(
    ("percent", "text"),
    [(0, "0%"), (12.5, "12.5%"), (99.9, "99.9%"), (99.987, "99.987%"), (99.99999, "99.99999%")],
)
def test_a_percentile_is_never_written_as_a_hundred(percent, text):
    """Each nine that tells it from 100 % is there."""
    assert percent_text(percent) == text


@pytest.mark.parametrize(
    ("seconds", "text"),
    [
        (0, "0"), (2.5e-4, "250 µs"), (0.0015, "1.5 ms"), (0.0225, "22.5 ms"), (0.9996, "1 s"),
        (0.1, "100 ms"), (12, "12 s"), (1234, "1234 s"),
    ],
)  # fmt: skip
def test_times_are_written_with_three_digits_and_a_unit(seconds, text):
    """A tick says what it is, short."""
    assert seconds_text(seconds) == text


@pytest.mark.parametrize(
    ("value", "text"),
    [(0, "0"), (0.4, "0.4"), (950, "950"), (5100, "5.1k"), (999_900, "1M"), (2e9, "2G")],
)
def test_counts_are_written_short(value, text):
    """Thousands and millions have their letters."""
    assert number_text(value) == text


@pytest.mark.parametrize(
    ("seconds", "text"), [(0, "0"), (0.5, "0.5 s"), (90, "90 s"), (150, "2:30"), (7500, "2:05:00")]
)
def test_times_since_the_start_are_written_as_clocks_do(seconds, text):
    """Seconds, then minutes, then hours."""
    assert clock_text(seconds) == text
