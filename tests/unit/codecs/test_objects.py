"""Python objects in the place of columns."""

from __future__ import annotations

import io
from decimal import Decimal

import numpy as np
import pyarrow as pa
import pytest
from PIL import Image

from batchscore.codecs import input_codec, output_codec
from batchscore.codecs.objects import column_from_objects, objects_from_columns
from batchscore.errors import EncodeError, InputError
from batchscore.schema import FeatureSpec

NUMBER = FeatureSpec("size", "numeric", (1,))
LABEL = FeatureSpec("kind", "categorical", classes=("cat", "dog"))
TEXT = FeatureSpec("note", "text")
IMAGE = FeatureSpec("photo", "image")
GRID = FeatureSpec("grid", "numeric", (2, 2))


@pytest.mark.parametrize(
    ("values", "json_text"),
    [
        ([1, 2**62 + 1, None], "[1,4611686018427387905,null]"),
        ([2**63 + 1], "[9223372036854775809]"),
        ([2**70 + 1, 1], "[1180591620717411303425,1]"),
        ([1, 2.5, None], "[1.0,2.5,null]"),
        ([True, False], "[1,0]"),
        ([np.float32(0.5), np.int64(3), np.array([2.0])], "[0.5,3.0,2.0]"),
        ([Decimal("1.10"), Decimal(2)], "[1.10,2.00]"),
        ([Decimal("0.5"), 1], "[0.5,1.0]"),
        ([float("nan")], "[null]"),
        ([None], "[null]"),
        ([], "[]"),
    ],
    ids=str,
)
def test_numbers_are_taken_with_every_digit(encode, wire, values, json_text):
    """Python, NumPy and decimal numbers serve a numeric feature."""
    assert wire(encode(NUMBER, column_from_objects(NUMBER, values))) == json_text


def test_labels_are_taken_alone_or_with_numbers():
    """Of {label: number} the label of the greatest number counts."""
    values = ["cat", {"cat": 0.2, "dog": 0.8}, 3, True, np.str_("x"), None]
    column = column_from_objects(LABEL, values)
    assert column.to_pylist() == ["cat", "dog", "3", "true", "x", None]
    assert column_from_objects(TEXT, ["å", None]).to_pylist() == ["å", None]


def test_a_picture_as_it_was_opened_is_its_own_bytes(tmp_path, picture):
    """A PIL image fresh from a PNG or JPEG file is not encoded again, and stays usable."""
    for format_ in ("PNG", "JPEG"):
        data = picture("RGB", format_)
        path = tmp_path / "file"
        path.write_bytes(data)
        with Image.open(path) as image:
            values = [image, path, data, bytearray(data), None]
            column = column_from_objects(IMAGE, values)
            image.load()
        assert column.to_pylist() == [data, data, data, data, None]


def test_a_picture_that_was_changed_is_sent_as_it_is_now(picture):
    """Pixels that were drawn over after opening are not lost."""
    image = Image.open(io.BytesIO(picture()))
    image.paste((1, 2, 3), (0, 0, 5, 4))
    made = [image, Image.new("RGBA", (2, 2), (9, 8, 7, 100)), Image.new("F", (2, 2), 1.0)]
    column = column_from_objects(IMAGE, made)
    first, second, third = objects_from_columns(IMAGE, [column])
    assert first.getpixel((0, 0)) == (1, 2, 3)
    assert second.getpixel((0, 0)) == (9, 8, 7)
    assert third.getpixel((0, 0)) == (255, 255, 255)
    assert [one.format for one in (first, second, third)] == ["PNG"] * 3
    assert input_codec(IMAGE, pa.field("x", column.type), tensor_json=True).encode(column).values


