"""What a row is in bytes and requests, for the page that works out ten billion of them.

    python benchmarks/scale.py           # measures and prints
    python benchmarks/scale.py --docs    # and writes docs/scale.json, for docs/scale.md

Counted, not timed, so that it does not depend on what else the machine does; times are those of
docs/benchmarks.json.
"""

from __future__ import annotations

import argparse
import json
import subprocess
import sys
import tempfile
from pathlib import Path

import numpy as np
import pyarrow as pa
from kinds import KINDS, columns, features, picture, write_files
from processes import ENVIRONMENT, HERE, PYTHON, serving

DOCS = HERE.parent / "docs"
ROWS = 200_000


def measure(kind: str, rows: int, folder: Path) -> dict[str, float]:
    """Bytes a row, read, sent, received and written, and rows a request."""
    data = columns(kind, rows)
    if "picture" in data:
        # Each another one: a hundred pictures over and over make a file of nearly nothing.
        rng = np.random.default_rng(0)
        data["picture"] = pa.array([picture(rng) for _ in range(rows)])
    [source] = write_files(pa.table(data), folder, {rows}).values()
    report, out = folder / "report.json", folder / "out.parquet"
    with serving(features(data)) as server:
        command = [PYTHON, "-m", "batchscore", "score", source, "--url", server.url]
        subprocess.run([*command, "-o", out, "--report", report, "-q"], check=True, env=ENVIRONMENT)
        counted = server.counts()
    told = json.loads(report.read_text())
    if told["rows_scored"] != rows or counted["rows"] != rows:
        raise SystemExit(f"{kind}: {told['rows_scored']} of {rows} rows were scored")
    return {
        "rows": rows,
        "rows_a_request": rows / counted["requests"],
        "read_bytes": source.stat().st_size / rows,
        "sent_bytes": told["bytes_sent"] / rows,
        "received_bytes": told["bytes_received"] / rows,
        "written_bytes": out.stat().st_size / rows,
    }


def main() -> None:
    """Measure all kinds."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--rows", type=int, default=ROWS, help="of the first kind")
    parser.add_argument("--docs", action="store_true", help="write docs/scale.json")
    options = parser.parse_args()
    figures = {}
    for kind, share in KINDS.items():
        with tempfile.TemporaryDirectory() as folder:
            figures[kind] = measure(kind, options.rows // share, Path(folder))
        print(kind, figures[kind], file=sys.stderr)
    text = json.dumps(figures, indent=2)
    if options.docs:
        (DOCS / "scale.json").write_text(text + "\n", encoding="utf-8")
    print(text)


if __name__ == "__main__":
    main()
