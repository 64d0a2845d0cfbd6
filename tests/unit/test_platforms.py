"""What other systems lack, or do otherwise: taken away here, as far as that can be done."""

from __future__ import annotations

import builtins
import errno
import logging
import os
import resource
import subprocess
import sys

import pytest

from batchscore.cli.terminal import Terminal
from batchscore.environment import raise_file_limit
from batchscore.errors import InputError, OutputError
from batchscore.partial import disk
from batchscore.partial.disk import Disk, move_into_place
from batchscore.processes.count import process_count, usable_cores
from batchscore.readers.discover import discover
from batchscore.sinks.finished import describe

# What Windows has none of, and what macOS has none of.
NOT_ON_WINDOWS = ("fcntl", "resource", "pwd", "grp", "termios", "readline")
NOT_THERE = (
    "fork", "fdatasync", "getuid", "killpg", "setsid", "sched_getaffinity", "getloadavg",
    "setxattr", "getxattr", "mkfifo", "posix_spawn", "pread",
)  # fmt: skip


def test_the_package_is_imported_where_the_modules_of_unix_are_missing():
    """Every module of the package can be imported without those that Windows does not have."""
    program = f"""
import importlib, os, pkgutil, sys
for name in {NOT_THERE!r}:
    if hasattr(os, name):
        delattr(os, name)
import asyncio, multiprocessing, pydoc, subprocess, tempfile
import aiohttp, numpy, pyarrow.compute, pyarrow.fs, PIL.Image
for name in {NOT_ON_WINDOWS!r}:
    sys.modules[name] = None
sys.platform = "win32"
import batchscore
found = [module.name for module in pkgutil.walk_packages(batchscore.__path__, "batchscore.")
         if not module.name.endswith("__main__")]
for name in found:
    try:
        importlib.import_module(name)
    except ModuleNotFoundError as error:
        # Extras, that not every environment has.
        if error.name.partition(".")[0] in {NOT_ON_WINDOWS!r}:
            raise
print(len(found))
"""
    done = subprocess.run(
        [sys.executable, "-c", program], capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stderr
    assert int(done.stdout) > 150


def test_a_sync_empties_the_drives_own_cache_where_the_system_can(tmp_path, monkeypatch):
    """On macOS a plain fsync leaves the bytes in the drive, so the full one is asked for."""
    asked = []
    monkeypatch.setattr(disk, "_FULL_SYNC", asked.append)
    monkeypatch.setattr(os, "fdatasync", lambda _: pytest.fail("the full sync is enough"))
    with Disk().open(tmp_path / "file", "xb") as file:
        Disk().sync(file)
        assert asked == [file.fileno()]


def test_a_drive_that_refuses_the_full_sync_gets_the_common_one(tmp_path, monkeypatch):
    """A network drive of macOS does not know the full sync: the file is synced all the same."""
    asked = []

    def refuse(_handle: int) -> None:
        raise OSError(errno.ENOTSUP, "not supported")

    monkeypatch.setattr(disk, "_FULL_SYNC", refuse)
    monkeypatch.delattr(os, "fdatasync")
    monkeypatch.setattr(os, "fsync", asked.append)
    with Disk().open(tmp_path / "file", "xb") as file:
        Disk().sync(file)
        assert asked == [file.fileno()]


@pytest.mark.parametrize("number", [errno.EINVAL, errno.ENOTSUP, errno.EPERM])
def test_a_drive_without_hard_links_gets_its_output(tmp_path, number):
    """Where a file can have one name alone, OUT appears by a rename, and none is replaced."""

    class NoLinks(Disk):
        def link(self, path, target):
            raise OSError(number, os.strerror(number))

    path, out = tmp_path / "part", tmp_path / "out"
    path.write_bytes(b"rows")
    move_into_place(NoLinks(), path, out, overwrite=False)
    assert (out.read_bytes(), path.exists()) == (b"rows", False)


def test_two_drives_of_windows_are_told_apart(tmp_path, monkeypatch):
    """Pictures on two drives have no folder in common: a usage error that names both."""
    for name in ("a", "b"):
        (tmp_path / name).mkdir()
        (tmp_path / name / "1.png").touch()

    def no_common_path(_paths):
        raise ValueError("Paths don't have the same drive")

    monkeypatch.setattr(os.path, "commonpath", no_common_path)
    with pytest.raises(InputError, match="on two drives; score them in two runs"):
        discover((str(tmp_path / "a"), str(tmp_path / "b")), None)


def test_a_pipe_that_windows_says_is_invalid_is_a_closed_one(monkeypatch):
    """`batchscore ... | more` ends well on Windows too, where a closed pipe is EINVAL."""

    class Closed:
        def write(self, _text):
            raise OSError(errno.EINVAL, "Invalid argument")

    monkeypatch.setattr(sys, "stdout", Closed())
    with pytest.raises(OutputError):
        Terminal().data("text")
    monkeypatch.setattr(sys, "platform", "win32")
    with pytest.raises(BrokenPipeError):
        Terminal().data("text")


def test_without_affinity_and_quota_the_cores_are_counted(tmp_path, monkeypatch):
    """Some systems tell no affinity: all cores of the machine count, and at least one."""
    monkeypatch.delattr(os, "sched_getaffinity")
    monkeypatch.setattr(os, "cpu_count", lambda: 3)
    assert usable_cores(tmp_path / "none") == 3
    monkeypatch.setattr(os, "cpu_count", lambda: None)
    assert usable_cores(tmp_path / "none") == 1


def test_on_windows_one_process_scores(monkeypatch, caplog):
    """--processes is taken as 1 there, and a line of the log says so."""
    from batchscore.config import ScoreConfig

    config = ScoreConfig(inputs="a.csv", output="o.arrow", url="http://h/", processes=4)
    assert process_count(config) == 4
    monkeypatch.setattr(sys, "platform", "win32")
    monkeypatch.setattr(logging.getLogger("batchscore"), "propagate", True)
    with caplog.at_level("INFO", logger="batchscore"):
        assert process_count(config) == 1
    assert "only one process here" in caplog.text


def test_without_extended_attributes_nothing_is_described(tmp_path, monkeypatch):
    """Where files have no such attributes, a text output is written all the same."""
    import pyarrow as pa

    from batchscore.sinks.finished import RowCounts

    out = tmp_path / "out.csv"
    out.write_text("a\n1\n")
    monkeypatch.delattr(os, "setxattr")
    describe(out, pa.schema([("a", pa.int64())]), RowCounts(1, {}))
    assert out.read_text() == "a\n1\n"


def test_the_limit_of_files_is_raised_as_far_as_the_system_lets(monkeypatch):
    """All that is allowed; where that is no number, as on macOS, what is known to be."""
    now, most = resource.getrlimit(resource.RLIMIT_NOFILE)
    asked = []

    def only_numbers(_what, limits):
        asked.append(limits)
        if limits[0] == resource.RLIM_INFINITY:
            raise ValueError("current limit exceeds maximum limit")

    monkeypatch.setattr(resource, "setrlimit", only_numbers)
    monkeypatch.setattr(resource, "getrlimit", lambda _: (256, resource.RLIM_INFINITY))
    raise_file_limit()
    assert asked == [(resource.RLIM_INFINITY,) * 2, (10240, resource.RLIM_INFINITY)]
    asked.clear()
    monkeypatch.setattr(resource, "getrlimit", lambda _: (256, 1024))
    raise_file_limit()
    assert asked == [(1024, 1024)]
    monkeypatch.undo()
    raise_file_limit()
    assert resource.getrlimit(resource.RLIMIT_NOFILE)[0] in {now, most, 10240}


def test_where_there_is_no_limit_of_files_none_is_raised(monkeypatch):
    """Windows has no module for it, which is no error."""
    real = builtins.__import__

    def without_resource(name, *args):
        if name == "resource":
            raise ImportError(name)
        return real(name, *args)

    monkeypatch.setattr(builtins, "__import__", without_resource)
    raise_file_limit()


def test_a_console_without_a_character_shows_its_number():
    """What a console's encoding lacks is written as an escape; no command fails of it."""
    program = "from batchscore.cli import app; from batchscore.cli.terminal import TERMINAL as t; "
    program += "app._open_streams(); t.data('caf\\u00e9 \\u2192\\n')"
    done = subprocess.run(
        [sys.executable, "-c", program], capture_output=True, check=True,
        env={**os.environ, "PYTHONIOENCODING": "cp1252"},
    )  # fmt: skip
    assert done.stdout == b"caf\xe9 \\u2192\n"
