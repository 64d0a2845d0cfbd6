"""Faults in, bounds out: every scenario of the TOML files beside this one."""

from pathlib import Path

import pytest
from scenarios.scenario import play, scenarios

ALL = scenarios(Path(__file__).parent)


@pytest.mark.timeout(60)
@pytest.mark.parametrize("scenario", ALL, ids=[scenario.name for scenario in ALL])
def test_what_goes_wrong_stays_within_its_bounds(scenario, tmp_path):
    """Every row has its place and its own prediction or reason, at the cost that the file tells."""
    play(scenario, tmp_path)
