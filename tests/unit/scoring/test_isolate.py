"""Finding bad rows by halving."""

import asyncio
import math
from contextlib import asynccontextmanager

import pytest
from hypothesis import given
from hypothesis import strategies as st

from batchscore.batches import RowFailure
from batchscore.errors import (
    ConnectionFailedError,
    DeploymentAwayError,
    HTTPStatusError,
    RowsRefusedError,
    StoppedError,
)
from batchscore.scoring.isolate import Refusals, decide
from batchscore.scoring.pipeline import gather


class Rows:
    """A server that refuses runs with a bad row, and dies of runs with a poisonous one."""

    def __init__(self, bad=(), poison=(), *, in_order=False):
        self.bad, self.poison = set(bad), set(poison)
        self.in_order = lambda: in_order
        self.requests = []
        self.is_alone = self.is_away = False

    async def send(self, start, stop, *, alone):
        assert alone == self.is_alone
        assert not self.is_away
        self.requests.append((start, stop))
        run = set(range(start, stop))
        if run & self.poison:
            self.is_away = True
            raise DeploymentAwayError(ConnectionFailedError("gone"))
        if run & self.bad:
            raise RowsRefusedError(HTTPStatusError(422, "bad"))
        return list(range(start, stop))

    @asynccontextmanager
    async def alone(self):
        assert not self.is_alone
        self.is_alone = True
        yield
        self.is_alone = False

    async def ride_out(self, away, row):
        assert self.is_alone
        assert str(away) == "gone"
        self.is_away = False

    async def run_all(self, decide, runs):
        return await gather([decide(run) for run in runs])


def results(decided, total):
    """What each row came to, after a check that the runs follow one another without a gap."""
    assert [part.start for part in decided] == [0, *[part.stop for part in decided]][: len(decided)]
    assert decided[-1].stop == total
    rows = {}
    for part in decided:
        if isinstance(part.result, RowFailure):
            assert part.stop - part.start == 1
            rows[part.start] = part.result.code
        else:
            assert part.result == list(range(part.start, part.stop))
            rows.update(dict.fromkeys(part.result, "ok"))
    return rows


@given(st.integers(1, 300).flatmap(lambda n: st.tuples(st.just(n), st.sets(st.integers(0, n - 1)))))
def test_exactly_the_bad_rows_fail_at_the_promised_cost(case):
    """K bad rows of n cost O(k log n) requests; every other row is scored, in order."""
    total, bad = case
    refusals = Refusals()
    refusals.scored()
    server = Rows(bad)
    rows = results(asyncio.run(decide(server, 0, total, refusals)), total)
    assert rows == {n: "http_422" if n in bad else "ok" for n in range(total)}
    k = len(bad)
    most = 1 if k == 0 else 2 * k * (math.log2(total / k) + 2) + 1
    assert len(server.requests) <= most


def some_of(n):
    return st.tuples(st.just(n), st.sets(st.integers(0, n - 1), max_size=3))


@given(st.integers(1, 64).flatmap(some_of))
def test_rows_that_take_the_server_down_are_found_alone(case):
    """Poison fails, its neighbours are scored, and after an outage suspects are sent alone."""
    total, poison = case
    server = Rows(poison=poison)
    rows = results(asyncio.run(decide(server, 0, total, Refusals())), total)
    assert rows == {n: "connection" if n in poison else "ok" for n in range(total)}


def test_an_outage_that_passes_costs_one_more_request_and_no_row():
    """Rows that were in flight at one outage are sent again whole."""

    class Restarting(Rows):
        async def send(self, start, stop, *, alone):
            if not self.requests:
                self.requests.append((start, stop))
                raise DeploymentAwayError(ConnectionFailedError("gone"))
            return await super().send(start, stop, alone=alone)

    server = Restarting()
    decided = asyncio.run(decide(server, 0, 50, Refusals()))
    assert results(decided, 50) == dict.fromkeys(range(50), "ok")
    assert server.requests == [(0, 50), (0, 50)]


def test_a_file_that_is_bad_throughout_ends_after_twenty_rows():
    """Twenty rows failed alone and none was ever scored: the server's words end the job."""
    server = Rows(bad=range(1000))
    with pytest.raises(StoppedError, match="http_422: bad"):
        asyncio.run(decide(server, 0, 1000, Refusals()))
    # Straight to single rows, not through all of the halves, quarters and eighths.
    assert len(server.requests) <= 2 * math.log2(1000) + 2 * 20 + 10
    refusals = Refusals()
    refusals.scored()
    decided = asyncio.run(decide(Rows(bad=range(100)), 0, 100, refusals))
    assert len(decided) == 100


@pytest.mark.parametrize("bad", [range(500), range(500, 1000), range(0, 1000, 40)])
def test_many_bad_rows_before_the_first_good_one_are_no_bad_file(bad):
    """Where half of a batch is good, or some run in it, twenty bad rows elsewhere end nothing."""
    rows = results(asyncio.run(decide(Rows(bad), 0, 1000, Refusals())), 1000)
    assert rows == {n: "http_422" if n in bad else "ok" for n in range(1000)}


async def test_a_window_of_batches_that_are_all_bad_is_not_cut_to_pieces_first():
    """Until a row is scored batches are taken apart one by one: few requests, then the end."""
    server, refusals = Rows(bad=range(32_000)), Refusals()
    batches = [decide(server, at, at + 1000, refusals) for at in range(0, 32_000, 1000)]
    with pytest.raises(StoppedError, match="refused 20 rows"):
        await gather(batches)
    assert len(server.requests) < 32 + 70


async def test_the_first_scored_row_lets_all_batches_be_taken_apart_at_once():
    """Nobody waits for a turn any more, and halves go out side by side again."""

    class Slow(Rows):
        most = now = 0

        async def send(self, start, stop, *, alone):
            self.now += 1
            self.most = max(self.most, self.now)
            await asyncio.sleep(0)
            self.now -= 1
            return await super().send(start, stop, alone=alone)

    server, refusals = Slow(bad=[0, 100, 200, 300]), Refusals()
    batches = await gather([decide(server, at, at + 100, refusals) for at in range(0, 400, 100)])
    failed = [p.start for batch in batches for p in batch if isinstance(p.result, RowFailure)]
    assert failed == [0, 100, 200, 300]
    assert server.most > 4


async def test_rows_that_must_go_in_order_are_taken_apart_in_order():
    """While classes are unknown each request begins at or behind the one before."""
    rows = Rows(bad=range(11), in_order=True)
    await decide(rows, 0, 16, Refusals())
    starts = [start for start, _ in rows.requests]
    assert starts == sorted(starts)
    assert starts[-1] > 11
