"""Numbers on the wire."""

from __future__ import annotations

import json
import math
from decimal import Decimal

import numpy as np
import pyarrow as pa
import pytest
from hypothesis import given
from hypothesis import strategies as st

from batchscore.codecs import input_codec, output_codec
from batchscore.errors import DecodeError, InputError
from batchscore.schema import FeatureSpec

NUMBER = FeatureSpec("size", "numeric", (1,))


@given(
    values=st.lists(st.none() | st.floats(), max_size=20),
    start=st.integers(0, 5),
    as_dictionary=st.booleans(),
)
def test_doubles_come_back_as_they_were_and_what_is_not_finite_as_null(
    encode, sent, values, start, as_dictionary
):
    """Every finite double survives encode, JSON and decode; NaN and infinities are counted."""
    column = pa.array(values, pa.float64())[start:]
    encoded = encode(NUMBER, column.dictionary_encode() if as_dictionary else column)
    (back,) = output_codec(NUMBER).decode(sent(encoded))
    kept = values[start:]
    assert back.type == pa.float64()
    assert back.to_pylist() == [v if v is not None and math.isfinite(v) else None for v in kept]
    assert encoded.nonfinite == sum(v is not None and not math.isfinite(v) for v in kept)
    assert not encoded.failures


@given(st.lists(st.none() | st.floats(width=32, allow_nan=False, allow_infinity=False)))
def test_single_precision_is_exact(encode, sent, values):
    """A float32 column arrives as the very numbers that it holds."""
    assert sent(encode(NUMBER, pa.array(values, pa.float32()))) == values


@given(st.lists(st.none() | st.floats(width=16, allow_nan=False, allow_infinity=False)))
def test_half_precision_is_exact(encode, sent, values):
    """A float16 column arrives as the very numbers that it holds."""
    assert sent(encode(NUMBER, pa.array(values, pa.float16()))) == values


@given(st.lists(st.none() | st.integers(-(2**63), 2**63 - 1)), st.integers(0, 3))
def test_integers_keep_every_digit(encode, sent, values, start):
    """Integers beyond 2**53 are not rounded, in slices and beside nulls either."""
    assert sent(encode(NUMBER, pa.array(values, pa.int64())[start:])) == values[start:]


@pytest.mark.parametrize(
    "type_",
    [
        pa.int8(), pa.int16(), pa.int32(), pa.int64(),
        pa.uint8(), pa.uint16(), pa.uint32(), pa.uint64(),
    ],
    ids=str,
)  # fmt: skip
def test_every_width_of_integer_is_sent(encode, sent, type_):
    """The greatest value of each integer type travels."""
    greatest = int(np.iinfo(type_.to_pandas_dtype()).max)
    assert sent(encode(NUMBER, pa.array([greatest, None, 0], type_))) == [greatest, None, 0]


@given(st.lists(st.none() | st.decimals(min_value=-(10**20), max_value=10**20, places=9)))
def test_decimals_keep_every_digit(encode, wire, values):
    """A decimal is sent as a JSON number of the same value."""
    text = wire(encode(NUMBER, pa.array(values, pa.decimal128(38, 9))))
    assert json.loads(text, parse_float=Decimal, parse_int=Decimal) == values


def test_booleans_are_sent_as_zero_and_one(encode, wire):
    """A model that takes numbers gets numbers."""
    assert wire(encode(NUMBER, pa.array([True, False, None]))) == "[1,0,null]"


@pytest.mark.parametrize("column", [pa.nulls(3), pa.nulls(3, pa.float64())], ids=["null", "f64"])
def test_a_column_of_nulls_is_sent_as_nulls(encode, wire, column):
    """A column without any value needs no type."""
    encoded = encode(NUMBER, column)
    assert wire(encoded) == "[null,null,null]"
    assert encoded.nonfinite == 0


@pytest.mark.parametrize("type_", [pa.null(), pa.int64(), pa.float64(), pa.bool_()], ids=str)
def test_an_empty_batch_is_no_trouble(encode, wire, type_):
    """No rows in, no values out."""
    assert wire(encode(NUMBER, pa.array([], type_))) == "[]"


@pytest.mark.parametrize(
    ("text", "json_text"),
    [
        ("12345678901234567890.10", "12345678901234567890.10"),
        ("-0", "-0"),
        ("0.10", "0.10"),
        (" 7 ", "7"),
        ("1e5", "1e5"),
        ("1.5E-07", "1.5E-07"),
        ("007", "7"),
        ("-007", "-7"),
        ("+5", "5"),
        (".5", "0.5"),
        ("5.", "5.0"),
        ("+1.5e3", "1500.0"),
        ("9" * 299, "9" * 299),
        ("9" * 305, "9" * 305),
        ("", "null"),
        ("  ", "null"),
        (None, "null"),
    ],
)
def test_numbers_in_untyped_text_travel_digit_for_digit(encode, wire, text, json_text):
    """What is a number to JSON is not touched; other spellings are converted; empty is null."""
    encoded = encode(NUMBER, pa.array([text], pa.string()), untyped=True)
    assert (wire(encoded), dict(encoded.failures), encoded.nonfinite) == (f"[{json_text}]", {}, 0)


