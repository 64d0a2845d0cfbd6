"""The mlflow protocol: golden JSON and Parquet, without a network."""

import datetime as dt
import io
import json
from decimal import Decimal

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from batchscore.batches import RowBatch
from batchscore.errors import HTTPStatusError
from batchscore.protocols import protocol
from batchscore.protocols.base import Response, Treatment
from batchscore.schema import FeatureSpec, ModelSignature

NOON = dt.datetime(2024, 7, 1, 12, 30)  # noqa: DTZ001 - MLflow's have no zone
PARQUET = "application/vnd.apache.parquet"
URL = "http://h/invocations"
COLUMNS = pa.record_batch(
    {
        "n": pa.array([1, None]),
        "t": ['"é', None],
        "b": [True, None],
        "d": pa.array([NOON, None], pa.timestamp("us", "Asia/Tokyo")),
        "c": [Decimal("1.5"), None],
    }
)
SPECS = (
    FeatureSpec("n", "numeric", (1,)),
    FeatureSpec("t", "text", (1,)),
    FeatureSpec("b", "numeric", (1,), datatype="bool"),
    FeatureSpec("d", "text", (1,), datatype="datetime"),
    FeatureSpec("c", "numeric", (1,)),
)
NOT_TAKEN = HTTPStatusError(415, "This predictor only supports ...")


def encoded(speaks, columns=COLUMNS, specs=SPECS):
    encoder = speaks.encoder(ModelSignature(specs, ()), list(columns.schema), None)
    return encoder.encode(RowBatch(columns))


def test_a_data_frame_is_parquet_first():
    """Plain numbers, times without a zone, decimals as doubles; nulls are nulls."""
    speaks = protocol("mlflow")
    body = encoded(speaks).body(0, 2)
    table = pq.read_table(io.BytesIO(body))
    assert table.schema.types == [
        pa.int64(), pa.string(), pa.bool_(), pa.timestamp("us"), pa.float64(),
    ]  # fmt: skip
    first = {"n": 1, "t": '"é', "b": True, "d": NOON, "c": 1.5}
    assert table.to_pylist() == [first, dict.fromkeys(first)]
    request = speaks.score_request(URL, body)
    assert (request.method, request.url) == ("POST", URL)
    assert request.headers == {"Content-Type": PARQUET, "Accept": "application/json"}


def test_some_of_the_rows_are_parquet_too():
    """Isolation sends runs of rows."""
    rows = encoded(protocol("mlflow"))
    body = rows.body(1, 2)
    assert pq.read_table(io.BytesIO(body)).num_rows == 1
    assert rows.size(1, 2) == len(body)


def test_json_where_parquet_is_not_taken():
    """Golden body; all that is encoded later is JSON at once."""
    speaks = protocol("mlflow")
    rows, later = encoded(speaks), encoded(speaks)
    body = rows.body(0, 2)
    assert rows.fall_back(body, NOT_TAKEN)
    golden = (
        '{"dataframe_split":{"columns":["n","t","b","d","c"],"data":['
        '[1,"\\"é",true,"2024-07-01T12:30:00",1.5],[null,null,null,null,null]]}}'
    )
    assert rows.body(0, 2).decode() == golden
    assert speaks.score_request(URL, rows.body(0, 2)).headers["Content-Type"] == "application/json"
    assert encoded(speaks).body(0, 2).decode() == golden
    # What was under way then falls back by itself, once.
    assert later.fall_back(body, NOT_TAKEN)
    assert later.body(0, 2).decode() == golden
    assert not later.fall_back(later.body(0, 2), NOT_TAKEN)


@pytest.mark.parametrize(
    ("status", "words", "falls_back"),
    [
        (415, "", True),
        (400, "Content-Type 'x' is not supported", True),
        (400, "unsupported content type", True),
        (400, "could not convert string to float", False),
        (500, "UnicodeDecodeError", True),
        (503, "content type not supported", False),
    ],
)
def test_only_a_refused_content_type_is_a_reason(status, words, falls_back):
    """Bad rows stay bad rows."""
    rows = encoded(protocol("mlflow"))
    assert rows.fall_back(rows.body(0, 2), HTTPStatusError(status, words)) is falls_back


