"""The search for the highest rate."""

from __future__ import annotations

import math
import random

import pytest
from queueing import Exponential
from queueing.simulated import responses_s

from batchscore.bench.cells import Cell, Measured
from batchscore.bench.find_max import Search, find_max
from batchscore.bench.load import Open
from batchscore.bench.samples import Sample, Samples
from batchscore.bench.schedule import arrivals
from batchscore.bench.slo import Slo
from batchscore.bench.verdict import MOST_LOOKS, Verdict

SECONDS = 10.0
P99 = "p99=100ms"


def cell_of(
    rate: float,
    times: list[tuple[float, float]],
    *,
    seconds: float = SECONDS,
    rows: int = 1,
    error: str = "",
    gave_up: str = "",
) -> Cell:
    """A measurement of requests that were sent then, and took so long."""
    samples = [
        Sample(
            at, rows, 1, 1, intended=at, sent=at, first_byte=at + took, last_byte=at + took,
            decoded=at + took, ended=at + took, attempts=1, error=error,
        )
        for at, took in times
    ]  # fmt: skip
    measured = Measured(
        Open(rate, "constant"), rows, Samples(samples), [], 0.0, seconds, 0.0, 0.0, 9,
        gave_up=gave_up,
    )  # fmt: skip
    return Cell(measured, max_client_share=0.1, max_drift=0.1)


def even(rate: float, took: float, **options: str) -> Cell:
    times = [(number / rate, took) for number in range(int(rate * SECONDS))]
    return cell_of(rate, times, **options)


async def search(capacity: float, first: float, slo: str = P99, **options: str) -> Search:
    """Of a server that is quick below its capacity and slow above."""
    found = Search(32, [Slo.parse(slo)], SECONDS)

    async def measure(rate: float, number: int) -> Cell:
        is_over = rate > capacity
        return even(rate, 1.0 if is_over else 0.01, **(options if is_over else {}))

    await find_max(found, measure, first)
    return found


@pytest.mark.parametrize("first", [1.0, 70.0, 900.0])
async def test_the_highest_rate_is_bracketed_within_five_percent(first):
    """Wherever it begins, the search ends just below the capacity, and is sure of both sides."""
    found = await search(87.0, first)
    low, high = found.seeming
    assert low <= 87.0 < high <= 1.05 * low
    kept, missed = found.sure
    assert kept <= low < high <= missed
    assert missed <= 1.1 * kept
    told = found.as_dict(is_best=True)
    assert told["low"] <= told["rows_per_s"] < told["high"]
    assert told["rows_per_s"] == 32 * low
    assert told["load"] == {"kind": "open", "rate": low, "arrivals": "constant"}
    rates = [step["rate"] for step in told["steps"]]
    assert rates == sorted(rates)
    assert all(1 <= step["measurements"] <= MOST_LOOKS for step in told["steps"])
    assert not found.client_limit


async def test_where_no_rate_is_kept_none_is_found():
    """A server that is too slow at any rate has no highest one, and the search ends soon."""
    found = await search(0.0, 64.0)
    assert found.best is None
    told = found.as_dict(is_best=False)
    assert (told["rows_per_s"], told["load"]) == (0.0, None)
    assert len(found.steps) < 10


async def test_a_search_that_ends_at_the_client_says_so():
    """Where the client cannot send more, that is no bound of the deployment."""
    found = await search(50.0, 20.0, gave_up="no file handles were left")
    assert found.client_limit[-1] == "no file handles were left"
    assert found.as_dict(is_best=True)["high"] is None
    assert found.best is not None
    # It may have been something else that kept the computer busy.
    bounds = [step for step in found.steps if step.verdict == Verdict.CLIENT]
    assert all(len(step.cells) == MOST_LOOKS for step in bounds)


async def test_a_measurement_that_the_client_spoiled_is_made_again():
    """One spoiled measurement is no bound: the rate is measured again, and that one counts."""
    found = Search(1, [Slo.parse(P99)], SECONDS)
    spoiled = []

    async def measure(rate: float, number: int) -> Cell:
        is_spoiled = rate == 40.0 and not spoiled
        if is_spoiled:
            spoiled.append(number)
        return even(rate, 1.0 if rate > 87 else 0.01, gave_up="x" if is_spoiled else "")

    await find_max(found, measure, 20.0)
    assert spoiled
    assert found.best is not None
    assert found.best.rate > 80
    assert not found.client_limit


