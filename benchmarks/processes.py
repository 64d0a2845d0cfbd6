"""The processes of a benchmark: the server on one core, the clients, one at a time, on others."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping, Sequence

HERE = Path(__file__).parent
PYTHON = sys.executable
CORES = sorted(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else []
# Compiling the clients' sources anew each time would be counted as their start-up.
ENVIRONMENT = {k: v for k, v in os.environ.items() if k != "PYTHONDONTWRITEBYTECODE"}


@dataclass(frozen=True)
class Taken:
    """What a process took.

    Attributes:
        seconds: from its start to its end.
        cpu_s: processor seconds of it and of the processes it waited for.
        peak_bytes: the most resident memory; of several processes, of the largest.
        printed: what it printed.
    """

    seconds: float
    cpu_s: float
    peak_bytes: int
    printed: str = ""


def client_cores(count: int = 1) -> str:
    """The cores of a client of so many processes, as ``launch.py`` takes them.

    The last core is the server's; only a client that needs more than are left has it too.
    """
    if not CORES:
        return "any"
    free = CORES[:-1] or CORES
    return ",".join(map(str, free[:count] if count <= len(free) else CORES))


def run(command: Sequence[str], cores: str) -> Taken:
    """Run a command to its end on these cores."""
    done = subprocess.run(
        [PYTHON, "-I", "-S", str(HERE / "launch.py"), cores, *command],
        capture_output=True,
        text=True,
        env=ENVIRONMENT,
        check=False,
    )
    if done.returncode:
        raise SystemExit(f"{' '.join(command)} ended with {done.returncode}: {done.stderr}")
    return Taken(**json.loads(done.stdout), printed=done.stderr)


class Server:
    """A running server.

    Attributes:
        url: the address of its deployment.
    """

    def __init__(self, process: subprocess.Popen[str]) -> None:
        self._process = process
        self.url = process.stdout.readline().strip()

    def counts(self) -> dict[str, float]:
        """Requests, rows and bytes of bodies, and seconds, since the last time it was asked."""
        self._process.stdin.write("\n")
        self._process.stdin.flush()
        return json.loads(self._process.stdout.readline())


@contextmanager
def serving(
    inputs: Mapping[str, tuple[str, list[int]]], *options: str, cores: str | None = None
) -> Iterator[Server]:
    """A server of these features, on the last core; the options are those of ``server.py``."""
    cores = cores or (str(CORES[-1]) if CORES else "any")
    process = subprocess.Popen(
        [PYTHON, str(HERE / "server.py"), "-", "--cores", cores, *options],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
        env=ENVIRONMENT,
    )
    try:
        process.stdin.write(json.dumps(inputs) + "\n")
        process.stdin.flush()
        yield Server(process)
    finally:
        process.kill()
        process.wait()
        process.stdin.close()
        process.stdout.close()
