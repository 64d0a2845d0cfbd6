"""Text and categories on the wire."""

from __future__ import annotations

import json
import math
from datetime import UTC, date, datetime, time, timedelta
from decimal import Decimal

import pyarrow as pa
import pytest
from hypothesis import given
from hypothesis import strategies as st

from batchscore.codecs import input_codec, learn, output_codec
from batchscore.errors import DecodeError, InputError, ModelChangedError
from batchscore.schema import FeatureSpec

TEXT = FeatureSpec("note", "text")
LABEL = FeatureSpec("kind", "categorical")
ANIMAL = FeatureSpec("animal", "categorical", classes=("bird", "cat", "dog"))
BOTH = pytest.mark.parametrize("spec", [TEXT, LABEL], ids=["text", "category"])
STRING_TYPES = [pa.string(), pa.large_string(), pa.string_view()]


@given(
    values=st.lists(st.none() | st.text()),
    type_=st.sampled_from([*STRING_TYPES, pa.dictionary(pa.int32(), pa.string())]),
    start=st.integers(0, 3),
)
def test_text_comes_back_to_the_letter(encode, sent, values, type_, start):
    """Any Unicode text survives encode, JSON and decode, in slices and dictionaries too."""
    encoded = encode(TEXT, pa.array(values, pa.string()).cast(type_)[start:])
    (back,) = output_codec(TEXT).decode(sent(encoded))
    assert back.to_pylist() == values[start:]
    assert sent(encode(LABEL, pa.array(values, pa.string()).cast(type_)[start:])) == values[start:]


@BOTH
@pytest.mark.parametrize(
    ("column", "texts"),
    [
        (pa.array([3, -1, None], pa.int8()), ["3", "-1", None]),
        (pa.array([2**63 + 1], pa.uint64()), ["9223372036854775809"]),
        (pa.array([3.0, 0.1, None]), ["3", "0.1", None]),
        (pa.array([3.0, 0.1], pa.float32()), ["3", "0.1"]),
        (pa.array([3.0, 0.5], pa.float16()), ["3", "0.5"]),
        (pa.array([float(2**53 + 2), 1e30, -2.0]), ["9007199254740994", "1e+30", "-2"]),
        (pa.array([True, False, None]), ["true", "false", None]),
        (pa.array([Decimal("1.50")]), ["1.50"]),
        (pa.array(["", "a"]), ["", "a"]),
        (pa.nulls(2), [None, None]),
        (pa.nulls(2, pa.string()), [None, None]),
        (pa.array([], pa.string()), []),
        (pa.array([date(2024, 7, 1)]), ["2024-07-01"]),
        (pa.array([time(1, 2, 3)]), ["01:02:03.000000"]),
        (
            pa.array([datetime(2024, 7, 1, 12, 30, tzinfo=UTC)], pa.timestamp("s")),
            ["2024-07-01T12:30:00"],
        ),
        (
            pa.array([datetime(2024, 7, 1, 12, 30, 0, 5, tzinfo=UTC), None], pa.timestamp("us")),
            ["2024-07-01T12:30:00.000005", None],
        ),
        (
            pa.array([datetime(2024, 7, 1, 12, tzinfo=UTC)], pa.timestamp("ns", "UTC")),
            ["2024-07-01T12:00:00Z"],
        ),
        (
            pa.array([datetime(2024, 7, 1, 12, tzinfo=UTC)], pa.timestamp("ms", "-05:30")),
            ["2024-07-01T06:30:00-05:30"],
        ),
    ],
    ids=lambda value: str(value.type) if isinstance(value, pa.Array) else "",
)
def test_other_values_are_sent_as_their_text(encode, sent, spec, column, texts):
    """Numbers, booleans, dates and times have one text; a whole float is the integer it was."""
    encoded = encode(spec, column)
    assert (sent(encoded), dict(encoded.failures)) == (texts, {})


@BOTH
def test_floats_that_are_not_finite_have_no_text(encode, sent, spec):
    """NaN and infinities are null and counted; a null is not."""
    encoded = encode(spec, pa.array([math.nan, 1.0, math.inf, None]))
    assert (sent(encoded), encoded.nonfinite) == ([None, "1", None, None], 2)


@pytest.mark.parametrize("type_", [pa.binary(), pa.large_binary(), pa.binary_view()], ids=str)
def test_binary_text_must_be_utf8(encode, sent, type_):
    """Bytes serve a text feature where they are UTF-8; where not, that row fails."""
    column = pa.array(["å".encode(), b"a\xff", None, b""]).cast(type_)
    encoded = encode(TEXT, column)
    assert encoded.failures == {1: "column 'x': byte 1 of the cell is not UTF-8"}
    assert sent(encoded)[2:] == [None, ""]
    assert sent(encoded)[0] == "å"


