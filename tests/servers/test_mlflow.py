"""MLflow's scoring server: what docs/servers.md says of it is true, and its values are right."""

from __future__ import annotations

import base64
import io
import json
import re

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import requests
from servers import wire

PARQUET = "application/vnd.apache.parquet"
JSON = "application/json"


def parquet(table, **options):
    file = io.BytesIO()
    pq.write_table(table, file, **options)
    return file.getvalue()


def split(table):
    """The body of ``dataframe_split``; bytes as base64."""
    rows = [[base64.b64encode(cell).decode() if isinstance(cell, bytes) else cell
             for cell in row.values()] for row in table.to_pylist()]  # fmt: skip
    return {"dataframe_split": {"columns": table.column_names, "data": rows}}


def asked(server, body, content_type=JSON, **headers):
    sent = body if isinstance(body, bytes) else json.dumps(body).encode()
    return wire.post(server, "/invocations", sent, Content_Type=content_type, **headers)


def predictions(answer):
    assert answer.status_code == 200, answer.text
    assert answer.headers["Content-Type"] == JSON
    return answer.json()["predictions"]


@pytest.mark.parametrize("model", ["wine", "diabetes", "digits", "sentiment", "picture"])
def test_every_row_gets_the_models_own_word(mlflow, model):
    """Numbers, arrays, texts and pictures, as JSON and as Parquet."""
    server = mlflow(model)
    sample = server.sample(model)
    for answer in (
        asked(server, split(sample.table)),
        asked(server, parquet(sample.table), PARQUET),
    ):
        floats = isinstance(sample.predict[0], float)
        expected = pytest.approx(sample.predict, rel=1e-9) if floats else sample.predict
        assert predictions(answer) == expected


def test_a_model_without_a_signature_scores_the_same(mlflow):
    """Then the names and their order are the model's business."""
    server = mlflow("undeclared")
    sample = server.sample("diabetes")
    expected = pytest.approx(sample.predict, rel=1e-9)
    assert predictions(asked(server, parquet(sample.table), PARQUET)) == expected
    turned = sample.table.select(sample.table.column_names[::-1])
    assert asked(server, split(turned)).status_code == 400


def test_the_shapes_of_answers(mlflow):
    """A matrix is lists, a data frame objects, a dict of arrays one object of columns."""
    sample = mlflow("wine").sample("wine")
    flat = pytest.approx(wire.flat(sample.predict_proba), rel=1e-9, abs=1e-12)
    body = parquet(sample.table)
    matrix = predictions(asked(mlflow("wine_proba"), body, PARQUET))
    assert wire.flat(matrix) == flat
    frame = predictions(asked(mlflow("wine_frame"), body, PARQUET))
    assert [each["label"] for each in frame] == sample.predict
    assert [each["confidence"] for each in frame] == pytest.approx([max(row) for row in matrix])
    columns = predictions(asked(mlflow("wine_dict"), body, PARQUET))
    assert columns["predict"] == sample.predict
    assert wire.flat(columns["predict_proba"]) == flat


def test_a_prediction_that_no_json_number_holds_is_bare(mlflow):
    """``NaN``, ``-Infinity``, which not every reader of JSON takes."""
    server = mlflow("diabetes")
    names = server.sample("diabetes").table.column_names
    answer = asked(server, {"dataframe_split": {"columns": names, "data": [[1e308] * 10]}})
    assert answer.status_code == 200
    assert re.fullmatch(r'{"predictions": \[(NaN|-?Infinity)\]}', answer.text)


@pytest.mark.parametrize("compression", ["none", "snappy", "zstd"])
def test_parquet_may_be_compressed_and_its_answer_is_json(mlflow, compression):
    """Whatever ``Accept`` says."""
    server = mlflow("wine")
    sample = server.sample("wine")
    body = parquet(sample.table, compression=compression)
    assert predictions(asked(server, body, PARQUET, Accept=PARQUET)) == sample.predict


