"""Quantities as people write them."""

import pytest
from pydantic import TypeAdapter, ValidationError

from batchscore.units import Duration, FailureLimit, MaxFailedRows, Rate, RateLimit, Size


@pytest.mark.parametrize(
    ("kind", "text", "value"),
    [
        (Duration, "30s", 30.0),
        (Duration, "5m", 300.0),
        (Duration, "250ms", 0.25),
        (Duration, "1.5h", 5400.0),
        (Duration, "7", 7.0),
        (Duration, 7, 7.0),
        (Size, "8MiB", 8 * 2**20),
        (Size, "64kB", 64_000),
        (Size, "1.5 GiB", 3 * 2**29),
        (Size, "100", 100),
        (RateLimit, "50req/s", Rate(50, "requests")),
        (RateLimit, "5000rows/s", Rate(5000, "rows")),
        (MaxFailedRows, "100", FailureLimit(100, False)),
        (MaxFailedRows, 0, FailureLimit(0, False)),
        (MaxFailedRows, "1%", FailureLimit(0.01, True)),
    ],
)
def test_quantities_are_read_with_their_unit(kind, text, value):
    """A quantity is read in the unit that stands behind it."""
    assert TypeAdapter(kind).validate_python(text) == value


@pytest.mark.parametrize(
    ("kind", "text"),
    [
        (Duration, "soon"),
        (Duration, "5 parsecs"),
        (Duration, "-3s"),
        (Size, "8 bananas"),
        (RateLimit, "50"),
        (RateLimit, "50/m"),
        (MaxFailedRows, "1.5"),
        (MaxFailedRows, "many"),
        (MaxFailedRows, True),
    ],
)
def test_what_is_not_understood_is_refused(kind, text):
    """A quantity that cannot be read is refused, never guessed."""
    with pytest.raises(ValidationError):
        TypeAdapter(kind).validate_python(text)


def test_a_share_is_measured_on_the_rows_read():
    """1% allows one row of a hundred, and not two."""
    limit = FailureLimit(0.01, True)
    assert not limit.exceeded(1, 100)
    assert limit.exceeded(2, 100)
    assert FailureLimit(0, False).exceeded(1, 10**9)
