"""A long job under mixed faults whose process is killed again and again, and what came of it.

The server runs in a process of its own, and so does every run of the job: ``batchscore score``
with ``--resume``, ended by SIGKILL at a random moment, until one run comes to its end.
"""

from __future__ import annotations

import json
import os
import random
import signal
import subprocess
import sys
import time
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
from faultserver import FaultServerProcess

from batchscore.partial.journal import entries

KINDS: tuple[str | dict[str, Any], ...] = (
    {"kind": "reset", "when": "before"},
    {"kind": "reset", "when": "after"},
    {"kind": "reset", "when": "middle"},
    "close",
    "truncate",
    {"kind": "wrong_row_count", "delta": -1},
    {"kind": "wrong_row_count", "delta": 1},
    "html_200",
    "empty_200",
    "error_in_200",
    "invalid_json",
    {"kind": "slow", "delay_s": 0.2},
    "hang",
    "stall",
    {"kind": "status", "code": 429},
    {"kind": "status", "code": 500},
    {"kind": "status", "code": 502},
    {"kind": "status", "code": 503},
    {"kind": "status", "code": 504},
)
_AUTO_ROWS = 1024
# Seven tenths of a full request of these rows: larger ones are refused with 413.
_MAX_BYTES_A_ROW = 0.7 * len('{"x":100000},')
_ROWS_A_SECOND = 60_000
_POLL_S = 0.005


@dataclass(frozen=True)
class Plan:
    """What is done.

    Attributes:
        rows: rows of the input.
        kills: how often the process is killed.
        seed: chooses the moments and the faults.
        share: of the requests that meet a fault.
        timeout_s: of one request; hangs cost so much.
        batch_size: rows of a request and of a chunk; None: as a user has it who says nothing.
        concurrency: requests in flight; None: the same.
    """

    rows: int
    kills: int
    seed: int
    share: float = 0.2
    timeout_s: float = 2.0
    batch_size: int | None = None
    concurrency: int | None = None

    @property
    def chunk_rows(self) -> int:
        """Rows of a record batch of the output."""
        return self.batch_size or _AUTO_ROWS

    @property
    def command(self) -> str:
        """What does the same by hand."""
        told = {name.replace("_", "-"): value for name, value in asdict(self).items()}
        words = [f"--{name} {value}" for name, value in told.items() if value is not None]
        return " ".join(["python tests/soak/run.py", *words])

    @property
    def options(self) -> list[str]:
        """What the command line says of it."""
        words = ["--timeout", f"{self.timeout_s}s", "--max-attempts", "10"]
        if self.batch_size is not None:
            words += ["--batch-size", str(self.batch_size)]
        if self.concurrency is not None:
            words += ["--concurrency", str(self.concurrency)]
        return words


@dataclass
class Outcome:
    """What came of it.

    Attributes:
        kills: how often the process was killed.
        seconds: from the first start to the last end.
        max_rss_bytes: the most memory that any of the processes had.
        report: that of the last run.
        server: what the server counted over all runs.
    """

    plan: Plan
    kills: int = 0
    seconds: float = 0.0
    max_rss_bytes: int = 0
    exit_code: int | None = None
    report: dict[str, Any] = field(default_factory=dict)
    server: dict[str, Any] = field(default_factory=dict)

    @property
    def window_rows(self) -> int:
        """Rows that may have been sent and not written when a process was killed.

        Four chunks for each request that may be in flight, and at least 32 of them; the limit on
        requests in flight is raised only while it is used.
        """
        limit = self.plan.concurrency or self.server["max_in_flight"] + 1
        return max(32, 4 * limit) * self.plan.chunk_rows

    def figures(self) -> dict[str, object]:
        """The figures to write down, JSON-ready."""
        sent_twice = self.server["rows_sent_twice"]
        return {
            **asdict(self.plan),
            "killed": self.kills,
            "seconds": round(self.seconds, 1),
            "max_rss_mib": round(self.max_rss_bytes / 2**20),
            "requests": self.server["request_count"],
            "max_in_flight": self.server["max_in_flight"],
            "requests_that_met_a_fault": self.server["faults"],
            "retries_of_the_last_run": self.report["retries"],
            "rows_sent_twice": sent_twice,
            "rows_sent_twice_a_kill": round(sent_twice / max(1, self.kills)),
            "window_rows": self.window_rows,
        }


def soak(folder: Path, plan: Plan) -> Outcome:
    """Do the job of a plan in an empty folder, and check every row of what it wrote.

    Raises:
        AssertionError: a row is missing, repeated, out of order or wrong, or the job did not end;
            its note has the command that does the same again.
    """
    try:
        return _soak(folder, plan)
    except AssertionError as error:
        error.add_note(f"to see it again: {plan.command}")
        raise