def test_the_other_forms_of_json(mlflow):
    """Records, and columns as ``inputs``; order and columns too many do not matter."""
    server = mlflow("wine")
    sample = server.sample("wine")
    table = sample.table
    assert predictions(asked(server, {"dataframe_records": table.to_pylist()})) == sample.predict
    assert predictions(asked(server, {"inputs": table.to_pydict()})) == sample.predict
    more = table.select(table.column_names[::-1]).append_column("more", table["ash"])
    assert predictions(asked(server, split(more))) == sample.predict
    assert predictions(asked(server, parquet(more), PARQUET)) == sample.predict


def test_a_tensor_signature_takes_inputs(mlflow):
    """Nested lists below ``inputs``; a nested column of a data frame is a 400."""
    server = mlflow("digits_tensor")
    sample = server.sample("digits")
    assert predictions(asked(server, {"inputs": sample.table["image"].to_pylist()})) == (
        sample.predict
    )
    assert asked(server, split(sample.table)).status_code == 400


def test_what_parquet_may_hold_for_a_double(mlflow):
    """``float`` is taken, ``int64`` and strings are refused: the schema is enforced."""
    server = mlflow("wine")
    table = server.sample("wine").table

    def status(kind):
        schema = pa.schema([(name, kind) for name in table.column_names])
        cast = table.cast(schema, safe=False)
        return asked(server, parquet(cast), PARQUET).status_code

    assert [status(kind) for kind in (pa.float32(), pa.int64(), pa.string())] == [200, 400, 400]


ROW = [1.0] * 13


@pytest.mark.parametrize(
    ("change", "status"),
    [
        ({"data": [[1] * 13]}, 200),
        ({"data": [[None, *ROW[1:]], ROW]}, 400),
        ({"data": [[float("nan"), *ROW[1:]]]}, 400),
        ({"data": [["abc", *ROW[1:]]]}, 400),
        ({"data": [ROW, ROW[1:]]}, 400),
        ({"data": []}, 400),
        ({"columns": ["nope"] * 13}, 400),
    ],
    ids=["integers", "null", "NaN", "text", "ragged", "no rows", "wrong names"],
)
def test_every_bad_row_is_400(mlflow, change, status):
    """With ``error_code`` and ``message``, and where the model failed its traceback."""
    server = mlflow("wine")
    names = server.sample("wine").table.column_names
    answer = asked(server, {"dataframe_split": {"columns": names, "data": [ROW], **change}})
    assert answer.status_code == status
    if status != 200:
        assert {"error_code", "message"} <= set(answer.json())


@pytest.mark.parametrize(
    ("body", "content_type", "status"),
    [
        (b"{", JSON, 400),
        (b'{"rows": []}', JSON, 400),
        (b"PAR1 and then nothing", PARQUET, 400),
        (b"x", "application/octet-stream", 415),
        (b"{}", None, 500),
    ],
    ids=["no JSON", "another key", "broken Parquet", "another type", "no type"],
)
def test_what_is_no_request_is_400_too(mlflow, body, content_type, status):
    """Only the content type has statuses of its own."""
    assert asked(mlflow("wine"), body, content_type).status_code == status


def test_a_null_text_and_a_broken_picture_are_400(mlflow):
    """Of texts and pictures."""
    assert asked(mlflow("sentiment"), split(pa.table({"text": [None]}))).status_code == 400
    assert asked(mlflow("picture"), split(pa.table({"picture": [b"AAAA"]}))).status_code == 400


def test_it_has_no_metadata_but_a_version(mlflow):
    """Neither ``/v2`` nor a schema; the ``MLmodel`` file has the signature."""
    server = mlflow("wine")

    def get(path):
        return requests.get(server.url + path, timeout=wire.TIMEOUT_S)

    assert [get(path).status_code for path in ("/v2", "/v1/models/wine", "/ping")] == [
        404,
        404,
        200,
    ]
    assert get("/version").text == "3.17.2"


def test_the_mlmodel_file_has_the_signature(servers, mlflow):
    """Names and types of the columns as JSON text in YAML."""
    text = (servers.mlflow_model("picture") / "MLmodel").read_text()
    assert """inputs: '[{"type": "binary", "name": "picture", "required": true}]'""" in text
