"""Spark on this computer, with executors that are processes of their own and can be killed."""

from __future__ import annotations

import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from importlib.util import find_spec
from pathlib import Path

from faultserver.clients import clients_of, command_of, parent_of, started_by

EXECUTORS = 2
MASTER = f"local-cluster[{EXECUTORS},1,1024]"
EXECUTOR = "CoarseGrainedExecutorBackend"


@contextmanager
def spark_home() -> Iterator[dict[str, str]]:
    """The environment of a Spark whose workers leave their logs in a folder that goes away.

    They leave them below SPARK_HOME, which is where PySpark is installed.
    """
    found = find_spec("pyspark")
    assert found is not None, "pip install 'batchscore[spark]'"
    installed = Path(found.origin or "").parent
    with tempfile.TemporaryDirectory() as name:
        for path in installed.iterdir():
            if path.name != "work":
                Path(name, path.name).symlink_to(path)
        yield {"SPARK_HOME": name, "SPARK_LOCAL_IP": "127.0.0.1"}


def executors_at_work(url: str) -> list[int]:
    """The executors whose Python workers are connected to a server."""
    found = {started_by(pid, EXECUTOR) for pid in python_workers(url)}
    return sorted(pid for pid in found if pid is not None)


def python_workers(url: str) -> list[int]:
    """Spark's Python workers that are connected to a server."""
    return sorted(pid for pid in clients_of(url) if "pyspark" in command_of(pid))


def descendants(pid: int) -> list[int]:
    """The processes that a process has started, and theirs."""
    pids = [int(path.name) for path in Path("/proc").iterdir() if path.name.isdigit()]
    parents = {each: parent_of(each) for each in pids}
    found, new = [], [pid]
    while new:
        new = [child for child, parent in parents.items() if parent in new]
        found += new
    return found
