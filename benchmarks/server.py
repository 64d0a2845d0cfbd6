"""A deployment that costs nearly nothing: it counts the rows of a body and answers as many.

python benchmarks/server.py '{"x": ["numeric", [1]]}'     # prints its URL
python benchmarks/server.py '{"x": ["numeric", [1]]}' 20  # request 20 is never answered
"""

from __future__ import annotations

import json
import sys
from functools import lru_cache
from pathlib import Path
from typing import TYPE_CHECKING

sys.path.insert(0, str(Path(__file__).parents[1] / "tests"))

from faultserver import FaultServer, Model, faults
from faultserver.faults import Reply

if TYPE_CHECKING:
    from faultserver.requests import RequestInfo


class CountingServer(FaultServer):
    """Finds the number of rows by counting a key, and sends ready-made bytes."""

    def _read_rows(self, info: RequestInfo) -> Reply | None:
        key = f'"{next(iter(self.inputs))}":'.encode()
        info.rows = [{}] * info.body.count(key)
        return None

    def _predict(self, info: RequestInfo) -> Reply:
        return Reply(200, answer(len(info.rows)), {"Content-Type": "application/json"})


@lru_cache(maxsize=1024)
def answer(rows: int) -> bytes:
    """A body with so many predictions."""
    return b'{"rows":[' + b",".join([b'{"y":0.3740423}'] * rows) + b"]}"


def main() -> None:
    """Serve until the process ends."""
    inputs = json.loads(sys.argv[1])
    hanging = int(sys.argv[2]) if len(sys.argv) > 2 else None
    model = Model(inputs, {"y": ("numeric", [1])}, lambda rows: rows)
    with CountingServer(*model, keep_requests=False) as server:
        server.script = lambda info: faults.hang() if info.index == hanging else None
        print(server.url, flush=True)
        sys.stdin.read()


if __name__ == "__main__":
    main()
