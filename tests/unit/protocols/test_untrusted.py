"""JSON of a server that may be hostile: what it may become in memory is bounded."""

import json
import tracemalloc

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from batchscore.errors import DecodeError
from batchscore.protocols import untrusted
from batchscore.protocols.base import Response
from batchscore.protocols.rows import RowsProtocol
from batchscore.protocols.untrusted import check_values, most_values, parse_json
from batchscore.schema import FeatureSpec, ModelSignature

NUMBER = FeatureSpec("y", "numeric", (1,))
MODEL = ModelSignature((FeatureSpec("x", "numeric", (1,)),), (NUMBER,))


def count(value: object) -> int:
    """The values of a document that stand in an object or array, and the containers."""
    if isinstance(value, dict):
        return 1 + max(0, len(value) - 1) + sum(map(count, value.values()))
    if isinstance(value, list):
        return 1 + max(0, len(value) - 1) + sum(map(count, value))
    return 0


@given(
    st.recursive(
        st.text(alphabet='",[{\\a\n') | st.integers() | st.none(),
        lambda inner: st.lists(inner) | st.dictionaries(st.text(alphabet='",[{\\a'), inner),
    )
)
def test_values_are_counted_whatever_stands_in_text(monkeypatch_blocks, document):
    """Commas and brackets in text count nothing, wherever a block ends."""
    body = json.dumps(document).encode()
    expected = count(document)
    for block_bytes in (1, 2, 3, 7, 2**20):
        monkeypatch_blocks(block_bytes)
        check_values(body, expected)
        if expected:
            with pytest.raises(DecodeError, match=f"more than {expected - 1} values"):
                check_values(body, expected - 1)


@pytest.fixture(scope="module")
def monkeypatch_blocks():
    """Sets how much is looked at at once."""
    with pytest.MonkeyPatch.context() as patch:
        yield lambda size: patch.setattr(untrusted, "_BLOCK_BYTES", size)


@pytest.mark.parametrize("unit", [b"{},", b"[],", b'{"y":1},', b"1,", b'"a",', b"["])
@pytest.mark.parametrize("status", [200, 500])
def test_an_answer_of_millions_of_values_does_not_become_objects(unit, status):
    """Neither predictions nor the words of an error are decoded beyond what was asked for."""
    body = b'{"rows":[' + unit * (8 * 2**20 // len(unit)) + b"1]}"
    protocol = RowsProtocol()
    response = Response(status, body, {})
    tracemalloc.start()
    try:
        if status == 200:
            with pytest.raises(DecodeError, match="more than 250008 values"):
                protocol.decoder(MODEL, probs="struct").decode(response, 1)
            with pytest.raises(DecodeError, match="more than 250008 values"):
                protocol.learn(MODEL, response, 1)
        else:
            assert protocol.error_text(response).startswith('{"rows":[')
        assert tracemalloc.get_traced_memory()[1] < 12 * len(body)
    finally:
        tracemalloc.stop()


def test_text_full_of_commas_is_an_answer_like_others():
    """A text prediction may hold as many commas and brackets as it likes."""
    text = ',[{"' * 200_000
    body = msgspec.json.encode({"rows": [{"y": text}]})
    spec = FeatureSpec("y", "text", (1,))
    decoder = RowsProtocol().decoder(ModelSignature(MODEL.inputs, (spec,)), probs="struct")
    assert decoder.decode(Response(200, body, {}), 1)[0].to_pylist() == [text]


@pytest.mark.parametrize(
    ("spec", "value"),
    [
        (FeatureSpec("y", "numpy", (40, 50, 3)), {"shape": [40, 50, 3], "data": [0.5] * 6000}),
        (FeatureSpec("y", "numpy", (3000, 2)), [[[0.5], [1.5]]] * 3000),
        (
            FeatureSpec("y", "categorical", classes=tuple(f"c{n}" for n in range(2000))),
            {f"c{n}": 0.5 for n in range(2000)},
        ),
    ],
)
def test_large_answers_of_the_expected_size_pass(spec, value):
    """Big arrays and thousands of classes are what was asked for."""
    rows = 150
    check_values(msgspec.json.encode({"rows": [{"y": value}] * rows}), most_values([spec], rows))


@pytest.mark.parametrize("opening", [b"[", b'{"a":'])
@pytest.mark.parametrize("start", [b"", b'{"rows":[{"y":'])
def test_deep_nesting_is_no_answer(opening, start):
    """Brackets within brackets end in an error of the answer, not of the interpreter."""
    body = start + opening * 100_000
    with pytest.raises(DecodeError, match="no JSON"):
        parse_json(body)
    with pytest.raises(DecodeError, match="no JSON"):
        RowsProtocol().decoder(MODEL, probs="struct").decode(Response(200, body, {}), 1)
    words = RowsProtocol().error_text(Response(500, body, {}))
    assert words.startswith((start + opening).decode())