def test_arrays_go_in_and_come_out_as_numpy(encode):
    """Array-likes of the shape become tensors; each array that comes out can be written to."""
    values = [np.eye(2), None, [[1, 2], [3, 4]], np.array([[1, 2], [3, 4]], np.uint8)]
    column = column_from_objects(GRID, values)
    assert not encode(GRID, column).failures
    found = objects_from_columns(GRID, [column])
    assert found[1] is None
    for array, value in zip(found, values, strict=True):
        if array is not None:
            assert (array.dtype, array.tolist()) == (np.float32, np.asarray(value).tolist())
            array[0, 0] = 7
    assert column_from_objects(FeatureSpec("a", "numpy", ()), [5]).storage.to_pylist() == [[5.0]]
    assert objects_from_columns(GRID, [column_from_objects(GRID, [])]) == []


@pytest.mark.parametrize("probs", ["struct", "list"])
def test_categories_come_out_with_their_probabilities(probs):
    """A categorical output is a mapping of class to probability in both forms."""
    arrays = output_codec(LABEL, probs=probs).decode([{"cat": 0.75, "dog": 0.25}, None])
    assert objects_from_columns(LABEL, arrays) == [{"cat": 0.75, "dog": 0.25}, None]


def test_other_outputs_come_out_as_python_values():
    """Numbers are floats, text is str, a label without probabilities is the label."""
    assert objects_from_columns(NUMBER, output_codec(NUMBER).decode([1, None])) == [1.0, None]
    assert objects_from_columns(TEXT, output_codec(TEXT).decode(["a", None])) == ["a", None]
    labels = output_codec(LABEL, probs="none").decode([{"cat": 1.0, "dog": 0.0}])
    assert objects_from_columns(LABEL, labels) == ["cat"]


def test_pictures_come_out_loaded_and_bombs_do_not(picture, monkeypatch):
    """Each picture is a PIL image read to its end; one with too many pixels is refused."""
    column = pa.array([picture("L", "JPEG"), None])
    image, none = objects_from_columns(IMAGE, [column])
    assert (image.mode, image.format, image.size, none) == ("L", "JPEG", (5, 4), None)
    monkeypatch.setattr(Image, "MAX_IMAGE_PIXELS", 15)
    with pytest.raises(EncodeError, match="more than 15 pixels"):
        objects_from_columns(IMAGE, [column])


@pytest.mark.parametrize(
    ("spec", "value"),
    [
        (NUMBER, "1.5"), (NUMBER, [1, 2]), (NUMBER, np.zeros(2)), (NUMBER, 10**400),
        (LABEL, ["cat"]), (LABEL, 1.5), (LABEL, {}), (LABEL, {"cat": "x", "dog": 1}),
        (TEXT, 5), (TEXT, b"a"),
        (IMAGE, "photo.png"), (IMAGE, np.zeros((2, 2))), (IMAGE, 7),
        (GRID, [1, 2]), (GRID, [[1, 2], [3]]), (GRID, "abc"), (GRID, np.zeros((4,))),
        (GRID, [[1, 2], [3, None]]), (GRID, [["a", "b"], ["c", "d"]]),
    ],
    ids=str,
)  # fmt: skip
def test_an_object_of_another_type_is_refused(spec, value):
    """The error names the feature."""
    with pytest.raises(InputError, match=f"feature '{spec.name}'"):
        column_from_objects(spec, [None, value])


def test_a_file_that_is_not_there_is_told_by_its_path(tmp_path):
    """The error names the feature and the path."""
    with pytest.raises(InputError, match=r"'photo'.*none\.png.*No such file"):
        column_from_objects(IMAGE, [tmp_path / "none.png"])


def test_a_picture_that_was_closed_is_refused(picture):
    """A PIL image whose file is gone before it was read cannot be sent."""
    image = Image.open(io.BytesIO(picture()))
    image.close()
    with pytest.raises(InputError, match=r"'photo'.*cannot be sent"):
        column_from_objects(IMAGE, [image])


@pytest.mark.parametrize("spec", [TEXT, LABEL], ids=["text", "label"])
def test_a_text_that_is_no_unicode_names_its_feature(spec):
    """Half a surrogate pair, which UTF-8 cannot hold, is an input error."""
    with pytest.raises(InputError, match=f"{spec.name!r}: a text is not valid Unicode"):
        column_from_objects(spec, ["good", "\ud800"])
