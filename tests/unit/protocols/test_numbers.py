"""Answers of one number a row, read in one piece."""

import json

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from batchscore.protocols.numbers import NumberAnswers

NUMBERS = st.lists(st.none() | st.floats(allow_nan=False, allow_infinity=False), min_size=1)
SPACES = st.sampled_from(["", " ", "\n\t "])


@given(NUMBERS, st.text(min_size=1, max_size=3), st.data())
def test_numbers_are_read_however_the_answer_is_spaced(numbers, name, data):
    """Every number and null comes back, for any key and the same spaces throughout."""
    space = [data.draw(SPACES) for _ in range(8)]
    key = json.dumps(name, ensure_ascii=False).encode("utf-8", "surrogatepass").decode(
        "utf-8", "replace"
    )  # fmt: skip
    rows = f"{space[0]},{space[1]}".join(
        f"{{{space[2]}{key}{space[3]}:{space[4]}{json.dumps(number)}{space[5]}}}"
        for number in numbers
    )
    body = f'{{{space[6]}"rows":[{space[7]}{rows}{space[7]}]{space[6]}}}'.encode()
    found = NumberAnswers(json.loads(key)).decode(body)
    if msgspec.json.encode(json.loads(key)).decode() == key:
        assert found == numbers


@pytest.mark.parametrize(
    "body",
    [
        b"",
        b"[]",
        b'{"rows":[]}',
        b'{"rows":[{"y":1,2}]}',
        b'{"rows":[{"y":1},2]}',
        b'{"rows":[{"y":1},{"y":2,3}]}',
        b'{"rows":[{"y":1,"z":2}]}',
        b'{"rows":[{"y":{"y":1}}]}',
        b'{"rows":[{"y":[1]}]}',
        b'{"rows":[{"y":"1"},{"y":2}]}',
        b'{"rows":[{"y":true}]}',
        b'{"rows":[{"y":NaN}]}',
        b'{"rows":[{"y":1}, {"y":2},{"y":3}]}',
        b'{"rows":[{"y":1}],"more":[{"y":2}]}',
        b'{"rows":[{"y":1}]} {"rows":[{"y":1}]}',
        b'{"rows":[{"z":1}]}',
        b'{"rows":[{"y":1}',
        b'{"rows":[{"y":\xff}]}',
        b'{"rows":[{"y":1},{"y":}]}',
    ],
)
def test_every_other_answer_is_left_to_the_general_reader(body):
    """What is not just numbers in equal rows is never taken for it."""
    assert NumberAnswers("y").decode(body) is None


@given(st.text('{}[]:,"rowsy 1.2e', max_size=40))
def test_what_is_read_is_what_json_says(text):
    """No text is read as numbers that a JSON parser does not find there."""
    for body in (text, f'{{"rows":[{{"y":{text}}}]}}', f'{{"rows":[{{"y":1}},{text}]}}'):
        found = NumberAnswers("y").decode(body.encode())
        if found is not None:
            assert json.loads(body) == {"rows": [{"y": number} for number in found]}
