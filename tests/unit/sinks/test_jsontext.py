"""Any Arrow value as JSON text: exact, escaped, and valid JSON."""

from __future__ import annotations

import base64
import datetime as dt
import json
import math
from decimal import Decimal
from io import BytesIO
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pytest
from hypothesis import given
from hypothesis import strategies as st
from PIL import Image

from batchscore.sinks.jsontext import data_uri, json_texts, media_type, scalar_texts


def texts(array: pa.Array) -> list[str]:
    """The JSON texts, each checked to be JSON that Python accepts."""
    found = json_texts(array)
    found.validate(full=True)
    assert found.type == pa.large_string()
    assert found.null_count == 0
    for text in found.to_pylist():
        json.loads(text, parse_constant=pytest.fail)
    return list(found.to_pylist())


def timestamps(values: list[int | None], unit: str, zone: str | None = None) -> pa.Array:
    """Timestamps by their number of units."""
    return pa.array(values, pa.timestamp(unit, zone))


LISTS = [[1, None], None, [], [3]]
MAPS = [[("a", 1)], None, [("b", 2), ('c"', None)]]
STRUCTS = pa.struct({"a": pa.int8(), 'b"': pa.list_(pa.string())})

OCTETS = '"data:application/octet-stream;base64,YWI="'

CASES: dict[str, tuple[pa.Array, list[str]]] = {
    "null": (pa.nulls(2), ["null", "null"]),
    "bool": (pa.array([True, False, None]), ["true", "false", "null"]),
    "int64": (pa.array([2**53 + 1, -(2**63), None]), ["9007199254740993", str(-(2**63)), "null"]),
    "uint64": (pa.array([2**64 - 1], pa.uint64()), ["18446744073709551615"]),
    "float": (pa.array([0.1, 1e22, -0.0, 3.0]), ["0.1", "1e+22", "-0.0", "3.0"]),
    "float32": (pa.array([0.1, None], pa.float32()), ["0.1", "null"]),
    "float16": (pa.array(np.array([0.5, np.nan], np.float16)), ["0.5", "null"]),
    "nonfinite": (pa.array([math.nan, math.inf, -math.inf]), ["null"] * 3),
    "decimal": (pa.array([Decimal(f"{10**19}.10"), None]), [f"{10**19}.10", "null"]),
    "tiny decimal": (pa.array([Decimal("1E-9")]), ["1E-9"]),
    "text": (
        pa.array(["", None, 'a"b\\c', "\n\t\0\x1f\x7f", "é😀\u2028"]),
        ['""', "null", '"a\\"b\\\\c"', '"\\n\\t\\u0000\\u001f\x7f"', '"é😀\u2028"'],
    ),
    "plain text": (pa.array(["a", None, "é"]), ['"a"', "null", '"é"']),
    "text view": (
        pa.array(["x", None, "y" * 20], pa.string_view()),
        ['"x"', "null", f'"{"y" * 20}"'],
    ),
    "dictionary": (pa.array(["x", None, "x"]).dictionary_encode(), ['"x"', "null", '"x"']),
    "run ends": (pc.run_end_encode(pa.array([1, 1, None])).slice(1), ["1", "null"]),
    "binary": (pa.array([b"ab", None]), [OCTETS, "null"]),
    "fixed binary": (pa.array([b"ab"], pa.binary(2)), [OCTETS]),
    "binary view": (pa.array([b"ab"], pa.binary_view()), [OCTETS]),
    "date": (pa.array([dt.date(2020, 1, 2), None]), ['"2020-01-02"', "null"]),
    "date64": (pa.array([86_400_000], pa.date64()), ['"1970-01-02"']),
    "time": (pa.array([1], pa.time64("ns")), ['"00:00:00.000000001"']),
    "time of seconds": (pa.array([3661], pa.time32("s")), ['"01:01:01"']),
    "timestamp": (timestamps([1, None], "ns"), ['"1970-01-01T00:00:00.000000001"', "null"]),
    "timestamp of seconds": (timestamps([-1], "s"), ['"1969-12-31T23:59:59"']),
    "utc": (timestamps([1500, None], "ms", "UTC"), ['"1970-01-01T00:00:01.500Z"', "null"]),
    "summer and winter": (
        timestamps([10**15, 0], "us", "Europe/Stockholm"),
        ['"2001-09-09T03:46:40.000000+02:00"', '"1970-01-01T01:00:00.000000+01:00"'],
    ),
    "local mean time": (
        timestamps([-(4 * 10**9)], "s", "Europe/Stockholm"),
        ['"1843-03-31T16:53:20Z"'],
    ),
    "unknown zone": (timestamps([0], "s", "Nowhere/Town"), ['"1970-01-01T00:00:00Z"']),
    "duration": (
        pa.array([-1, None, 90 * 10**9], pa.duration("ns")),
        ['"-PT0.000000001S"', "null", '"PT90.000000000S"'],
    ),
    "duration of seconds": (pa.array([5], pa.duration("s")), ['"PT5S"']),
    "interval": (
        pa.array([(1, 2, -3), None], pa.month_day_nano_interval()),
        ['"P1M2DT-0.000000003S"', "null"],
    ),
    "list": (pa.array(LISTS), ["[1,null]", "null", "[]", "[3]"]),
    "slice of list": (pa.array(LISTS).slice(1, 2), ["null", "[]"]),
    "large list": (pa.array(LISTS, pa.large_list(pa.int8())).slice(2), ["[]", "[3]"]),
    "list view": (pa.array(LISTS, pa.list_view(pa.int64())).slice(1), ["null", "[]", "[3]"]),
    "fixed-size list": (
        pa.array([[1, 2], None, [3, None]], pa.list_(pa.int8(), 2)).slice(1),
        ["null", "[3,null]"],
    ),
    "lists of none": (pa.array([[], []], pa.list_(pa.int8(), 0)), ["[]", "[]"]),
    "list of lists": (pa.array([[["a"], None], []]), ['[["a"],null]', "[]"]),
    "struct": (
        pa.array([{"a": 9}, None, {"a": 1, 'b"': ["x"]}], STRUCTS).slice(1),
        ["null", '{"a":1,"b\\"":["x"]}'],
    ),
    "empty struct": (pa.array([{}, None], pa.struct([])), ["{}", "null"]),
    "map": (
        pa.array(MAPS, pa.map_(pa.string(), pa.int8())).slice(1),
        ["null", '{"b":2,"c\\"":null}'],
    ),
    "map of numbers": (
        pa.array([[(1, "a")], []], pa.map_(pa.int8(), pa.string())),
        ['[[1,"a"]]', "[]"],
    ),
    "union": (
        pa.UnionArray.from_dense(
            pa.array([0, 1, 0], pa.int8()),
            pa.array([0, 0, 1], pa.int32()),
            [pa.array([1, None]), pa.array([["x"]])],
        ),
        ["1", '["x"]', "null"],
    ),
    "no rows": (pa.array([], pa.list_(pa.int8())), []),
}