async def test_what_the_client_spoils_below_a_good_rate_is_passed_over():
    """Rates that are spoiled every time bound nothing where higher ones are measured well."""
    found = Search(1, [Slo.parse(P99)], SECONDS)

    async def measure(rate: float, number: int) -> Cell:
        return even(rate, 1.0 if rate > 87 else 0.01, gave_up="x" if 45 < rate < 70 else "")

    await find_max(found, measure, 64.0)
    await find_max(found, measure, 80.0)
    assert found.best is not None
    assert found.best.rate == pytest.approx(84, rel=0.06)
    assert not found.client_limit
    assert max(len(step.cells) for step in found.steps) == MOST_LOOKS


async def test_what_seems_missed_by_chance_is_measured_again():
    """A few slow answers at a low rate are no bound, if they do not come again."""
    found = Search(1, [Slo.parse("p90=100ms")], SECONDS)
    unlucky = []

    async def measure(rate: float, number: int) -> Cell:
        times = [(n / rate, 1.0 if rate > 87 else 0.01) for n in range(int(rate * SECONDS))]
        if rate == 10.0 and not unlucky:
            unlucky.append(rate)
            times = [(at, 0.2 if 3 < at < 5 else took) for at, took in times]
        return cell_of(rate, times)

    await find_max(found, measure, 10.0)
    assert unlucky
    assert found.best is not None
    assert found.best.rate > 80


async def test_errors_alone_make_a_rate_one_that_is_missed():
    """Answers that are refused quickly keep no latency."""
    found = await search(30.0, 10.0, error="http_503")
    assert found.best is not None
    assert found.best.rate <= 30.0 < found.sure[1]


async def test_a_server_that_is_behind_misses_whatever_its_latency_is():
    """A rate that is not answered is not kept, though no single answer took too long yet."""
    found = Search(1, [Slo.parse("p50=100s")], SECONDS)

    async def measure(rate: float, number: int) -> Cell:
        sent = [n / rate for n in range(int(rate * SECONDS))]
        ends = [max(at + 0.001, (n + 1) / 50) for n, at in enumerate(sent)]
        return cell_of(rate, [(at, end - at) for at, end in zip(sent, ends, strict=True)])

    await find_max(found, measure, 10.0)
    assert found.best is not None
    assert found.best.rate == pytest.approx(50.0, rel=0.1)


MU = 200.0
SEARCHES = 12


def rate_that_keeps(share: float, seconds: float) -> float:
    """M/M/1: responses are exponential with mu - lambda (see ``queueing.theory``)."""
    return MU + math.log(1 - share) / seconds


@pytest.mark.parametrize(
    ("slo", "highest", "seconds"),
    [
        ("p90=50ms", rate_that_keeps(0.9, 0.05), 5.0),
        ("p99=100ms", rate_that_keeps(0.99, 0.1), 10.0),
        ("mean=20ms", MU - 1 / 0.02, 5.0),
    ],
)
async def test_the_interval_holds_the_true_maximum(slo, highest, seconds):
    """Of twelve searches on simulated queues of one worker, the truth is outside of one at most."""
    outside, estimates = 0, []
    for seed in range(SEARCHES):
        found = Search(1, [Slo.parse(slo)], seconds)
        dice = random.Random(seed)

        async def measure(rate: float, number: int, dice: random.Random = dice) -> Cell:
            warmup = 2.0
            times = []
            for at in arrivals(rate, "poisson", dice.getrandbits(32)):
                if at >= seconds + warmup:
                    break
                times.append(at)
            responses = responses_s(Exponential(1 / MU), times, dice.getrandbits(32))
            pairs = [(at - warmup, took) for at, took in zip(times, responses, strict=True)]
            return cell_of(rate, pairs, seconds=seconds)

        await find_max(found, measure, 40.0)
        kept, missed = found.sure
        outside += not kept <= highest <= missed
        estimates.append(found.rows_per_s)
    assert outside <= 1
    assert sum(estimates) / SEARCHES == pytest.approx(highest, rel=0.07)
