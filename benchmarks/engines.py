"""The same rows scored here and by the workers of engines: is it the same, and how fast is it?

    python benchmarks/engines.py                      # a million rows, all engines there are
    python benchmarks/engines.py --rows 50000 --engine ray --kill

The server answers each row with a number of its own, so that rows that were lost, doubled or
swapped show. With ``--kill`` a worker of each engine is killed once all of them are at work.
"""

from __future__ import annotations

import argparse
import json
import os
import signal
import subprocess
import sys
import tempfile
import threading
import time
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
from processes import CORES, PYTHON, serving

sys.path.insert(0, str(Path(__file__).parents[1] / "tests"))

from faultserver import spark_here
from faultserver.clients import clients_of, command_of, started_by, wait_until

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

COLUMNS = [f"x{number}" for number in range(10)]
ROW_GROUP_ROWS = 32_768
BATCH_ROWS = 1000


@dataclass(frozen=True)
class Way:
    """A way to score.

    Attributes:
        name: as in the table.
        words: of the command line.
        worker: what the commands of its workers hold; empty where there is none to kill.
        owner: what the command of the process holds that is killed, the worker's own or that of one
            that started it; empty: the worker itself.
    """

    name: str
    words: tuple[str, ...] = ()
    worker: str = ""
    owner: str = ""


def ways(workers: int) -> dict[str, Way]:
    """The ways there are, by the engine."""
    count = ("--workers", str(workers))
    return {
        "local": Way("local"),
        "ray": Way("Ray", ("--engine", "ray", *count), worker="ray::"),
        # Executors that are processes of their own, as on a cluster.
        "spark": Way(
            "Spark",
            ("--engine", "spark", *count, "--master", f"local-cluster[{workers},1,1024]"),
            worker="pyspark",
            owner=spark_here.EXECUTOR,
        ),
    }


@dataclass(frozen=True)
class Result:
    """One run.

    Attributes:
        way: how it was scored.
        seconds: from the start of the command to its end.
        scoring_s: of that, from the first request of the workers to the last, as the server saw it.
        killed: how many workers were killed.
        requests: how many the server answered.
    """

    way: str
    seconds: float
    scoring_s: float
    killed: int
    requests: int


def write_rows(path: Path, rows: int) -> None:
    """Ten columns of numbers; the first says which row it is."""
    rng = np.random.default_rng(7)
    columns = {name: rng.normal(size=rows).round(6) for name in COLUMNS}
    table = pa.table({**columns, COLUMNS[0]: np.arange(rows) / 8})
    pq.write_table(table, path, row_group_size=ROW_GROUP_ROWS)


class Killer(threading.Thread):
    """Kills one worker of a way, once all of them are connected to the server."""

    def __init__(self, url: str, way: Way, workers: int) -> None:
        super().__init__(daemon=True)
        self._url, self._way, self._workers = url, way, workers
        self.killed = 0

    def run(self) -> None:
        """Wait for the workers, let them begin, and kill one."""
        at_work = wait_until(self._at_work, f"{self._workers} workers of {self._way.name}", 300.0)
        time.sleep(1.0)
        os.kill(at_work[0], signal.SIGKILL)
        self.killed += 1

    def _at_work(self) -> list[int]:
        workers = [pid for pid in clients_of(self._url) if self._way.worker in command_of(pid)]
        pids = {started_by(pid, self._way.owner) for pid in workers} - {None}
        return sorted(pids) if len(pids) >= self._workers else []


