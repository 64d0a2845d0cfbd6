"""Whether batchscore is still as fast as it was: ratios, held against those of ``expected.json``.

    python benchmarks/check.py            # fails where a ratio fell by more than a quarter
    python benchmarks/check.py --write    # writes down the ratios of now

Under a minute. What is compared are processor seconds a row of the loop and of batchscore, the
least of some rounds that take turns: a machine busy with other things changes them little. A job
that only waits uses no processor, so one more ratio tells how near a job comes to what its
requests in flight allow when the server takes its time. What falls short is measured again, twice.
"""

from __future__ import annotations

import argparse
import json
import sys
import tempfile
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING

from clients import LOOP, ONE, clients
from compare import compare
from flat import DELAY_S, far_away
from kinds import KINDS
from processes import HERE

if TYPE_CHECKING:
    from collections.abc import Callable

EXPECTED = HERE / "expected.json"
MAY_FALL = 0.25
MORE_TRIES = 2
ROUNDS = 2
ROWS = 200_000
# The loop is given one row of so many, so that it takes about as long.
LOOP_SHARE = {"3 KB pictures": 3}
IN_FLIGHT, BATCH_ROWS, BATCHES = 4, 16, 40


def less_work(kind: str) -> float:
    """How much less processor time than the loop a row takes."""
    chosen = {client.name: client for client in clients()}
    loop = replace(chosen[LOOP], share=LOOP_SHARE.get(kind, 8))
    with tempfile.TemporaryDirectory() as folder:
        told = compare(
            kind, ROWS // KINDS[kind], ROUNDS, [loop, chosen[ONE]], Path(folder), transport=False
        )
    taken = {name: figures["cpu_s_per_million_rows_min"] for name, figures in told.items()}
    return taken[LOOP] / taken[ONE]


def little_waiting() -> float:
    """How much of what its requests in flight allow a job gets from a slow server."""
    count = IN_FLIGHT * BATCH_ROWS * BATCHES
    with tempfile.TemporaryDirectory() as folder:
        found = far_away(Path(folder), str(IN_FLIGHT), count, BATCH_ROWS, ROUNDS, replay=False)
    return found.max_rows_per_s * DELAY_S / (IN_FLIGHT * BATCH_ROWS)


RATIOS: dict[str, Callable[[], float]] = {
    **{f"{kind}: processor time of the loop / ours": partial(less_work, kind) for kind in KINDS},
    "50 ms server: rows/s / in flight * batch / 50 ms": little_waiting,
}


def main() -> int:
    """Measure all ratios; 1 where one fell too far, twice."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--write", action="store_true", help="write the ratios down")
    options = parser.parse_args()
    if options.write:
        found = {name: round(measure(), 2) for name, measure in RATIOS.items()}
        EXPECTED.write_text(json.dumps(found, indent=2) + "\n")
        return 0
    expected = json.loads(EXPECTED.read_text())
    fallen = []
    for name, measure in RATIOS.items():
        least = expected[name] * (1 - MAY_FALL)
        found = measure()
        for _ in range(MORE_TRIES):
            if found >= least:
                break
            print(f"{name}: {found:.2f}, less than {least:.2f}; once more", flush=True)
            found = max(found, measure())
        print(f"{name}: {found:.2f}, expected {expected[name]:.2f}", flush=True)
        if found < least:
            fallen.append(f"{name} fell from {expected[name]:.2f} to {found:.2f}")
    for line in fallen:
        print(f"slower than it was: {line}", file=sys.stderr)
    return 1 if fallen else 0


if __name__ == "__main__":
    sys.exit(main())
