"""``--concurrency auto`` and ``--batch-size auto`` against real servers with a limited capacity."""

import asyncio
import threading
import time

import pyarrow as pa
import pytest
from faultserver import LINEAR, FaultServer, faults

from batchscore.client.controller import Outcome, Result
from batchscore.client.limiter import AdaptiveLimiter


def numbers(count):
    return pa.table({"x": pa.array(range(count), pa.int64())})


def assert_scored(out, count):
    assert out["predicted_y"].to_pylist() == [2.0 * x + 1 for x in range(count)]
    assert out["prediction_error"].null_count == count


def in_flight_of(server, share=0.5):
    """How many requests were under way at each arrival in the last part of a run, ascending."""
    requests = server.requests[int(len(server.requests) * (1 - share)) : -64]
    return sorted(request.in_flight for request in requests)


@pytest.mark.parametrize(
    ("capacity", "rows", "delay_s"), [(1, 200, 0.01), (4, 600, 0.02), (64, 1500, 0.3)]
)
def test_a_server_that_refuses_above_its_capacity_is_filled_with_few_refusals(
    score_table, capacity, rows, delay_s
):
    """Every row is scored, the server is kept busy, and few requests meet a 429."""
    with FaultServer(*LINEAR, delay_s=delay_s, script=faults.busy_above(capacity)) as server:
        out = score_table(numbers(rows), server.url, batch_size=1, max_attempts=20)
        assert_scored(out, rows)
        refused = sum(request.status == 429 for request in server.requests)
        assert refused <= 10 + 0.06 * rows
        in_flight = in_flight_of(server)
    assert in_flight[len(in_flight) // 2] >= 0.6 * capacity
    assert score_table.report.concurrency <= 1.3 * capacity + 1


@pytest.mark.parametrize(
    ("capacity", "rows", "delay_s"), [(1, 200, 0.03), (4, 600, 0.02), (64, 1500, 0.3)]
)
def test_a_server_that_queues_above_its_capacity_gets_a_short_queue(
    score_table, capacity, rows, delay_s
):
    """Nothing is ever refused, and still no more is sent at once than the server works on."""
    with FaultServer(*LINEAR, delay_s=delay_s, capacity=capacity) as server:
        out = score_table(numbers(rows), server.url, batch_size=1)
        assert_scored(out, rows)
        in_flight = in_flight_of(server)
    median = in_flight[len(in_flight) // 2]
    assert 0.7 * capacity <= median <= 2 * capacity + 6
    assert not score_table.report.retries


def test_a_capacity_that_halves_in_the_middle_of_a_run_is_followed(score_table):
    """The limit falls with the server's capacity, without refusals to tell it."""
    with FaultServer(*LINEAR, delay_s=0.02, capacity=24) as server:
        halve = threading.Timer(1.5, lambda: setattr(server, "capacity", 8))
        halve.start()
        out = score_table(numbers(3000), server.url, batch_size=1)
        halve.join()
        assert_scored(out, 3000)
        in_flight = in_flight_of(server, 0.3)
    assert 6 <= in_flight[len(in_flight) // 2] <= 18


def test_a_pause_that_the_server_asks_for_holds_for_all_and_lowers_the_limit(score_table):
    """After Retry-After nobody sends for that long, however many requests are waiting."""
    pauses = []

    def script(info):
        if info.index == 300:
            pauses.append(info.time_s)
            return faults.status(429, retry_after=1)
        return None

    with FaultServer(*LINEAR, delay_s=0.005, script=faults.before_body(script)) as server:
        assert_scored(score_table(numbers(800), server.url, batch_size=1), 800)
        # Those that were on the way when the server asked are past holding.
        sent = [r.time_s - pauses[0] for r in server.requests]
    assert not [after for after in sent if 0.5 < after < 0.95]
    assert [after for after in sent if after >= 0.95]


def test_413_shrinks_the_requests_that_follow(score_table):
    """A server that takes 300 rows at most gets requests of about so many before long."""
    with FaultServer(*LINEAR, script=faults.too_large(max_rows=300)) as server:
        score_table(numbers(60_000), server.url, concurrency=1)
        sizes = [len(request.rows) for request in server.requests]
    assert sizes[0] > 300
    tail = sizes[len(sizes) // 2 :]
    assert sum(size > 300 for size in tail) <= 0.1 * len(tail)
    assert max(tail) > 100


@pytest.mark.slow
def test_timeouts_shrink_the_requests_until_they_are_answered_in_time(score_table):
    """A server that needs 0.4 ms a row gets requests that it can answer within the timeout."""

    def delay_s(info):
        return 0.0004 * len(info.rows)

    with FaultServer(*LINEAR, delay_s=delay_s) as server:
        score_table(numbers(16_000), server.url, timeout=0.2, max_attempts=2)
        sizes = [len(request.rows) for request in server.requests]
    assert max(sizes) == 1024
    assert max(sizes[len(sizes) // 2 :]) < 512
    assert score_table.report.rows_scored > 8000


def test_the_file_is_the_same_whatever_the_sizes_and_limits_were(tmp_path, score_table):
    """Requests cut anew by 413 and overload leave chunk borders and values as they were."""
    borders = []
    for script in (None, faults.mixed_faults(3, 0.1), faults.busy_above(2)):
        with FaultServer(*LINEAR, script=script, delay_s=0.002, port=0) as server:
            out = score_table(numbers(20_000), server.url, max_attempts=20)
            assert_scored(out, 20_000)
            borders.append([len(batch) for batch in out.to_batches()])
    assert borders[0] == borders[1] == borders[2]


def test_an_outage_is_not_multiplied_by_retries(score_table):
    """While everything is refused, retries come at the budget's pace, and none is given up."""
    began = time.monotonic()

    def script(_info):
        return faults.status(503) if time.monotonic() - began < 4 else None

    with FaultServer(*LINEAR, script=faults.before_body(script)) as server:
        out = score_table(numbers(300), server.url, batch_size=1, max_attempts=50)
        assert_scored(out, 300)
        during = sum(request.time_s - began < 4 for request in server.requests)
    # The window's first tries, the budget's burst, and five a second.
    assert during < 32 + 30 + 0.2 * 32 + 5 * 4 + 10


async def test_the_limiter_bounds_what_is_under_way_and_survives_cancellation():
    """A worker that is cancelled while it waits leaves its place in the queue to the next."""
    limiter = AdaptiveLimiter()
    ticket = await limiter.acquire(1)
    waiting = [asyncio.create_task(limiter.acquire(1)) for _ in range(3)]
    await asyncio.sleep(0)
    waiting[0].cancel()
    await asyncio.sleep(0)
    assert not waiting[1].done()
    limiter.release(Outcome(ticket, Result.OTHER, 0.1))
    assert await waiting[1] == ticket + 1
    assert not waiting[2].done()
    limiter.release(Outcome(ticket + 1, Result.OTHER, 0.1))
    await waiting[2]
