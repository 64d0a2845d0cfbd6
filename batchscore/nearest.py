"""The name that a wrong one was probably meant to be."""

from __future__ import annotations

import difflib
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Iterable


def nearest(name: str, known: Iterable[str], form: str = "; did you mean {}?") -> str:
    """A phrase that suggests the known name most like this one, or nothing.

    Args:
        name: what was written; upper and lower case are alike.
        known: the names that there are.
        form: the phrase, ``{}`` or ``{!r}`` in the place of the name.
    """
    lowered = {candidate.lower(): candidate for candidate in known}
    close = difflib.get_close_matches(name.lower(), lowered, n=1)
    return form.format(lowered[close[0]]) if close else ""
