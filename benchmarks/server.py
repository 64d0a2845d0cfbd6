"""A deployment that costs nearly nothing: it counts the rows of a body and answers as many.

    python benchmarks/server.py '{"x": ["numeric", [1]]}'     # prints its URL
    python benchmarks/server.py '{"x": ["numeric", [1]]}' 20  # request 20 is never answered

For each line of its standard input it prints what it counted since the last, as JSON.
"""

from __future__ import annotations

import argparse
import json
import os
import sys
import time
from functools import lru_cache, partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

sys.path.insert(0, str(Path(__file__).parents[1] / "tests"))

import orjson
from faultserver import FaultServer, Model, faults
from faultserver.faults import Reply

if TYPE_CHECKING:
    from faultserver.requests import RequestInfo


class CountingServer(FaultServer):
    """Finds the number of rows by counting a key, and sends ready-made bytes."""

    def __init__(self, *model: Any, **options: Any) -> None:
        super().__init__(*model, **options)
        self._key = f'"{next(iter(self.inputs))}":'.encode()
        self._counts = dict.fromkeys(("requests", "rows", "bytes"), 0)
        self._busy: list[float] = []

    def _read_rows(self, info: RequestInfo) -> Reply | None:
        info.rows = [{}] * info.body.count(self._key)
        self._counts["requests"] += 1
        self._counts["rows"] += len(info.rows)
        self._counts["bytes"] += len(info.body)
        if len(info.rows) > 1:  # the driver of an engine tries one row first
            self._busy = [*self._busy[:1], time.perf_counter()]
        return None

    def _predict(self, info: RequestInfo) -> Reply:
        return Reply(200, answer(len(info.rows)), {"Content-Type": "application/json"})

    def counts(self) -> dict[str, float]:
        """What came since this was last asked, and the seconds from the first to the last of it."""
        counted = dict(self._counts)
        for name, count in counted.items():
            self._counts[name] -= count
        seconds = self._busy[-1] - self._busy[0] if self._busy else 0.0
        self._busy = []
        return {**counted, "seconds": seconds}


class EchoServer(CountingServer):
    """Answers each row with its own value of one input: rows that change places show."""

    def __init__(self, *model: Any, echo: str, **options: Any) -> None:
        super().__init__(*model, **options)
        self._echo = echo

    def _predict(self, info: RequestInfo) -> Reply:
        rows = [{"y": row[self._echo]} for row in orjson.loads(info.body)["rows"]]
        return Reply(200, orjson.dumps({"rows": rows}), {"Content-Type": "application/json"})


@lru_cache(maxsize=1024)
def answer(rows: int) -> bytes:
    """A body with so many predictions."""
    return b'{"rows":[' + b",".join([b'{"y":0.3740423}'] * rows) + b"]}"


def main() -> None:
    """Serve until the process ends."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("inputs", help="the features as JSON; -: a line of standard input")
    parser.add_argument("hanging", type=int, nargs="?", help="a request that is never answered")
    parser.add_argument("--delay-s", type=float, default=0.0, help="service time of a request")
    parser.add_argument("--echo", help="the input whose value is the prediction; else one number")
    parser.add_argument("--cores", default="any", help="0,1: the cores it keeps to")
    options = parser.parse_args()
    if options.cores != "any":
        os.sched_setaffinity(0, [int(core) for core in options.cores.split(",")])
    inputs = json.loads(sys.stdin.readline() if options.inputs == "-" else options.inputs)
    model = Model(inputs, {"y": ("numeric", [1])}, lambda rows: rows)
    kind = partial(EchoServer, echo=options.echo) if options.echo else CountingServer
    with kind(*model, keep_requests=False, delay_s=options.delay_s) as server:
        server.script = lambda info: faults.hang() if info.index == options.hanging else None
        print(server.url, flush=True)
        for _ in sys.stdin:
            print(json.dumps(server.counts()), flush=True)


if __name__ == "__main__":
    main()
