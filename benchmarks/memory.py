"""The most memory that a job takes, by its number of rows: it should not grow with them.

    python benchmarks/memory.py [--rows 1000000 20000000] [--formats parquet csv] [--hung both]
        [--json FILE]

Each job is a process of its own that reads a file of two columns and writes an Arrow file of
four, from a server (another process) that costs nearly nothing. Where a request hangs, the job
waits for it until --timeout while all others are answered, so that the window behind it fills up.
The figure is the peak of the resident memory, mapped files included.
"""

from __future__ import annotations

import argparse
import json
import subprocess
import sys
import tempfile
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
import pyarrow as pa
import pyarrow.csv as pc
import pyarrow.parquet as pq

if TYPE_CHECKING:
    from collections.abc import Iterator

HERE = Path(__file__).parent
sys.path.insert(0, str(HERE.parent / "tests"))

from faultserver.memory import measured  # noqa: E402

PYTHON = sys.executable
INPUTS = {"x": ["numeric", [1]]}
SCHEMA = pa.schema([("id", pa.int64()), ("x", pa.float64())])
BATCH_ROWS = 2**17
# By then the limit on requests in flight, and with it the window, has grown.
HANGING_REQUEST = 200


def write_input(path: Path, rows: int) -> None:
    """A file of an id and a number, written in row groups or blocks."""
    rng = np.random.default_rng(0)
    with (
        pq.ParquetWriter(path, SCHEMA)
        if path.suffix == ".parquet"
        else pc.CSVWriter(path, SCHEMA) as writer
    ):
        for start in range(0, rows, BATCH_ROWS):
            ids = np.arange(start, min(start + BATCH_ROWS, rows))
            writer.write_batch(pa.record_batch([ids, rng.normal(size=len(ids))], schema=SCHEMA))


@contextmanager
def serving(hanging: int | None = None) -> Iterator[str]:
    """The address of a server in a process of its own; one of its requests may hang."""
    words = [] if hanging is None else [str(hanging)]
    server = subprocess.Popen(
        [PYTHON, str(HERE / "server.py"), json.dumps(INPUTS), *words],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
    )
    try:
        yield server.stdout.readline().strip()
    finally:
        server.kill()
        server.wait()
        server.stdin.close()
        server.stdout.close()


def measure(
    source: Path, out: Path, *, hung: bool, batch_size: str, timeout: str
) -> dict[str, float]:
    """Peak memory, rows and seconds of one job."""
    report = out.with_suffix(".json")
    with serving(HANGING_REQUEST if hung else None) as url:
        command = [PYTHON, "-m", "batchscore", "score", str(source), "--url", url, "-o", str(out)]
        command += ["--overwrite", "-q", "--batch-size", batch_size, "--report", str(report)]
        command += ["--timeout", timeout]
        found = measured(command)
    if found.returncode:
        raise SystemExit(found.errors)
    told = json.loads(report.read_text())
    if hung and not told["retries"].get("timeout"):
        raise SystemExit("the request that hangs was never waited for")
    out.unlink()
    return {
        "peak_bytes": found.peak_bytes,
        **{name: told[name] for name in ("rows_scored", "seconds")},
    }


def main() -> None:
    """Print a line for each job, and how much more memory the largest took."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--rows", type=int, nargs="+", default=[1_000_000, 20_000_000])
    parser.add_argument("--formats", nargs="+", choices=["parquet", "csv"], default=["parquet"])
    parser.add_argument("--outputs", nargs="+", default=["arrow"], help="formats of the output")
    parser.add_argument("--hung", choices=["yes", "no", "both"], default="both")
    parser.add_argument("--batch-size", default="auto")
    parser.add_argument("--timeout", default="10s", help="how long a request hangs")
    parser.add_argument("--json", type=Path, help="write the figures to a file, too")
    arguments = parser.parse_args()
    print("| input | output | a request hangs | rows | peak memory | rows/s |")
    print("|---|---|---|---|---|---|")
    figures = []
    with tempfile.TemporaryDirectory() as folder:
        for kind in arguments.formats:
            for rows in arguments.rows:
                write_input(Path(folder) / f"{rows}.{kind}", rows)
            for suffix in arguments.outputs:
                for hung in {"yes": [True], "no": [False], "both": [False, True]}[arguments.hung]:
                    peaks = []
                    for rows in arguments.rows:
                        source, out = (Path(folder) / f"{rows}.{s}" for s in (kind, f"o.{suffix}"))
                        found = measure(
                            source,
                            out,
                            hung=hung,
                            batch_size=arguments.batch_size,
                            timeout=arguments.timeout,
                        )
                        figures.append({"hung": hung, "rows": rows, **found})
                        peaks.append(found["peak_bytes"])
                        print(
                            f"| {kind} | {suffix} | {'yes' if hung else 'no'} | {rows:,} "
                            f"| {peaks[-1] / 2**20:.0f} MiB "
                            f"| {found['rows_scored'] / found['seconds']:,.0f} |",
                            flush=True,
                        )
                    print(f"{kind} to {suffix}: {max(peaks) / min(peaks):.3f}", file=sys.stderr)
            for rows in arguments.rows:
                (Path(folder) / f"{rows}.{kind}").unlink()
    if arguments.json:
        arguments.json.write_text(json.dumps(figures, indent=2) + "\n")


if __name__ == "__main__":
    main()
