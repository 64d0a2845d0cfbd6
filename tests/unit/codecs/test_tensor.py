"""Arrays on the wire, in both forms."""

from __future__ import annotations

import base64
import io
import json
import math
import pickle
from math import prod

import numpy as np
import pyarrow as pa
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp

from batchscore.codecs import ImageFolder, input_codec, output_codec
from batchscore.errors import DecodeError, InputError
from batchscore.schema import FeatureSpec

GRID = FeatureSpec("grid", "numeric", (2, 3))
NPY_GRID = FeatureSpec("grid", "numpy", (2, 3))
ROW = FeatureSpec("row", "numeric", (3,))
FORMS = pytest.mark.parametrize("tensor_json", [True, False], ids=["json", "npy"])
NPY_START = "data:application/x.peltarion.npy;base64,"
SHAPES = hnp.array_shapes(max_dims=3, max_side=3).filter(lambda shape: prod(shape) > 1)
FLOATS = st.floats(width=32, allow_nan=False, allow_infinity=False)


def npy(array: np.ndarray) -> bytes:
    """What numpy.save writes."""
    buffer = io.BytesIO()
    np.save(buffer, array)
    return buffer.getvalue()


def arrays_of(values: list) -> list:
    """The arrays of JSON values in either wire form."""
    return [value and one(value) for value in values]


def one(value: dict | str) -> np.ndarray:
    """The array of one value."""
    if isinstance(value, str):
        return np.load(io.BytesIO(base64.b64decode(value.removeprefix(NPY_START))))
    assert list(value) == ["shape", "data"]
    return np.array(value["data"], np.float64).reshape(value["shape"])


def nested(type_: pa.DataType, sizes: tuple[int, ...], kind: str) -> pa.DataType:
    """Lists of these lengths around the type."""
    for size in reversed(sizes):
        type_ = {
            "list": pa.list_(type_), "large": pa.large_list(type_), "fixed": pa.list_(type_, size)
        }[kind]  # fmt: skip
    return type_


@given(st.data())
def test_arrays_come_back_exactly_from_every_kind_of_column(encode, sent, data):
    """Tensors and lists, nested or flat, sliced or with nulls, arrive as the same float32."""
    shape = data.draw(SHAPES)
    rows = data.draw(
        st.lists(st.none() | hnp.arrays(np.float32, shape, elements=FLOATS), max_size=5)
    )
    kind = data.draw(st.sampled_from(["list", "large", "fixed", "tensor"]))
    sizes = data.draw(st.sampled_from([shape, (prod(shape),)]))
    start = data.draw(st.integers(0, 2))
    if kind == "tensor":
        flat = [row if row is None else row.ravel().tolist() for row in rows]
        storage = pa.array(flat, pa.list_(pa.float32(), prod(shape)))
        type_ = pa.fixed_shape_tensor(pa.float32(), shape)
        column = pa.ExtensionArray.from_storage(type_, storage)
    else:
        lists = [row if row is None else row.reshape(sizes).tolist() for row in rows]
        column = pa.array(lists, nested(pa.float32(), sizes, kind))
    spec = FeatureSpec("a", "numeric", shape)
    for tensor_json in (True, False):
        encoded = encode(spec, column[start:], tensor_json=tensor_json)
        assert not encoded.failures
        (back,) = output_codec(spec).decode(sent(encoded))
        assert back.type == pa.fixed_shape_tensor(pa.float32(), shape)
        back.validate(full=True)
        wanted = [row if row is None else row.ravel().tolist() for row in rows[start:]]
        assert back.storage.to_pylist() == wanted


