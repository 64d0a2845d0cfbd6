"""docs/watch.md: its commands run as they stand there."""

from __future__ import annotations

import os
import re
import shutil
import subprocess
import sys
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from faultserver import LINEAR, FaultServer
from integration.cli.conftest import clean_environment
from integration.test_metrics_port import free_port

import batchscore

ROOT = Path(__file__).parents[2]
PAGE = (ROOT / "docs" / "watch.md").read_text()
SHELL = re.findall(r"^```sh\n(.*?)^```", PAGE, re.DOTALL | re.MULTILINE)
PYTHON = re.findall(r"^```python\n(.*?)^```", PAGE, re.DOTALL | re.MULTILINE)


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """An empty folder with some rows, and a way to call this very package."""
    pq.write_table(pa.table({"x": pa.array(range(500), pa.int64())}), tmp_path / "rows.parquet")
    program = tmp_path / "bin" / "batchscore"
    program.parent.mkdir()
    program.write_text(f'#!/bin/sh\nexec {sys.executable} -m batchscore "$@"\n')
    program.chmod(0o755)
    return tmp_path


@pytest.mark.skipif(shutil.which("curl") is None, reason="a block of the page calls curl")
@pytest.mark.parametrize("block", SHELL, ids=re.findall(r" -o (\w+)", "".join(SHELL)))
def test_every_command_of_the_page_runs_as_it_stands(folder, block):
    """A block ends well, its output has all rows, and what it says of itself is there."""
    package = Path(batchscore.__file__).parents[1]
    with FaultServer(*LINEAR, delay_s=0.3) as server:
        done = subprocess.run(
            ["bash", "-ec", block.replace("9464", str(free_port()))],
            cwd=folder, capture_output=True, text=True, check=False, timeout=100,
            env=clean_environment() | {
                "URL": server.url, "PYTHONPATH": str(package), "no_proxy": "*",
                "PATH": f"{folder / 'bin'}{os.pathsep}{os.environ['PATH']}",
            },
        )  # fmt: skip
    assert done.returncode == 0, done.stderr
    output = re.search(r"-o (\S+)", block)
    assert output
    with pa.memory_map(str(folder / output[1])) as file:
        assert pa.ipc.open_file(file).read_all().num_rows == 500
    if "curl" in block:
        assert "batchscore_rows_read_total" in done.stdout
    if "job.log" in block:
        assert '"event": "end"' in (folder / "job.log").read_text().splitlines()[-1]


def test_the_pages_python_runs(folder, capsys, monkeypatch):
    """Its one block scores the rows, and without a terminal the display is a line."""
    (block,) = PYTHON
    monkeypatch.chdir(folder)
    with FaultServer(*LINEAR) as server:
        names = {"url": server.url}
        exec(block, names)
    assert names["report"].rows_scored == 500  # type: ignore[attr-defined]
    assert capsys.readouterr().err.startswith("500 of 500 rows")


def test_the_page_tells_every_event():
    """What the code calls its events is in the table of the page."""
    found = set()
    for path in (ROOT / "batchscore").rglob("*.py"):
        text = path.read_text()
        found |= set(re.findall(r'"event": "(\w+)"', text))
        if path.name in {"json_log.py", "terminal.py", "events.py"}:
            found |= set(re.findall(r'(?:logging\.\w+|level, 0\)|ERROR\)), "(\w+)"', text))
    found -= {"time", "level"}
    assert {"start", "outage", "failed_rows", "summary", "error", "end", "metrics"} <= found
    assert {event for event in found if f"`{event}`" not in PAGE} == set()
