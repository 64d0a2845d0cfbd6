"""The rows protocol: golden JSON, without a network."""

import json
from decimal import Decimal

import numpy as np
import pyarrow as pa
import pytest
from hypothesis import given
from hypothesis import strategies as st

from batchscore.batches import RowBatch, RowFailure
from batchscore.errors import DecodeError, MetadataError, ModelChangedError
from batchscore.protocols.base import Response
from batchscore.protocols.rows import RowsProtocol
from batchscore.schema import UNTYPED_KEY, FeatureSpec, ModelSignature

PROTOCOL = RowsProtocol()
UNTYPED = {UNTYPED_KEY: b"1"}


def specification(*, old_style=False, tensor_json=True):
    def feature(kind, shape):
        body = {"x-peltarion": {"type": kind, "shape": shape}}
        return {"extensions": body} if old_style else body

    path = {} if old_style else {"x-peltarion-tensorjson": tensor_json}
    return {
        "paths": {"/deployment/{deploymentId}/forward": path},
        "components": {
            "schemas": {
                "input-row": {
                    "properties": {"a": feature("numeric", [1]), "b": feature("text", [])}
                },
                "output-row-batch": {
                    "properties": {
                        "rows": {"properties": {"y": feature("numeric", [2, 2])}},
                    }
                },
            }
        },
    }


def answer(document) -> Response:
    body = document if isinstance(document, bytes) else json.dumps(document).encode()
    return Response(200, body)


def test_the_specification_stands_beside_the_score_address():
    """The specification is asked for where the API puts it."""
    request = PROTOCOL.metadata_request("https://host/deployment/17/forward")
    assert (request.method, request.url) == ("GET", "https://host/deployment/17/openapi.json")


@pytest.mark.parametrize("tensor_json", [True, False])
@pytest.mark.parametrize("old_style", [True, False])
def test_both_styles_of_specification_are_read(old_style, tensor_json):
    """Features are found in the new and the old place; the old style has no tensor JSON."""
    document = specification(old_style=old_style, tensor_json=tensor_json)
    signature = PROTOCOL.parse_metadata(answer(document))
    assert signature == ModelSignature(
        inputs=(FeatureSpec("a", "numeric", (1,)), FeatureSpec("b", "text", ())),
        outputs=(FeatureSpec("y", "numeric", (2, 2)),),
        tensor_json=tensor_json and not old_style,
    )
    assert [spec.kind for spec in signature.inputs] == ["number", "text"]
    assert signature.outputs[0].kind == "array"


@pytest.mark.parametrize(
    "document",
    [
        b"<html>",
        b"[]",
        {},
        {"paths": {}},
        {**specification(), "components": {"schemas": {}}},
        json.dumps(specification()).replace('"numeric"', '"hologram"').encode(),
        json.dumps(specification()).replace("[2, 2]", '"wide"').encode(),
    ],
)
def test_what_is_no_specification_is_told_apart(document):
    """A document that is no specification raises MetadataError, whatever it is."""
    with pytest.raises((MetadataError, ValueError)) as caught:
        PROTOCOL.parse_metadata(answer(document))
    assert isinstance(caught.value, MetadataError)


def encoder(columns: pa.RecordBatch, *specs: FeatureSpec, tensor_json=True):
    signature = ModelSignature(specs, (FeatureSpec("y", "numeric", ()),), tensor_json)
    return PROTOCOL.encoder(signature, list(columns.schema), None)


SCALARS = pa.record_batch(
    {
        "a": pa.array([1, None, 2**53 + 1]),
        "f": pa.array([0.1, float("nan"), float("-inf")]),
        "t": pa.array(['é"\\\n', None, ""]),
        "d": pa.array([Decimal("1.10"), None, Decimal("-99999999999999999.01")]),
        "c": pa.array(["x", "y", None]),
    }
)
SCALAR_SPECS = (
    FeatureSpec("a", "numeric", (1,)),
    FeatureSpec("f", "numeric", ()),
    FeatureSpec("the text", "text", ()),
    FeatureSpec("d", "numeric", ()),
    FeatureSpec("c", "categorical", ()),
)


