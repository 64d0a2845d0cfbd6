"""The instances protocol: golden JSON, without a network."""

import json
import math
from decimal import Decimal

import pyarrow as pa
import pytest
from hypothesis import given
from hypothesis import strategies as st

from batchscore.batches import RowBatch, RowFailure
from batchscore.config import EndpointConfig
from batchscore.errors import DecodeError, InputError, UsageError
from batchscore.protocols import protocol, recognised
from batchscore.protocols.base import Response, Treatment
from batchscore.schema import UNTYPED_KEY, FeatureSpec, ModelSignature

KSERVE = "https://host/v1/models/m:predict"
NUMBER = FeatureSpec("x", "numeric", (1,))


def instances(*, classes=(), **table):
    config = EndpointConfig(url=KSERVE, classes=classes, instances=table)
    return protocol("instances", config)


def encoded(speaks, columns, *specs):
    encoder = speaks.encoder(ModelSignature(specs, ()), list(columns.schema), None)
    return encoder.encode(RowBatch(columns))


def body(speaks, columns, *specs) -> bytes:
    rows = encoded(speaks, columns, *specs)
    return rows.body(0, len(rows.positions))


def answer(document) -> Response:
    found = document if isinstance(document, bytes) else json.dumps(document).encode()
    return Response(200, found)


TWO = pa.record_batch({"a": pa.array([1, None]), "b": ['"é', None]})
TWO_SPECS = (FeatureSpec("a", "numeric", (1,)), FeatureSpec("b", "text", (1,)))
ONE = pa.record_batch({"x": [0.5, math.nan, None]})


@pytest.mark.parametrize(
    ("table", "columns", "specs", "golden"),
    [
        ({}, TWO, TWO_SPECS, '{"instances":[{"a":1,"b":"\\"é"},{"a":null,"b":null}]}'),
        ({"row": "list"}, TWO, TWO_SPECS, '{"instances":[[1,"\\"é"],[null,null]]}'),
        ({}, ONE, (NUMBER,), '{"instances":[0.5,null,null]}'),
        ({"row": "list"}, ONE, (NUMBER,), '{"instances":[[0.5],[null],[null]]}'),
        ({"row": "object"}, ONE, (NUMBER,), '{"instances":[{"x":0.5},{"x":null},{"x":null}]}'),
        ({"columnar": True}, ONE, (NUMBER,), '{"inputs":[0.5,null,null]}'),
        (
            {"columnar": True, "row": "object"}, ONE, (NUMBER,),
            '{"inputs":{"x":[0.5,null,null]}}',
        ),
        ({"columnar": True}, TWO, TWO_SPECS, '{"inputs":{"a":[1,null],"b":["\\"é",null]}}'),
        ({"request_key": ""}, ONE, (NUMBER,), "[0.5,null,null]"),
        ({"request_key": None}, ONE, (NUMBER,), "[0.5,null,null]"),
        (
            {"extra": {"parameters": {"k": 5}}}, ONE, (NUMBER,),
            '{"instances":[0.5,null,null],"parameters":{"k":5}}',
        ),
    ],
)  # fmt: skip
def test_rows_are_written_as_the_table_says(table, columns, specs, golden):
    """Golden bodies of all forms."""
    assert body(instances(**table), columns, *specs).decode() == golden


def test_some_of_the_rows_have_a_body_too():
    """Isolation sends runs of rows; each is the JSON of these rows alone."""
    rows = encoded(instances(), TWO, *TWO_SPECS)
    assert rows.body(1, 2) == b'{"instances":[{"a":null,"b":null}]}'
    assert rows.size(1, 2) == len(rows.body(1, 2))
    assert rows.body(0, 2) == rows.body(0, 2)


def test_a_row_a_request():
    """Where a request is a row, more of them have no size that any limit admits."""
    rows = encoded(instances(single=True, request_key="input"), TWO, *TWO_SPECS)
    assert rows.body(1, 2) == b'{"input":{"a":null,"b":null}}'
    assert rows.size(0, 2) > 2**60
    assert rows.size(0, 1) == len(rows.body(0, 1))


