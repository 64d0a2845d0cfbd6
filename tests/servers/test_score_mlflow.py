"""``score`` on MLflow's own server: every prediction is what the model itself says."""

from __future__ import annotations

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

import batchscore
from batchscore.errors import UsageError


def scored(tmp_path, server, table, *, path="/invocations", **options):
    """The output for a table, of which the report is kept beside."""
    pq.write_table(table, tmp_path / "in.parquet")
    report = batchscore.score(
        tmp_path / "in.parquet", tmp_path / "out.arrow", url=server.url + path, overwrite=True,
        keep="none", **options,
    )  # fmt: skip
    with pa.OSFile(str(tmp_path / "out.arrow")) as source, pa.ipc.open_file(source) as reader:
        out = reader.read_all()
    assert out["prediction_error"].null_count == len(out) == len(table), report
    return out


@pytest.mark.parametrize("model", ["wine", "diabetes", "digits", "sentiment", "picture"])
def test_every_row_gets_the_models_own_word(tmp_path, servers, mlflow, model):
    """Numbers, arrays, texts and pictures, with the MLmodel file as the schema."""
    server = mlflow(model)
    sample = server.sample(model)
    schema = servers.mlflow_model(model) / "MLmodel"
    out = scored(tmp_path, server, sample.table, schema=schema, batch_size=64)
    found = out["predicted_prediction"].to_pylist()
    floats = isinstance(sample.predict[0], float)
    assert found == (pytest.approx(sample.predict, rel=1e-9) if floats else sample.predict)


def test_a_model_without_a_signature_needs_features(tmp_path, servers, mlflow):
    """Its MLmodel says nothing, and the message says so."""
    server = mlflow("undeclared")
    sample = server.sample("diabetes")
    with pytest.raises(UsageError, match="without a signature"):
        scored(
            tmp_path, server, sample.table, schema=servers.mlflow_model("undeclared") / "MLmodel"
        )
    out = scored(tmp_path, server, sample.table, features=sample.table.column_names)
    assert out["predicted_prediction"].to_pylist() == pytest.approx(sample.predict, rel=1e-9)


def test_probabilities_become_the_class(tmp_path, mlflow):
    """A matrix with --classes, a data frame, a dict of arrays."""
    sample = mlflow("wine").sample("wine")
    options = {"features": sample.table.column_names}
    out = scored(tmp_path, mlflow("wine_proba"), sample.table, classes=sample.classes, **options)
    assert out["predicted_prediction"].to_pylist() == sample.predict
    for probs, wanted in zip(
        out["predicted_prediction_probs"].to_pylist(), sample.predict_proba, strict=True
    ):
        named = dict(zip(sample.classes, wanted, strict=True))
        assert probs == pytest.approx(named, rel=1e-9, abs=1e-12)
    out = scored(tmp_path, mlflow("wine_proba"), sample.table, **options)
    column = out["predicted_prediction"]
    assert column.type == pa.fixed_shape_tensor(pa.float64(), [3])
    for found, wanted in zip(column.to_pylist(), sample.predict_proba, strict=True):
        assert found == pytest.approx(wanted, rel=1e-9, abs=1e-12)
    out = scored(tmp_path, mlflow("wine_frame"), sample.table, **options)
    assert out["predicted_label"].to_pylist() == sample.predict
    out = scored(tmp_path, mlflow("wine_dict"), sample.table, classes=sample.classes, **options)
    assert out["predicted_predict"].to_pylist() == sample.predict
    assert out["predicted_predict_proba"].to_pylist() == sample.predict


def test_a_tensor_signature(tmp_path, servers, mlflow):
    """Its lone tensor has no name, and goes as nested lists."""
    server = mlflow("digits_tensor")
    sample = server.sample("digits")
    schema = servers.mlflow_model("digits_tensor") / "MLmodel"
    out = scored(tmp_path, server, sample.table, schema=schema, map={"0": "image"})
    assert out["predicted_prediction"].to_pylist() == sample.predict


@pytest.mark.parametrize("kind", [pa.int64(), pa.float32(), pa.decimal128(30, 4)])
def test_numbers_of_other_types_are_cast_to_the_models(tmp_path, servers, mlflow, kind):
    """MLflow itself refuses int64 for double; whole numbers score alike in all types."""
    server = mlflow("wine")
    schema = servers.mlflow_model("wine") / "MLmodel"
    table = server.sample("wine").table
    whole = pa.table({name: table[name].combine_chunks().cast(pa.int64(), safe=False)
                      for name in table.column_names})  # fmt: skip
    doubles = whole.cast(pa.schema([(name, pa.float64()) for name in whole.column_names]))
    wanted = scored(tmp_path, server, doubles, schema=schema)["predicted_prediction"]
    cast = whole.cast(pa.schema([(name, kind) for name in whole.column_names]))
    assert scored(tmp_path, server, cast, schema=schema)["predicted_prediction"] == wanted


def test_bad_rows_stand_alone(tmp_path, servers, mlflow):
    """Null is NaN to scikit-learn, which refuses a batch: that row alone fails, with its words."""
    server = mlflow("wine")
    sample = server.sample("wine")
    values = sample.table.to_pydict()
    for row in (5, 100):
        values["ash"][row] = None
    pq.write_table(pa.table(values), tmp_path / "in.parquet")
    batchscore.score(
        tmp_path / "in.parquet", tmp_path / "out.parquet", url=f"{server.url}/invocations",
        schema=servers.mlflow_model("wine") / "MLmodel",
    )  # fmt: skip
    out = pq.read_table(tmp_path / "out.parquet")
    errors = out["prediction_error"].to_pylist()
    assert [row for row, error in enumerate(errors) if error] == [5, 100]
    assert errors[5].startswith("http_400: ")
    assert "NaN" in errors[5]
    wanted = [None if row in (5, 100) else label for row, label in enumerate(sample.predict)]
    assert out["predicted_prediction"].to_pylist() == wanted


def test_csv_becomes_what_the_model_takes(tmp_path, servers, mlflow):
    """Text of CSV files, by the types of the MLmodel file."""
    import pyarrow.csv

    server = mlflow("diabetes")
    sample = server.sample("diabetes")
    pyarrow.csv.write_csv(sample.table, tmp_path / "in.csv")
    batchscore.score(
        tmp_path / "in.csv", tmp_path / "out.parquet", url=f"{server.url}/invocations",
        schema=servers.mlflow_model("diabetes") / "MLmodel",
    )  # fmt: skip
    found = pq.read_table(tmp_path / "out.parquet")["predicted_prediction"].to_pylist()
    assert found == pytest.approx(sample.predict, rel=1e-9)
