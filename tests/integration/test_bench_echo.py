"""The client's own share, measured where nothing is served."""

from __future__ import annotations

import os
import time
from pathlib import Path

from faultserver import LINEAR, FaultServer

from batchscore.bench.echo import own_share
from batchscore.protocols.base import Request, Response

from .test_bench import measure


async def test_the_own_share_is_that_of_a_server_that_does_nothing():
    """It is above nothing and far below what a request that is worth measuring takes."""
    request = Request("POST", "http://deployment.example/forward", b'{"rows":[{"x":1.5}]}')
    share = await own_share(request, Response(200, b'{"rows":[{"y":1.0}]}'), rows=1)
    assert share.batch_size == 1
    assert 0 < share.p50 <= share.p99 < 1


async def test_large_bodies_come_whole_both_ways():
    """Bodies larger than any buffer on the way are counted to the last byte."""
    request = Request("POST", "http://deployment.example/forward", b"x" * 3_000_000)
    began = time.monotonic()
    share = await own_share(request, Response(200, b"y" * 5_000_000), rows=1000)
    assert 0 < share.p50 < time.monotonic() - began


async def test_no_process_is_left(tmp_path):
    """The process that answers ends with the measurement."""

    def children() -> set[str]:
        mine = str(os.getpid())
        found = set()
        for entry in os.scandir("/proc"):
            if entry.name.isdigit():
                stat = Path(entry.path, "stat").read_text()
                if stat.rsplit(")", 1)[1].split()[1] == mine:
                    found.add(entry.name)
        return found

    before = children()
    request = Request("POST", "http://deployment.example/", b"{}")
    await own_share(request, Response(200, b"{}"), rows=1)
    assert children() <= before


def test_a_run_states_its_own_share_beside_the_result(tmp_path):
    """Each load has the client's part of its median, and a slow server does not add to it."""
    with FaultServer(*LINEAR, delay_s=0.05) as server:
        report = measure(tmp_path, server.url, concurrency="1,2", batch_size="1,50")
    for cell in report.cells:
        told = cell.as_dict()
        assert told["echo_s"]["batch_size"] == told["batch_size"]
        assert 0 < told["client_share_s"] == told["echo_s"]["p50"] < 0.04
