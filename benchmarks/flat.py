"""Whether speed and memory stay flat where a job is long, wide, many-filed, or far away.

    python benchmarks/flat.py                      # all, some minutes
    python benchmarks/flat.py latency --rounds 1   # one of them

rows      10 million rows beside 1 million: rows/s and peak memory should be the same
files     a million rows in 10,000 files beside one file
columns   10,000 columns beside 100 of as many cells
cells     texts of 100 MB, sent; bytes of 100 MB, carried along
one-row   requests of one row, beside the most that wrk gets through
latency   a server that takes 50 ms: with c requests in flight, c * batch / 0.05 s is the bound

Jobs that are compared run in turns; start-up is taken off as in ``run.py``. Figures are medians.
"""

from __future__ import annotations

import argparse
import json
import math
import statistics
import tempfile
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
import orjson
import pyarrow as pa
import pyarrow.parquet as pq
from clients import batchscore, has_wrk, wrk_command
from processes import Taken, client_cores, run, serving

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from processes import Server

DELAY_S = 0.05


@dataclass(frozen=True)
class Job:
    """One job of a lane.

    Attributes:
        name: what is special about it.
        source: its input.
        size: rows, or cells, of the input: what its speed is told in.
        options: of ``batchscore score``.
    """

    name: str
    source: Path
    size: int
    options: tuple[str, ...] = ()

    def run(self, url: str, out: Path, source: Path | None = None) -> Taken:
        """Run it once, perhaps on another input."""
        client = batchscore(self.name, *self.options)
        return run(client.command(source or self.source, url, out), client_cores())


def interleaved(jobs: Sequence[Job], server: Server, one: Path, rounds: int) -> dict[str, float]:
    """Run jobs in turns and print a line for each; the speed of each, start-up taken off.

    Args:
        jobs: what is compared.
        server: where they send to.
        one: a file of one row, for the start-up.
        rounds: each job runs once in a round.
    """
    out = one.with_name("out.arrow")
    taken: dict[str, list[Taken]] = {job.name: [] for job in jobs}
    starts = []
    for _ in range(rounds):
        starts.append(jobs[0].run(server.url, out, one))
        for job in jobs:
            taken[job.name].append(job.run(server.url, out))
    start_s = statistics.median(start.seconds for start in starts)
    start_cpu_s = statistics.median(start.cpu_s for start in starts)
    speeds = {}
    for job in jobs:
        speed = [job.size / (one_run.seconds - start_s) for one_run in taken[job.name]]
        cpu_s = statistics.median(one_run.cpu_s for one_run in taken[job.name]) - start_cpu_s
        peak = max(one_run.peak_bytes for one_run in taken[job.name])
        speeds[job.name] = statistics.median(speed)
        print(
            f"| {job.name} | {speeds[job.name]:,.0f} | {min(speed):,.0f} to {max(speed):,.0f} "
            f"| {job.size / cpu_s:,.0f} | {peak / 1e6:,.0f} |",
            flush=True,
        )
    return speeds


def head(unit: str) -> None:
    """The head of a lane's table."""
    print(f"\n| job | {unit}/s | smallest to largest | {unit} per CPU s | peak MB |")
    print("|---|--:|--:|--:|--:|")


def numbers(count: int, columns: int, seed: int = 0) -> pa.Table:
    """A table of floats."""
    rng = np.random.default_rng(seed)
    return pa.table({f"f{n}": rng.normal(size=count) for n in range(columns)})


def numeric(table: pa.Table) -> dict[str, tuple[str, list[int]]]:
    """The features that these numbers serve."""
    return {name: ("numeric", [1]) for name in table.column_names}


def one_row(table: pa.Table, folder: Path) -> Path:
    """A file of the first row."""
    pq.write_table(table.slice(0, 1), folder / "one.parquet")
    return folder / "one.parquet"


def rows(folder: Path, rounds: int) -> None:
    """Ten million rows beside one million."""
    part = numbers(2**17, 8)
    jobs = []
    for millions in (1, 10):
        path = folder / f"{millions}M.parquet"
        with pq.ParquetWriter(path, part.schema) as writer:
            for start in range(0, millions * 10**6, len(part)):
                writer.write_table(part.slice(0, min(len(part), millions * 10**6 - start)))
        jobs.append(Job(f"{millions} M rows", path, millions * 10**6))
    head("rows")
    with serving(numeric(part)) as server:
        speeds = list(interleaved(jobs, server, one_row(part, folder), rounds).values())
    print(f"\n10 M rows at {speeds[1] / speeds[0]:.2f} times the speed of 1 M")


def files(folder: Path, rounds: int) -> None:
    """A million rows in ten thousand files."""
    table = numbers(10**6, 8)
    many, one = folder / "many", folder / "all.parquet"
    many.mkdir()
    pq.write_table(table, one)
    for number in range(10_000):
        pq.write_table(table.slice(number * 100, 100), many / f"{number:05}.parquet")
    head("rows")
    jobs = [Job("1 file", one, len(table)), Job("10,000 files", many, len(table))]
    with serving(numeric(table)) as server:
        interleaved(jobs, server, one_row(table, folder), rounds)