def test_a_500_is_about_rows_once_parquet_was_answered():
    """Until then it may be a server that cannot read it."""
    speaks = protocol("mlflow")
    rows = encoded(speaks)
    output = FeatureSpec("prediction", "numeric", (1,))
    decoder = speaks.decoder(ModelSignature((), (output,)), probs="struct")
    decoder.decode(Response(200, b'{"predictions": [1, 2]}'), 2)
    body = rows.body(0, 2)
    assert not rows.fall_back(body, HTTPStatusError(500, "no"))
    assert rows.fall_back(body, NOT_TAKEN)
    assert not encoded(speaks).body(0, 2).startswith(b"PAR1")


@pytest.mark.parametrize(
    ("name", "shape", "golden"),
    [
        ("0", (2,), b'{"inputs":[[1.0,2.0],[3.0,4.0]]}'),
        ("a", (2,), b'{"inputs":{"a":[[1.0,2.0],[3.0,4.0]]}}'),
        ("a", (1, 2), b'{"inputs":{"a":[[[1.0,2.0]],[[3.0,4.0]]]}}'),
    ],
)
def test_tensors_go_as_inputs(name, shape, golden):
    """As JSON always: a data frame holds no tensors."""
    columns = pa.record_batch({"x": pa.array([[1, 2], [3, 4]], pa.list_(pa.int64(), 2))})
    spec = FeatureSpec(name, "numpy", shape, datatype="float64")
    rows = encoded(protocol("mlflow"), columns, (spec,))
    assert rows.body(0, 2) == golden
    assert not rows.fall_back(golden, NOT_TAKEN)


def test_a_tensor_of_scalars_is_flat():
    """The shape ``[-1]`` has a number a row."""
    columns = pa.record_batch({"x": [1, None]})
    spec = FeatureSpec("0", "numpy", (), datatype="int64")
    assert encoded(protocol("mlflow"), columns, (spec,)).body(0, 2) == b'{"inputs":[1,null]}'


@pytest.mark.parametrize(
    ("url", "asked"),
    [
        ("http://h/invocations", "http://h/ping"),
        ("http://h/a/invocations/", "http://h/a/ping"),
        ("http://h/serving-endpoints/e/invocations", None),
        ("http://h/elsewhere", None),
    ],
)
def test_it_is_asked_whether_it_is_there(url, asked):
    """Databricks has no such place."""
    request = protocol("mlflow").metadata_request(url)
    assert (request and request.url) == asked


@pytest.mark.parametrize(
    ("status", "treatment"),
    [
        (400, Treatment.ISOLATE), (415, Treatment.ISOLATE), (500, Treatment.HALVE),
        (504, Treatment.RETRY), (429, Treatment.RETRY), (404, Treatment.STOP),
        (403, Treatment.STOP),
    ],
)  # fmt: skip
def test_what_a_status_means(status, treatment):
    """Every error of a model is 400."""
    assert protocol("mlflow").treatment(status) is treatment


@pytest.mark.parametrize(
    ("document", "words"),
    [
        (
            {"error_code": "BAD", "message": "It failed.", "stack_trace": "T\n  ...\nE: why\n"},
            "BAD: It failed.: E: why",
        ),
        ({"error_code": "BAD", "message": "why", "stack_trace": "E: why"}, "BAD: why: E: why"),
        ({"message": "Failed to predict data '[1, 2]'. \nError: why", "stack_trace": "x"}, "why"),
        ({"message": "Failed to predict data 'x'"}, "Failed to predict data 'x'"),
        (b"plain words", "plain words"),
    ],
)
def test_the_reason_is_told(document, words):
    """The last line of the trace, and what stands behind the repeated rows."""
    body = document if isinstance(document, bytes) else json.dumps(document).encode()
    assert protocol("mlflow").error_text(Response(400, body)) == words