def test_the_two_wire_forms_are_those_of_the_protocol(encode, wire):
    """JSON has shape and flat data; the other form is what numpy.save writes of float32."""
    values = np.arange(12, dtype=np.float64).reshape(2, 2, 3)
    column = pa.array(values.tolist())
    first = '{"shape":[2,3],"data":[0.0,1.0,2.0,3.0,4.0,5.0]}'
    assert wire(encode(GRID, column)).startswith(f"[{first},")
    files = [NPY_START + base64.b64encode(npy(v.astype("<f4"))).decode() for v in values]
    assert list(encode(GRID, column, tensor_json=False).values) == files
    assert list(encode(NPY_GRID, column, tensor_json=True).values) == files


@FORMS
def test_a_permutation_is_honoured(encode, sent, tensor_json):
    """A tensor column's logical shape counts, not the order in memory."""
    logical = np.arange(12, dtype=np.float32).reshape(2, 2, 3)
    type_ = pa.fixed_shape_tensor(pa.float32(), (3, 2), permutation=[1, 0])
    flat = [row.T.ravel().tolist() for row in logical]
    storage = pa.array([[0.0] * 6, *flat], pa.list_(pa.float32(), 6))
    column = pa.ExtensionArray.from_storage(type_, storage)[1:]
    found = arrays_of(sent(encode(GRID, column, tensor_json=tensor_json)))
    assert np.array_equal(np.array(found), logical)


@FORMS
@pytest.mark.parametrize(
    "type_",
    [pa.int8(), pa.uint64(), pa.int64(), pa.float16(), pa.float32(), pa.float64(), pa.bool_(),
     pa.decimal128(25, 2)],
    ids=str,
)  # fmt: skip
def test_numbers_of_every_type_become_float32(encode, sent, type_, tensor_json):
    """Integers, doubles, decimals and booleans are sent as float32."""
    column = pa.array([[1, 0, 1]], pa.list_(pa.int64())).cast(pa.list_(type_))
    (found,) = arrays_of(sent(encode(ROW, column, tensor_json=tensor_json)))
    assert found.tolist() == [1, 0, 1]


@FORMS
def test_rows_of_another_shape_fail_alone(encode, sent, tensor_json):
    """A ragged row, one of another shape, and one with a null inside fail; others are sent."""
    rows = [
        [[9, 9], [9]],
        [[1, 2, 3], [4, 5, 6]],
        [[1, 2], [3]],
        None,
        [[1, 2, 3]],
        [[1, 2, None], [4, 5, 6]],
        [[1, 2, 3], None],
        [[1, 2, 3], [4, 5, 6, 7]],
        [],
        [[7, 8, 9], [0, 0, 0]],
    ]
    encoded = encode(GRID, pa.array(rows)[1:], tensor_json=tensor_json)
    assert list(encoded.failures) == [1, 3, 4, 5, 6, 7]
    assert "different lengths" in encoded.failures[1]
    assert "its shape is [1, 3], not [2, 3]" in encoded.failures[3]
    assert "null inside" in encoded.failures[4]
    found = arrays_of(sent(encoded))
    assert (found[0].ravel().tolist(), found[2]) == ([1, 2, 3, 4, 5, 6], None)
    assert found[8].ravel().tolist() == [7, 8, 9, 0, 0, 0]


@given(
    st.lists(st.none() | st.lists(st.none() | st.integers(-5, 5), max_size=4)), st.integers(0, 3)
)
def test_lists_of_any_length_are_sent_or_fail(encode, sent, rows, start):
    """Each row of a list column is null, sent whole, or failed."""
    encoded = encode(ROW, pa.array(rows, pa.list_(pa.int32()))[start:])
    for row, (given_, value) in enumerate(zip(rows[start:], sent(encoded), strict=True)):
        is_good = given_ is None or (len(given_) == 3 and None not in given_)
        assert (row not in encoded.failures) == is_good
        if is_good and given_ is not None:
            assert value == {"shape": [3], "data": given_}


