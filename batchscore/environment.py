"""What machine and what software a run was on, as far as it tells about speed."""

from __future__ import annotations

import os
import platform
from functools import cache
from pathlib import Path


@cache
def environment() -> dict[str, str | int]:
    """Python, system, processor and cores; never the name of the machine or of its user."""
    return {
        "python": f"{platform.python_implementation()} {platform.python_version()}",
        "system": f"{platform.system()} {platform.release()}",
        "processor": _processor(),
        "cores": os.cpu_count() or 1,
    }


def _processor() -> str:
    try:
        lines = Path("/proc/cpuinfo").read_text(encoding="utf-8", errors="replace").splitlines()
    except OSError:
        lines = []  # not Linux
    names = [line.partition(":")[2].strip() for line in lines if line.startswith("model name")]
    return names[0] if names else platform.machine()
