"""Spark on this computer, with executors that are processes of their own and can be killed."""

from __future__ import annotations

import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pyspark
from engines.clients import clients_of, command_of

EXECUTORS = 2
MASTER = f"local-cluster[{EXECUTORS},1,1024]"
_EXECUTOR = "CoarseGrainedExecutorBackend"


@contextmanager
def spark_home() -> Iterator[dict[str, str]]:
    """The environment of a Spark whose workers leave their logs in a folder that goes away.

    They leave them below SPARK_HOME, which is where PySpark is installed.
    """
    installed = Path(pyspark.__file__).parent
    with tempfile.TemporaryDirectory() as name:
        for path in installed.iterdir():
            if path.name != "work":
                Path(name, path.name).symlink_to(path)
        yield {"SPARK_HOME": name, "SPARK_LOCAL_IP": "127.0.0.1"}


def executors_at_work(url: str) -> list[int]:
    """The executors whose Python workers are connected to a server."""
    found = {executor_of(pid) for pid in python_workers(url)}
    return sorted(pid for pid in found if pid is not None)


def python_workers(url: str) -> list[int]:
    """Spark's Python workers that are connected to a server."""
    return sorted(pid for pid in clients_of(url) if "pyspark" in safe_command_of(pid))


def executor_of(pid: int) -> int | None:
    """The executor that a Python worker belongs to; None where Spark is one process."""
    while pid > 1:
        if _EXECUTOR in safe_command_of(pid):
            return pid
        pid = parent_of(pid)
    return None


def parent_of(pid: int) -> int:
    """The process that started a process; 0 where it has ended."""
    try:
        return int(Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[1])
    except OSError:
        return 0


def safe_command_of(pid: int) -> str:
    """What a process calls itself; nothing where it has ended."""
    try:
        return command_of(pid)
    except OSError:
        return ""


def descendants(pid: int) -> list[int]:
    """The processes that a process has started, and theirs."""
    parents = {
        int(p.name): parent_of(int(p.name)) for p in Path("/proc").iterdir() if p.name.isdigit()
    }
    found, new = [], [pid]
    while new:
        new = [child for child, parent in parents.items() if parent in new]
        found += new
    return [child for child in found if Path(f"/proc/{child}").exists()]
