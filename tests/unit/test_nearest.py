"""The name that was meant."""

import pytest

from batchscore.nearest import nearest


@pytest.mark.parametrize(
    ("name", "form", "phrase"),
    [
        ("bath_size", "; did you mean {}?", "; did you mean batch_size?"),
        ("KEPE", " (did you mean {!r}?)", " (did you mean 'Keep'?)"),
        ("x", "; did you mean {}?", ""),
    ],
)
def test_the_most_similar_name_is_suggested_whatever_its_case(name, form, phrase):
    """One known name is suggested, as it is written; none where none is like it."""
    assert nearest(name, ["batch_size", "Keep", "drop"], form) == phrase
