"""What loads are called, and where the knee is."""

import pytest
from pages import sample

from batchscore.report_page.loads import cell_text, grouped, knee


@pytest.mark.parametrize("order", [1, -1])
def test_the_knee_is_where_the_workers_are_all_busy(order):
    """With two workers the knee is at two requests at once, in whatever order they come."""
    found = knee([sample.closed(n, 32) for n in (1, 2, 4, 8)][::order])
    assert found
    assert found.is_inside
    assert found.cell["load"]["concurrency"] == 2


def test_the_knee_of_one_exponential_worker_is_at_half_its_capacity():
    """Theory says so of M/M/1: the power is highest at a load of one half."""
    found = knee([sample.open_loop(rate) for rate in (5.0, 15.0, 25.0, 35.0, 45.0)])
    assert found
    assert found.cell["load"]["rate"] == 25.0


def test_measurements_that_are_invalid_tell_of_no_knee():
    """Two valid ones are too few, and those at the ends are no knee inside."""
    cells = [sample.closed(n, 1) for n in (1, 2, 4)]
    assert knee([*cells[:2], cells[2] | {"valid": False}]) is None
    rising = knee(
        [sample.closed(n, 1) | {"response_s": {"mean": 1.0}} for n in (1, 2)] + [cells[2]]
    )
    assert rising
    assert not rising.is_inside


def test_cells_that_differ_in_load_alone_are_shown_together():
    """Groups are made by kind of load and batch size, and each rises."""
    groups = grouped(sample.bench_report()["cells"][::-1])
    assert {group: len(cells) for group, cells in groups.items()} == {
        ("closed", 1, False): 4,
        ("closed", 32, False): 4,
        ("open", 32, False): 4,
    }
    assert [cell_text(cell) for cell in groups["closed", 1, False]] == [
        "1 in flight, 1 row",
        "2 in flight, 1 row",
        "4 in flight, 1 row",
        "8 in flight, 1 row",
    ]


def test_rows_that_were_sent_before_are_measurements_of_their_own():
    """The same load with the same rows again is no second point of a curve."""
    again = sample.closed(2, 32) | {"rows_reused": True}
    assert len(grouped([sample.closed(2, 32), again])) == 2
    assert cell_text(again) == "2 in flight, 32 same rows"
