"""Ten billion rows on paper: what the arithmetic says, simulated workers do."""

import pytest
import simulate_scale as scale


@pytest.fixture(scope="module")
def row():
    return scale.measured()["30 mixed"]


@pytest.mark.parametrize(
    ("workers", "places", "bound"),
    [(1, 16, "cores"), (2, 64, "cores"), (4, 16, "deployment"), (8, 8, "deployment")],
)
def test_simulated_workers_come_to_what_the_arithmetic_says(row, workers, places, bound):
    """What is scarce is used to more than nine tenths, and shared equally."""
    came = scale.simulate(workers, places, row)
    assert came.bound == bound
    assert 0.9 * came.possible < came.simulated < 1.05 * came.possible
    assert came.fairness > 0.95


def test_workers_beyond_what_the_deployment_bears_add_no_rows(row):
    """Four times as many workers at the same deployment score as many rows, and wait longer."""
    few, many = (scale.simulate(workers, 16, row) for workers in (4, 16))
    assert many.simulated == pytest.approx(few.simulated, rel=0.05)
    assert many.latency_s > few.latency_s


def test_rows_of_every_kind_are_counted_and_timed():
    """A kind without its figures would be missing from the page."""
    rows = scale.measured()
    assert list(rows) == ["8 floats", "30 mixed", "28x28 arrays", "3 KB pictures"]
    assert all(min(row.read, row.sent, row.received, row.written) > 1 for row in rows.values())


def test_the_hours_of_all_cores_make_the_core_hours():
    """The table says the same in two ways."""
    lines = scale.arithmetic(scale.measured()).splitlines()
    cells = {cells[1]: cells[2:-1] for cells in ([c.strip() for c in x.split("|")] for x in lines)}
    for alone, together in zip(cells["core hours"], cells["hours on 64 cores"], strict=True):
        assert float(alone) / 64 == pytest.approx(float(together), abs=0.02)
