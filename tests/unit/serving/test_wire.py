"""Values between JSON and the model, cell by cell."""

from __future__ import annotations

import base64
import io
import math
from typing import Any

import numpy as np
import pytest
from PIL import Image

from batchscore.schema import FeatureSpec
from batchscore.serving.models import RowError
from batchscore.serving.wire import AnswerError, decode_rows, encode_rows

ARRAY = FeatureSpec("f", "numeric", (2, 3))
NUMPY = FeatureSpec("f", "numpy", (2, 3))
NUMBER = FeatureSpec("f", "numeric", (1,))
BINARY = FeatureSpec("f", "binary")
LABEL = FeatureSpec("f", "categorical", (2,))
TEXT = FeatureSpec("f", "text")
IMAGE = FeatureSpec("f", "image", (4, 4, 3))


def data_uri(data: bytes, media_type: str = "application/x.peltarion.npy") -> str:
    """Bytes as a data URI."""
    return f"data:{media_type};base64,{base64.b64encode(data).decode()}"


def npy(array: Any, *, allow_pickle: bool = False) -> str:
    """An array as a NumPy file in a data URI."""
    buffer = io.BytesIO()
    np.save(buffer, array, allow_pickle=allow_pickle)
    return data_uri(buffer.getvalue())


def picture(mode: str, file_format: str) -> tuple[Image.Image, str]:
    """A picture, and the same as a data URI."""
    image = Image.linear_gradient("L").resize((5, 4)).convert(mode)
    buffer = io.BytesIO()
    image.save(buffer, format=file_format)
    return image, data_uri(buffer.getvalue(), f"image/{file_format.lower()}")


def decode(value: object, spec: FeatureSpec) -> Any:
    """One value of a request, as the model gets it."""
    return decode_rows([{"f": value}], [spec])[0]["f"]


def encode(value: object, spec: FeatureSpec, *, tensor_json: bool = True) -> Any:
    """One value of an answer, as it goes out."""
    return encode_rows([{"f": value}], [spec], num_rows=1, tensor_json=tensor_json)[0]["f"]


@pytest.mark.parametrize(
    ("value", "spec", "expected"),
    [
        (1.5, NUMBER, 1.5),
        (3, NUMBER, 3.0),
        (True, BINARY, 1.0),
        ("a", LABEL, "a"),
        ({"a": 0.2, "b": 0.7}, LABEL, "b"),
        ({"only": 1}, LABEL, "only"),
        ("", TEXT, ""),
        *((None, spec, None) for spec in (NUMBER, BINARY, LABEL, TEXT, IMAGE, ARRAY, NUMPY)),
    ],
)
def test_scalars_reach_the_model(value: object, spec: FeatureSpec, expected: object):
    """Numbers become floats, a dict of scores its best label, null None."""
    decoded = decode(value, spec)
    assert decoded == expected
    assert type(decoded) is type(expected)


SIX = [[0.5, 1, 2], [3, 4, 5]]


@pytest.mark.parametrize("spec", [ARRAY, NUMPY])
@pytest.mark.parametrize(
    "value",
    [
        SIX,
        {"shape": [2, 3], "data": [0.5, 1, 2, 3, 4, 5]},
        npy(np.array(SIX, dtype=np.float32)),
        npy(np.array(SIX, dtype=np.float64)),
        npy(np.asfortranarray(np.array(SIX, dtype=">f4"))),
    ],
)
def test_arrays_arrive_in_every_encoding(value: object, spec: FeatureSpec):
    """A list, shape and data, or a NumPy file: the model sees the same float32 array."""
    array = decode(value, spec)
    assert array.dtype == np.float32
    np.testing.assert_array_equal(array, SIX)


def test_null_in_an_array_is_nan():
    """A null among the numbers of an array reaches the model as NaN."""
    array = decode({"shape": [2, 3], "data": [None, 1, 2, 3, 4, 5]}, ARRAY)
    assert math.isnan(array[0, 0])
    assert array[1].tolist() == [3, 4, 5]


@pytest.mark.parametrize("media_type", ["image/png", "image/jpg", "application/octet-stream"])
@pytest.mark.parametrize("file_format", ["PNG", "BMP", "GIF", "WEBP", "TIFF"])
def test_images_of_every_format_open(file_format: str, media_type: str):
    """Whatever Pillow opens is an image, whatever its media type claims."""
    image, uri = picture("L", file_format)
    opened = decode(uri.replace(f"image/{file_format.lower()}", media_type), IMAGE)
    assert opened.format == file_format
    assert opened.size == image.size


