"""Sums of what workers count."""

from batchscore.engines.counts import PartCounts, Tally
from batchscore.metrics import FailedRow, RunMetrics


def part(rows: int, *failed: int) -> PartCounts:
    """A part in which these rows failed, counted from 1."""
    metrics = RunMetrics(rows_scored=rows - len(failed), rows_failed=len(failed))
    metrics.failed_rows.update({"http_422": len(failed)} if failed else {})
    metrics.failed_examples = {
        "http_422": [FailedRow(row, f"row {row} of {rows}") for row in failed[:3]]
    }
    return PartCounts.of(metrics)


def test_a_part_that_was_scored_twice_counts_once():
    """A split that a second worker did again, when its first was thought lost, adds no rows."""
    metrics = RunMetrics()
    tally = Tally(metrics)
    for _ in range(2):
        tally.done(1, part(10, 3))
    tally.done(0, part(5))
    assert (metrics.rows_read, metrics.rows_scored, metrics.rows_failed) == (15, 14, 1)
    assert metrics.failed_rows == {"http_422": 1}
    assert tally.parts_done == 2


def test_failed_rows_are_quoted_by_their_place_in_the_input():
    """The first ones of the input are quoted, in whatever order their parts became whole."""
    metrics = RunMetrics()
    tally = Tally(metrics)
    tally.done(2, part(10, 1))
    tally.done(1, part(10, 4, 5, 6, 7))
    tally.done(0, part(10, 9))
    tally.quote()
    assert [each.row for each in metrics.failed_examples["http_422"]] == [9, 14, 15]


def test_rows_behind_a_part_that_is_not_there_are_not_quoted():
    """Where it is not known how many rows come before, no place is made up."""
    metrics = RunMetrics()
    tally = Tally(metrics)
    tally.done(1, part(10, 4))
    tally.quote()
    assert metrics.failed_examples == {}


def test_requests_add_up_and_limits_are_those_of_now():
    """What workers send is summed; what they may have in flight is what each told last."""
    metrics = RunMetrics()
    tally = Tally(metrics)
    for worker, requests, limit in [(0, 3, 8), (1, 2, 4), (0, 5, 2)]:
        told = RunMetrics(requests=requests, limit=limit, bytes_sent=10)
        told.retries["timeout"] = 1
        tally.told(worker, told.take_traffic())
    assert (metrics.requests, metrics.bytes_sent, metrics.retries) == (10, 30, {"timeout": 3})
    assert metrics.other_limits == 6