def test_a_null_inside_a_fixed_list_fails_its_row(encode):
    """Fixed-size lists and tensors may hold nulls too."""
    storage = pa.array([[1, 2, None], [1, 2, 3], None], pa.list_(pa.float32(), 3))
    tensor = pa.ExtensionArray.from_storage(pa.fixed_shape_tensor(pa.float32(), (3,)), storage)
    for column in (storage, tensor):
        encoded = encode(ROW, column)
        assert encoded.failures == {0: "column 'x': there is a null inside the array"}
        assert encoded.values[1] == {"shape": [3], "data": [1.0, 2.0, 3.0]}
        assert encoded.values[2] is None


def test_what_is_not_finite_is_null_in_json_and_itself_in_a_file(encode, wire, sent):
    """NaN and infinities (also of doubles beyond float32) are counted where they become null."""
    column = pa.array([[1.0, math.nan, math.inf], [1e300, 2.0, 3.0]])
    encoded = encode(ROW, column)
    assert [value["data"] for value in sent(encoded)] == [[1, None, None], [None, 2, 3]]
    assert encoded.nonfinite == 3
    encoded = encode(ROW, column, tensor_json=False)
    first, second = arrays_of(sent(encoded))
    assert math.isnan(first[1])
    assert first[2] == second[0] == math.inf
    assert encoded.nonfinite == 0


@pytest.mark.parametrize("kind", [pa.list_view, pa.large_list_view])
def test_list_views_are_lists(encode, kind):
    """Columns of Arrow's list views serve as those of lists do."""
    column = pa.array([[1, 2, 3], None, [1]], kind(pa.int32()))
    encoded = encode(ROW, column)
    assert encoded.values[0] == {"shape": [3], "data": [1.0, 2.0, 3.0]}
    assert list(encoded.failures) == [2]


@FORMS
def test_nulls_and_empty_batches_are_no_trouble(encode, wire, tensor_json):
    """A column of nulls is sent as nulls, and no rows as none."""
    tensor = pa.fixed_shape_tensor(pa.float32(), (2, 3))
    for type_ in (pa.null(), pa.list_(pa.list_(pa.null())), pa.list_(pa.float64(), 6), tensor):
        nulls = pa.nulls(2, getattr(type_, "storage_type", type_))
        for column, text in ((nulls, "[null,null]"), (nulls[:0], "[]")):
            if type_ == tensor:
                column = pa.ExtensionArray.from_storage(tensor, column)  # noqa: PLW2901
            assert wire(encode(GRID, column, tensor_json=tensor_json)) == text


def test_a_single_value_may_stand_alone(encode, sent):
    """An array of one value is taken from a number column as well as from lists."""
    spec = FeatureSpec("a", "numpy", ())
    for column in (pa.array([2.5, None]), pa.array([[2.5], None])):
        first, second = arrays_of(sent(encode(spec, column)))
        assert (first.tolist(), second) == ([2.5], None)


@pytest.fixture
def folder(tmp_path):
    """A folder of .npy files, good and bad."""
    good = np.arange(6, dtype=np.float64).reshape(2, 3)
    files = {
        "good.npy": npy(good),
        "fortran.npy": npy(np.asfortranarray(good)),
        "big-endian.npy": npy(good.astype(">i4")),
        "version2.npy": npy(good)[:6] + b"\2\0" + npy(good)[8:10] + b"\0\0" + npy(good)[10:],
        "wrong.npy": npy(good.T),
        "flat.npy": npy(good.ravel()),
        "short.npy": npy(good)[:-1],
        "text.npy": npy(np.array([["a", "b", "c"]] * 2)),
        "object.npy": b"\x93NUMPY\x01\0" + npy(np.array([None], object))[8:],
        "pickle.npy": pickle.dumps(good),
        "header.npy": npy(good).replace(b"'descr'", b"'dxscr'"),
        "huge.npy": npy(good).replace(b"(2, 3), }         ", b"(99999999999, 9) }"),
    }
    for name, data in files.items():
        (tmp_path / name).write_bytes(data)
    return ImageFolder(tmp_path, tmp_path)


