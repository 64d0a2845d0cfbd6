"""How a run went over time, in bounded memory."""

import asyncio

import pytest
from simulation.loop import SimulatedLoop

from batchscore.metrics import RunMetrics
from batchscore.observers.history import FIRST_WINDOW_S, MAX_WINDOWS, History, Window


def watched(seconds: float, every_s: float = 0.1) -> tuple[list[Window], RunMetrics]:
    """A run on virtual time that sends ten rows each tenth of a second."""
    loop = SimulatedLoop()
    metrics = RunMetrics(clock=loop.time)
    history = History()

    async def work() -> None:
        history.on_start(metrics)
        for step in range(round(seconds / every_s)):
            await asyncio.sleep(every_s)
            metrics.requests += 1
            metrics.rows_scored += 9
            metrics.rows_failed += 1
            metrics.limit = step
            metrics.latency.record(0.01 * (1 + step % 5))
            if step % 3 == 0:
                metrics.retries["http_503"] += 1

    loop.run_until_complete(work())
    windows = history.windows()
    history.close()
    loop.close()
    return windows, metrics


@pytest.mark.parametrize("seconds", [0.1, 2, 150, 4000])
def test_the_windows_together_are_the_run(seconds):
    """However long it took and however often windows were joined, nothing is lost or twice."""
    windows, metrics = watched(seconds)
    assert 1 <= len(windows) <= MAX_WINDOWS
    assert sum(w.rows for w in windows) == metrics.rows_done
    assert sum(w.failed_rows for w in windows) == metrics.rows_failed
    assert sum(w.requests for w in windows) == metrics.requests
    assert sum(w.latency.count for w in windows) == metrics.latency.count
    assert sum(w.retries["http_503"] for w in windows) == metrics.retries["http_503"]
    assert sum(w.seconds for w in windows) == pytest.approx(seconds)
    assert windows[-1].at_s == pytest.approx(seconds)
    assert windows[-1].limit == metrics.limit


def test_a_long_run_has_as_many_points_as_a_plot_can_show():
    """Between half of the most and the most, all of them as long as each other."""
    windows, _ = watched(4000)
    assert len(windows) >= MAX_WINDOWS / 2
    lengths = {round(w.seconds, 3) for w in windows[:-1]}
    assert len(lengths) == 1
    assert lengths.pop() > FIRST_WINDOW_S


def test_percentiles_of_a_window_are_of_that_window_alone():
    """A slow start does not stay in the figures of what follows."""
    loop = SimulatedLoop()
    metrics = RunMetrics(clock=loop.time)
    history = History()

    async def work() -> None:
        history.on_start(metrics)
        metrics.latency.record(2.0)
        await asyncio.sleep(1.5 * FIRST_WINDOW_S)
        metrics.latency.record(0.01)
        await asyncio.sleep(FIRST_WINDOW_S)

    loop.run_until_complete(work())
    first, second, *_ = (w.as_dict() for w in history.windows())
    history.close()
    loop.close()
    assert first["p50_s"] == pytest.approx(2.0, rel=0.011)
    assert second["p50_s"] == second["p99_s"] == pytest.approx(0.01, rel=0.011)


def test_the_same_run_has_the_same_history():
    """On the same clock, nothing of it is left to chance."""
    one, other = ([w.as_dict() for w in watched(300)[0]] for _ in range(2))
    assert one == other


def test_rows_of_earlier_runs_are_not_of_this_one():
    """What a resumed run found is no throughput."""
    loop = SimulatedLoop()
    metrics = RunMetrics(clock=loop.time)
    history = History()

    async def work() -> None:
        history.on_start(metrics)
        metrics.count_earlier(5000, {"http_422": 7})
        await asyncio.sleep(FIRST_WINDOW_S)
        metrics.rows_scored += 3

    loop.run_until_complete(work())
    windows = history.windows()
    history.close()
    loop.close()
    assert sum(w.rows for w in windows) == 3
    assert sum(w.failed_rows for w in windows) == 0
