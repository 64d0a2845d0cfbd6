"""What the bases of protocols do for whoever writes one."""

import json

import numpy as np
import pyarrow as pa
import pytest

from batchscore.batches import RowBatch, RowFailure
from batchscore.errors import DecodeError, MetadataError, StoppedError
from batchscore.extending import FeatureSpec, ModelSignature, PlainProtocol, Response, Treatment
from batchscore.protocols.base import read_metadata

SIGNATURE = ModelSignature(
    (FeatureSpec("size", "numeric"), FeatureSpec("name", "text")),
    (FeatureSpec("price", "numeric"), FeatureSpec("kind", "categorical")),
)


class Lines(PlainProtocol):
    """A JSON value a line."""

    def encode(self, rows, signature):
        assert signature is SIGNATURE
        if any(row["name"] == "bad" for row in rows):
            raise ValueError("a bad name")
        if any(row["name"] == "bug" for row in rows):
            raise KeyError("bug")
        if any(row["name"] == "text" for row in rows):
            return json.dumps(rows)
        return b"\n".join(json.dumps(row).encode() for row in rows)

    def decode(self, response, signature):
        return [json.loads(line) for line in response.body.splitlines()]


def encoded(sizes, names, failures=None):
    columns = pa.RecordBatch.from_pydict({"size": sizes, "name": names})
    encoder = Lines().encoder(SIGNATURE, list(columns.schema), None)
    return encoder.encode(RowBatch(columns, failures or {}))


def test_rows_come_as_plain_values():
    """Numbers, texts and None, whatever the column; any run of them is encoded alike."""
    found = encoded([1.5, None, float("nan")], ["a", None, "c"])
    rows = [json.loads(line) for line in found.body(0, 3).splitlines()]
    assert rows == [
        {"size": 1.5, "name": "a"}, {"size": None, "name": None}, {"size": None, "name": "c"},
    ]  # fmt: skip
    assert found.nonfinite == 1
    assert json.loads(found.body(1, 2)) == rows[1]
    assert found.size(1, 2) == len(found.body(1, 2))
    assert found.size(0, 3) == len(found.body(0, 3))


def test_many_rows_are_those_of_few():
    """A long batch, which the rows protocol writes another way, gives the same values."""
    found = encoded(np.arange(500), [f"n{n}" for n in range(500)])
    rows = [json.loads(line) for line in found.body(0, 500).splitlines()]
    assert rows == [{"size": n, "name": f"n{n}"} for n in range(500)]


def test_a_row_that_cannot_be_encoded_fails_alone():
    """Rows at fault are found one by one; those the reader failed stay failed."""
    earlier = {1: RowFailure("invalid_input", "unreadable")}
    found = encoded([1, 2, 3, 4], ["a", "x", "bad", "d"], earlier)
    assert found.positions.tolist() == [0, 3]
    assert {row: str(why) for row, why in found.failures.items()} == {
        1: "invalid_input: unreadable",
        2: "invalid_input: a bad name",
    }
    assert [json.loads(line)["size"] for line in found.body(0, 2).splitlines()] == [1, 4]


def test_rows_that_all_fail_leave_nothing_to_send():
    """A batch of bad rows alone is no request."""
    found = encoded([1], ["bad"])
    assert (found.positions.tolist(), list(found.failures)) == ([], [0])


def test_a_mistake_in_encode_stops_the_job():
    """What is no ValueError is the protocol's own fault, and is told as such."""
    with pytest.raises(StoppedError, match="the protocol Lines cannot encode rows: KeyError"):
        encoded([1], ["bug"])
    with pytest.raises(StoppedError, match=r"encode\(\) gave a str, not bytes"):
        encoded([1], ["text"])


def answer(*rows) -> Response:
    return Response(200, b"\n".join(json.dumps(row).encode() for row in rows))


