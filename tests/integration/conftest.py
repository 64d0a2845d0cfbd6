"""What the integration tests share: a way to score a table and look at what came out."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

import batchscore


def read_arrow(path: Path) -> pa.Table:
    with pa.OSFile(str(path)) as source, pa.ipc.open_file(source) as reader:
        return reader.read_all()


@pytest.fixture
def score_table(tmp_path: Path) -> Callable[..., pa.Table]:
    """Write a table to Parquet, score it into Arrow, give the output back."""

    def score(table: pa.Table, url: str, **options: object) -> pa.Table:
        pq.write_table(table, tmp_path / "in.parquet")
        out = tmp_path / "out.arrow"
        score.report = batchscore.score(  # type: ignore[attr-defined]
            tmp_path / "in.parquet", out, url=url, overwrite=True, **options
        )
        return read_arrow(out)

    return score