def _soak(folder: Path, plan: Plan) -> Outcome:
    write_input(folder / "in.parquet", plan.rows)
    outcome = Outcome(plan)
    rng = random.Random(plan.seed)
    # How far a job has come is seen once a second, so late in a short one it would be over before.
    latest = plan.rows - min(plan.rows // 2, _ROWS_A_SECOND)
    moments = sorted(rng.randrange(latest) for _ in range(plan.kills))
    server = FaultServerProcess(
        model="linear",
        delay_s=0.005,
        mix={"seed": plan.seed, "share": plan.share, "kinds": KINDS},
        max_body_bytes=round(_MAX_BYTES_A_ROW * plan.chunk_rows),
        tally={"feature": "x", "rows": plan.rows},
    )
    started = time.monotonic()
    with server:
        for moment in moments:
            if outcome.exit_code is None:
                _run_until(folder, server.url, outcome, moment, rng.random() / 5)
        while outcome.exit_code is None:
            _run_until(folder, server.url, outcome, None, 0.0)
    outcome.seconds = time.monotonic() - started
    outcome.server = server.counts
    outcome.report = json.loads((folder / "report.json").read_text())
    check_output(folder / "out.arrow", plan.rows, plan.chunk_rows)
    return outcome


def write_input(path: Path, rows: int) -> None:
    """Rows numbered from 0, with a text that belongs to each."""
    with pq.ParquetWriter(path, pa.schema([("id", pa.string()), ("x", pa.int64())])) as writer:
        for start in range(0, rows, 65_536):
            numbers = range(start, min(start + 65_536, rows))
            texts = pa.array([f"row {n}" for n in numbers])
            writer.write_table(pa.table({"id": texts, "x": pa.array(numbers, pa.int64())}))


def check_output(path: Path, rows: int, chunk_rows: int) -> None:
    """Every row is there once, in order, with its own text and prediction."""
    with pa.memory_map(str(path)) as source, pa.ipc.open_file(source) as reader:
        at = 0
        for number in range(reader.num_record_batches):
            batch = reader.get_batch(number)
            expected = np.arange(at, at + batch.num_rows)
            assert batch["prediction_error"].null_count == batch.num_rows, f"failed rows at {at}"
            assert np.array_equal(batch["x"].to_numpy(), expected), f"other rows at {at}"
            values = batch["predicted_y"].to_numpy()
            assert np.array_equal(values, 2.0 * expected + 1), f"wrong predictions at {at}"
            texts = [f"row {n}" for n in expected.tolist()]
            assert batch["id"].to_pylist() == texts, f"wrong texts at {at}"
            assert batch.num_rows == chunk_rows or number == reader.num_record_batches - 1
            at += batch.num_rows
    assert at == rows, f"{at} rows of {rows}"


def _run_until(
    folder: Path, url: str, outcome: Outcome, moment: int | None, delay_s: float
) -> None:
    """Run the job; kill it a little after so many rows were written, or let it end."""
    command = [
        sys.executable, "-m", "batchscore", "score", "in.parquet", "--url", url,
        "-o", "out.arrow", "--resume", "--report", "report.json", "--quiet", *outcome.plan.options,
    ]  # fmt: skip
    environment = {n: v for n, v in os.environ.items() if not n.startswith(("COV_", "COVERAGE_"))}
    process = subprocess.Popen(command, cwd=folder, env=environment)
    try:
        while process.poll() is None:
            outcome.max_rss_bytes = max(outcome.max_rss_bytes, _peak_bytes(process.pid))
            if moment is not None and _written_rows(folder) >= moment:
                time.sleep(delay_s)
                process.kill()
                moment = None
            time.sleep(_POLL_S)
    finally:
        process.kill()
        process.wait()
    if process.returncode == -signal.SIGKILL:
        outcome.kills += 1
    else:
        outcome.exit_code = process.returncode
        assert process.returncode == 0, f"exit code {process.returncode}"


def _written_rows(folder: Path) -> int:
    try:
        journal = (folder / "out.arrow.partial" / "journal").read_bytes()
    except FileNotFoundError:
        return 0
    return sum(entry.rows for entry in entries(journal))


def _peak_bytes(pid: int) -> int:
    """The most memory that a process has had, 0 where it has just ended."""
    try:
        status = Path(f"/proc/{pid}/status").read_text()
    except (FileNotFoundError, ProcessLookupError):
        return 0
    lines = dict(line.split(":", 1) for line in status.splitlines())
    return int(lines.get("VmHWM", "0 kB").split()[0]) * 1024
