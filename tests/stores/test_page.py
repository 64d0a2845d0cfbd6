"""What docs/stores.md says is true: each block runs, against a real store."""

from __future__ import annotations

import datetime
import os
import re
import subprocess
import sys
import tomllib
from pathlib import Path
from typing import Any

import pyarrow.parquet as pq
import pytest
from faultserver import LINEAR, FaultServer
from stores.conftest import Store

from batchscore.config import ScoreConfig

PAGE = (Path(__file__).parents[2] / "docs" / "stores.md").read_text()


def blocks(language: str) -> list[str]:
    found = re.findall(rf"^```{language}\n(.*?)^```", PAGE, re.DOTALL | re.MULTILINE)
    assert found
    return found


@pytest.fixture
def bucket(store: Store) -> Store:
    """The bucket of the page, with the files that it names."""
    for day in ("2026-01-01", "2026-01-02"):
        store.put_table(f"days/date={day}/part-0.parquet", {"x": [1.0, 2.0]})
    store.put("rows.csv", b"x\n1\n2\n")
    return store


def test_every_command_of_the_page_runs(bucket: Store, tmp_path: Path) -> None:
    """In order, word for word but for the bucket's name; each exits 0 and writes what it says."""
    (tmp_path / "batchscore").write_text(f'#!/bin/sh\nexec {sys.executable} -m batchscore "$@"\n')
    (tmp_path / "batchscore").chmod(0o755)
    with FaultServer(*LINEAR) as server:
        variables = {
            "PATH": f"{tmp_path}:{os.environ['PATH']}", "URL": server.url, "MINIO": bucket.endpoint,
        }  # fmt: skip
        for block in blocks("sh"):
            done = subprocess.run(
                ["bash", "-ec", block.replace("s3://bucket/", bucket.uri(""))],
                cwd=tmp_path, env={**os.environ, **variables}, capture_output=True, text=True,
                check=False, timeout=90,
            )  # fmt: skip
            assert done.returncode == 0, (block, done.stderr)
    written = {"scored.parquet", "days.parquet", "again.parquet", "dated.parquet", "parts/_SUCCESS",
               "parts/part-00000.parquet"}  # fmt: skip
    assert written <= set(bucket.objects())
    assert bucket.table("dated.parquet")["date"][0].as_py() == datetime.date(2026, 1, 1)
    assert (tmp_path / "scored.arrow").exists()
    assert pq.read_table(tmp_path / "parts" / "part-00000.parquet").num_rows == 4


def test_the_python_of_the_page_runs(bucket: Store) -> None:
    """It writes what it says, without the partitions."""
    (block,) = blocks("python")
    with FaultServer(*LINEAR) as server:
        names: dict[str, Any] = {"url": server.url}
        exec(block.replace("s3://bucket/", bucket.uri("")), names)
    assert "date" not in bucket.table("from-python.parquet").schema.names


def test_the_options_of_the_page_are_options() -> None:
    """Its TOML holds keys of a config file."""
    for block in blocks("toml"):
        given = {"inputs": "x", "output": "o.csv", "url": "http://x", **tomllib.loads(block)}
        ScoreConfig.model_validate(given)
