"""Runs a notebook in an empty folder, cell by cell in a real kernel.

``scripts/run_notebook.py NOTEBOOK`` prints it with the outputs it has now; ``--write`` keeps them.
"""

from __future__ import annotations

import argparse
import os
import sys
import tempfile
from pathlib import Path

import nbformat
from jupyter_client.manager import AsyncKernelManager
from nbclient import NotebookClient

ROOT = Path(__file__).parents[1]


def executed(notebook: nbformat.NotebookNode, folder: Path) -> nbformat.NotebookNode:
    """The notebook with its outputs, run in ``folder``.

    Raises:
        nbclient.exceptions.CellExecutionError: a cell raised.
    """
    for cell in notebook.cells:
        if cell.cell_type == "code":
            cell.outputs, cell.execution_count = [], None
    os.environ["PYTHONPATH"] = str(ROOT)
    # Over sockets in a folder: no port is opened. Their names must be short.
    with tempfile.TemporaryDirectory() as sockets:
        manager = AsyncKernelManager(kernel_name="python3", transport="ipc", ip=f"{sockets}/k")
        client = NotebookClient(
            notebook, km=manager, timeout=90, record_timing=False,
            resources={"metadata": {"path": str(folder)}},
        )  # fmt: skip
        client.execute(cleanup_kc=True)
    # What the kernel adds of itself says only which Python it was.
    notebook.metadata["language_info"] = {"name": "python"}
    return notebook


def main() -> None:
    """Run the notebook; print or keep what comes out."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("notebook", type=Path)
    parser.add_argument("--write", action="store_true", help="keep the outputs in the notebook")
    given = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        notebook = executed(nbformat.read(given.notebook, as_version=4), Path(folder))
    text = nbformat.writes(notebook) + "\n"
    if given.write:
        given.notebook.write_text(text)
    else:
        sys.stdout.write(text)


if __name__ == "__main__":
    main()