def test_rows_are_written_as_the_api_reads_them():
    """Golden body: exact integers and decimals, null for what JSON cannot say."""
    encoded = encoder(SCALARS, *SCALAR_SPECS).encode(RowBatch(SCALARS))
    assert encoded.nonfinite == 2
    assert encoded.body(0, 3).decode() == (
        '{"rows":[{"a":1,"f":0.1,"the text":"é\\"\\\\\\n","d":1.10,"c":"x"},'
        '{"a":null,"f":null,"the text":null,"d":null,"c":"y"},'
        '{"a":9007199254740993,"f":null,"the text":"","d":-99999999999999999.01,"c":null}]}'
    )


def test_any_run_of_rows_can_be_sent_and_its_size_is_known():
    """A slice of encoded rows is the body of just these rows, and size tells its length."""
    encoded = encoder(SCALARS, *SCALAR_SPECS).encode(RowBatch(SCALARS))
    whole = json.loads(encoded.body(0, 3))["rows"]
    for start in range(3):
        for stop in range(start + 1, 4):
            body = encoded.body(start, stop)
            assert json.loads(body) == {"rows": whole[start:stop]}
            assert encoded.size(start, stop) == len(body)


def test_rows_that_failed_are_left_out_and_the_others_keep_their_place():
    """Failures of the reader and of a codec are told; positions say where the rest stands."""
    columns = pa.record_batch([["1", "x", "3", "4"]], schema=pa.schema([("a", pa.string())]))
    columns = pa.record_batch(
        columns.columns, schema=pa.schema([pa.field("a", pa.string(), metadata=UNTYPED)])
    )
    rows = RowBatch(columns, {3: RowFailure("invalid_input", "ragged")})
    encoded = encoder(columns, FeatureSpec("a", "numeric")).encode(rows)
    assert encoded.positions.tolist() == [0, 2]
    assert json.loads(encoded.body(0, 2)) == {"rows": [{"a": 1}, {"a": 3}]}
    assert encoded.failures[3] == RowFailure("invalid_input", "ragged")
    assert "'x'" in encoded.failures[1].text
    assert "'a'" in encoded.failures[1].text


def test_a_batch_without_rows_encodes_to_nothing():
    """Empty batches are no special case."""
    columns = SCALARS.slice(0, 0)
    encoded = encoder(SCALARS, *SCALAR_SPECS).encode(RowBatch(columns))
    assert encoded.positions.tolist() == []
    assert encoded.body(0, 0) == b'{"rows":[]}'


CAT = FeatureSpec("animal", "categorical", (2,), classes=("cat", "dog"))


def decode(document, *specs, rows=1, probs="struct"):
    decoder = PROTOCOL.decoder(ModelSignature((), specs), probs=probs)
    arrays = decoder.decode(answer(document), rows)
    return dict(zip([f.name for f in decoder.fields], (a.to_pylist() for a in arrays), strict=True))


def test_answers_become_columns():
    """Numbers, classes and their probabilities, text and arrays stand in their columns."""
    document = {
        "rows": [
            {
                "n": 0.25,
                "animal": {"dog": 0.9, "cat": 0.1},
                "t": "hello",
                "m": {"shape": [2, 2], "data": [1, 2, 3, 4]},
                "extra": [1],
            },
        ]
    }
    found = decode(
        document,
        FeatureSpec("n", "numeric"),
        CAT,
        FeatureSpec("t", "text"),
        FeatureSpec("m", "numeric", (2, 2)),
    )
    assert found["n"] == [0.25]
    assert found["animal"] == ["dog"]
    assert found["animal_probs"] == [{"cat": 0.1, "dog": 0.9}]
    assert found["t"] == ["hello"]
    assert np.array(found["m"]).ravel().tolist() == [1, 2, 3, 4]


def test_bare_nan_and_infinity_are_accepted():
    """Python servers send NaN and Infinity; they are numbers here."""
    spec = FeatureSpec("n", "numeric")
    found = decode(b'{"rows": [{"n": NaN}, {"n": -Infinity}]}', spec, rows=2)
    assert np.isnan(found["n"][0])
    assert found["n"][1] == float("-inf")


