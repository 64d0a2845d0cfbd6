"""What is compared: each client is a command that reads a Parquet file and writes an Arrow file."""

from __future__ import annotations

import shutil
import subprocess
from dataclasses import dataclass
from functools import cache
from typing import TYPE_CHECKING

from processes import ENVIRONMENT, HERE, PYTHON

if TYPE_CHECKING:
    from pathlib import Path

LOOP = "requests loop"
ONE, TWO = "batchscore", "batchscore, 2 processes"
TRANSPORT = "wrk, ready body"


@dataclass(frozen=True)
class Client:
    """One way to score a file.

    Attributes:
        name: as it stands in the table.
        words: the command up to the input.
        options: what follows after the input.
        share: it is given one row of so many, as a slow client's rate is the same for fewer.
        processes: how many of its processes are at work.
    """

    name: str
    words: tuple[str, ...]
    options: tuple[str, ...] = ()
    share: int = 4
    processes: int = 1

    def command(self, source: Path, url: str, out: Path) -> list[str]:
        """The whole command."""
        return [*self.words, str(source), "--url", url, "-o", str(out), *self.options]


def clients() -> list[Client]:
    """All of them; batchscore has a second line where it can use several processes."""
    found = [
        Client(LOOP, script("loop.py")),
        Client("session, as sidekick", script("session.py")),
        Client("asyncio.gather", script("gather.py")),
        batchscore(ONE, *(("--processes", "1") if has_processes() else ())),
    ]
    if has_processes():
        found.append(batchscore(TWO, "--processes", "2", processes=2))
    return found


def batchscore(name: str, *options: str, processes: int = 1) -> Client:
    """``batchscore score`` with these options."""
    words = (PYTHON, "-m", "batchscore", "score")
    options = ("--overwrite", "--progress", "none", *options)
    return Client(name, words, options, share=1, processes=processes)


def script(name: str) -> tuple[str, ...]:
    """A script of this folder."""
    return PYTHON, str(HERE / name)


@cache
def has_processes() -> bool:
    """Whether this batchscore knows ``--processes``."""
    words = [PYTHON, "-m", "batchscore", "score", "--help"]
    shown = subprocess.run(words, capture_output=True, text=True, env=ENVIRONMENT, check=True)
    return "--processes" in shown.stdout


def has_wrk() -> bool:
    """Whether ``wrk`` is installed."""
    return shutil.which("wrk") is not None


_SCRIPT = """
local file = io.open("{body}", "rb")
wrk.method = "POST"
wrk.body = file:read("*a")
wrk.headers["Content-Type"] = "application/json"
function done(summary, latency, requests)
  local bad = summary.errors.status + summary.errors.read + summary.errors.timeout
  io.write(string.format('\\n{{"requests": %d, "microseconds": %d, "errors": %d}}\\n',
    summary.requests, summary.duration, bad))
end
"""


def wrk_command(url: str, body: Path, seconds: float, connections: int = 8) -> list[str]:
    """A command that sends a body over and over; its last line is JSON.

    With a few connections a server that costs nothing is never idle, and more would not make it
    faster.
    """
    lua = body.with_suffix(".lua")
    lua.write_text(_SCRIPT.format(body=body))
    path = shutil.which("wrk") or "wrk"
    return [path, "-t1", f"-c{connections}", f"-d{seconds:g}s", "-s", str(lua), url]
