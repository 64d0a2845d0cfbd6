"""The server in a process of its own, and its record of what was true."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any, NamedTuple, Self

from queueing.services import Service, described

_TESTS = Path(__file__).parent.parent


class Record(NamedTuple):
    """One request as the server saw it; seconds of the monotonic clock.

    Attributes:
        key: ``x`` of its first row.
        arrived_s: its last byte was read.
        start_s, end_s: of its service, as scheduled.
        sent_s: the answer was written.
    """

    key: Any
    arrived_s: float
    start_s: float
    end_s: float
    sent_s: float

    @property
    def wait_s(self) -> float:
        """In the queue."""
        return self.start_s - self.arrived_s

    @property
    def response_s(self) -> float:
        """From its arrival to its answer."""
        return self.sent_s - self.arrived_s

    @property
    def late_s(self) -> float:
        """How much later than scheduled the answer was sent."""
        return self.sent_s - self.end_s


def last_core() -> int | None:
    """A core for the server alone, where there is another for the rest."""
    cores = sorted(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else []
    return cores[-1] if len(cores) > 1 else None


class QueueServerProcess:
    """The server from ``with`` to its end; see ``server``.

    Args:
        core: the core it keeps to; None: any.

    Attributes:
        url: the address of the deployment; ``plain_url`` of the plain path.
    """

    def __init__(self, service: Service, seed: int = 0, *, core: int | None = None) -> None:
        self._arguments = [json.dumps(described(service)), "--seed", str(seed)]
        if core is not None:
            self._arguments += ["--core", str(core)]

    def __enter__(self) -> Self:
        paths = [str(_TESTS), *filter(None, [os.environ.get("PYTHONPATH")])]
        # This process holds the other end of its input: no server outlives its test.
        self._process = subprocess.Popen(
            [sys.executable, "-m", "queueing", *self._arguments],
            env={**os.environ, "PYTHONPATH": os.pathsep.join(paths)},
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
        )
        assert self._process.stdout is not None
        port = self._process.stdout.readline().strip()
        if not port:
            self._process.communicate()
            raise RuntimeError(f"the server ended with status {self._process.returncode}")
        self.url = f"http://127.0.0.1:{port}/deployment/queue/forward"
        self.plain_url = f"http://127.0.0.1:{port}/plain"
        return self

    def begin(self, service: Service, seed: int) -> None:
        """Forget the record, and serve so from now on."""
        self._ask(json.dumps({"service": described(service), "seed": seed}))

    def records(self) -> list[Record]:
        """What was answered since the beginning, in order."""
        return [Record(*record) for record in self._ask("")]

    def _ask(self, line: str) -> Any:
        assert self._process.stdin is not None
        assert self._process.stdout is not None
        self._process.stdin.write(line + "\n")
        self._process.stdin.flush()
        return json.loads(self._process.stdout.readline())

    def __exit__(self, *_: object) -> None:
        self._process.communicate(timeout=10)