def run(way: Way, source: Path, folder: Path, workers: int, *, kill: bool) -> Result:
    """Score the rows in one way; the output is ``folder`` and the way's name."""
    inputs = {name: ("numeric", [1]) for name in COLUMNS}
    report = folder / f"{way.name}.json"
    with ExitStack() as stack:
        server = stack.enter_context(serving(inputs, "--echo", COLUMNS[0], cores="any"))
        words = [str(source), "--url", server.url, "-o", str(out_of(way, folder)), "--overwrite"]
        words += ["--batch-size", str(BATCH_ROWS), "--report", str(report), *way.words]
        killer = Killer(server.url, way, workers) if kill and way.worker else None
        if killer is not None:
            killer.start()
        environment = stack.enter_context(spark_here.spark_home()) if "spark" in words else {}
        started = time.perf_counter()
        done = subprocess.run(
            [PYTHON, "-m", "batchscore", "score", *words, "--output-format", "parquet"],
            env={**os.environ, **environment},
            capture_output=True,
            text=True,
            check=False,
        )
        seconds = time.perf_counter() - started
        counted = server.counts()
    if done.returncode:
        raise SystemExit(f"{way.name} ended with {done.returncode}: {done.stderr}")
    told = json.loads(report.read_text())
    if told["rows_scored"] != told["rows_read"]:
        raise SystemExit(f"{way.name}: {told['rows_failed']} rows failed: {told['failed_rows']}")
    killed = killer.killed if killer is not None else 0
    return Result(way.name, seconds, counted["seconds"], killed, counted["requests"])


def out_of(way: Way, folder: Path) -> Path:
    """Where the output of a way is: a file, or a folder of parts."""
    return folder / f"{way.name}.out"


def batches(out: Path) -> Iterator[pa.RecordBatch]:
    """The rows of an output, in order."""
    paths = sorted(out.glob("part-*")) if out.is_dir() else [out]
    for path in paths:
        yield from pq.ParquetFile(path).iter_batches(batch_size=65_536)


def table(out: Path) -> pa.Table:
    """An output as one table."""
    return pa.Table.from_batches(batches(out))


def differences(out: Path, expected: pa.Table) -> list[str]:
    """What of an output is not as expected, column by column, value by value and in order."""
    found = table(out)
    if found.schema.names != expected.schema.names:
        return [f"columns {found.schema.names}"]
    if found.num_rows != expected.num_rows:
        return [f"{found.num_rows} rows"]
    return [name for name in expected.schema.names if not found[name].equals(expected[name])]


def as_text(results: Sequence[Result], rows: int) -> str:
    """The results as a table of Markdown."""
    lines = [
        "| way | seconds | rows/s | scoring alone, rows/s | requests | workers killed |",
        "|---|---|---|---|---|---|",
    ]
    lines += [
        f"| {each.way} | {each.seconds:.1f} | {rows / each.seconds:,.0f} | "
        f"{rows / each.scoring_s:,.0f} | {each.requests:,} | {each.killed} |"
        for each in results
    ]
    return "\n".join(lines)


def main() -> None:
    """Score, compare, print."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--rows", type=int, default=1_000_000)
    parser.add_argument("--workers", type=int, default=2)
    parser.add_argument("--engine", action="append", choices=[*ways(1)][1:], help="else all")
    parser.add_argument("--kill", action="store_true", help="kill a worker of each engine")
    parser.add_argument("--json", type=Path, help="write the results to this file")
    options = parser.parse_args()
    known = ways(options.workers)
    chosen = [known["local"], *(known[name] for name in options.engine or [*known][1:])]
    results = []
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        source = folder / "in.parquet"
        write_rows(source, options.rows)
        for way in chosen:
            results.append(run(way, source, folder, options.workers, kill=options.kill))
            print(f"{way.name}: {results[-1].seconds:.1f} s", file=sys.stderr)
        expected = table(out_of(chosen[0], folder))
        assert expected["predicted_y"].equals(expected[COLUMNS[0]])
        wrong = {way.name: differences(out_of(way, folder), expected) for way in chosen[1:]}
    print(as_text(results, options.rows))
    print(f"\n{options.rows:,} rows of {len(COLUMNS)} numbers; {options.workers} workers on "
          f"{len(CORES) or os.cpu_count()} cores, which the server shares.")  # fmt: skip
    if options.json:
        options.json.write_text(json.dumps([vars(each) for each in results], indent=2) + "\n")
    if any(wrong.values()):
        raise SystemExit(f"the outputs differ: {wrong}")
    print("All outputs are equal, value by value and in order.")
    if options.kill and not all(each.killed for each in results[1:]):
        raise SystemExit("no worker was killed: the job was too quick; give more --rows")


if __name__ == "__main__":
    main()
