"""Replays one seed, telling what happens, or lives through many."""

from __future__ import annotations

import argparse
import logging
import multiprocessing
import sys
import traceback

from simulation.many import many
from simulation.world import ViolatedError, simulate


def main() -> int:
    """The command."""
    parser = argparse.ArgumentParser(prog="python -m simulation", description=__doc__)
    parser.add_argument("seed", type=int, nargs="?", help="the seed to replay")
    parser.add_argument("--seeds", type=int, default=1000, help="how many, where none is named")
    parser.add_argument("--first", type=int, default=0)
    parser.add_argument("--processes", type=int, default=multiprocessing.cpu_count())
    arguments = parser.parse_args()
    if arguments.seed is None:
        return 1 if many(arguments.first, arguments.seeds, arguments.processes) else 0
    logging.basicConfig(level=logging.INFO, format="              %(message)s")
    try:
        print(simulate(arguments.seed, print))
    except ViolatedError:
        traceback.print_exc()
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main())