@pytest.mark.parametrize(("array", "expected"), CASES.values(), ids=CASES.keys())
def test_every_type_has_its_text(array: pa.Array, expected: list[str]) -> None:
    """Each Arrow type has one exact JSON text, alone and inside a list, whatever the slice."""
    assert texts(array) == expected
    whole = pa.ListArray.from_arrays(pa.array([0, len(array)], pa.int32()), array)
    assert texts(whole) == [f"[{','.join(expected)}]"]


def test_tensors_are_nested_in_their_shape() -> None:
    """A tensor is lists within lists; a permutation gives the logical order of its axes."""
    storage = pa.array([list(range(6)), None, list(range(6, 12))], pa.list_(pa.int32(), 6))
    plain = pa.ExtensionArray.from_storage(pa.fixed_shape_tensor(pa.int32(), [2, 3]), storage)
    assert texts(plain) == ["[[0,1,2],[3,4,5]]", "null", "[[6,7,8],[9,10,11]]"]
    assert texts(plain.slice(2)) == ["[[6,7,8],[9,10,11]]"]
    turned_type = pa.fixed_shape_tensor(pa.int32(), [2, 3], permutation=[1, 0])
    turned = pa.ExtensionArray.from_storage(turned_type, storage).slice(2)
    assert json.loads(texts(turned)[0]) == turned.to_numpy_ndarray()[0].tolist()


def test_turned_cubes_have_their_logical_order() -> None:
    """Axis i of the logical tensor is axis permutation[i] of the data, for three axes as well."""
    kind = pa.fixed_shape_tensor(pa.int16(), [2, 3, 4], permutation=[2, 0, 1])
    storage = pa.array([list(range(24)), list(range(24, 48))], pa.list_(pa.int16(), 24))
    cubes = pa.ExtensionArray.from_storage(kind, storage)
    expected = np.arange(48).reshape(2, 2, 3, 4).transpose(0, 3, 1, 2)
    assert [json.loads(text) for text in texts(cubes)] == expected.tolist()


