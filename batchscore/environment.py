"""What machine and what software a run was on, as far as it tells about speed."""

from __future__ import annotations

import os
import platform
from contextlib import suppress
from functools import cache
from pathlib import Path

_FILES_ON_MACOS = 10240


@cache
def environment() -> dict[str, str | int]:
    """Python, system, processor and cores; never the name of the machine or of its user."""
    return {
        "python": f"{platform.python_implementation()} {platform.python_version()}",
        "system": f"{platform.system()} {platform.release()}",
        "processor": _processor(),
        "cores": os.cpu_count() or 1,
    }


def raise_file_limit() -> None:
    """Let this process have as many files and connections open as the system allows.

    On macOS 256 is what a terminal gives, and no limit at all is what it says to allow.
    """
    try:
        import resource  # noqa: PLC0415 - Windows has none, and no such limit
    except ImportError:
        return
    now, most = resource.getrlimit(resource.RLIMIT_NOFILE)
    for wanted in (most, _FILES_ON_MACOS):
        if now == most or 0 <= wanted <= now:
            return
        with suppress(ValueError, OSError):
            resource.setrlimit(resource.RLIMIT_NOFILE, (wanted, most))
            return


def _processor() -> str:
    try:
        lines = Path("/proc/cpuinfo").read_text(encoding="utf-8", errors="replace").splitlines()
    except OSError:
        lines = []  # not Linux
    names = [line.partition(":")[2].strip() for line in lines if line.startswith("model name")]
    return names[0] if names else platform.machine()
