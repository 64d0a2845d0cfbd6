"""The search for the highest rate."""

import pytest

from batchscore.bench.cells import Cell, Measured
from batchscore.bench.find_max import Search, find_max
from batchscore.bench.load import Open
from batchscore.bench.samples import Sample, Samples
from batchscore.bench.slo import Slo

SECONDS = 10.0


def cell_of(rate: float, took: float, *, gave_up: str = "") -> Cell:
    samples = []
    for number in range(int(rate * SECONDS)):
        at = number / rate
        end = at + took
        samples.append(
            Sample(
                at, 1, 1, 1, intended=at, sent=at, first_byte=end, last_byte=end, decoded=end,
                ended=end, attempts=1,
            )
        )  # fmt: skip
    measured = Measured(
        Open(rate, "constant"), 1, Samples(samples), [], 0.0, SECONDS, 0.0, 0.0, 9, gave_up=gave_up
    )
    return Cell(measured, max_client_share=0.1, max_drift=0.1)


async def search(capacity: float, first: float, **options: str) -> Search:
    """Of a server that is quick below its capacity and slow above."""

    async def measure(rate: float) -> Cell:
        is_over = rate > capacity
        return cell_of(rate, 1.0 if is_over else 0.01, **(options if is_over else {}))

    return await find_max(measure, [Slo.parse("p99=100ms")], first)


@pytest.mark.parametrize("first", [1.0, 70.0, 900.0])
async def test_the_highest_rate_is_bracketed_within_five_percent(first):
    """Wherever it begins, the search ends just below the capacity, with a rate above that fails."""
    found = await search(87.0, first)
    low, high = found.bounds
    assert low <= 87.0 < high <= 1.05 * low
    assert found.best is not None
    told = found.as_dict(seed=1)
    assert told["low"] <= told["rows_per_s"] <= told["high"]
    assert told["load"] == {"kind": "open", "rate": low, "arrivals": "constant"}
    assert not found.client_limit


async def test_where_no_rate_is_kept_none_is_found():
    """A server that is too slow at any rate has no highest one, and the search ends."""
    found = await search(0.0, 64.0)
    assert found.best is None
    assert found.as_dict(seed=1)["load"] is None


async def test_a_search_that_ends_at_the_client_says_so():
    """Where the client cannot send more, that is no bound of the deployment."""
    found = await search(50.0, 20.0, gave_up="no file handles were left")
    assert found.client_limit[-1] == "no file handles were left"
