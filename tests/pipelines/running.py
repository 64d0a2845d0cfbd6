"""The examples, copied into an empty folder with rows, and run there as a user would."""

from __future__ import annotations

import json
import os
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq

ROOT = Path(__file__).parents[2]
EXAMPLES = ROOT / "examples" / "pipelines"
COMMAND = Path(sys.executable).parent / "batchscore"
REFUSES = "http://127.0.0.1:9/deployment/x/forward"


def prepared(folder: Path, *names: str, rows: int = 200) -> Path:
    """The folder, with those examples and ``rows/monday.parquet`` and ``tuesday``."""
    (folder / "rows").mkdir()
    for name in names:
        shutil.copy(EXAMPLES / name, folder)
    for day in ("monday", "tuesday"):
        pq.write_table(pa.table({"x": pa.array(range(rows), pa.int64())}), input_of(folder, day))
    return folder


def input_of(folder: Path, day: str = "monday") -> Path:
    return folder / "rows" / f"{day}.parquet"


def environment(**variables: str) -> dict[str, str]:
    """The environment without options, where ``batchscore`` is the one that is tested."""
    kept = {name: value for name, value in os.environ.items() if "BATCHSCORE_" not in name}
    path = f"{COMMAND.parent}{os.pathsep}{kept['PATH']}"
    return {**kept, "PATH": path, "PAUSE_S": "0", **variables}


def start(folder: Path, *words: str, **variables: str) -> subprocess.Popen[str]:
    """A command in a process group of its own, as a terminal has one."""
    return subprocess.Popen(
        words, cwd=folder, env=environment(**variables), text=True, start_new_session=True,
        stdout=subprocess.PIPE, stderr=subprocess.PIPE,
    )  # fmt: skip


def run(folder: Path, *words: str, **variables: str) -> subprocess.CompletedProcess[str]:
    """A command, from its begin to its end."""
    return subprocess.run(
        words, cwd=folder, env=environment(**variables), capture_output=True, text=True,
        timeout=100, check=False,
    )  # fmt: skip


def noting(folder: Path) -> Path:
    """A command that is batchscore, and appends its process id to ``pids`` each time."""
    command = folder / "noting"
    command.write_text(f'#!/bin/sh\necho $$ >> "{folder}/pids"\nexec "{COMMAND}" "$@"\n')
    command.chmod(0o755)
    return command


def pids(folder: Path) -> list[int]:
    path = folder / "pids"
    return [int(line) for line in path.read_text().split()] if path.exists() else []


def kill_at_work(folder: Path, partial: Path) -> None:
    """Kill the run that ``noting`` noted first, as soon as some of its work is safe on the disk."""
    wait_for(lambda: pids(folder) and durable(partial))
    os.kill(pids(folder)[0], signal.SIGKILL)


def durable(partial: Path) -> bool:
    """Whether a resumed run would find rows there: a line of the journal beyond its first."""
    journal = partial / "journal"
    return journal.exists() and journal.read_bytes().count(b"\n") > 1


def report_of(out: Path) -> dict[str, Any]:
    return json.loads(out.with_name(f"{out.name}.report.json").read_text())


def wait_for(happened: Callable[[], object], seconds: float = 60.0) -> None:
    deadline = time.monotonic() + seconds
    while not happened():
        assert time.monotonic() < deadline, "it never happened"
        time.sleep(0.01)
