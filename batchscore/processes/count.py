"""How many processes a job has."""

from __future__ import annotations

import logging
import os
import sys
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from batchscore.config import ScoreConfig

_QUOTA = Path("/sys/fs/cgroup/cpu.max")
_log = logging.getLogger("batchscore")


def process_count(config: ScoreConfig) -> int:
    """How many processes score: as many as were asked for, but each has a request to send."""
    wanted = usable_cores() if config.processes == "auto" else config.processes
    count = wanted if config.concurrency == "auto" else min(wanted, config.concurrency)
    if count > 1 and (sys.platform == "win32" or not sys.executable):
        _log.info("--processes: only one process here, no other can be started")
        return 1
    return count


def usable_cores(quota: Path = _QUOTA) -> int:
    """The cores that this process may use, at least 1.

    Args:
        quota: where Linux tells what share of the processor a container has.
    """
    has_affinity = hasattr(os, "sched_getaffinity")
    cores = len(os.sched_getaffinity(0)) if has_affinity else os.cpu_count() or 1
    try:
        allowed, period = quota.read_text(encoding="ascii").split()
        cores = min(cores, round(int(allowed) / int(period)))
    except (OSError, ValueError):
        pass  # no such file, or "max": there is no quota
    return max(1, cores)
