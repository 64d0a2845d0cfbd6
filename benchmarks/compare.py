"""Runs all clients on one kind of table, in turns, and tells what each took."""

from __future__ import annotations

import json
import statistics
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

import orjson
import pyarrow as pa
from clients import LOOP, TRANSPORT, Client, has_wrk, wrk_command
from kinds import columns, features, write_files
from loop import ROWS_A_CALL, values
from processes import Taken, client_cores, run, serving

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence
    from pathlib import Path

    from processes import Server

WRK_SECONDS = 2


@dataclass
class Runs:
    """The runs of one client on one kind.

    Attributes:
        rows: rows of a whole run.
        whole: one a round.
        one: jobs of a single row, one a round: the start-up.
        sent_bytes: bytes of bodies of the last whole run.
    """

    rows: int
    whole: list[Taken] = field(default_factory=list)
    one: list[Taken] = field(default_factory=list)
    sent_bytes: int = 0

    def net(self, figure: Callable[[Taken], float]) -> tuple[float, float, float]:
        """A figure of the whole runs, start-up taken off: the median, the least, the most.

        The median of the start-up is taken off the median, its least off the others: what other
        work on the machine adds to a run it seldom adds to the least of several.

        Raises:
            SystemExit: the start-up takes as long as all the rows.
        """
        whole = [figure(taken) for taken in self.whole]
        start = [figure(taken) for taken in self.one] or [0.0]
        middle = statistics.median(whole) - statistics.median(start)
        least, most = min(whole) - min(start), max(whole) - min(start)
        if min(middle, least) <= 0:
            raise SystemExit("a job of one row took as long as a whole one: more --rows, please")
        return middle, least, most

    def told(self) -> dict[str, float]:
        """The figures of the table."""
        seconds, least_s, most_s = self.net(lambda taken: taken.seconds)
        cpu_s, least_cpu_s, _ = self.net(lambda taken: taken.cpu_s)
        start = [taken.seconds for taken in self.one]
        start_cpu = [taken.cpu_s for taken in self.one]
        return {
            "rows": self.rows,
            "rows_per_s": self.rows / seconds,
            "rows_per_s_min": self.rows / most_s,
            "rows_per_s_max": self.rows / least_s,
            "mb_per_s": self.sent_bytes / seconds / 1e6,
            "cpu_s_per_million_rows": cpu_s / self.rows * 1e6,
            "cpu_s_per_million_rows_min": least_cpu_s / self.rows * 1e6,
            "peak_bytes": max(taken.peak_bytes for taken in self.whole),
            "start_s": statistics.median(start) if start else 0.0,
            "start_cpu_s": statistics.median(start_cpu) if start_cpu else 0.0,
        }


def compare(
    kind: str,
    rows: int,
    rounds: int,
    clients: Sequence[Client],
    folder: Path,
    *,
    transport: bool = True,
) -> dict[str, dict[str, float]]:
    """The figures of each client on one kind.

    Args:
        kind: of ``KINDS``.
        rows: of the whole table; a client is given its share of them.
        rounds: each client runs once in a round, after a job of one row.
        clients: in the order in which they run.
        folder: for the files.
        transport: measure ``wrk`` too, where it is installed.
    """
    data = columns(kind, rows)
    table = pa.table(data)
    counts = {client.name: max(1, rows // client.share) for client in clients}
    files = write_files(table, folder, {1, *counts.values()})
    runs = {client.name: Runs(counts[client.name]) for client in clients}
    body = folder / "body.json"
    body_rows = write_body(table, body)
    transport = transport and has_wrk()
    if transport:
        runs[TRANSPORT] = Runs(0)
    with serving(features(data)) as server:
        for _ in range(rounds):
            for client in clients:
                scored(client, files, runs[client.name], server, folder / "out.arrow")
            if transport:
                replayed(runs[TRANSPORT], server, body, body_rows)
    told = {name: of.told() for name, of in runs.items()}
    for figures in told.values():
        if LOOP in told:
            loop = told[LOOP]
            figures["ratio"] = figures["rows_per_s"] / loop["rows_per_s"]
            figures["cpu_ratio"] = (
                loop["cpu_s_per_million_rows"] / figures["cpu_s_per_million_rows"]
            )
    return told


def scored(client: Client, files: dict[int, Path], runs: Runs, server: Server, out: Path) -> None:
    """One round of a client."""
    cores = client_cores(client.processes)
    runs.one.append(run(client.command(files[1], server.url, out), cores))
    server.counts()
    runs.whole.append(run(client.command(files[runs.rows], server.url, out), cores))
    counted = server.counts()
    with pa.memory_map(str(out)) as file:
        written = pa.ipc.open_file(file).read_all()
    if written.num_rows != runs.rows or written.column("predicted_y").null_count:
        raise SystemExit(f"{client.name} did not score all rows")
    if counted["rows"] != runs.rows:
        raise SystemExit(f"{client.name} sent {counted['rows']:,} rows instead of {runs.rows:,}")
    runs.sent_bytes = counted["bytes"]


def write_body(table: pa.Table, path: Path) -> int:
    """A ready body of some hundred KB, as compact JSON; returns its rows."""
    sample = values(table.slice(0, ROWS_A_CALL))
    rows = min(1024, 2**20 * len(sample) // len(orjson.dumps(sample)), table.num_rows)
    path.write_bytes(orjson.dumps({"rows": values(table.slice(0, rows))}))
    return rows


def replayed(runs: Runs, server: Server, body: Path, rows: int) -> None:
    """One round of ``wrk``; its runs have no start-up to take off."""
    taken = run(wrk_command(server.url, body, WRK_SECONDS), client_cores())
    told = json.loads(taken.printed.splitlines()[-1])
    if told["errors"] or not told["requests"]:
        raise SystemExit(f"wrk met errors: {taken.printed}")
    # Rounds send different numbers of rows: told as if each had sent those of the first.
    runs.rows = runs.rows or told["requests"] * rows
    share = runs.rows / (told["requests"] * rows)
    seconds = told["microseconds"] / 1e6 * share
    runs.whole.append(Taken(seconds, taken.cpu_s * share, taken.peak_bytes))
    runs.sent_bytes = runs.rows // rows * body.stat().st_size
