"""``batchscore bench`` on the same server: its command, its report, and its requests."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

import pyarrow as pa
import pyarrow.parquet as pq

from queueing.tools import SHARES, Figures

if TYPE_CHECKING:
    from collections.abc import Sequence

    from queueing.tools import Load

NAME = "batchscore"
ROWS = 10_000


class Run(NamedTuple):
    """What came of one run.

    Attributes:
        figures: as of any tool; response times, from when a request was to be sent.
        cell: the only cell of the report.
        requests: a row each.
        exit_code: 0, or 1 where the run says that it is invalid.
    """

    figures: Figures
    cell: dict[str, Any]
    requests: pa.Table
    exit_code: int


def command(load: Load, folder: Path, arrivals: str = "constant", seed: int = 1) -> list[str]:
    """Its words for a load: one row a request, no warm-up, as long as the others and no longer."""
    shape = ["--concurrency", str(load.concurrency)]
    if load.rate:
        shape = ["--rate", f"{load.rate:g}", "--arrivals", arrivals, "--seed", str(seed)]
    return [
        *("batchscore", "bench", str(folder / "rows.parquet"), "--url", load.url, *shape),
        *("--batch-size", "1", "--duration", f"{load.seconds}s", "--warmup", "0s"),
        *("--max-duration", f"{load.seconds}s", "--report", str(folder / "report.json")),
        *("--output", str(folder / "requests.arrow"), "-q"),
    ]


def run(
    load: Load,
    folder: Path,
    *,
    arrivals: str = "constant",
    seed: int = 1,
    cores: Sequence[int] = (),
) -> Run:
    """Run it on these cores, or any; each row has an ``x`` of its own.

    Raises:
        RuntimeError: it ended otherwise than with figures, with what it said.
    """
    source = folder / "rows.parquet"
    if not source.exists():
        pq.write_table(pa.table({"x": [float(n) for n in range(ROWS)]}), source)
    for made in ("report.json", "requests.arrow"):
        (folder / made).unlink(missing_ok=True)
    words = command(load, folder, arrivals, seed)
    done = subprocess.run(
        [sys.executable, "-m", *words],
        capture_output=True,
        text=True,
        check=False,
        preexec_fn=(lambda: os.sched_setaffinity(0, cores)) if cores else None,
    )
    if done.returncode not in {0, 1} or not (folder / "report.json").exists():
        raise RuntimeError(f"{' '.join(words)}: {done.returncode}: {done.stdout}{done.stderr}")
    report = json.loads((folder / "report.json").read_text())
    (cell,) = report["cells"]
    responses = cell["response_s"]
    figures = Figures(
        NAME,
        cell["requests"],
        cell["requests_per_s"],
        tuple(responses[f"p{share * 100:.0f}"] for share in SHARES),
        1e-6,
    )
    requests = pa.ipc.open_file(folder / "requests.arrow").read_all()
    return Run(figures, cell, requests, done.returncode)