def test_answers_become_columns_with_learned_classes():
    """Classes are learned from the first answer, as with the rows protocol."""
    protocol = Lines()
    assert not protocol.is_complete(SIGNATURE)
    good = answer({"price": 1, "kind": {"b": 0.75, "a": 0.25}}, {"price": None, "kind": None})
    signature = protocol.learn(SIGNATURE, good, 2)
    assert signature.outputs[1].classes == ("a", "b")
    decoder = protocol.decoder(signature, probs="struct")
    assert [field.name for field in decoder.fields] == ["price", "kind", "kind_probs"]
    price, kind, probs = decoder.decode(good, 2)
    assert price.to_pylist() == [1.0, None]
    assert kind.to_pylist() == ["b", None]
    assert probs.to_pylist() == [{"a": 0.25, "b": 0.75}, None]


@pytest.mark.parametrize(
    ("response", "words"),
    [
        (Response(200, b"<html>"), "cannot be read: Expecting value"),
        (answer({"kind": None}), "no output 'price'"),
        (answer(5), "gave a int for a row, no mapping"),
        (answer({"price": 1}, {"price": 2}), "2 rows, 1 were sent"),
        (answer({"price": "1", "kind": None}), "'1' is no number"),
    ],
)
def test_an_answer_that_is_none_is_the_servers_error(response, words):
    """Whatever decode stumbles over can be retried."""
    signature = ModelSignature(SIGNATURE.inputs, (FeatureSpec("price", "numeric"),))
    with pytest.raises(DecodeError, match=words):
        Lines().decoder(signature, probs="none").decode(response, 1)


def test_statuses_and_words_have_defaults_that_a_protocol_moves():
    """The contract's table, and the words of servers people run."""

    class Fussy(Lines):
        refused = frozenset({400, 500})

    statuses = (400, 422, 429, 500, 503, 404)
    assert [Lines().treatment(status) for status in statuses] == [
        Treatment.ISOLATE, Treatment.ISOLATE, Treatment.RETRY, Treatment.RETRY, Treatment.RETRY,
        Treatment.STOP,
    ]  # fmt: skip
    assert Fussy().treatment(500) is Treatment.ISOLATE
    assert Fussy().treatment(422) is Treatment.STOP
    for body, words in (
        (b'{"error": "no"}', "no"),
        (b'{"error_code": "BAD", "message": "no"}', "BAD: no"),
        (b'{"detail": [1]}', '{"detail": [1]}'),
        (b"plain", "plain"),
        (b"", "the server answered 400 without a word"),
    ):
        assert Lines().error_text(Response(400, body)) == words


def test_a_signature_comes_from_the_server_or_the_protocol():
    """One without either says so; one that cannot be read is no specification."""

    class Knows(Lines):
        signature = SIGNATURE

    class Wrong(Lines):
        signature = (FeatureSpec("x", "numeric"),)

    class Asks(Lines):
        def parse_metadata(self, response):
            return ModelSignature((FeatureSpec("x", response.body.decode()),), ())

    assert read_metadata(Knows(), None) is SIGNATURE
    with pytest.raises(MetadataError, match="neither a metadata_request nor a signature"):
        read_metadata(Lines(), None)
    with pytest.raises(MetadataError, match="it became a tuple, no ModelSignature"):
        read_metadata(Wrong(), None)
    with pytest.raises(MetadataError, match="reads no specification"):
        read_metadata(Lines(), Response(200, b""))
    with pytest.raises(MetadataError, match="as Asks has it: ValueError: .*'float' is no type"):
        read_metadata(Asks(), Response(200, b"float"))


def test_features_are_told_by_name():
    """A type alone is a scalar; a type that there is not is refused at once."""
    found = ModelSignature.of({"a": "numeric", "b": ("numeric", [8, 8])}, {"y": "categorical"})
    assert found == ModelSignature(
        (FeatureSpec("a", "numeric"), FeatureSpec("b", "numeric", (8, 8))),
        (FeatureSpec("y", "categorical"),),
    )
    with pytest.raises(ValueError, match="feature 'a': 'float' is no type; there are numeric"):
        ModelSignature.of({"a": "float"}, {})
