"""Two real processes, each with a client of its own, at one real server."""

import json
import subprocess
import sys
import time
from contextlib import contextmanager
from pathlib import Path

import pytest
from faultserver import LINEAR, FaultServer, faults

WORKER = Path(__file__).parents[1] / "sharing_worker.py"
BEAT_S = 8.0


@contextmanager
def worker(server, number, seconds):
    """A process that sends for so long; it prints when its answers came."""
    command = [sys.executable, WORKER, server.url, str(number), "2", str(seconds)]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as process:
        try:
            yield process
        finally:
            process.kill()


def answers_of(process):
    output, _ = process.communicate(timeout=90)
    assert process.returncode == 0
    return json.loads(output)


@pytest.mark.slow
@pytest.mark.parametrize(
    "limits",
    [{"capacity": 16}, {"script": faults.busy_above(16)}],
    ids=["queues", "refuses"],
)
def test_of_two_processes_the_one_that_joins_late_gets_its_share(limits):
    """Two beats after the second has joined, neither is answered twice as often as the other."""
    with FaultServer(*LINEAR, delay_s=0.05, **limits) as server:
        with worker(server, 0, 28) as first:
            time.sleep(2)
            with worker(server, 1, 25) as second:
                late, early = answers_of(second), answers_of(first)
        in_flight = [request.in_flight for request in server.requests]
    begin, end = late[0] + 2 * BEAT_S, late[-1] - 1
    shares = [sum(begin < at < end for at in answers) for answers in (early, late)]
    assert min(shares) > 0.5 * max(shares), shares
    # And the server is not filled up: 128 could be sent, 16 are worked on.
    middle = sorted(in_flight[len(in_flight) // 2 :])[len(in_flight) // 4]
    assert 10 <= middle <= 32
