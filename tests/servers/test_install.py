"""The servers' installation, what a test run does without it, and that no server outlives it."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest
from servers import install

ROOT = Path(__file__).parents[2]


def run(tmp_path, *, required=""):
    """A run of one test of MLflow where no server is installed."""
    command = [sys.executable, "-m", "pytest", "-rs", "-p", "no:cacheprovider",
               "tests/servers/test_mlflow.py::test_it_has_no_metadata_but_a_version"]  # fmt: skip
    environment = {**os.environ, "BATCHSCORE_SERVERS": str(tmp_path),
                   "BATCHSCORE_REQUIRE_SERVERS": required}  # fmt: skip
    return subprocess.run(
        command, cwd=ROOT, env=environment, capture_output=True, text=True, check=False
    )


def test_a_server_that_is_not_installed_skips_its_tests_and_names_the_command(tmp_path):
    """A reader sees what to type."""
    done = run(tmp_path)
    assert done.returncode == 0, done.stdout
    assert "mlflow is not installed: python tests/servers/install.py mlflow" in done.stdout


def test_a_server_that_is_required_fails_its_tests_where_it_is_not_installed(tmp_path):
    """``BATCHSCORE_REQUIRE_SERVERS`` turns the skip into a failure."""
    done = run(tmp_path, required="kserve,mlflow")
    assert done.returncode == 1, done.stdout
    assert "mlflow is not installed" in done.stdout


def test_a_server_required_by_a_wrong_name_is_a_failure(tmp_path):
    """A typing error does not turn the lane off."""
    done = run(tmp_path, required="mlfow")
    assert done.returncode == 1, done.stdout
    assert "BATCHSCORE_REQUIRE_SERVERS names no server: mlfow" in done.stdout


def test_other_versions_than_the_requirements_count_as_not_installed(tmp_path, monkeypatch):
    """The stamp is the hash of the requirements."""
    monkeypatch.setenv("BATCHSCORE_SERVERS", str(tmp_path))
    folder = install.place("kserve")
    folder.mkdir()
    (folder / "installed.sha256").write_text("of older requirements")
    assert "in other versions" in install.missing("kserve")


def test_an_unknown_name_is_refused(tmp_path):
    """With the names that there are, and nothing is installed."""
    done = subprocess.run(
        [sys.executable, ROOT / "tests/servers/install.py", "mlfow"],
        env={**os.environ, "BATCHSCORE_SERVERS": str(tmp_path)},
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 2
    assert "no such server: mlfow (there are mlflow, kserve, mlserver, triton)" in done.stderr
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize("name", install.NAMES)
def test_every_server_has_exact_requirements(name):
    """Each line pins one version, so that the same servers are tested everywhere."""
    lines = (install.HERE / "requirements" / f"{name}.txt").read_text().splitlines()
    pins = [line for line in lines if not line.startswith("#")]
    assert len(pins) > 10
    assert all(line.count("==") == 1 for line in pins)


GRANDCHILD = """
import subprocess, sys, time
child = subprocess.Popen([sys.executable, "-c", "import time; time.sleep(600)"])
print(child.pid, file=sys.stderr, flush=True)
time.sleep(600)
"""


def test_the_leash_ends_a_server_and_its_children_with_the_test_run():
    """When standard input closes, also because the run was killed."""
    process = subprocess.Popen(
        [sys.executable, install.HERE / "leash.py", sys.executable, "-c", GRANDCHILD],
        stdin=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )
    with process:
        grandchild = int(process.stderr.readline())
        assert process.poll() is None
        process.stdin.close()
        assert process.wait(30) == 128 + 15
    assert gone(grandchild)


def gone(pid):
    """Whether a process has ended; one that nobody has waited for counts."""
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] == "Z"
    except FileNotFoundError:
        return True


def test_the_leash_passes_the_status_on():
    """A server that ends by itself tells why."""
    command = [
        sys.executable,
        install.HERE / "leash.py",
        sys.executable,
        "-c",
        "raise SystemExit(7)",
    ]
    with subprocess.Popen(command, stdin=subprocess.PIPE) as process:
        assert process.wait(30) == 7