@BOTH
@pytest.mark.parametrize("type_", [pa.string(), pa.large_string()], ids=str)
def test_a_string_that_is_not_utf8_fails_its_row_alone(encode, sent, spec, type_):
    """Arrow files may hold broken strings; the other rows are sent."""
    raw = pa.array([b"a", b"\xff", b"b"], pa.binary())
    column = (
        raw.cast(pa.large_binary()).view(type_) if type_ == pa.large_string() else raw.view(type_)
    )
    encoded = encode(spec, column[1:])
    assert list(encoded.failures) == [0]
    assert sent(encoded)[1] == "b"


@BOTH
@pytest.mark.parametrize(
    "type_",
    [pa.list_(pa.string()), pa.struct([("a", pa.string())]), pa.map_(pa.string(), pa.string()),
     pa.duration("s")],
    ids=str,
)  # fmt: skip
def test_nested_columns_are_never_text(spec, type_):
    """A nested column is refused with its name, its type and the feature's."""
    with pytest.raises(InputError) as caught:
        input_codec(spec, pa.field("height", type_), tensor_json=True, folder=None)
    for part in ("'height'", str(type_), repr(spec.name)):
        assert part in str(caught.value)


def test_bytes_are_never_labels():
    """A binary column does not serve a categorical feature."""
    with pytest.raises(InputError, match="binary"):
        input_codec(LABEL, pa.field("x", pa.binary()), tensor_json=True, folder=None)


@pytest.mark.parametrize("value", [1, 1.5, True, ["a"], {"a": "b"}, "\ud800"], ids=repr)
def test_an_answer_that_is_no_text_is_a_decode_error(value):
    """A number is not read as text, nor is half a surrogate pair."""
    with pytest.raises(DecodeError, match="'note'"):
        output_codec(TEXT).decode(["fine", value])


PROBS = st.floats(0, 1)


@given(
    rows=st.lists(
        st.none() | st.fixed_dictionaries({"bird": PROBS, "cat": PROBS, "dog": PROBS}), max_size=8
    )
)
def test_probabilities_come_back_and_the_first_of_the_greatest_is_the_label(rows):
    """Struct and list form hold the numbers of the answer; a null answer is null."""
    answer = json.loads(json.dumps(rows))
    labels, structs = output_codec(ANIMAL).decode(answer)
    assert structs.to_pylist() == rows
    assert labels.to_pylist() == [row and max(sorted(row), key=row.__getitem__) for row in rows]
    again, lists = output_codec(ANIMAL, probs="list").decode(answer)
    assert again.equals(labels)
    assert lists.to_pylist() == [
        row and [{"label": name, "prob": row[name]} for name in sorted(row)] for row in rows
    ]
    (alone,) = output_codec(ANIMAL, probs="none").decode(answer)
    assert alone.equals(labels)


@given(st.lists(st.dictionaries(st.sampled_from(["bird", "cat", "dog"]), st.none() | PROBS)))
def test_classes_that_are_missing_are_null(rows):
    """A class that an answer leaves out, or says null of, has no probability."""
    labels, structs = output_codec(ANIMAL).decode(rows)
    full = [{name: row.get(name) for name in ("bird", "cat", "dog")} for row in rows]
    assert structs.to_pylist() == full
    for label, row in zip(labels.to_pylist(), full, strict=True):
        known = {name: prob for name, prob in row.items() if prob is not None}
        assert label == (max(known, key=known.__getitem__) if known else None)


def test_the_fields_of_each_form_are_those_of_the_arrays():
    """What is announced is what is decoded, also of no rows at all."""
    for probs in ("struct", "list", "none"):
        codec = output_codec(ANIMAL, probs=probs)
        for rows in ([], [{"cat": 1.0}], [{"bird": 0.1, "cat": 0.2, "dog": 0.7}], [None]):
            arrays = codec.decode(rows)
            assert [array.type for array in arrays] == [field.type for field in codec.fields]
            assert all(len(array) == len(rows) for array in arrays)
            for array in arrays:
                array.validate(full=True)
    assert [field.name for field in output_codec(ANIMAL).fields] == ["", "_probs"]
    assert [field.name for field in output_codec(ANIMAL).fields[1].type] == ["bird", "cat", "dog"]