def test_bare_text_tells_null_empty_and_infinite_apart() -> None:
    """Bare text has no quotes, keeps null apart from "", and tells NaN and infinities."""
    assert scalar_texts(pa.array(["", None, 'a"'])).to_pylist() == ["", None, 'a"']
    numbers = scalar_texts(pa.array([math.nan, math.inf, -math.inf, None]))
    assert numbers.to_pylist() == ["nan", "inf", "-inf", None]
    assert scalar_texts(timestamps([0], "s", "UTC")).to_pylist() == ["1970-01-01T00:00:00Z"]
    assert scalar_texts(pa.array([[1]])) is None
    assert scalar_texts(pa.array([{"a": 1}])) is None
    tensor = pa.fixed_shape_tensor(pa.int8(), [1])
    assert (
        scalar_texts(pa.ExtensionArray.from_storage(tensor, pa.array([[1]], tensor.storage_type)))
        is None
    )


@pytest.mark.parametrize("name", ["PNG", "JPEG", "GIF", "WEBP", "BMP", "TIFF"])
def test_pictures_are_known_by_their_bytes(name: str) -> None:
    """The media type of a real picture is that of its format."""
    buffer = BytesIO()
    Image.new("RGB", (3, 2), "red").save(buffer, name)
    data = buffer.getvalue()
    assert media_type(data) == f"image/{name.lower()}"
    head, _, body = data_uri(data).partition(",")
    assert head == f"data:image/{name.lower()};base64"
    assert base64.b64decode(body) == data


def test_arrays_are_known_by_their_bytes() -> None:
    """A NumPy file has the media type that deployments use for it; short bytes have none."""
    buffer = BytesIO()
    np.save(buffer, np.zeros(2))
    assert media_type(buffer.getvalue()) == "application/x.peltarion.npy"
    for data in (b"", b"B", b"BM", b"RIFF", b"BMW is a car, not a picture"):
        assert media_type(data) == "application/octet-stream"


@given(st.lists(st.none() | st.integers(-(2**63), 2**63 - 1)))
def test_integers_keep_every_digit(values: list[int | None]) -> None:
    """Integers come back exactly, however large."""
    assert [json.loads(text) for text in texts(pa.array(values, pa.int64()))] == values


@given(st.lists(st.none() | st.floats()))
def test_floats_round_trip(values: list[float | None]) -> None:
    """Finite floats come back with the same bits, all else is null."""
    for value, text in zip(values, texts(pa.array(values, pa.float64())), strict=True):
        if value is None or not math.isfinite(value):
            assert text == "null"
        else:
            found = float(json.loads(text))
            assert (found, math.copysign(1, found)) == (value, math.copysign(1, value))


@given(st.lists(st.floats(width=32, allow_nan=False, allow_infinity=False)))
def test_single_floats_round_trip(values: list[float]) -> None:
    """The text of a float32 is short, and the same float32 when it is read as one."""
    found = [np.float32(json.loads(text)) for text in texts(pa.array(values, pa.float32()))]
    assert found == [np.float32(value) for value in values]


@given(st.lists(st.none() | st.text()))
def test_text_round_trips(values: list[str | None]) -> None:
    """Any text comes back, be it control characters, quotes or emoji."""
    assert [json.loads(text) for text in texts(pa.array(values, pa.string()))] == values


@given(st.lists(st.none() | st.decimals(-(10**30), 10**30, places=6)))
def test_decimals_are_exact(values: list[Decimal | None]) -> None:
    """Decimals are numbers with every digit."""
    found = texts(pa.array(values, pa.decimal128(38, 6)))
    assert [json.loads(text, parse_float=Decimal) for text in found] == values


NESTED = pa.struct(
    {
        "": pa.list_(pa.struct({"x": pa.int64(), "y": pa.string()})),
        'k"\n': pa.list_(pa.list_(pa.bool_())),
        "m": pa.list_(pa.int8(), 2),
    }
)
ROW = st.none() | st.fixed_dictionaries(
    {
        "": st.none()
        | st.lists(
            st.none()
            | st.fixed_dictionaries(
                {"x": st.none() | st.integers(-9, 9), "y": st.none() | st.text(max_size=3)}
            ),
            max_size=3,
        ),
        'k"\n': st.none() | st.lists(st.none() | st.lists(st.booleans(), max_size=2), max_size=3),
        "m": st.none() | st.lists(st.none() | st.integers(-9, 9), min_size=2, max_size=2),
    }
)


@given(rows=st.lists(ROW, max_size=6), start=st.integers(0, 6), count=st.integers(0, 6))
def test_nested_values_round_trip(rows: list[Any], start: int, count: int) -> None:
    """Nested values come back whole, nulls at every depth included, from any slice."""
    part = pa.array(rows, NESTED).slice(start, count)
    assert [json.loads(text) for text in texts(part)] == rows[start : start + count]
