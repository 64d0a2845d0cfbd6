"""The soak by hand, as long as you like; prints its figures as JSON.

python tests/soak/run.py --rows 1000000 --kills 10 --seed 1
"""

from __future__ import annotations

import argparse
import json
import sys
import tempfile
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parent.parent))

from soak.job import Plan, soak


def main() -> None:
    """Run one plan; an error names what is wrong with the output."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--rows", type=int, default=1_000_000)
    parser.add_argument("--kills", type=int, default=10)
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--share", type=float, default=0.2, help="of requests that meet a fault")
    parser.add_argument("--timeout-s", type=float, default=2.0, help="of one request")
    parser.add_argument("--batch-size", type=int)
    parser.add_argument("--concurrency", type=int)
    plan = Plan(**vars(parser.parse_args()))
    with tempfile.TemporaryDirectory() as folder:
        outcome = soak(Path(folder), plan)
    if outcome.kills != plan.kills:
        sys.exit(f"killed {outcome.kills} times, not {plan.kills}: the job ended first")
    if outcome.server["rows_sent_twice"] > outcome.kills * outcome.window_rows:
        sys.exit("more rows were sent twice than the window holds")
    print(json.dumps(outcome.figures(), indent=2))  # noqa: T201 - this is the command's output


if __name__ == "__main__":
    main()
