"""One file, one command, every server: the predictions are the same wherever a model runs."""

from __future__ import annotations

import subprocess
import sys

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

PLACES = [
    pytest.param("mlflow", "/invocations", marks=pytest.mark.server("mlflow")),
    pytest.param("kserve", "/v1/models/{}:predict", marks=pytest.mark.server("kserve")),
    pytest.param("kserve", "/v2/models/{}", marks=pytest.mark.server("kserve")),
    pytest.param("mlserver", "/v2/models/{}", marks=pytest.mark.server("mlserver")),
    pytest.param("triton", "/v2/models/{}", marks=pytest.mark.server("triton")),
]


@pytest.fixture(scope="module")
def earlier():
    """The file of each model, and its predictions on the server that came first."""
    return {}


def score(source, out, url, features):
    words = ["--url", url, "--features", ",".join(features), "-o", str(out)]
    done = subprocess.run(
        [sys.executable, "-m", "batchscore", "score", str(source), *words],
        capture_output=True, text=True, check=False,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    return pq.read_table(out)


@pytest.mark.parametrize("model", ["wine", "diabetes"])
@pytest.mark.parametrize(("name", "path"), PLACES)
def test_the_same_command_gives_the_same_predictions_everywhere(
    tmp_path, request, earlier, name, path, model
):
    """Only the address differs, whatever is spoken there."""
    fixture = request.getfixturevalue(name)
    server = fixture(model) if name == "mlflow" else fixture
    sample = server.sample(model)
    columns = sample.table.column_names
    numbered = sample.table.append_column("row", pa.array(range(len(sample.table))))
    pq.write_table(numbered, tmp_path / "in.parquet")
    url = server.url + path.format(model)
    found = score(tmp_path / "in.parquet", tmp_path / "out.parquet", url, columns)
    assert found["row"].to_pylist() == list(range(len(numbered)))
    (output,) = set(found.column_names) - {*numbered.column_names, "prediction_error"}
    table, predictions = earlier.setdefault(model, (numbered, found[output].to_pylist()))
    assert numbered.equals(table)
    near = pytest.approx(predictions, rel=1e-9) if model == "diabetes" else predictions
    assert found[output].to_pylist() == near
