"""Load generators of other people on the same server, and what they say, in seconds.

All send the same POST. Each is a command, a way to read what it prints, and nothing else: where a
tool rounds or corrects, its figure is passed on as it stands.
"""

from __future__ import annotations

import json
import os
import re
import shutil
import subprocess
import tempfile
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from queueing.simulated import percentile

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

SHARES = (0.5, 0.9, 0.99)
BODY = '{"rows":[{"x":1.5}]}'
_JSON = "content-type: application/json"
_WRK = """
wrk.method, wrk.body = "POST", {body}
wrk.headers["Content-Type"] = "application/json"
function done(summary, latency, requests)
  for _, p in ipairs({{50, 90, 99}}) do io.write(("p%d %d\\n"):format(p, latency:percentile(p))) end
  io.write(("requests %d in %d\\n"):format(summary.requests, summary.duration))
end
"""


@dataclass(frozen=True, slots=True)
class Figures:
    """What a tool says of one run.

    Attributes:
        percentiles_s: p50, p90 and p99.
        unit_s: the least that the tool tells apart.
    """

    tool: str
    requests: int
    requests_per_s: float
    percentiles_s: tuple[float, ...]
    unit_s: float


@dataclass(frozen=True, slots=True)
class Load:
    """What a tool shall do; ``rate`` is of all clients together, None: a closed loop."""

    url: str
    concurrency: int
    seconds: int
    rate: float | None = None


@dataclass(frozen=True, slots=True)
class Tool:
    """One load generator.

    Attributes:
        takes_rate: it can send at a rate, at least as it understands that.
        command: its words for a load, with a folder for its files.
        read: from what it printed and that folder.
    """

    name: str
    takes_rate: bool
    command: Callable[[Load, Path], list[str]]
    read: Callable[[str, Path], Figures]
    package: str = ""

    @property
    def is_there(self) -> bool:
        """Whether it is installed."""
        return shutil.which(self.name) is not None

    def run(self, load: Load, *, cores: Sequence[int] = ()) -> Figures:
        """Run it on these cores, or any.

        Raises:
            RuntimeError: it failed, with what it said.
        """
        with tempfile.TemporaryDirectory() as text:
            folder = Path(text)
            (folder / "body.json").write_text(BODY)
            done = subprocess.run(
                self.command(load, folder),
                capture_output=True,
                text=True,
                check=False,
                preexec_fn=(lambda: os.sched_setaffinity(0, cores)) if cores else None,
            )
            if done.returncode:
                raise RuntimeError(f"{self.name}: {done.stdout}{done.stderr}")
            return self.read(done.stdout, folder)


def _wrk(load: Load, folder: Path) -> list[str]:
    script = folder / "post.lua"
    script.write_text(_WRK.format(body=json.dumps(BODY)))
    return ["wrk", f"-c{load.concurrency}", "-t1", f"-d{load.seconds}", "-s", str(script), load.url]


def read_wrk(printed: str, folder: Path) -> Figures:
    """The lines of the script's ``done``, which has microseconds where the table is rounded."""
    found = [int(us) / 1e6 for us in re.findall(r"^p\d+ (\d+)$", printed, re.MULTILINE)]
    requests, us = map(int, _found(r"^requests (\d+) in (\d+)$", printed))
    return Figures("wrk", requests, requests / us * 1e6, tuple(found), 1e-6)


def _hey(load: Load, folder: Path) -> list[str]:
    # Its rate is of each worker.
    rate = ["-q", f"{load.rate / load.concurrency:g}"] if load.rate else []
    return [
        *("hey", "-z", f"{load.seconds}s", "-c", str(load.concurrency), *rate, "-m", "POST"),
        *("-T", "application/json", "-D", str(folder / "body.json"), load.url),
    ]


def read_hey(printed: str, folder: Path) -> Figures:
    """The summary, seconds with four decimals."""
    found = dict(re.findall(r"^ +(\d+)%+ in ([\d.]+) secs$", printed, re.MULTILINE))
    (rate,) = _found(r"Requests/sec:\s+([\d.]+)", printed)
    (requests,) = _found(r"\[200\]\s+(\d+) responses", printed)
    # Of few requests it leaves out the percentiles that none of them stands for.
    percentiles = tuple(
        float(found.get(f"{share * 100:.0f}") or _found(r"Slowest:\s+([\d.]+)", printed)[0])
        for share in SHARES
    )
    return Figures("hey", int(requests), float(rate), percentiles, 1e-4)


def _h2load(load: Load, folder: Path) -> list[str]:
    # Its rate is of each client, and whole.
    rate = ["--rps", f"{round(load.rate / load.concurrency)}"] if load.rate else []
    return [
        *("h2load", "--h1", "-c", str(load.concurrency), "-t", "1", "-D", str(load.seconds), *rate),
        *("-d", str(folder / "body.json"), "-H", _JSON),
        *("--log-file", str(folder / "h2load.log"), load.url),
    ]


def read_h2load(printed: str, folder: Path) -> Figures:
    """The log, a line a request; what it prints has no percentiles."""
    lines = (folder / "h2load.log").read_text().splitlines()
    took = [int(us) / 1e6 for _, status, us in (line.split("\t") for line in lines)
            if status == "200"]  # fmt: skip
    (rate,) = _found(r"finished in .*?, ([\d.]+) req/s", printed)
    found = tuple(percentile(took, share) for share in SHARES)
    return Figures("h2load", len(took), float(rate), found, 1e-6)


def _autocannon(load: Load, folder: Path) -> list[str]:
    rate = ["-R", f"{load.rate:g}"] if load.rate else []
    return [
        *("autocannon", "-c", str(load.concurrency), "-d", str(load.seconds), "-j", *rate),
        *("-m", "POST", "-H", _JSON, "-i", str(folder / "body.json"), load.url),
    ]


def read_autocannon(printed: str, folder: Path) -> Figures:
    """Its JSON, whole milliseconds, cut off."""
    told = json.loads(printed)
    found = tuple(told["latency"][f"p{share * 100:.0f}"] / 1e3 for share in SHARES)
    return Figures("autocannon", told["2xx"], told["2xx"] / told["duration"], found, 1e-3)


def _found(pattern: str, printed: str) -> tuple[str, ...]:
    match = re.search(pattern, printed, re.MULTILINE)
    if match is None:
        raise RuntimeError(f"no {pattern!r} in: {printed}")
    return match.groups()


TOOLS = [
    Tool("wrk", False, _wrk, read_wrk, "wrk"),
    Tool("hey", True, _hey, read_hey, "hey"),
    Tool("h2load", True, _h2load, read_h2load, "nghttp2-client"),
    Tool("autocannon", True, _autocannon, read_autocannon),
]


def wrk_corrected(responses_s: Sequence[float], clients: int, seconds: float) -> list[float]:
    """What wrk makes of such responses before it takes percentiles.

    wrk adds, to each response longer than twice its mean interval (the time over the requests of a
    client), responses shorter by one, two, ... intervals, as if the client had stood still where it
    should have sent (``stats_correct`` in its src/stats.c): right for a constant rate, but in a
    closed loop nothing was left out, and long services count several times.
    """
    interval = seconds / (len(responses_s) // clients)
    added = []
    for response in responses_s:
        if response >= 2 * interval:
            less = response - interval
            while less > interval:
                added.append(less)
                less -= interval
    return [*responses_s, *added]