def test_not_a_number_is_counted():
    """NaN is null and counted, null is not counted."""
    assert encoded(instances(), ONE, NUMBER).nonfinite == 1
    nested = pa.record_batch({"x": pa.array([[1.0, math.inf], None], pa.list_(pa.float64(), 2))})
    rows = encoded(instances(), nested, FeatureSpec("x", "numeric", (2,)))
    assert (rows.nonfinite, rows.body(0, 2)) == (1, b'{"instances":[[1.0,null],null]}')


def test_rows_that_cannot_be_sent_are_left_out():
    """The reader's failures and those of cells; positions tell where the others stand."""
    field = pa.field("x", pa.string(), metadata={UNTYPED_KEY: b"1"})
    columns = pa.record_batch([["1", "?", "3", "4e2", " "]], pa.schema([field]))
    encoder = instances().encoder(ModelSignature((NUMBER,), ()), [field], None)
    rows = encoder.encode(RowBatch(columns, {2: RowFailure("invalid_input", "ragged")}))
    assert rows.positions.tolist() == [0, 3, 4]
    assert rows.body(0, 3) == b'{"instances":[1.0,400.0,null]}'
    assert str(rows.failures[1]) == "invalid_input: column 'x': '?' is no number"
    assert str(rows.failures[2]) == "invalid_input: ragged"


@pytest.mark.parametrize(
    ("column", "datatype", "golden"),
    [
        (pa.array([2**63 - 1, None]), None, b"[9223372036854775807,null]"),
        (pa.array([2**64 - 1], pa.uint64()), None, b"[18446744073709551615]"),
        (pa.array([Decimal("1.10"), None]), None, b"[1.10,null]"),
        (pa.array([True, None]), None, b"[true,null]"),
        (pa.array([1, 0, None]), "bool", b"[true,false,null]"),
        (pa.array([1.0, None]), "int64", b"[1,null]"),
        (pa.array([1, None]), "float64", b"[1.0,null]"),
        (pa.array([0.1], pa.float32()), None, b"[0.10000000149011612]"),
        (pa.array([0.1]), "float32", b"[0.10000000149011612]"),
        (pa.array([1.5], pa.float16()), None, b"[1.5]"),
        (pa.array([None, None]), None, b"[null,null]"),
        (pa.array([None, None]), "int64", b"[null,null]"),
        (pa.array([2.5, 65520.0]), "float16", b"[2.5]"),
        (pa.array(["1", "2"]).dictionary_encode(), None, None),
    ],
)
def test_numbers_have_every_digit_and_the_declared_type(column, datatype, golden):
    """Of integers, decimals and doubles; a typed string column is no number."""
    columns = pa.record_batch({"x": column})
    spec = FeatureSpec("x", "numeric", (1,), datatype=datatype)
    if golden is None:
        with pytest.raises(InputError):
            body(instances(), columns, spec)
    else:
        assert body(instances(request_key=""), columns, spec) == golden


@pytest.mark.parametrize(
    ("column", "datatype", "bad"),
    [
        (pa.array([1.5, 2.0, math.nan]), "int64", [0]),
        (pa.array([2.0**63, -(2.0**63), 1e300]), "int64", [0, 2]),
        (pa.array([300, -1, 255]), "uint8", [0, 1]),
        (pa.array([2**64 - 1, 5], pa.uint64()), "int64", [0]),
        (pa.array([2, 1, 0.5]), "bool", [0, 2]),
        (pa.array([Decimal("1.5"), Decimal("2.0")]), "int32", [0]),
    ],
)
def test_a_number_without_a_place_in_the_type_fails_its_row(column, datatype, bad):
    """Nothing is rounded or wrapped in silence."""
    columns = pa.record_batch({"x": column})
    rows = encoded(instances(), columns, FeatureSpec("x", "numeric", (1,), datatype=datatype))
    assert sorted(rows.failures) == bad


def test_a_datatype_that_is_none_is_refused():
    """As a file for --schema may have it."""
    with pytest.raises(InputError, match="'FP99'"):
        body(instances(), ONE, FeatureSpec("x", "numeric", (1,), datatype="FP99"))