@pytest.mark.parametrize(
    "text",
    ["nan", "NaN", "-nan", "inf", "+Inf", "-Infinity", "INFINITY", "1e999", "-1e999", "9" * 400,
     "9" * 5000],
)  # fmt: skip
def test_text_that_is_not_finite_goes_out_as_null(encode, wire, text):
    """NaN and infinities in text are null and counted, like those in float columns."""
    encoded = encode(NUMBER, pa.array(["1", text]), untyped=True)
    assert (wire(encoded), encoded.failures, encoded.nonfinite) == ("[1,null]", {}, 1)


@pytest.mark.parametrize(
    "text",
    ["abc", "1,5", "0x10", "1_000", "1 2", "--1", "1e", ".", "e5", "null", "\u0661", "1\n2", "½"],
)
def test_other_text_fails_its_row_alone(encode, sent, text):
    """A cell that is no number fails its row with its text; its neighbours are sent."""
    encoded = encode(NUMBER, pa.array(["0.5", text, None, "2"]), untyped=True)
    assert encoded.failures == {1: f"column 'x': {text!r} is no number"}
    values = sent(encoded)
    assert (values[0], values[2], values[3]) == (0.5, None, 2)


def test_a_long_cell_is_cut_in_the_message(encode):
    """A message shows about 40 characters of a cell."""
    encoded = encode(NUMBER, pa.array(["y" * 10_000]), untyped=True)
    assert encoded.failures[0] == f"column 'x': '{'y' * 39}…' is no number"


@given(st.lists(st.none() | st.text(max_size=8) | st.floats().map(repr) | st.integers().map(str)))
def test_whatever_stands_in_untyped_text_the_wire_is_json(encode, sent, texts):
    """Each untyped cell becomes a JSON number or null, or fails."""
    encoded = encode(NUMBER, pa.array(texts, pa.string()), untyped=True)
    for row, value in enumerate(sent(encoded)):
        if row not in encoded.failures and value is not None:
            text = texts[row].strip()  # float() itself leaves some of the spaces of Unicode
            assert value == float(text) or value == int(text)


def test_untyped_text_that_is_not_utf8_fails_its_row_alone(encode, sent):
    """Bytes that are no text fail one row."""
    column = pa.array([b"1", b"\xff", b" 2.50"]).view(pa.string())
    encoded = encode(NUMBER, column, untyped=True)
    assert list(encoded.failures) == [1]
    assert sent(encoded)[::2] == [1, 2.5]


@pytest.mark.parametrize(
    "type_",
    [
        pa.string(), pa.large_string(), pa.binary(), pa.timestamp("us"), pa.date32(),
        pa.list_(pa.float64()), pa.struct([("a", pa.int64())]),
        pa.dictionary(pa.int32(), pa.string()),
    ],
    ids=str,
)  # fmt: skip
def test_a_column_that_can_never_be_a_number_is_refused(type_):
    """A typed string column never serves a numeric feature, nor does a nested one."""
    with pytest.raises(InputError) as caught:
        input_codec(NUMBER, pa.field("height", type_), tensor_json=True, folder=None)
    for part in ("'height'", str(type_), "'size'", "numeric"):
        assert part in str(caught.value)


def test_answers_of_other_forms_are_numbers_too():
    """Booleans, integers beyond 2**53, NaN and wrapped numbers decode to float64."""
    wrapped = {"shape": [1], "data": [0.5]}
    (column,) = output_codec(NUMBER).decode([True, 2**60, None, [3], wrapped, 1.5])
    assert column.equals(pa.array([1.0, float(2**60), None, 3.0, 0.5, 1.5]))
    (column,) = output_codec(NUMBER).decode([math.nan, math.inf])
    assert math.isnan(column[0].as_py())
    assert column[1].as_py() == math.inf


@pytest.mark.parametrize(
    "value", ["1.5", {"a": 1}, [1, 2], {"shape": [2], "data": [1, 2]}, 10**400, [[]]], ids=str
)
def test_an_answer_that_is_no_number_is_a_decode_error(value):
    """Strings and arrays are not read as numbers."""
    with pytest.raises(DecodeError, match="'size'"):
        output_codec(NUMBER).decode([1.0, value])
