"""The wire formats side by side: one file through one model, on every real server there is.

    python tests/servers/install.py              # the servers, once
    python benchmarks/protocols.py               # a few minutes
    python benchmarks/protocols.py --rows 2000   # the same with few rows

The model is scikit-learn's linear regression on 10 columns, which costs next to nothing: what is
measured are the server's own work and ours. All take turns, in requests of up to 1,024 rows.
"""

from __future__ import annotations

import argparse
import json
import statistics
import sys
import tempfile
from pathlib import Path
from typing import TYPE_CHECKING, NamedTuple

import pyarrow as pa
import pyarrow.parquet as pq
from processes import PYTHON, Taken, client_cores, run

sys.path.insert(0, str(Path(__file__).parents[1] / "tests"))

from servers import install
from servers.running import Servers

if TYPE_CHECKING:
    from collections.abc import Iterator

MODEL = "diabetes"
TABLE = "| {:<30} | {:>9} | {:>20} | {:>10} | {:>18} |"


class Way(NamedTuple):
    """One wire format on one server."""

    name: str
    url: str
    options: tuple[str, ...]


def ways(servers: Servers, columns: list[str]) -> Iterator[Way]:
    """Each format on each server that is installed."""
    features, pack = ("--features", ",".join(columns)), ("--pack", f"x={','.join(columns)}")
    if not install.missing("mlflow"):
        url = servers.mlflow(MODEL).url + "/invocations"
        yield Way("mlflow, Parquet", url, features)
    if not install.missing("kserve"):
        url = servers.kserve().url
        yield Way("instances, KServe v1", f"{url}/v1/models/{MODEL}:predict", features)
        yield Way("instances packed, KServe v1", f"{url}/v1/models/{MODEL}:predict", pack)
    for name in ("kserve", "mlserver", "triton"):
        if not install.missing(name):
            url = f"{servers.named(name).url}/v2/models/{MODEL}"
            form = "JSON" if name == "mlserver" else "binary"
            yield Way(f"open-inference, {name}, {form}", url, pack)


def score(way: Way, source: Path) -> tuple[Taken, dict[str, int]]:
    """One whole job, and its report."""
    report = source.with_suffix(".json")
    taken = run(
        [
            *(PYTHON, "-m", "batchscore", "score", str(source), "--url", way.url, *way.options),
            *("-o", str(source.with_suffix(".arrow")), "--overwrite", "-q"),
            *("--report", str(report)),
        ],
        client_cores(),
    )
    return taken, json.loads(report.read_text())


def main() -> None:
    """Run all ways in turns and print a table."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--rows", type=int, default=200_000)
    parser.add_argument("--rounds", type=int, default=3)
    options = parser.parse_args()
    with tempfile.TemporaryDirectory() as text, Servers(Path(text)) as servers:
        name = next(name for name in ("kserve", "mlserver", "triton") if not install.missing(name))
        sample = servers.named(name).sample(MODEL).table
        whole = pa.concat_tables([sample] * (options.rows // len(sample) + 1))
        files = {count: Path(text) / f"{count}.parquet" for count in (1, options.rows)}
        for count, path in files.items():
            pq.write_table(whole.slice(0, count), path)
        runs = {way: [] for way in ways(servers, sample.column_names)}
        for _ in range(options.rounds):
            for way, done in runs.items():
                start, _ = score(way, files[1])
                taken, report = score(way, files[options.rows])
                seconds, cpu_s = taken.seconds - start.seconds, taken.cpu_s - start.cpu_s
                done.append((options.rows / seconds, cpu_s, report["bytes_sent"]))
    print(
        TABLE.format("format", "rows/s", "smallest to largest", "bytes/row", "our CPU s / M rows")
    )
    print("|---|--:|--:|--:|--:|")
    for way, done in runs.items():
        rates, cpu_s = [rate for rate, _, _ in done], statistics.median(cpu for _, cpu, _ in done)
        print(
            TABLE.format(
                way.name,
                f"{statistics.median(rates):,.0f}",
                f"{min(rates):,.0f} to {max(rates):,.0f}",
                f"{done[-1][2] / options.rows:,.0f}",
                f"{cpu_s / options.rows * 1e6:,.1f}",
            )
        )


if __name__ == "__main__":
    main()