def columns(folder: Path, rounds: int) -> None:
    """Ten thousand columns beside a hundred, with as many cells."""
    head("cells")
    for count in (100, 10_000):
        table = numbers(10**7 // count, count)
        source = folder / f"{count}.parquet"
        pq.write_table(table, source)
        with serving(numeric(table)) as server:
            job = Job(f"{count:,} columns", source, 10**7)
            interleaved([job], server, one_row(table, folder), rounds)


def cells(folder: Path, rounds: int) -> None:
    """Texts of 100 MB that are sent, bytes of 100 MB that are not."""
    size = 10**8
    for name, text, count in (
        ("sent", "x" * size, 4),
        ("sent", "x" * size, 12),
        ("carried along", "x", 4),
        ("carried along", "x", 12),
    ):
        schema = pa.schema([("f0", pa.string()), ("data", pa.binary())])
        source = folder / f"{name}.parquet"
        with pq.ParquetWriter(source, schema, compression="none") as writer:
            for _ in range(count):
                data = b"y" if name == "sent" else b"y" * size
                writer.write_table(pa.table([[text], [data]], schema=schema))
        one = folder / "one.parquet"
        pq.write_table(pa.table([["x"], [b"y"]], schema=schema), one)
        head("bytes")
        with serving({"f0": ("text", [1])}) as server:
            interleaved(
                [Job(f"{count} cells of 100 MB, {name}", source, count * size)], server, one, rounds
            )


def one_row_requests(folder: Path, rounds: int) -> None:
    """Requests of one row each, by how many are in flight."""
    table = numbers(20_000, 8)
    source = folder / "in.parquet"
    pq.write_table(table, source)
    jobs = [
        Job(
            f"--concurrency {limit}",
            source,
            len(table),
            ("--batch-size", "1", "--concurrency", limit),
        )
        for limit in ("1", "16", "auto")
    ]
    head("requests")
    with serving(numeric(table)) as server:
        interleaved(jobs, server, one_row(table, folder), rounds)


def latency(folder: Path, rounds: int) -> None:
    """A server of 50 ms, by requests in flight, and how near wrk comes to the same bound."""
    print(
        "\n| in flight | rows each | rows/s | of the bound | wrk's share of it | processor used |"
    )
    print("|---|--:|--:|--:|--:|--:|")
    for limit, batch in ((4, 16), (4, 128), (16, 16), (16, 128), (64, 16), (64, 128), (256, 128)):
        for concurrency in (str(limit), "auto") if (limit, batch) == (64, 128) else (str(limit),):
            far = far_away(folder, concurrency, limit * batch * 60, batch, rounds)
            ceiling = limit * batch / DELAY_S
            bound = f"{far.rows_per_s / ceiling:.1%}" if concurrency == str(limit) else ""
            print(
                f"| {concurrency} | {batch} | {far.rows_per_s:,.0f} | {bound} "
                f"| {f'{far.wrk_requests_per_s * batch / ceiling:.1%}' if bound else ''} "
                f"| {far.processor:.0%} |",
                flush=True,
            )


@dataclass(frozen=True)
class FarAway:
    """How a job fared with a slow server.

    Attributes:
        rows_per_s: of the job, start-up taken off.
        wrk_requests_per_s: of ``wrk`` with the same bodies and as many connections, else NaN.
        processor: processor seconds a second.
        max_rows_per_s: of the quickest round.
    """

    rows_per_s: float
    wrk_requests_per_s: float
    processor: float
    max_rows_per_s: float


def far_away(
    folder: Path, concurrency: str, count: int, batch: int, rounds: int, *, replay: bool = True
) -> FarAway:
    """Score so many rows with a server of ``DELAY_S``, and replay one body; medians of rounds.

    Seconds are those that jobs tell in their reports; what one of a single request takes beside
    waiting for the answer is no part of the bound and is taken off.
    """
    table = numbers(count, 8)
    source, one, out = folder / "in.parquet", one_row(table, folder), folder / "out.arrow"
    pq.write_table(table, source)
    report = folder / "report.json"
    options = ("--batch-size", str(batch), "--concurrency", concurrency, "--report", str(report))
    job = Job("", source, count, options)
    seconds, processor, replayed = [], [], []
    with serving(numeric(table), "--delay-s", str(DELAY_S)) as server:
        for _ in range(rounds):
            start = job.run(server.url, out, one)
            start_s = json.loads(report.read_text())["seconds"] - DELAY_S
            whole = job.run(server.url, out)
            seconds.append(json.loads(report.read_text())["seconds"] - start_s)
            processor.append((whole.cpu_s - start.cpu_s) / seconds[-1])
            if replay and has_wrk() and concurrency != "auto":
                replayed.append(
                    replay_rate(table.slice(0, batch), folder, server, int(concurrency))
                )
    return FarAway(
        count / statistics.median(seconds),
        statistics.median(replayed) if replayed else math.nan,
        statistics.median(processor),
        count / min(seconds),
    )


def replay_rate(table: pa.Table, folder: Path, server: Server, connections: int) -> float:
    """Requests a second of ``wrk`` with a body of these rows."""
    body = folder / "body.json"
    body.write_bytes(orjson.dumps({"rows": table.to_pylist()}))
    taken = run(wrk_command(server.url, body, 3, connections), client_cores())
    told = json.loads(taken.printed.splitlines()[-1])
    return told["requests"] / told["microseconds"] * 1e6


LANES: dict[str, Callable[[Path, int], None]] = {
    "rows": rows,
    "files": files,
    "columns": columns,
    "cells": cells,
    "one-row": one_row_requests,
    "latency": latency,
}


def main() -> None:
    """Run the lanes that are named, or all."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("lanes", nargs="*", choices=[*LANES, []], help=" ".join(LANES))
    parser.add_argument("--rounds", type=int, default=3)
    options = parser.parse_args()
    for name in options.lanes or LANES:
        print(f"\n{LANES[name].__doc__}")
        with tempfile.TemporaryDirectory() as folder:
            LANES[name](Path(folder), options.rounds)


if __name__ == "__main__":
    main()
