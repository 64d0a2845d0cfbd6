"""Work out ten billion rows from what was measured on one core, and simulate that it adds up.

    python scripts/simulate_scale.py

prints the tables of docs/scale.md, which `make docs` writes there. Measured are the processor's
time a row (docs/benchmarks.json) and the bytes and requests of a row (docs/scale.json); the rest is
arithmetic. What arithmetic cannot tell is whether so many adaptive limiters find what is there
without talking to each other: that is simulated, by ``simulate_sharing``.
"""

from __future__ import annotations

import json
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from simulate_overload import Server, always
from simulate_sharing import Cluster, same

DOCS = Path(__file__).parents[1] / "docs"
ROWS = 10_000_000_000
# What the simulated rows are like, how long their requests take, and the network's speed of a
# machine in bits a second.
KIND, SERVICE_S, NETWORK = "30 mixed", 0.05, 10e9
CORES = 64


@dataclass(frozen=True)
class Row:
    """A row of some kind, as measured.

    Attributes:
        core_s: of one core of a client.
        per_request: rows in a request.
        read, sent, received, written: bytes.
    """

    core_s: float
    per_request: float
    read: float
    sent: float
    received: float
    written: float

    @property
    def rows_per_core_s(self) -> float:
        """Rows a second that one core reads, encodes, sends, decodes and writes."""
        return 1 / self.core_s

    @property
    def cores_a_machine(self) -> float:
        """Cores that a machine's network keeps busy, in its busier direction."""
        busier = max(self.sent + self.written, self.read + self.received)
        return NETWORK / 8 / (busier * self.rows_per_core_s)


def measured(docs: Path = DOCS) -> dict[str, Row]:
    """The rows of each kind."""
    times = json.loads((docs / "benchmarks.json").read_text(encoding="utf-8"))["kinds"]
    counts = json.loads((docs / "scale.json").read_text(encoding="utf-8"))
    return {
        kind: Row(
            times[kind]["batchscore"]["cpu_s_per_million_rows"] / 1e6,
            counted["rows_a_request"],
            *(counted[f"{way}_bytes"] for way in ("read", "sent", "received", "written")),
        )
        for kind, counted in counts.items()
    }


def arithmetic(rows: dict[str, Row]) -> str:
    """What ten billion rows come to, by kind."""
    lines: dict[str, list[str]] = {}

    def tell(name: str, value: Any, form: str = "{:,.0f}") -> None:
        lines.setdefault(name, []).append(form.format(value))

    for row in rows.values():
        rate = CORES * row.rows_per_core_s
        tell("rows/s of a core", row.rows_per_core_s)
        tell("bytes a row: read", row.read)
        tell("sent", row.sent)
        tell("received", row.received)
        tell("written", row.written)
        tell("rows a request", row.per_request)
        tell("core hours", ROWS * row.core_s / 3600, "{:,.1f}")
        tell(f"hours on {CORES} cores", ROWS / rate / 3600, "{:,.2f}")
        tell("cores that 10 Gbit/s keep busy", row.cores_a_machine, "{:,.1f}")
        tell(f"network of {CORES} cores, sent, Gbit/s", rate * row.sent * 8 / 1e9, "{:,.1f}")
        tell("requests, million", ROWS / row.per_request / 1e6, "{:,.1f}")
        tell(f"requests/s of {CORES} cores", rate / row.per_request)
        tell("places for them, at 50 ms a request", rate / row.per_request * SERVICE_S)
        tell("read, TB", ROWS * row.read / 1e12, "{:,.2f}")
        tell("written, TB", ROWS * row.written / 1e12, "{:,.2f}")
    head = [f"| | {' | '.join(rows)} |", "|---" + "|--:" * len(rows) + "|"]
    return "\n".join([*head, *(f"| {name} | {' | '.join(v)} |" for name, v in lines.items())])


@dataclass(frozen=True)
class Outcome:
    """What a simulated cluster came to.

    Attributes:
        possible: rows a second, by arithmetic.
        bound: what it is bounded by.
        simulated: rows a second.
        fairness: Jain's index of the workers' shares.
        latency_s: the mean of a request, the wait in the server's queue included.
    """

    possible: float
    bound: str
    simulated: float
    fairness: float
    latency_s: float


def simulate(workers: int, places: int, row: Row, *, seconds: int = 16) -> Outcome:
    """So many workers of one core each, at a deployment that works on so many requests."""
    request_s = row.per_request * row.core_s
    server = Server(always(places), service_s=SERVICE_S)
    max_limit = max(16, 256 // workers)
    bounds = {
        "cores": workers / request_s,
        "deployment": places / SERVICE_S,
        "limits": workers * max_limit / SERVICE_S,
    }
    bound = min(bounds, key=lambda name: bounds[name])
    cluster = Cluster(server, same(workers, request_s=request_s), seconds, max_limit).run()
    shares = [cluster.share(n, seconds // 2, seconds) for n in range(workers)]
    total, squares = sum(shares), sum(share**2 for share in shares)
    results = [worker.result for worker in cluster.workers]
    return Outcome(
        bounds[bound] * row.per_request,
        bound,
        total * row.per_request,
        total**2 / (workers * squares),
        sum(r.total_s for r in results) / sum(r.answered for r in results),
    )


# Workers and places: too few of either, and as many of both as go together.
CASES = ((1, 16), (4, 16), (4, 64), (16, 64), (16, 180), (16, 512), (64, 64), (64, 256))


def simulated(row: Row) -> str:
    """What clusters come to, and how long they take for ten billion rows."""
    head = (
        "workers", "places", "bound by", "rows/s by arithmetic", "simulated", "of it", "fairness",
        "latency", "10 billion rows",
    )  # fmt: skip
    lines = [f"| {' | '.join(head)} |", "|--:|--:|---" + "|--:" * 6 + "|"]
    for workers, places in CASES:
        came = simulate(workers, places, row)
        lines.append(
            f"| {workers} | {places} | {came.bound} | {came.possible:,.0f} "
            f"| {came.simulated:,.0f} | {100 * came.simulated / came.possible:.0f} % "
            f"| {came.fairness:.3f} | {1000 * came.latency_s:.0f} ms "
            f"| {ROWS / came.simulated / 3600:,.1f} h |"
        )
    return "\n".join(lines)


def tables(docs: Path = DOCS) -> tuple[str, str]:
    """Both tables of the page."""
    rows = measured(docs)
    return arithmetic(rows), simulated(rows[KIND])


if __name__ == "__main__":
    print("\n\n".join(tables()))
