"""The slow lanes, one after another, and what they came to.

    python scripts/slow_lanes.py              # all, about an hour on two cores
    python scripts/slow_lanes.py soak flat    # some of them

Their output is shown as it comes; the end says how each one ended, and its figures once more.
"""

from __future__ import annotations

import argparse
import os
import subprocess
import sys
import time
from collections import deque
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

ROOT = Path(__file__).parents[1]


@dataclass(frozen=True)
class Lane:
    """A command that takes minutes.

    Attributes:
        about: what it shows, for the list of lanes.
        words: what Python is given.
        variables: of the environment.
        last_lines: how many lines at the end of its output are its figures.
    """

    about: str
    words: Sequence[str]
    variables: Mapping[str, str] = field(default_factory=dict)
    last_lines: int = 1


# A lane is one entry here, and nothing else knows of it. One that needs a model server starts it
# itself, on 127.0.0.1, and ends it.
LANES = {
    "soak": Lane(
        "a million rows under faults, ten kill -9 (docs/soak.md)",
        ("tests/soak/run.py", "--rows", "1000000", "--kills", "10", "--seed", "1"),
        last_lines=40,
    ),
    "cancellation": Lane(
        "a run that is cancelled at every single step",
        ("-m", "pytest", "-q", "-o", "timeout=900", "tests/integration/test_cancellation.py"),
        {"CANCELLATION_STRIDE": "1"},
    ),
    "simulation": Lane(
        "whole jobs in simulated trouble, 100,000 seeds (docs/simulation.md)",
        ("-m", "simulation", "--seeds", "100000"),
        {"PYTHONPATH": "tests"},
    ),
    "tests": Lane(
        "the tests that take long, of which the others are the short form",
        ("-m", "pytest", "-q", "-n", "2", "-o", "timeout=900", "-m", "slow"),
    ),
    "coverage": Lane(
        "all tests once more, with what they cover: 90 % at least",
        (
            "-m",
            "pytest",
            "-q",
            "-n",
            "2",
            "-o",
            "timeout=900",
            "-m",
            "slow or not slow",
            "--cov",
            "--cov-fail-under=90",
        ),
        last_lines=4,
    ),
    "flat": Lane(
        "jobs that are long, wide, many-filed and far away (docs/benchmarks.md)",
        ("benchmarks/flat.py",),
        last_lines=60,
    ),
}


@dataclass(frozen=True)
class Ended:
    """How a lane ended: its exit code, its time, and the end of what it printed."""

    name: str
    code: int
    seconds: float
    figures: Sequence[str]

    def __str__(self) -> str:
        """A heading and the figures."""
        how = "passed" if self.code == 0 else f"FAILED with exit code {self.code}"
        return "\n".join([f"{self.name}: {how} after {self.seconds:.0f} s", *self.figures])


def run(name: str, lane: Lane) -> Ended:
    """Run a lane to its end, showing what it prints."""
    began, last = time.monotonic(), deque[str](maxlen=lane.last_lines)
    print(f"\n== {name}: {lane.about}", flush=True)
    with subprocess.Popen(
        [sys.executable, *lane.words],
        cwd=ROOT,
        env={**os.environ, **lane.variables},
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
    ) as process:
        assert process.stdout is not None
        for line in process.stdout:
            print(line, end="", flush=True)
            last.append(line.rstrip("\n"))
    return Ended(name, process.returncode, time.monotonic() - began, last)


def run_all(lanes: Mapping[str, Lane]) -> int:
    """Run lanes in turn, then tell how they ended; 1 where one failed."""
    ended = [run(name, lane) for name, lane in lanes.items()]
    print("\n== what the slow lanes came to")
    for one in ended:
        print(f"\n{one}")
    return 1 if any(one.code for one in ended) else 0


def main() -> int:
    """Run the lanes that are named, or all."""
    told = "\n".join(f"  {name:<14}{lane.about}" for name, lane in LANES.items())
    parser = argparse.ArgumentParser(
        description=__doc__.splitlines()[0],
        epilog=f"lanes:\n{told}",
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("lanes", nargs="*", metavar="LANE", choices=[*LANES, []])
    named = parser.parse_args().lanes
    return run_all({name: lane for name, lane in LANES.items() if not named or name in named})


if __name__ == "__main__":
    sys.exit(main())
