"""How the limits of a job are divided, and what its processes count put together again."""

import os
import pickle

import pytest

from batchscore.client.controller import Outcome, Result, RetryBudget
from batchscore.client.share import WHOLE, Share
from batchscore.config import ScoreConfig
from batchscore.errors import HTTPStatusError, OutageError, UsageError
from batchscore.metrics import RunMetrics
from batchscore.processes.count import process_count, usable_cores
from batchscore.processes.worker import portable
from batchscore.units import Rate


def config(**options: object) -> ScoreConfig:
    return ScoreConfig(inputs=["in.csv"], output="out.arrow", url="http://h/forward", **options)


@pytest.mark.parametrize("parts", [1, 2, 3, 7])
@pytest.mark.parametrize("concurrency", [7, 8, 100])
async def test_the_parts_of_a_limit_make_the_whole(parts, concurrency):
    """No request more and none less than --concurrency; each process has one at least."""
    limits = [Share(n, parts).limiter(concurrency, None).limit for n in range(parts)]
    assert sum(limits) == concurrency
    assert max(limits) - min(limits) <= 1


@pytest.mark.parametrize("parts", [5, 64])
async def test_a_share_of_less_than_one_request_is_refused(parts):
    """With more workers than requests in flight some would never send, or all too many."""
    with pytest.raises(UsageError, match="--concurrency 4 cannot be shared out among .* workers"):
        Share(parts - 1, parts).limiter(4, None)


@pytest.mark.parametrize(("parts", "most"), [(1, 256), (2, 128), (16, 16), (64, 16), (1000, 16)])
async def test_an_adaptive_share_has_room_to_find_out(parts, most):
    """Each of many workers may have sixteen in flight, else its part of 256."""
    limiter = Share(parts - 1, parts).limiter("auto", None)
    limiter._clock = lambda: 1.0  # else a beat amid the acquiring would halve the limit
    for _ in range(20_000):
        limiter.release(Outcome(await limiter.acquire(1), Result.OK, 0.001))
        if limiter.limit == most:
            break
        tickets = [await limiter.acquire(1) for _ in range(limiter.limit)]
        for ticket in tickets:
            limiter.release(Outcome(ticket, Result.OK, 0.001))
    assert limiter.limit == most


async def test_the_rate_and_the_retry_budget_are_divided():
    """Two processes send no more a second, and retry no more, than one would."""
    rate = Rate(50, "requests")
    assert Share(1, 4).limiter(8, rate)._rate == Rate(12.5, "requests")
    assert WHOLE.limiter("auto", rate)._rate == rate
    waits = {parts: RetryBudget(parts) for parts in (1, 2)}
    for parts, budget in waits.items():
        for _ in range(int(RetryBudget.BURST) // parts):
            assert budget.reserve(0.0) == 0.0
        assert budget.reserve(0.0) == pytest.approx(parts / RetryBudget.PER_SECOND)


def test_one_of_many_workers_has_some_retries_all_the_same():
    """A 64th of the budget would be one retry in thirteen seconds: each has one in two."""
    budget = RetryBudget(64)
    waits = [budget.reserve(0.0) for _ in range(6)]
    assert waits == [0.0, 0.0, 0.0, 0.0, 2.0, 4.0]


def test_there_are_as_many_processes_as_have_something_to_do():
    """As many as asked for, one a core for auto, and none that had no request to send."""
    assert process_count(config()) == 1
    assert process_count(config(processes=4)) == 4
    assert process_count(config(processes=4, concurrency=3)) == 3
    assert process_count(config(processes="auto")) == usable_cores()


@pytest.mark.parametrize(
    ("quota", "cores"),
    [("150000 100000", 2), ("1000 100000", 1), ("max 100000", None), ("99999999 1", None)],
)
def test_auto_counts_the_cores_that_may_be_used(tmp_path, quota, cores):
    """A container's quota counts as well as the cores that the process is held to."""
    bound = len(os.sched_getaffinity(0))
    (tmp_path / "cpu.max").write_text(f"{quota}\n")
    assert usable_cores(tmp_path / "cpu.max") == min(bound, cores or bound)
    assert usable_cores(tmp_path / "none") == bound


def test_the_number_of_processes_is_no_part_of_the_job():
    """--resume may be given another one."""
    assert config(processes=4).output_options() == config().output_options()


def test_what_is_counted_in_parts_adds_up():
    """Counters add up, what is under way now replaces what was told before."""
    whole, parts = RunMetrics(), [RunMetrics(), RunMetrics()]
    whole.limit = 2
    told: list = [None, None]
    for step in range(1, 4):
        for number, part in enumerate(parts):
            part.requests += step
            part.retries["timeout"] += 1
            part.bytes_sent += 10
            part.in_flight, part.limit = step, 2 * step
            part.latency.record(step / 10)
            now = part.take_traffic()
            whole.add_traffic(pickle.loads(pickle.dumps(now)), told[number])
            told[number] = now
    assert (whole.requests, whole.bytes_sent, whole.retries["timeout"]) == (12, 60, 6)
    assert (whole.in_flight, whole.other_limits, whole.total_limit) == (6, 12, 14)
    assert whole.latency.count == 6
    assert whole.latency.max_s == 0.3
    assert parts[0].latency.percentile(50) is None


class TwoArgumentsError(Exception):
    def __init__(self, one: int, two: int) -> None:
        super().__init__(f"{one} and {two}")


def test_errors_travel_or_say_the_same():
    """An error of ours stays itself; one that cannot be pickled is told with its type and text."""
    away = portable(OutageError("h:1 is away"))
    assert (type(away), str(away), away.exit_code) == (OutageError, "h:1 is away", 75)
    other = portable(TwoArgumentsError(1, 2))
    assert (type(other), str(other)) == (RuntimeError, "TwoArgumentsError: 1 and 2")
    assert str(portable(HTTPStatusError(500, "boom"))).endswith("boom")
    assert "Traceback" not in str(other)
