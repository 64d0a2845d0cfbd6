"""Many seeds in several processes."""

from __future__ import annotations

import gc
import logging
import multiprocessing
import time
from concurrent.futures import ProcessPoolExecutor

from simulation.world import Told, ViolatedError, simulate


def _prepare() -> None:
    logging.disable()
    # What is there now stays; to look at it again and again takes a tenth of the time.
    gc.freeze()


def _outcome(seed: int) -> tuple[int, Told | str]:
    try:
        return seed, simulate(seed)
    except ViolatedError as error:
        return seed, str(error)


def many(first: int, count: int, processes: int) -> int:
    """Live through seeds in several processes; how many of them broke a promise."""
    began, total, broken = time.monotonic(), Told(), []
    context = multiprocessing.get_context("spawn")
    with ProcessPoolExecutor(processes, context, initializer=_prepare) as pool:
        outcomes = pool.map(_outcome, range(first, first + count), chunksize=20)
        for done, (seed, outcome) in enumerate(outcomes, start=1):
            if isinstance(outcome, str):
                broken.append(seed)
                print(f"seed {seed}: {outcome}", flush=True)
                continue
            total.runs += outcome.runs
            total.crashes += outcome.crashes
            total.rows += outcome.rows
            total.requests += outcome.requests
            total.simulated_s += outcome.simulated_s
            if done % 5000 == 0:
                print(f"{done} seeds, {time.monotonic() - began:.0f} s", flush=True)
    print(
        f"{count} seeds, {total.runs} runs, {total.crashes} crashes, {total.rows} rows, "
        f"{total.requests} requests, {total.simulated_s / 3600:.0f} simulated hours in "
        f"{time.monotonic() - began:.0f} s; broken: {broken or 'none'}"
    )
    return len(broken)