@pytest.mark.parametrize(
    ("type_", "shape", "values", "golden"),
    [
        (pa.list_(pa.int64(), 2), (2,), [[1, 2], [3, 4]], b"[[1,2],[3,4]]"),
        (pa.list_(pa.int64(), 4), (2, 2), [[1, 2, 3, 4]], b"[[[1,2],[3,4]]]"),
        (pa.list_(pa.bool_(), 2), (2,), [[True, False]], b"[[true,false]]"),
        (pa.list_(pa.list_(pa.float32())), (1, 2), [[[0.5, 1]], None], b"[[[0.5,1.0]],null]"),
        (pa.list_(pa.int8()), (-1,), [[], [1], [2, None], None], b"[[],[1],[2,null],null]"),
        (pa.list_(pa.float16(), 1), (1, 1), [[1.5]], b"[[[1.5]]]"),
        (pa.int64(), (1, 1), [7, None], b"[[[7]],null]"),
        (pa.null(), (2, 2), [None], b"[null]"),
    ],
)
def test_arrays_are_nested_lists_of_their_own_numbers(type_, shape, values, golden):
    """Of the feature's shape, whichever form the column has."""
    columns = pa.record_batch({"x": pa.array(values, type_)})
    spec = FeatureSpec("x", "numeric", shape)
    assert body(instances(request_key=""), columns, spec) == golden


def test_arrays_in_a_declared_type():
    """A fraction has no place among integers; a wrong shape fails its row too."""
    columns = pa.record_batch({"x": [[1.0, 2.0], [1.5, 2.0], [1.0], None]})
    rows = encoded(instances(), columns, FeatureSpec("x", "numeric", (2,), datatype="int32"))
    assert rows.body(0, 2) == b'{"instances":[[1,2],null]}'
    assert sorted(rows.failures) == [1, 2]
    rows = encoded(instances(), columns, FeatureSpec("x", "numeric", (-1,), datatype="int32"))
    assert rows.body(0, 3) == b'{"instances":[[1,2],[1],null]}'
    assert sorted(rows.failures) == [1]


@given(st.lists(st.one_of(st.none(), st.floats(), st.integers(-(2**63), 2**63 - 1)), min_size=1))
def test_any_numbers_come_back_from_the_json(values):
    """What is finite is there to the last bit, and as many rows as there were."""
    is_whole = all(isinstance(value, int) for value in values if value is not None)
    if not is_whole:
        values = [None if value is None else float(value) for value in values]
    column = pa.array(values, pa.int64() if is_whole else pa.float64(), from_pandas=False)
    sent = json.loads(body(instances(), pa.record_batch({"x": column}), NUMBER))["instances"]
    finite = [
        value if value is not None and math.isfinite(value) else None
        for value in column.to_pylist()
    ]
    assert sent == finite


@pytest.mark.parametrize(
    ("url", "name"),
    [
        (KSERVE, "instances"),
        ("https://h/v1/projects/p/locations/l/endpoints/7:predict", "instances"),
        ("http://h/v1/models/m/versions/3:predict?x=1", "instances"),
        ("http://h/invocations", "mlflow"),
        ("http://h/serving-endpoints/e/invocations", "mlflow"),
        ("http://h/predict", None),
    ],
)
def test_the_address_shows_the_protocol(url, name):
    """By the end of its path."""
    assert recognised(url) == name


@pytest.mark.parametrize(
    ("url", "asked"),
    [
        (KSERVE, "https://host/v1/models/m"),
        ("http://h/a/v1/models/m/versions/3:predict", "http://h/a/v1/models/m/versions/3"),
        ("http://h/v1/models/m/labels/b:predict", "http://h/v1/models/m/labels/b"),
        ("https://h/v1/projects/p/locations/l/endpoints/7:predict", None),
        ("http://h/predict", None),
    ],
)
def test_a_model_is_asked_whether_it_is_there(url, asked):
    """Where KServe and TensorFlow Serving tell it; it tells no inputs and no outputs."""
    request = instances().metadata_request(url)
    assert (request and request.url) == asked
    assert instances().parse_metadata(answer({"ready": True})) == ModelSignature((), ())