@pytest.mark.parametrize(
    ("value", "spec", "words"),
    [
        ("1", NUMBER, "a number is expected, not a string"),
        ([1], NUMBER, "a number is expected, not an array"),
        (10**400, NUMBER, "too large"),
        (3, TEXT, "a string is expected, not a number"),
        (True, LABEL, "a string is expected, not a boolean"),
        ({}, LABEL, "a label"),
        ({"a": "b"}, LABEL, "a label"),
        ([1, 2, 3], ARRAY, "shape [2, 3] is expected, not [3]"),
        ([[1, 2], [3]], ARRAY, "rows of numbers"),
        ([["1", "2", "3"], ["4", "5", "6"]], ARRAY, "other than numbers"),
        ([[1, 2, 3], [4, 5, {}]], ARRAY, "rows of numbers"),
        ({"shape": [2, 3], "data": [1]}, ARRAY, "1 numbers do not make shape [2, 3]"),
        ({"shape": [[2]], "data": [1, 2]}, ARRAY, "do not make shape"),
        ({"data": [1]}, ARRAY, "{'shape', 'data'}"),
        (7, ARRAY, "an array is expected, not a number"),
        (npy(np.zeros(6)), NUMPY, "shape [2, 3] is expected, not [6]"),
        (npy(np.array(SIX, dtype=object), allow_pickle=True), NUMPY, "no NumPy file of numbers"),
        (npy(np.array([["a"] * 3] * 2)), NUMPY, "not numbers"),
        (data_uri(b""), NUMPY, "no NumPy file"),
        (data_uri(b"x"), NUMPY, "no NumPy file"),
        ("data:x;base64,%%", NUMPY, "base64"),
        ("6.png", IMAGE, "a data URI"),
        (4, IMAGE, "an image is expected, not a number"),
        (data_uri(b"no image", "image/png"), IMAGE, "of no known format"),
        (picture("RGB", "PNG")[1][:-40], IMAGE, "the image does not open"),
    ],
)
def test_what_does_not_fit_is_refused_with_its_place(value: object, spec: FeatureSpec, words: str):
    """A value of the wrong kind names its row, its feature and what was expected."""
    rows = [{"f": None}, {"f": None}, {"f": value}]
    with pytest.raises(RowError) as caught:
        decode_rows(rows, [spec])
    assert str(caught.value).startswith("rows[2], feature 'f': ")
    assert words in str(caught.value)


def test_a_missing_feature_and_a_row_that_is_none_are_refused():
    """The first row without a feature is named, and so is a row that is no object."""
    with pytest.raises(RowError, match=r"rows\[1\], feature 'f': missing"):
        decode_rows([{"f": 1}, {"g": 1}], [NUMBER])
    with pytest.raises(RowError, match=r"rows\[1\]: an object is expected, not a string"):
        decode_rows([{"f": 1}, "f"], [NUMBER])


def test_other_features_do_not_reach_the_model():
    """What a row has beyond the model's inputs is left out."""
    assert decode_rows([{"g": 2, "f": 1.0}], [NUMBER]) == [{"f": 1.0}]


@pytest.mark.parametrize(
    ("value", "spec", "expected"),
    [
        (np.float32(0.5), NUMBER, 0.5),
        (np.int64(3), NUMBER, 3.0),
        (np.bool_(True), BINARY, 1.0),
        (np.str_("a"), TEXT, "a"),
        ({np.str_("a"): np.float32(0.25), "b": 0.75}, LABEL, {"a": 0.25, "b": 0.75}),
        *((None, spec, None) for spec in (NUMBER, BINARY, LABEL, TEXT, IMAGE, ARRAY, NUMPY)),
    ],
)
def test_answers_become_plain_values(value: object, spec: FeatureSpec, expected: object):
    """NumPy scalars and strings in a model's answer become JSON values."""
    encoded = encode(value, spec)
    assert encoded == expected
    assert type(encoded) is type(expected)


def test_arrays_leave_in_the_promised_encoding():
    """Shape and data with tensor JSON, else a NumPy file of float32; type numpy always the file."""
    array = np.array(SIX)
    assert encode(array, ARRAY) == {"shape": [2, 3], "data": [0.5, 1, 2, 3, 4, 5]}
    for encoded in (encode(array, ARRAY, tensor_json=False), encode(array, NUMPY)):
        head, _, data = encoded.partition(",")
        assert head == "data:application/x.peltarion.npy;base64"
        loaded = np.load(io.BytesIO(base64.b64decode(data)))
        assert loaded.dtype == np.float32
        np.testing.assert_array_equal(loaded, SIX)


@pytest.mark.parametrize("mode", ["1", "L", "LA", "P", "RGB", "RGBA", "CMYK", "YCbCr", "F", "I"])
def test_every_mode_of_picture_leaves_as_png(mode: str):
    """Whatever mode a model's picture has, a PNG of its size goes out."""
    encoded = encode(Image.new(mode, (5, 4)), IMAGE)
    assert encoded.startswith("data:image/png;base64,")
    opened = decode(encoded, IMAGE)
    assert (opened.format, opened.size) == ("PNG", (5, 4))


@pytest.mark.parametrize("mode", ["L", "RGB", "RGBA"])
def test_a_picture_that_says_jpeg_leaves_as_jpeg(mode: str):
    """A picture whose format is JPEG goes out as one."""
    image = Image.new(mode, (5, 4))
    image.format = "JPEG"
    encoded = encode(image, IMAGE)
    assert encoded.startswith("data:image/jpeg;base64,")
    assert decode(encoded, IMAGE).format == "JPEG"


@pytest.mark.parametrize(
    ("answers", "spec", "words"),
    [
        ([], NUMBER, "0 rows for 1"),
        ([{"f": 1}, {"f": 1}], NUMBER, "2 rows for 1"),
        ({"f": [1]}, NUMBER, "returned dict"),
        ("x", TEXT, "returned str"),
        ([3], NUMBER, "answer 0 is int"),
        ([{"g": 1}], NUMBER, "no output 'f'"),
        ([{"f": "1"}], NUMBER, "output 'f': a number"),
        ([{"f": [1, 2]}], NUMBER, "output 'f'"),
        ([{"f": 1}], TEXT, "output 'f': a string"),
        ([{"f": "cat"}], LABEL, "output 'f': a dict"),
        ([{"f": np.zeros(6)}], ARRAY, "shape [2, 3] is promised, not [6]"),
        ([{"f": np.zeros((2, 3))}], IMAGE, "a PIL image is expected, not ndarray"),
    ],
)
def test_a_wrong_answer_of_the_model_is_told(answers: Any, spec: FeatureSpec, words: str):
    """An answer that breaks the model's own promise says how."""
    with pytest.raises(AnswerError) as caught:
        encode_rows(answers, [spec], num_rows=1, tensor_json=True)
    assert words in str(caught.value)
