"""One of several processes that send to a server at once: ``python sharing_worker.py URL N OF S``.

It has its own client with its share of the limits, sends one row a request for S seconds, and
prints when each answer came, in seconds since the epoch.
"""

from __future__ import annotations

import asyncio
import json
import sys
import time
from typing import TYPE_CHECKING

from batchscore.client.share import Share
from batchscore.config import ScoreConfig
from batchscore.metrics import RunMetrics
from batchscore.offload import Threads
from batchscore.runtime import Ground, Runtime
from batchscore.scoring.connection import Limits, connect

if TYPE_CHECKING:
    from batchscore.client.client import Client
    from batchscore.protocols.base import Response

BODY = json.dumps({"rows": [{"x": 1}]}).encode()


async def _send(client: Client, until: float, answers: list[float]) -> None:
    async def read(_response: Response) -> None:
        answers.append(time.time())

    while time.time() < until:
        await client.score(BODY, 1, read)


async def main(url: str, number: int, of: int, seconds: float) -> None:
    """Send for so long, and print when the answers came."""
    config = ScoreConfig(
        inputs=["none.csv"], output="none.arrow", url=url, max_attempts=100, protocol="rows"
    )
    answers: list[float] = []
    with Threads(2) as offload:
        ground = Ground(Runtime(), offload, RunMetrics(), lambda *_: None)
        share = Share(number, of)
        async with (
            connect(config, ground, Limits.of(config), share=share) as connection,
            asyncio.TaskGroup() as tasks,
        ):
            for _ in range(64):
                tasks.create_task(_send(connection.client, time.time() + seconds, answers))
    sys.stdout.write(json.dumps(answers))


if __name__ == "__main__":
    url, number, of, seconds = sys.argv[1:]
    asyncio.run(main(url, int(number), int(of), float(seconds)))