@pytest.mark.parametrize(
    ("status", "treatment"),
    [
        (400, Treatment.ISOLATE), (422, Treatment.ISOLATE), (413, Treatment.ISOLATE),
        (500, Treatment.HALVE), (429, Treatment.RETRY), (502, Treatment.RETRY),
        (503, Treatment.RETRY), (401, Treatment.STOP), (404, Treatment.STOP),
    ],
)  # fmt: skip
def test_what_a_status_means(status, treatment):
    """These servers answer 500 to bad rows."""
    assert instances().treatment(status) is treatment


@pytest.mark.parametrize(
    ("document", "words"),
    [
        ({"error": "ValueError: no"}, "ValueError: no"),
        ({"error": {"code": 400, "message": "no", "status": "INVALID"}}, "no"),
        ({"detail": "no"}, "no"),
        ({"detail": [{"loc": ["x"], "msg": "a"}, {"msg": "b"}]}, "a; b"),
        ({"error_code": "BAD", "message": "no"}, "BAD: no"),
        (b"<html> no </html>", "<html> no </html>"),
        (b"", "the server answered 500 without a word"),
        ([[]], "[[]]"),
        (7, "7"),
        (b"[" * 500 + b'"deep"' + b"]" * 500, "[" * 199 + "\u2026"),
    ],
)
def test_the_servers_words_are_found(document, words):
    """Wherever KServe, Vertex, FastAPI and others put them."""
    response = answer(document)
    assert instances().error_text(Response(500, response.body)) == words


# Answers


def learned(speaks, document, rows):
    signature = speaks.learn(ModelSignature((NUMBER,), ()), answer(document), rows)
    return signature.outputs


def decoded(speaks, first, later, rows):
    outputs = learned(speaks, first, len(first["predictions"]))
    decoder = speaks.decoder(ModelSignature((NUMBER,), outputs), probs="struct")
    arrays = decoder.decode(answer(later), rows)
    return dict(zip([field.name for field in decoder.fields], arrays, strict=True))


@pytest.mark.parametrize(
    ("row", "spec"),
    [
        (1, FeatureSpec("prediction", "numeric", (1,))),
        (True, FeatureSpec("prediction", "numeric", (1,))),
        ("a", FeatureSpec("prediction", "text", (1,))),
        ([1, 2.5], FeatureSpec("prediction", "numeric", (2,), datatype="float64")),
        ([[1], [2]], FeatureSpec("prediction", "numeric", (2, 1), datatype="float64")),
        ([[1], [2, 3]], FeatureSpec("prediction", "text", (1,), datatype="json")),
        ([1, "a"], FeatureSpec("prediction", "text", (1,), datatype="json")),
        ([], FeatureSpec("prediction", "text", (1,), datatype="json")),
        ({"a": 1}, FeatureSpec("a", "numeric", (1,))),
        ({"a": None}, FeatureSpec("a", "text", (1,), datatype="json")),
        ({"a": {"b": "x"}}, FeatureSpec("a.b", "text", (1,))),
        ({"a": {}}, FeatureSpec("a", "text", (1,), datatype="json")),
    ],
)
def test_an_output_is_what_the_first_value_shows(row, spec):
    """Nulls before it are passed over."""
    speaks = instances()
    assert learned(speaks, {"predictions": [None, row]}, 2) == (spec,)
    assert speaks.is_complete(ModelSignature((), (spec,)))


def test_an_answer_of_nulls_shows_nothing():
    """So the signature is not complete."""
    assert learned(instances(), {"predictions": [None, None]}, 2) == ()
    assert not instances().is_complete(ModelSignature((NUMBER,), ()))


@pytest.mark.parametrize(
    ("document", "words"),
    [
        ({"predictions": [1]}, "1 predictions, 2 rows"),
        ({"predictions": {"a": [1, 2], "b": [1]}}, "1 predictions, 2 rows"),
        ({"predictions": {"a": 1}}, "'a' are no list"),
        ({"predictions": 1}, "no list"),
        ({"error": "no"}, "no 'predictions': "),
        ([1, 2], "no 'predictions'"),
        (b"{", "no JSON"),
        ({"predictions": [{"a.b": 1, "a": {"b": 2}}, None]}, "the keys"),
        ({"predictions": [{}, {}]}, "the keys"),
        (b"[" * 100_000, "no JSON"),
        (b'{"predictions": [{"\\ud800": 1}, null]}', "the keys"),
    ],
)
def test_what_is_no_answer_is_refused(document, words):
    """Whatever it is, in words that say what came."""
    with pytest.raises(DecodeError, match=words.replace("[", r"\[")):
        learned(instances(), document, 2)


