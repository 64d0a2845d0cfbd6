"""examples/pipelines/frames.ipynb: what it shows is what it does."""

from __future__ import annotations

import subprocess
import sys

import nbformat
import pytest
from pipelines.running import EXAMPLES, ROOT

pytestmark = pytest.mark.skipif(sys.platform == "win32", reason="the kernel's pipes are of Unix")
NOTEBOOK = EXAMPLES / "frames.ipynb"
COMMAND = [sys.executable, str(ROOT / "scripts" / "run_notebook.py"), str(NOTEBOOK)]


def test_the_notebook_shows_what_its_cells_give():
    """Run from the top in an empty folder, every cell has the output that is stored."""
    done = subprocess.run(COMMAND, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr[-3000:]
    now, stored = nbformat.reads(done.stdout, as_version=4), nbformat.read(NOTEBOOK, as_version=4)
    for cell, kept in zip(now.cells, stored.cells, strict=True):
        told = f"{kept.source}\n(anew: {' '.join(COMMAND[1:])} --write)"
        assert cell == kept, told
    assert sum(bool(cell.get("outputs")) for cell in stored.cells) >= 7
