"""``score`` on KServe's own v1 server: every prediction is what the model itself says."""

from __future__ import annotations

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from servers.test_score_mlflow import scored

import batchscore
from batchscore.errors import RefusedError


def of(server, tmp_path, model, table, **options):
    path = f"/v1/models/{model}:predict"
    return scored(tmp_path, server, table, path=path, **options)


@pytest.mark.parametrize("model", ["wine", "diabetes", "digits", "sentiment", "picture"])
@pytest.mark.parametrize("row", ["auto", "object", "list"])
def test_every_instance_gets_the_models_own_word(tmp_path, kserve, model, row):
    """Rows, arrays, texts and pictures, with names and without."""
    sample = kserve.sample(model)
    if row == "list" and len(sample.table.column_names) == 1:
        row = "auto"  # these models take their lone value bare
    out = of(
        kserve, tmp_path, model, sample.table, features=sample.table.column_names,
        instances={"row": row}, batch_size=64,
    )  # fmt: skip
    found = out["predicted_prediction"].to_pylist()
    floats = isinstance(sample.predict[0], float)
    assert found == (pytest.approx(sample.predict, rel=1e-9) if floats else sample.predict)


def test_packed_columns_and_probabilities(tmp_path, kserve):
    """A list a row in, a matrix out, and an output by name where there are two."""
    sample = kserve.sample("wine")
    options = {"pack": {"x": sample.table.column_names}, "classes": sample.classes}
    out = of(kserve, tmp_path, "wine_proba", sample.table, **options)
    assert out["predicted_prediction"].to_pylist() == sample.predict
    for probs, wanted in zip(
        out["predicted_prediction_probs"].to_pylist(), sample.predict_proba, strict=True
    ):
        named = dict(zip(sample.classes, wanted, strict=True))
        assert probs == pytest.approx(named, rel=1e-9, abs=1e-12)
    out = of(kserve, tmp_path, "wine_both", sample.table, **options)
    assert out["predicted_predict"].to_pylist() == sample.predict
    assert out["predicted_predict_proba"].to_pylist() == sample.predict


def test_bad_rows_stand_alone(tmp_path, kserve):
    """KServe answers 500 to a null: that row alone fails, with its words."""
    sample = kserve.sample("wine")
    values = sample.table.to_pydict()
    values["ash"][17] = None
    pq.write_table(pa.table(values), tmp_path / "in.parquet")
    batchscore.score(
        tmp_path / "in.parquet", tmp_path / "out.parquet",
        url=f"{kserve.url}/v1/models/wine:predict", features=sample.table.column_names,
        max_attempts=2,
    )  # fmt: skip
    out = pq.read_table(tmp_path / "out.parquet")
    errors = out["prediction_error"].to_pylist()
    assert [row for row, error in enumerate(errors) if error] == [17]
    assert errors[17].startswith("http_500: ")
    assert "NaN" in errors[17]


def test_a_wrong_model_is_refused_at_once(tmp_path, kserve):
    """With the status, before anything is scored."""
    with pytest.raises(RefusedError, match="404"):
        of(kserve, tmp_path, "nope", pa.table({"x": [1.0]}), features="x")