@pytest.mark.parametrize(
    ("body", "words"),
    [
        (b"<html>busy</html>", "busy"),
        (b"", "no JSON"),
        (b"[]", "no rows"),
        (b'{"rows": {}}', "no rows"),
        (b'{"errorCode": "E1", "errorMessage": "bad day"}', "E1: bad day"),
        (b'{"rows": []}', "0 rows, 2 were sent"),
        (b'{"rows": [{"n":1},{"n":1},{"n":1}]}', "3 rows, 2 were sent"),
        (b'{"rows": [{"n":1},{"m":1}]}', "'n'"),
        (b'{"rows": [{"n":1}, 7]}', "'n'"),
        (b'{"rows": [{"n":1},{"n":"x"}]}', "x"),
        (b'{"rows": [{"n":1},{"n":1}', "no JSON"),
        (b'{"rows": [{"n":1},{"n":"\xff"}]}', "no JSON"),
    ],
)
def test_an_answer_that_is_not_one_is_never_taken_for_predictions(body, words):
    """A body without as many good rows as were sent is the server's error, in its words."""
    with pytest.raises(DecodeError, match=words):
        decode(body, FeatureSpec("n", "numeric"), rows=2)


def test_classes_are_learned_from_the_first_answer():
    """Where the specification names no classes, the first answer's count, sorted."""
    signature = ModelSignature((), (FeatureSpec("animal", "categorical"),))
    assert not PROTOCOL.is_complete(signature)
    learned = PROTOCOL.learn(signature, answer({"rows": [{"animal": {"dog": 0.9, "cat": 0.1}}]}), 1)
    assert learned.outputs[0].classes == ("cat", "dog")
    assert PROTOCOL.is_complete(learned)


def test_a_class_that_is_new_means_that_the_model_changed():
    """A missing class is null; a new one stops the job by name."""
    assert decode({"rows": [{"animal": {"cat": 1.0}}]}, CAT)["animal_probs"] == [
        {"cat": 1.0, "dog": None}
    ]
    with pytest.raises(ModelChangedError, match="bird"):
        decode({"rows": [{"animal": {"cat": 0.5, "bird": 0.5}}]}, CAT)


@pytest.mark.parametrize(
    ("body", "text"),
    [
        (b'{"errorCode": "E1", "errorMessage": "bad day"}', "E1: bad day"),
        (b'{"errorMessage": "bad day"}', "bad day"),
        (b'{"detail": "x"}', '{"detail": "x"}'),
        (b"<html>\n\n<h1>502</h1>", "<html> <h1>502</h1>"),
        (b"", "the server answered 500 without a word"),
    ],
)
def test_the_servers_own_words_are_found(body, text):
    """ErrorMessage where there is one, else the beginning of the body."""
    assert PROTOCOL.error_text(Response(500, body)) == text


JSON_TEXT = st.text(st.characters(exclude_categories=["Cs"]))


@given(
    st.lists(
        st.tuples(
            st.floats(allow_nan=False, allow_infinity=False) | st.none(),
            st.integers(-(2**63), 2**63 - 1) | st.none(),
            JSON_TEXT | st.none(),
        )
    ),
    JSON_TEXT.filter(bool),
)
def test_values_survive_the_way_out_whatever_they_are(rows, name):
    """What a JSON parser reads from the body is what stood in the columns, bit for bit."""
    columns = pa.record_batch(
        {
            "f": pa.array([row[0] for row in rows], pa.float64()),
            "i": pa.array([row[1] for row in rows], pa.int64()),
            "t": pa.array([row[2] for row in rows], pa.string()),
        }
    )
    specs = (FeatureSpec("f", "numeric"), FeatureSpec("i", "numeric"), FeatureSpec(name, "text"))
    if name in {"f", "i"}:
        return
    encoded = encoder(columns, *specs).encode(RowBatch(columns))
    read = json.loads(encoded.body(0, len(rows)))["rows"]
    assert [tuple(row.values()) for row in read] == rows
    assert all(list(row) == ["f", "i", name] for row in read)