@FORMS
def test_npy_files_are_read_by_path_and_from_bytes(encode, sent, folder, tensor_json):
    """Any order and width of numbers in a .npy file becomes float32; nothing is unpickled."""
    names = ["good.npy", "fortran.npy", "big-endian.npy", "version2.npy", None]
    contents = [name and (folder.base / name).read_bytes() for name in names]
    for column in (
        pa.array(names),
        pa.array(names, pa.large_string()),
        pa.array(contents),
        pa.array(contents, pa.large_binary()),
    ):
        encoded = encode(GRID, column, tensor_json=tensor_json, folder=folder)
        assert not encoded.failures
        found = arrays_of(sent(encoded))
        assert found[4] is None
        for array in found[:4]:
            assert array.tolist() == [[0, 1, 2], [3, 4, 5]]


@pytest.mark.parametrize(
    ("name", "why"),
    [
        ("wrong.npy", "its shape is [3, 2], not [2, 3]"),
        ("flat.npy", "its shape is [6], not [2, 3]"),
        ("short.npy", "cut off"),
        ("huge.npy", "cut off"),
        ("text.npy", "does not hold numbers"),
        ("object.npy", "does not hold numbers"),
        ("pickle.npy", "not a .npy file"),
        ("header.npy", "not a .npy file"),
        ("none.npy", "does not exist"),
        ("../up.npy", "outside"),
    ],
)
def test_a_file_that_is_no_such_array_fails_its_row(encode, folder, name, why):
    """The message names the path and the reason."""
    encoded = encode(GRID, pa.array(["good.npy", name]), folder=folder)
    assert list(encoded.failures) == [1]
    assert why in encoded.failures[1]
    assert encoded.failures[1].count(name) == 1
    if (folder.base / name).is_file():
        encoded = encode(GRID, pa.array([(folder.base / name).read_bytes()]))
        assert why in encoded.failures[0]


@given(st.binary(max_size=100), st.booleans())
def test_no_bytes_raise_anything_but_their_rows_failure(encode, data, has_magic):
    """Whatever stands in a binary cell, the job goes on."""
    start = b"\x93NUMPY\x01\0" if has_magic else b""
    assert list(encode(GRID, pa.array([start + data])).failures) == [0]


def test_untyped_text_holds_json_arrays_or_paths(encode, sent, folder):
    """A CSV cell that begins with a bracket is JSON, another is a path, an empty one is null."""
    cells = ["[[1,2,3],[4,5,6]]", " [1, 2, 3, 4, 5, NaN]", "good.npy", "", None,
             '{"shape":[2,3],"data":[1,2,3,4,5,6]}']  # fmt: skip
    encoded = encode(GRID, pa.array(cells), untyped=True, folder=folder)
    assert not encoded.failures
    found = arrays_of(sent(encoded))
    assert found[0].tolist() == found[5].tolist() == [[1, 2, 3], [4, 5, 6]]
    assert math.isnan(found[1][1, 2])
    assert (found[2].tolist(), found[3], found[4]) == ([[0, 1, 2], [3, 4, 5]], None, None)
    assert encoded.nonfinite == 1


@pytest.mark.parametrize(
    "cell",
    ["[1,2", "[1,2,3]", "[[1,2,3],[4,5]]", "[1,2,3,4,5,null]", '["1","2","3","4","5","6"]',
     '{"shape":[2,3]}', '{"shape":[3,2],"data":[1,2,3,4,5,6]}', "abc", "[" * 100_000,
     "[" * 70 + "1" + "]" * 70, f"[{'9' * 400},2,3,4,5,6]"],
    ids=lambda cell: cell[:20],
)  # fmt: skip
def test_untyped_text_that_is_no_such_array_fails_its_row(encode, cell):
    """Broken JSON, another shape, a null or strings inside fail the row, showing the cell."""
    encoded = encode(GRID, pa.array([cell, "[1,2,3,4,5,6]"]), untyped=True)
    assert list(encoded.failures) == [0]
    assert cell[:39] in encoded.failures[0]
    assert len(encoded.failures[0]) < 200


