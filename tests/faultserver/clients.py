"""Who is connected to a server on this computer: the workers of an engine, to kill one of them."""

from __future__ import annotations

import os
import time
from pathlib import Path
from urllib.parse import urlsplit

_ESTABLISHED = "01"


def clients_of(url: str) -> set[int]:
    """The other processes that have a connection to the server at an address."""
    port = f"{urlsplit(url).port:04X}"
    inodes = set()
    for line in Path("/proc/net/tcp").read_text().splitlines()[1:]:
        fields = line.split()
        if fields[2].endswith(f":{port}") and fields[3] == _ESTABLISHED:
            inodes.add(f"socket:[{fields[9]}]")
    return {
        int(process.name)
        for process in Path("/proc").iterdir()
        if process.name.isdigit() and int(process.name) != os.getpid() and has_one(process, inodes)
    }


def has_one(process: Path, inodes: set[str]) -> bool:
    """Whether a process has one of these sockets open."""
    try:
        return any(str(link.readlink()) in inodes for link in (process / "fd").iterdir())
    except OSError:
        return False  # it has ended, or a file of it was closed, meanwhile


def command_of(pid: int) -> str:
    """What a process calls itself; nothing where it has ended."""
    try:
        return Path(f"/proc/{pid}/cmdline").read_bytes().replace(b"\0", b" ").decode()
    except OSError:
        return ""


def started_by(pid: int, what: str) -> int | None:
    """The process whose command holds this, among a process and those that started it."""
    while pid > 1:
        if what in command_of(pid):
            return pid
        pid = parent_of(pid)
    return None


def parent_of(pid: int) -> int:
    """The process that started a process; 0 where it has ended."""
    try:
        return int(Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[1])
    except OSError:
        return 0


def wait_until(condition, what: str, seconds: float = 60.0):
    """What a condition gives as soon as that is true."""
    deadline = time.monotonic() + seconds
    while time.monotonic() < deadline:
        if found := condition():
            return found
        time.sleep(0.02)
    raise TimeoutError(f"{what}: not within {seconds:g} s")
