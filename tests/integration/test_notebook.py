"""What a run shows in a notebook: the outputs that a real kernel sends for the cells."""

from __future__ import annotations

import json
import re
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from faultserver import LINEAR, FaultServer

import batchscore

pytestmark = pytest.mark.skipif(sys.platform == "win32", reason="the kernel's pipes are of Unix")

ROOT = Path(batchscore.__file__).parents[1]
Output = dict[str, Any]
PROGRAM = """
import json, sys
import nbformat
from jupyter_client.manager import AsyncKernelManager
from nbclient import NotebookClient
cells = [nbformat.v4.new_code_cell(source) for source in json.load(sys.stdin)]
notebook = nbformat.v4.new_notebook(cells=cells)
# Over sockets in a folder: no port is opened.
manager = AsyncKernelManager(kernel_name="python3", transport="ipc", ip=sys.argv[1])
NotebookClient(notebook, km=manager, timeout=90, allow_errors=True).execute(cleanup_kc=True)
json.dump([cell.outputs for cell in notebook.cells], sys.stdout)
"""
CONTROL = re.compile(r"[\x00-\x08\x0b-\x1f]")


@pytest.fixture
def run_cells(tmp_path: Path) -> Callable[..., list[list[Output]]]:
    """Run cells in a kernel; the outputs of each as the notebook keeps them."""
    pq.write_table(pa.table({"x": pa.array(range(2000), pa.int64())}), tmp_path / "in.parquet")

    def run(*cells: str, **values: str) -> list[list[Output]]:
        begin = f"import os, sys\nsys.path.insert(0, {str(ROOT)!r})\n"
        begin += f"os.environ['PYTHONPATH'] = {str(ROOT)!r}\n"
        begin += f"os.chdir({str(tmp_path)!r})\nimport batchscore\n"
        begin += "".join(f"{name} = {value!r}\n" for name, value in values.items())
        done = subprocess.run(
            [sys.executable, "-c", PROGRAM, str(tmp_path / "kernel")],
            input=json.dumps([begin, *cells]), capture_output=True, text=True, check=False,
        )  # fmt: skip
        assert done.returncode == 0, done.stderr
        begun, *shown = json.loads(done.stdout)
        assert not begun
        return shown

    return run


CALL = 'report = {}batchscore.{}("in.parquet", "{}", url=url, batch_size=50, progress="{}")'


def test_a_cell_has_one_display_that_ends_as_the_run_did(run_cells):
    """One output, written anew: a bar where HTML is shown, else a line, without control codes."""
    with FaultServer(*LINEAR, delay_s=0.02) as server:
        shown = run_cells(
            CALL.format("", "score", "a.arrow", "auto"),
            CALL.format("await ", "score_async", "b.arrow", "bar"),
            url=server.url,
        )
    for outputs in shown:
        (output,) = outputs
        assert output["output_type"] == "display_data"
        text, page = output["data"]["text/plain"], output["data"]["text/html"]
        assert text.startswith("2,000 of 2,000 rows, ")
        assert text.endswith(": done")
        assert '<progress style="width:14em;vertical-align:middle" value="2000" max="2000">' in page
        assert not CONTROL.search(text + page)


def test_nothing_is_shown_unless_it_is_asked_for(run_cells):
    """Without ``progress`` a cell that scores has no output, and plain lines are lines."""
    with FaultServer(*LINEAR) as server:
        silent, plain = run_cells(
            'batchscore.score("in.parquet", "a.arrow", url=url);',
            CALL.format("", "score", "b.arrow", "plain"),
            url=server.url,
        )
    assert not silent
    assert {output["name"] for output in plain} == {"stderr"}
    text = "".join(output["text"] for output in plain)
    assert text.startswith("2,000 of 2,000 rows")
    assert not CONTROL.search(text)


def test_a_run_that_cannot_begin_says_so_below_its_cell(run_cells):
    """The display says how it ended, and the error is raised as ever."""
    (outputs,) = run_cells(
        'batchscore.score("nosuch.parquet", "a.arrow", url=url, progress="auto")',
        url="http://127.0.0.1:9/deployment/x/forward",
    )
    display, error = outputs
    assert display["data"]["text/plain"].endswith(": usage")
    assert error["ename"] == "InputError"
    assert "nosuch.parquet" in error["evalue"]


def test_the_command_in_a_cell_writes_lines(run_cells):
    """What looks like a terminal to a command is none: no bar is drawn there over and over."""
    words = f"{sys.executable} -m batchscore score in.parquet --url {{url}} -o a.arrow"
    with FaultServer(*LINEAR, delay_s=0.02) as server:
        (outputs,) = run_cells(f"!{words} --batch-size 100", url=server.url)
    text = "".join(output["text"] for output in outputs).replace("\r\n", "\n")
    assert not CONTROL.search(text)
    assert text.startswith("2,000 of 2,000 rows")
    assert text.count("\n") == 6


def test_no_other_display_than_those_there_are_is_taken():
    """A word that is none is refused with the words there are."""
    with pytest.raises(batchscore.UsageError, match="not one of auto, bar, plain, none"):
        batchscore.score("in", "out.arrow", url="http://h/x", progress="fancy")  # type: ignore[arg-type]
