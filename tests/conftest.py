"""A failing test tells what to look at, see ``failing``."""

from __future__ import annotations

from collections.abc import Generator

import pytest
from failing import Command, signpost, watched
from hypothesis import settings

# How long an example takes says more of the machine than of the code.
settings.register_profile("any machine", deadline=None)
settings.load_profile("any machine")

# Checks that stand beside the tests show what they compared, as those in the tests do.
pytest.register_assert_rewrite("scenarios", "simulation", "soak")

_COMMANDS = pytest.StashKey[list[Command]]()


@pytest.hookimpl(wrapper=True)
def pytest_runtest_protocol(item: pytest.Item) -> Generator[None, object, object]:
    with watched() as item.stash[_COMMANDS]:
        return (yield)


@pytest.hookimpl(wrapper=True)
def pytest_runtest_makereport(
    item: pytest.Item,
) -> Generator[None, pytest.TestReport, pytest.TestReport]:
    report = yield
    if report.failed:
        test = getattr(item, "function", None)
        told = signpost(item.nodeid, test, item.stash[_COMMANDS])
        report.sections.append(("what to look at", told))
    return report
