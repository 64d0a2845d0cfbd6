"""batchscore against the loop of the API's page, interleaved, as whole processes.

    python benchmarks/run.py [--rows 200000] [--rounds 5] [--kind "8 floats"]

The server costs nearly nothing: it answers each request with ready-made predictions of the right
count, in a process of its own. Both clients read the same Parquet file and write an Arrow file
with all columns. Start-up (of a job of one row) is taken off both. Clients run on one core and the
server on another, where there are two. Figures are medians, with the smallest and the largest;
the ratio is of the medians.
"""

from __future__ import annotations

import argparse
import io
import json
import os
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
from PIL import Image

HERE = Path(__file__).parent
PYTHON = sys.executable


# Rows are as many as ``--rows`` says for the first kind, and fewer where they are larger.
KINDS = {"8 floats": 1, "30 mixed": 2, "28x28 arrays": 20, "3 KB pictures": 20}


def columns(kind: str, count: int) -> dict[str, pa.Array]:
    """The input columns of a kind; the mixed ones are 20 floats, 5 integers, 5 short strings."""
    rng = np.random.default_rng(0)
    if kind == "28x28 arrays":
        grids = rng.random((count, 28, 28), np.float32)
        return {"grid": pa.FixedShapeTensorArray.from_numpy_ndarray(grids)}
    if kind == "3 KB pictures":
        pictures = pa.array([picture(rng) for _ in range(100)])
        return {"picture": pictures.take(pa.array(np.arange(count) % len(pictures)))}
    floats = 8 if kind == "8 floats" else 20
    data = {f"f{n}": pa.array(rng.normal(size=count)) for n in range(floats)}
    if kind == "30 mixed":
        data |= {f"i{n}": pa.array(rng.integers(0, 1000, count)) for n in range(5)}
        words = pa.array([f"category {n}" for n in range(17)])
        data |= {f"s{n}": words.take(pa.array(rng.integers(0, 17, count))) for n in range(5)}
    return data


def picture(rng: np.random.Generator) -> bytes:
    """A PNG of 32 x 32 pixels of noise, about 3 KB."""
    buffer = io.BytesIO()
    Image.fromarray(rng.integers(0, 256, (32, 32, 3), np.uint8)).save(buffer, "PNG")
    return buffer.getvalue()


def features(data: dict[str, pa.Array]) -> dict[str, tuple[str, list[int]]]:
    """The deployment's inputs for these columns."""
    return {name: feature(array.type) for name, array in data.items()}


def feature(type_: pa.DataType) -> tuple[str, list[int]]:
    """The feature that a column of this type serves."""
    if isinstance(type_, pa.FixedShapeTensorType):
        return "numeric", list(type_.shape)
    if pa.types.is_binary(type_):
        return "image", [32, 32, 3]
    return ("text" if pa.types.is_string(type_) else "numeric"), [1]


CORES = sorted(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else []


def pin(core: int) -> None:
    """Keep the processes that are started from now on to one core."""
    if CORES:
        os.sched_setaffinity(0, {CORES[core % len(CORES)]})


def run(command: list[str]) -> float:
    """Seconds of a whole process."""
    started = time.perf_counter()
    subprocess.run(command, check=True, capture_output=True)
    return time.perf_counter() - started


def clients(source: Path, url: str, out: Path) -> dict[str, list[str]]:
    """The commands that are compared."""
    shared = ["--url", url, "-o", str(out)]
    return {
        "loop": [PYTHON, str(HERE / "loop.py"), str(source), *shared],
        "batchscore": [PYTHON, "-m", "batchscore", "score", str(source), *shared, "--overwrite"],
    }


def measure(kind: str, rows: int, rounds: int, folder: Path) -> dict[str, object]:
    """Rows a second of each client on one kind of table."""
    data = columns(kind, rows)
    table = pa.table(data)
    pq.write_table(table, folder / "all.parquet")
    pq.write_table(table.slice(0, 1), folder / "one.parquet")
    pin(1)
    server = subprocess.Popen(
        [PYTHON, str(HERE / "server.py"), json.dumps(features(data))],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
    )
    pin(0)
    try:
        url = server.stdout.readline().strip()
        out = folder / "out.arrow"
        whole, one = (clients(folder / f"{n}.parquet", url, out) for n in ("all", "one"))
        seconds: dict[str, list[float]] = {name: [] for name in whole}
        for _ in range(rounds):
            for name in whole:
                seconds[name].append(run(whole[name]) - run(one[name]))
    finally:
        server.kill()
        server.wait()
        server.stdin.close()
        server.stdout.close()
    rates = {name: [rows / value for value in values] for name, values in seconds.items()}
    return {
        "kind": kind,
        "rows": rows,
        **{
            name: {"median": statistics.median(r), "min": min(r), "max": max(r)}
            for name, r in rates.items()
        },
        "ratio": statistics.median(rates["batchscore"]) / statistics.median(rates["loop"]),
    }


def main() -> None:
    """Run all comparisons and print a table, and the figures as JSON."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--rows", type=int, default=200_000)
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--kind", choices=KINDS, action="append")
    parser.add_argument("--json", type=Path)
    arguments = parser.parse_args()
    results = []
    with tempfile.TemporaryDirectory() as folder:
        for kind in arguments.kind or KINDS:
            rows = arguments.rows // KINDS[kind]
            result = measure(kind, rows, arguments.rounds, Path(folder))
            results.append(result)
            shown = ", ".join(
                f"{name} {result[name]['median']:,.0f} rows/s "
                f"({result[name]['min']:,.0f} to {result[name]['max']:,.0f})"
                for name in ("loop", "batchscore")
            )
            print(f"{kind}: {shown}, ratio {result['ratio']:.1f}", flush=True)
    if arguments.json:
        arguments.json.write_text(json.dumps(results, indent=2) + "\n")


if __name__ == "__main__":
    main()