def test_probabilities_that_are_nan_stay_nan_and_never_win():
    """A server that answers NaN loses nothing."""
    rows = [{"bird": math.nan, "cat": 0.1, "dog": 0.2}, dict.fromkeys(ANIMAL.classes, math.nan)]
    labels, structs = output_codec(ANIMAL).decode(rows)
    assert labels.to_pylist() == ["dog", None]
    assert math.isnan(structs[0].as_py()["bird"])
    labels, _ = output_codec(ANIMAL).decode(
        [{"bird": math.nan, "cat": -math.inf, "dog": -math.inf}]
    )
    assert labels.to_pylist() == ["cat"]


@pytest.mark.parametrize(
    "answer",
    [
        {"bird": 1, "cat": 0, "cow": 0},
        dict.fromkeys(["bird", "cat", "dog", "cow"], 0.25),
        {"cow": 1.0},
        "cow",
    ],
    ids=str,
)
def test_a_class_that_is_new_means_that_the_model_changed(answer):
    """The job must stop: the columns that it writes have no place for the class."""
    with pytest.raises(ModelChangedError, match=r"'cow'.*'bird', 'cat', 'dog'"):
        output_codec(ANIMAL).decode([{"bird": 1, "cat": 0, "dog": 0}, answer])


@pytest.mark.parametrize(
    "answer",
    [1, ["cat"], {"cat": "0.5"}, {"cat": True}, {"bird": "1", "cat": "2", "dog": "3"},
     {"bird": [1], "cat": [2], "dog": [3]}, {"cat": {}}],
    ids=str,
)  # fmt: skip
def test_an_answer_without_probabilities_is_a_decode_error(answer):
    """Strings, lists and booleans are no probabilities."""
    with pytest.raises(DecodeError, match="'animal'"):
        output_codec(ANIMAL).decode([answer])


def test_a_bare_label_has_no_probabilities():
    """A server that answers with labels alone fills the label column."""
    labels, structs = output_codec(ANIMAL).decode(["dog", None, {"cat": 0.5}])
    assert labels.to_pylist() == ["dog", None, "cat"]
    assert structs.to_pylist() == [
        {"bird": None, "cat": None, "dog": None},
        None,
        {"bird": None, "cat": 0.5, "dog": None},
    ]


def test_classes_are_learned_once_and_sorted():
    """The first value that is not null counts; known classes stay."""
    assert learn(LABEL, [None, {"b": 0.1, "a": 0.9}, {"c": 1}]).classes == ("a", "b")
    assert learn(LABEL, [None]) == LABEL
    assert learn(LABEL, []) == LABEL
    assert learn(ANIMAL, [{"x": 1.0}]) == ANIMAL
    assert learn(TEXT, ["a"]) == TEXT
    for value in (1, [], {}):
        with pytest.raises(DecodeError, match="'kind'"):
            learn(LABEL, [value])


def test_a_server_of_bare_labels_needs_no_classes():
    """Labels learned from are taken as they come, in the list form without probabilities."""
    codec = output_codec(learn(LABEL, ["cat"]))
    labels, probs = codec.decode(["cat", "cow", None])
    assert labels.to_pylist() == ["cat", "cow", None]
    assert pa.types.is_list(probs.type)
    assert probs.to_pylist() == [[], [], None]


def test_no_classes_at_all_have_the_list_form():
    """A job without rows still has a schema that every format can hold."""
    codec = output_codec(FeatureSpec("y", "categorical", classes=()))
    assert pa.types.is_list(codec.fields[1].type)
    assert [len(array) for array in codec.decode([])] == [0, 0]
    with pytest.raises(ModelChangedError):
        codec.decode([{"a": 1.0}])


def test_one_class_and_many_classes_decode():
    """The number of classes makes no difference."""
    one = output_codec(FeatureSpec("y", "categorical", classes=("only",)))
    labels, structs = one.decode([{"only": 1}])
    assert (labels.to_pylist(), structs.to_pylist()) == (["only"], [{"only": 1.0}])
    names = tuple(sorted(f"c{i}" for i in range(300)))
    many = output_codec(FeatureSpec("y", "categorical", classes=names))
    labels, _ = many.decode([{name: float(name == "c42") for name in reversed(names)}])
    assert labels.to_pylist() == ["c42"]


def test_classes_that_are_not_known_are_a_mistake_of_the_program():
    """The codec is made once the classes are learned, never before."""
    with pytest.raises(ValueError, match="not known yet"):
        output_codec(LABEL)


def test_a_duration_is_refused_as_text():
    """A duration has no text that a server would know."""
    column = pa.array([timedelta(seconds=1)])
    with pytest.raises(InputError, match="duration"):
        input_codec(TEXT, pa.field("x", column.type), tensor_json=True, folder=None)