def test_an_answer_of_far_too_many_values_is_refused_unread():
    """The first answer is bounded too, though nothing is known of it yet."""
    huge = b'{"predictions":[[' + b"0," * 4_000_001 + b"0]]}"
    with pytest.raises(DecodeError, match="too many"):
        learned(instances(), huge, 1)


def test_a_dotted_key_leads_inside():
    """``result.rows`` is a key in a key."""
    speaks = instances(response_key="result.rows")
    assert learned(speaks, {"result": {"rows": [1]}}, 1)[0].kind == "number"
    with pytest.raises(DecodeError, match=r"no 'result\.rows'"):
        learned(speaks, {"result": [1]}, 1)


def test_classes_are_in_the_order_of_the_model():
    """A list of as many numbers is a category, and so is a mapping of just these keys."""
    speaks = instances(classes=["b", "a"])
    for first in ([0.9, 0.1], {"a": 0.1, "b": 0.9}):
        found = decoded(
            speaks, {"predictions": [first]}, {"predictions": [[0.2, 0.8], None, [None, 0.5]]}, 3
        )
        assert found["prediction"].to_pylist() == ["a", None, "a"]
        assert found["prediction_probs"].to_pylist() == [
            {"a": 0.8, "b": 0.2}, None, {"a": 0.5, "b": None},
        ]  # fmt: skip
    with pytest.raises(DecodeError, match="3 probabilities, there are 2 classes"):
        decoded(speaks, {"predictions": [[0.9, 0.1]]}, {"predictions": [[1, 2, 3]]}, 1)


@pytest.mark.parametrize("row", [1, "a", [1, 2, 3], {"x": 1}])
def test_classes_that_fit_no_output_are_an_error(row):
    """They were meant for something."""
    with pytest.raises(UsageError, match="--classes names 2 classes"):
        learned(instances(classes=["b", "a"]), {"predictions": [row]}, 1)


def test_bare_nan_is_understood():
    """Python servers send it."""
    found = decoded(instances(), {"predictions": [1]}, b'{"predictions": [NaN, -Infinity]}', 2)
    values = found["prediction"].to_pylist()
    assert math.isnan(values[0])
    assert values[1] == -math.inf


def test_a_key_named_as_the_nameless_output_is_an_output():
    """``{"prediction": 1}`` and a bare 1 are written to the same column, and told apart."""
    found = decoded(
        instances(), {"predictions": [{"prediction": 1}]}, {"predictions": [{"prediction": 2}]}, 1
    )
    assert found["prediction"].to_pylist() == [2.0]


def test_json_text_takes_whatever_comes():
    """What was no column of its own is never lost, and never fails."""
    found = decoded(
        instances(),
        {"predictions": [["a"]]},
        {"predictions": [{"x": [1, None]}, "é", None, 1.5]},
        4,
    )
    assert found["prediction"].to_pylist() == ['{"x":[1,null]}', '"é"', None, "1.5"]


def test_half_a_character_is_no_text():
    """JSON can spell what is no Unicode; no column can hold it."""
    for first in ("a", ["a"]):
        with pytest.raises(DecodeError, match="not valid Unicode"):
            decoded(instances(), {"predictions": [first]}, b'{"predictions": ["\\ud800"]}', 1)


@pytest.mark.parametrize(
    ("table", "words"),
    [
        ({"columnar": True, "single": True}, "columnar"),
        ({"columnar": True, "row": "list"}, "columnar"),
        ({"request_key": "", "extra": {"a": 1}}, "extra"),
        ({"extra": {"instances": 1}}, "'instances'"),
    ],
)
def test_a_table_that_makes_no_sense_is_refused(table, words):
    """Before anything is sent."""
    with pytest.raises(ValueError, match=words):
        instances(**table)