@pytest.mark.parametrize(
    "type_",
    [
        pa.int64(), pa.float32(), pa.timestamp("s"), pa.struct([("a", pa.int64())]),
        pa.list_(pa.float32(), 5), pa.list_(pa.list_(pa.float32(), 2), 3), pa.list_(pa.string()),
        pa.list_(pa.list_(pa.list_(pa.float32()))), pa.list_(pa.list_(pa.binary())),
        pa.fixed_shape_tensor(pa.float32(), (3, 2)), pa.fixed_shape_tensor(pa.float32(), (6,)),
        pa.fixed_shape_tensor(pa.float32(), (2, 3), permutation=[1, 0]), pa.string(),
    ],
    ids=str,
)  # fmt: skip
def test_a_column_that_can_never_hold_the_array_is_refused(type_):
    """Another shape, another depth, or values that are no numbers: said before anything is sent."""
    with pytest.raises(InputError, match="'height'"):
        input_codec(GRID, pa.field("height", type_), tensor_json=True, folder=None)


@given(hnp.arrays(np.float32, (3, 2, 3), elements=st.floats(width=32)))
def test_answers_in_every_form_are_the_same_tensors(values):
    """Shape and data, a NumPy file, nested and flat lists mean the same; NaN is NaN."""
    forms = [
        [{"shape": [2, 3], "data": row.ravel().tolist()} for row in values],
        [{"shape": [2, 3], "data": row.tolist()} for row in values],
        [NPY_START + base64.b64encode(npy(row)).decode() for row in values],
        values.tolist(),
        values.reshape(3, 6).tolist(),
    ]
    forms.append([forms[0][0], forms[2][1], forms[3][2]])
    for answer in forms:
        (column,) = output_codec(GRID).decode(json.loads(json.dumps(answer)))
        np.testing.assert_array_equal(column.to_numpy_ndarray(), values)


def test_nulls_in_answers_are_null_rows_or_nan():
    """A null answer is a null row; a null inside is NaN."""
    answer = [None, {"shape": [3], "data": [1, None, 3]}, [4, 5, 6]]
    (column,) = output_codec(ROW).decode(answer)
    assert [row is None for row in column.storage.to_pylist()] == [True, False, False]
    assert math.isnan(column[1].as_py()[1])
    (column,) = output_codec(ROW).decode([])
    assert (len(column), column.type) == (0, output_codec(ROW).fields[0].type)
    (column,) = output_codec(FeatureSpec("a", "numpy", ())).decode([5.0, [6.0], None])
    assert column.storage.to_pylist() == [[5.0], [6.0], None]


@pytest.mark.parametrize(
    "value",
    ["abc", 1.0, [1, 2], [1, 2, "3"], [[1], [2, 3]], {"data": [1, 2, 3]}, {"shape": [3]},
     {"shape": [2], "data": [1, 2, 3]}, {"shape": [3], "data": [1, 2]}, {"shape": 3, "data": [1]},
     {"shape": [3], "data": "abc"}, {"shape": [3], "data": {}}, ["1", "2", "3"], [1, 2, 10**400],
     NPY_START + "abc", NPY_START + base64.b64encode(b"abc").decode(), {"shape": [3], "data": None},
     NPY_START + base64.b64encode(npy(np.zeros(4))).decode(), [[], [], []]],
    ids=lambda value: str(value)[:40],
)  # fmt: skip
def test_an_answer_that_is_no_such_array_is_a_decode_error(value):
    """Another shape, strings, ragged lists: the answer is not what was promised."""
    for answer in ([value], [[1, 2, 3], value], [value, {"shape": [3], "data": [1, 2, 3]}]):
        with pytest.raises(DecodeError, match="'row'"):
            output_codec(ROW).decode(answer)
