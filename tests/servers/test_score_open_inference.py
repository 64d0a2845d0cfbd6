"""``score`` on KServe, MLServer and Triton: every prediction is what the model itself says."""

from __future__ import annotations

import json
import subprocess
import sys

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

import batchscore
from batchscore.errors import RefusedError, StoppedError, UsageError

TRAINED = {"wine_columns": "wine", "wine_proba": "wine", "wine_both": "wine"}
PACKED = {"wine", "wine_proba", "wine_both", "diabetes"}


def scored(tmp_path, server, model, table, **options):
    source, out = tmp_path / "in.parquet", tmp_path / "out.parquet"
    pq.write_table(table, source)
    if model in PACKED:
        options["pack"] = {"x": table.column_names}
    url = f"{server.url}/v2/models/{model}"
    options = {"max_attempts": 2, "overwrite": True, **options}
    scored.report = batchscore.score(source, out, url=url, **options)
    return pq.read_table(out)


def near(expected):
    return pytest.approx(expected, rel=1e-9, abs=1e-12)


@pytest.mark.parametrize(
    "model", ["wine", "wine_columns", "diabetes", "digits", "sentiment", "picture"]
)
@pytest.mark.parametrize("batch_size", ["auto", 9])
def test_every_row_gets_the_models_own_word(tmp_path, open_inference, model, batch_size):
    """Numbers side by side or one a column, arrays, texts and pictures; in one request or many."""
    sample = open_inference.sample(TRAINED.get(model, model))
    out = scored(tmp_path, open_inference, model, sample.table, batch_size=batch_size)
    found = out["predicted_predict"].to_pylist()
    assert found == (near(sample.predict) if model == "diabetes" else sample.predict)
    assert out["prediction_error"].null_count == len(out)


@pytest.mark.parametrize("processes", [1, 2])
def test_a_matrix_becomes_classes_and_probabilities(tmp_path, open_inference, processes):
    """Beside a second output, and with each class's probability to the last digit."""
    sample = open_inference.sample("wine")
    options = {"classes": sample.classes, "processes": processes, "batch_size": 20}
    for model in ("wine_proba", "wine_both"):
        out = scored(tmp_path, open_inference, model, sample.table, **options)
        assert out["predicted_predict_proba"].to_pylist() == sample.predict
        probs = [list(row.values()) for row in out["predicted_predict_proba_probs"].to_pylist()]
        for row, expected in zip(probs, sample.predict_proba, strict=True):
            assert row == near(expected)
    assert out["predicted_predict"].to_pylist() == sample.predict


def test_bad_rows_alone_fail_with_the_servers_words(tmp_path, open_inference):
    """What scikit-learn cannot take fails its rows; no traceback stands in the output."""
    sample = open_inference.sample("wine")
    table = sample.table
    bad = {3, 60, 61, 170}
    alcohol = [float("nan") if row in bad else n for row, n in enumerate(
        table["alcohol"].to_pylist())]  # fmt: skip
    table = table.set_column(0, "alcohol", pa.array(alcohol, from_pandas=False))
    out = scored(tmp_path, open_inference, "wine", table, batch_size=50)
    errors = out["prediction_error"].to_pylist()
    assert {row for row, error in enumerate(errors) if error} == bad
    for row in bad:
        assert errors[row].startswith("http_500: ")
        assert "Input X contains NaN" in errors[row]
        assert "Traceback" not in errors[row]
        assert "site-packages" not in errors[row]
    found = out["predicted_predict"].to_pylist()
    assert all(found[row] == sample.predict[row] for row in range(len(out)) if row not in bad)


def test_a_null_fails_unsent(tmp_path, open_inference):
    """An empty cell is told by column; the rows beside it are scored."""
    sample = open_inference.sample("wine")
    ash = [None if row == 5 else n for row, n in enumerate(sample.table["ash"].to_pylist())]
    table = sample.table.set_column(2, "ash", pa.array(ash))
    out = scored(tmp_path, open_inference, "wine_columns", table)
    errors = out["prediction_error"].to_pylist()
    assert errors[5] == "invalid_input: column 'ash': the cell is empty; a tensor has no nulls"
    assert errors.count(None) == len(out) - 1


@pytest.mark.server("kserve")
@pytest.mark.server("mlserver")
@pytest.mark.parametrize("name", ["kserve", "mlserver"])
def test_a_model_that_declares_nothing_is_scored(tmp_path, servers, name):
    """The inputs are the user's to say, the outputs those of the first answer."""
    server = servers.named(name)
    sample = server.sample("diabetes")
    options = {"pack": {"x": sample.table.column_names}, "batch_size": 50}
    out = scored(tmp_path, server, "undeclared", sample.table, **options)
    assert out["predicted_predict"].to_pylist() == near(sample.predict)
    with pytest.raises(UsageError, match="does not tell its inputs"):
        scored(tmp_path, server, "undeclared", sample.table)


def test_every_bad_row_stops_with_the_servers_words(tmp_path, open_inference):
    """A model that takes none of the rows ends the job, and says why."""
    sample = open_inference.sample("wine")
    columns = {name: [float("inf")] * 100 for name in sample.table.column_names}
    with pytest.raises(StoppedError, match=r"refused 20 rows one by one.*(infinity|NaN)"):
        scored(tmp_path, open_inference, "wine", pa.table(columns), max_attempts=1)


def test_a_wrong_model_or_version_is_told(tmp_path, open_inference):
    """Nothing is sent to what is not there."""
    sample = open_inference.sample("wine")
    for model, status in (("nope", "404"), ("wine/versions/77", "404|501")):
        with pytest.raises(RefusedError, match=rf"answered ({status}): "):
            scored(tmp_path, open_inference, model, sample.table)
    with pytest.raises(UsageError, match="add /v2/models/NAME"):
        batchscore.score(tmp_path / "in.parquet", tmp_path / "o.arrow", url=open_inference.url)


def test_inspect_shows_the_form(open_inference):
    """Triton lists the binary extension; the others are asked by the first request."""
    done = subprocess.run(
        [sys.executable, "-m", "batchscore", "inspect", "--json", "--url",
         f"{open_inference.url}/v2/models/digits"],
        capture_output=True, text=True, check=True, timeout=60,
    )  # fmt: skip
    content = json.loads(done.stdout)
    assert (content["protocol"], content["binary"]) == (
        "open-inference", open_inference.name == "triton"
    )  # fmt: skip
    assert content["inputs"] == [
        {"name": "image", "type": "numeric", "shape": [8, 8], "datatype": "float64"}
    ]


def test_the_binary_form_is_spoken_where_it_can_be(tmp_path, open_inference):
    """13 doubles are 104 bytes raw and more than twice that as text."""
    sample = open_inference.sample("diabetes")
    table = pa.concat_tables([sample.table] * 20)
    out = scored(tmp_path, open_inference, "diabetes", table, batch_size=221, concurrency=1)
    assert len(out) == 8840
    raw = 10 * 8 * len(out)
    is_text = open_inference.name == "mlserver"
    assert (scored.report.bytes_sent > 2 * raw) == is_text
