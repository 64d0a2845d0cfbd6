"""batchscore beside the other ways to score a file, all in one run, as whole processes.

    python benchmarks/run.py             # some ten minutes on two cores
    python benchmarks/run.py --quick     # the same with few rows
    python benchmarks/run.py --docs      # and write docs/benchmarks.md, .json and .svg anew

The server costs nearly nothing: it answers each request with ready-made predictions of the right
count, in a process and on a core of its own. All clients read the same kind of Parquet file and
write an Arrow file with all columns; they run in turns. Start-up, a job of one row, is taken off
and shown. Figures are medians, with the smallest and the largest; ratios are of medians.
"""

from __future__ import annotations

import argparse
import json
import os
import platform
import sys
import tempfile
from pathlib import Path
from typing import Any

from clients import Client, clients, has_processes, has_wrk
from compare import compare
from kinds import KINDS
from plot import plot
from processes import CORES, HERE

DOCS = HERE.parent / "docs"
HEAD = (
    "| client | rows/s | smallest to largest | x loop | MB/s | CPU s per M rows | loop's / its "
    "| peak MB | start-up s (CPU) |\n|---|--:|--:|--:|--:|--:|--:|--:|--:|"
)


def machine() -> dict[str, Any]:
    """What the figures were taken on."""
    load = os.getloadavg() if hasattr(os, "getloadavg") else ()
    return {
        "cores": len(CORES) or os.cpu_count(),
        "processor": processor(),
        "system": platform.system(),
        "python": platform.python_version(),
        "load": [round(value, 1) for value in load],
    }


def processor() -> str:
    """The processor's name as the system tells it."""
    path = Path("/proc/cpuinfo")
    lines = path.read_text().splitlines() if path.exists() else []
    names = [line.partition(":")[2].strip() for line in lines if line.startswith("model name")]
    return names[0] if names else platform.processor() or platform.machine()


def line(name: str, figures: dict[str, float]) -> str:
    """A client's row of the table."""
    cells = [
        name,
        f"{figures['rows_per_s']:,.0f}",
        f"{figures['rows_per_s_min']:,.0f} to {figures['rows_per_s_max']:,.0f}",
        f"{figures['ratio']:.1f}" if "ratio" in figures else "",
        f"{figures['mb_per_s']:,.0f}",
        f"{figures['cpu_s_per_million_rows']:,.1f}",
        f"{figures['cpu_ratio']:.1f}" if "cpu_ratio" in figures else "",
        f"{figures['peak_bytes'] / 1e6:,.0f}",
        f"{figures['start_s']:.2f} ({figures['start_cpu_s']:.2f})" if figures["start_s"] else "",
    ]
    return "| " + " | ".join(cells) + " |"


def table(result: dict[str, Any]) -> str:
    """The figures of all kinds, in Markdown."""
    parts = [
        "\n".join([f"**{kind}**", "", HEAD, *(line(*item) for item in figures.items())])
        for kind, figures in result["kinds"].items()
    ]
    return "\n\n".join(parts)


def missing() -> list[str]:
    """What is not compared here, and why."""
    found = []
    if not has_processes():
        found.append("batchscore with 2 processes: this version has no --processes")
    if not has_wrk():
        found.append("wrk: not installed (Debian: apt-get install wrk)")
    if len(CORES) < 2:
        found.append("no second core could be found for the server: ratios mean little")
    elif len(CORES) == 2 and has_processes():
        found.append("2 processes share the two cores with the server")
    return found


def write_docs(result: dict[str, Any]) -> None:
    """The page's table, the plot and the figures in ``docs``."""
    (DOCS / "benchmarks.json").write_text(json.dumps(result, indent=2) + "\n")
    (DOCS / "benchmarks.svg").write_text(plot(result["kinds"]))
    page = DOCS / "benchmarks.md"
    before, rest = page.read_text().split("<!-- table -->\n")
    _, after = rest.split("<!-- end of table -->\n")
    shown = table(result)
    page.write_text(f"{before}<!-- table -->\n{shown}\n<!-- end of table -->\n{after}")


def main() -> None:
    """Run all comparisons and print a table."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--rows", type=int, help="of 8 floats, for batchscore [800,000]")
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--kind", choices=KINDS, action="append")
    parser.add_argument("--client", action="append", help="only these clients, by name")
    parser.add_argument("--quick", action="store_true", help="few rows")
    parser.add_argument("--json", type=Path, help="write the figures to a file")
    parser.add_argument("--docs", action="store_true", help="write the page in docs anew")
    options = parser.parse_args()
    rows = options.rows or (160_000 if options.quick else 800_000)
    chosen: list[Client] = [c for c in clients() if c.name in (options.client or [c.name])]
    result: dict[str, Any] = {"machine": machine(), "rounds": options.rounds, "kinds": {}}
    print(", ".join(f"{name} {value}" for name, value in result["machine"].items()))
    for why in missing():
        print(f"not as it could be: {why}")
    for kind in options.kind or KINDS:
        with tempfile.TemporaryDirectory() as folder:
            figures = compare(kind, rows // KINDS[kind], options.rounds, chosen, Path(folder))
        result["kinds"][kind] = figures
        print("\n" + table({"kinds": {kind: figures}}), flush=True)
    result["machine"]["load_at_end"] = machine()["load"]
    if options.json:
        options.json.write_text(json.dumps(result, indent=2) + "\n")
    if options.docs:
        write_docs(result)


if __name__ == "__main__":
    sys.exit(main())
