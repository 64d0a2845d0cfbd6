"""``--find-max`` on a server whose highest rate is known."""

from __future__ import annotations

import json
import math
import subprocess
import sys

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from queueing import Exponential, QueueServerProcess
from queueing.process import last_core

MEAN_S, WITHIN_S = 0.010, 0.050
# M/M/1: responses are exponential with mu - lambda.
HIGHEST = 1 / MEAN_S - math.log(4) / WITHIN_S


@pytest.mark.slow
def test_the_search_finds_what_theory_allows(tmp_path):
    """The true maximum lies in the interval of each batch size, as rows cost nothing here."""
    # The interval is of 95 %, and the way there and back makes the maximum a little less: a tenth
    # is given for the one, a fifth for the other.
    rows, report = tmp_path / "rows.parquet", tmp_path / "report.json"
    out = tmp_path / "requests.arrow"
    pq.write_table(pa.table({"x": [float(n) for n in range(4000)]}), rows)
    with QueueServerProcess(Exponential(MEAN_S), core=last_core()) as server:
        done = subprocess.run(
            [
                sys.executable, "-m", "batchscore", "bench", str(rows), "--url", server.url,
                "--find-max", "--slo", f"p75={WITHIN_S * 1000:g}ms", "--rate", "50",
                "--batch-size", "1,4", "--duration", "1.5s", "--warmup", "0.3s",
                # This is no place to judge the client by.
                "--max-client-share", "1000%",
                "--report", str(report), "--output", str(out), "-q",
            ],
            capture_output=True, text=True, check=False, timeout=180,
        )  # fmt: skip
        # The first request completes what is known of the model; it is none of the search's.
        records = server.records()[1:]
    assert done.returncode == 0, done.stderr
    found = json.loads(report.read_text())["find_max"]
    assert [search["batch_size"] for search in found] == [1, 4]
    for search in found:
        size = search["batch_size"]
        assert search["low"] <= search["rows_per_s"] < search["high"]
        assert search["low"] / size <= 1.1 * HIGHEST
        assert search["high"] / size >= 0.8 * HIGHEST
        assert 0.6 * HIGHEST <= search["rows_per_s"] / size <= 1.2 * HIGHEST
    best = [search["batch_size"] for search in found if search["is_best"]]
    assert best == [4]
    table = pa.ipc.open_file(out).read_all()
    assert table.num_rows == len(records)
    assert table["cell"].null_count == table.num_rows
    for place, search in enumerate(found):
        for step in search["steps"]:
            of_step = table.filter(
                (pa.compute.field("search") == place) & (pa.compute.field("step") == step["step"])
            )
            assert set(of_step["rate"].to_pylist()) == {step["rate"]}
            assert set(of_step["rows"].to_pylist()) == {search["batch_size"]}
            measurements = set(of_step["measurement"].to_pylist())
            assert measurements == set(range(step["measurements"]))
