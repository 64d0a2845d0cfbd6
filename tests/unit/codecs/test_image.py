"""Pictures on the wire, and the folder that their files never leave."""

from __future__ import annotations

import base64
import io
import os
import warnings
from concurrent.futures import ThreadPoolExecutor

import numpy as np
import pyarrow as pa
import pytest
from hypothesis import given
from hypothesis import strategies as st
from PIL import Image

from batchscore.codecs import ImageFolder, input_codec, learn, output_codec
from batchscore.codecs.picture import is_simple_png
from batchscore.errors import DecodeError, InputError
from batchscore.schema import FeatureSpec

IMAGE = FeatureSpec("photo", "image")


def opened(uri: str) -> tuple[str, Image.Image]:
    """Media type and picture of a data URI."""
    head, data = uri.split(",")
    image = Image.open(io.BytesIO(base64.b64decode(data)))
    image.load()
    return head.removeprefix("data:").removesuffix(";base64"), image


def as_png(pixels: np.ndarray) -> bytes:
    """The pixels as a PNG file."""
    image = Image.fromarray(pixels)
    buffer = io.BytesIO()
    image.save(buffer, "PNG")
    return buffer.getvalue()


@pytest.fixture
def folder(tmp_path, picture):
    """A root with a base inside, a picture in each, and one picture outside."""
    base = tmp_path / "root" / "base"
    base.mkdir(parents=True)
    (base / "in.png").write_bytes(picture())
    (base.parent / "up.png").write_bytes(picture("L"))
    (tmp_path / "out.png").write_bytes(picture())
    return ImageFolder(base, base.parent)


@pytest.mark.parametrize("mode", ["RGB", "L"])
@pytest.mark.parametrize("format_", ["PNG", "JPEG"])
@pytest.mark.parametrize("type_", [pa.binary(), pa.large_binary(), pa.binary_view()], ids=str)
def test_png_and_jpeg_travel_as_their_own_bytes(encode, picture, mode, format_, type_):
    """A PNG or JPEG in mode RGB or L is never encoded again."""
    data = picture(mode, format_)
    encoded = encode(IMAGE, pa.array([None, data]).cast(type_)[1:])
    expected = f"data:image/{format_.lower()};base64,{base64.b64encode(data).decode()}"
    assert (list(encoded.values), dict(encoded.failures)) == ([expected], {})


@pytest.mark.parametrize(
    ("mode", "format_", "wire_mode"),
    [
        ("RGBA", "PNG", "RGB"), ("P", "PNG", "RGB"), ("LA", "PNG", "L"), ("1", "PNG", "L"),
        ("I;16", "PNG", "RGB"), ("CMYK", "JPEG", "RGB"), ("RGB", "BMP", "RGB"), ("L", "BMP", "L"),
        ("P", "GIF", "RGB"), ("L", "GIF", "RGB"), ("RGB", "TIFF", "RGB"), ("CMYK", "TIFF", "RGB"),
        ("RGBA", "TIFF", "RGB"), ("F", "TIFF", "RGB"), ("I", "TIFF", "RGB"), ("1", "TIFF", "L"),
        ("RGB", "WEBP", "RGB"), ("RGBA", "WEBP", "RGB"), ("RGB", "PPM", "RGB"),
        ("YCbCr", "TIFF", "RGB"), ("RGB", "ICO", "RGB"), ("LAB", "TIFF", "RGB"),
    ],
)  # fmt: skip
def test_every_other_picture_becomes_a_png(encode, picture, mode, format_, wire_mode):
    """Other modes and formats are sent as PNG in mode RGB or L, of the same size."""
    size = (16, 16)
    encoded = encode(IMAGE, pa.array([picture(mode, format_, size)]))
    assert not encoded.failures
    media_type, image = opened(encoded.values[0])
    assert (media_type, image.mode, image.size) == ("image/png", wire_mode, size)
    assert image.getextrema() != ((0, 0),) * 3


def test_sixteen_bits_are_scaled_not_cut(encode):
    """A 16-bit picture keeps its darkness: it does not turn white."""
    ramp = np.linspace(0, 65535, 256).astype(np.uint16).reshape(16, 16)
    encoded = encode(IMAGE, pa.array([as_png(ramp)]))
    _, image = opened(encoded.values[0])
    assert image.mode == "RGB"
    assert np.abs(np.asarray(image)[..., 0].astype(int).ravel() - np.arange(256)).max() <= 1
    dark = np.full((2, 2), 300, np.uint16)
    _, image = opened(encode(IMAGE, pa.array([as_png(dark)])).values[0])
    assert image.getpixel((0, 0)) == (1, 1, 1)


@pytest.mark.parametrize(
    ("values", "expected"),
    [
        ([0.0, 0.5, 1.0], [0, 128, 255]),
        ([0.0, 100.0, 255.0], [0, 100, 255]),
        ([-1.0, 0.0, 1.0], [0, 128, 255]),
        ([0.0, float("nan"), 1.0], [0, 0, 255]),
        ([0.0, 0.0, 0.0], [0, 0, 0]),
    ],
)
def test_floating_pictures_are_scaled_by_their_range(encode, values, expected):
    """Pixels from 0 to 1, from 0 to 255, and others, all become 8 bits; NaN is black."""
    buffer = io.BytesIO()
    Image.fromarray(np.array([values], np.float32)).save(buffer, "TIFF")
    _, image = opened(encode(IMAGE, pa.array([buffer.getvalue()])).values[0])
    assert np.asarray(image)[0, :, 0].tolist() == expected


def test_a_palette_with_transparency_becomes_its_colours(encode):
    """Transparency is dropped without a warning, whatever form it has."""
    image = Image.new("P", (2, 1))
    image.putpalette([255, 0, 0, 0, 0, 255])
    image.putpixel((1, 0), 1)
    buffer = io.BytesIO()
    image.save(buffer, "PNG", transparency=b"\x00\x80")
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        _, sent = opened(encode(IMAGE, pa.array([buffer.getvalue()])).values[0])
    assert np.asarray(sent).tolist() == [[[255, 0, 0], [0, 0, 255]]]
    assert "transparency" not in sent.info


def test_an_animation_is_its_first_frame(encode):
    """Of a GIF with frames the first is sent."""
    frames = [Image.new("RGB", (3, 3), colour) for colour in ("red", "blue")]
    buffer = io.BytesIO()
    frames[0].save(buffer, "GIF", save_all=True, append_images=frames[1:])
    _, image = opened(encode(IMAGE, pa.array([buffer.getvalue()])).values[0])
    assert image.getpixel((0, 0)) == (255, 0, 0)


@given(st.data())
def test_a_png_that_is_recognised_by_its_chunks_is_one_to_pillow_too(picture, data):
    """Whatever happens to the bytes of a PNG, what is sent unseen has passed Pillow's checks."""
    mode = data.draw(st.sampled_from(["RGB", "L", "RGBA", "P", "1", "I;16"]))
    png = bytearray(picture(mode))
    assert is_simple_png(bytes(png)) == (mode in {"RGB", "L"})
    for _ in range(data.draw(st.integers(0, 2))):
        png[data.draw(st.integers(0, len(png) - 1))] = data.draw(st.integers(0, 255))
    changed = bytes(png[: data.draw(st.integers(0, len(png)))])
    if is_simple_png(changed):
        with Image.open(io.BytesIO(changed)) as image:
            assert (image.format, image.mode in {"RGB", "L"}) == ("PNG", True)
            image.verify()


@pytest.mark.parametrize(("mode", "format_"), [("RGB", "JPEG"), ("CMYK", "JPEG")])
def test_pixels_are_not_turned(encode, mode, format_):
    """An orientation in the metadata leaves the pixels as they lie."""
    exif = Image.Exif()
    exif[0x0112] = 6
    buffer = io.BytesIO()
    Image.new(mode, (8, 4)).save(buffer, format_, exif=exif)
    _, image = opened(encode(IMAGE, pa.array([buffer.getvalue()])).values[0])
    assert image.size == (8, 4)


@pytest.mark.parametrize(
    ("mode", "format_"),
    [("RGB", "PNG"), ("RGB", "JPEG"), ("RGBA", "PNG"), ("RGB", "BMP"), ("RGB", "TIFF"),
     ("RGB", "WEBP")],
)  # fmt: skip
@pytest.mark.parametrize("share", [0.5, 0.95])
def test_a_truncated_picture_fails_its_row_alone(encode, mode, format_, share):
    """A picture that was cut off does not open, and its neighbours are sent."""
    buffer = io.BytesIO()
    noise = np.random.default_rng(0).integers(0, 256, (64, 64, len(mode)), np.uint8)
    Image.fromarray(noise).save(buffer, format_)
    good = buffer.getvalue()
    encoded = encode(IMAGE, pa.array([good, good[: int(len(good) * share)], None, good]))
    assert list(encoded.failures) == [1]
    assert "does not open" in encoded.failures[1]
    assert encoded.values[0] == encoded.values[3] is not None
    assert encoded.values[2] is None


def test_a_png_with_a_changed_byte_fails(encode, picture):
    """The checksums of a PNG are looked at."""
    data = bytearray(picture(size=(40, 40)))
    data[data.index(b"IDAT") + 8] ^= 0xFF
    assert list(encode(IMAGE, pa.array([bytes(data)])).failures) == [0]


@pytest.mark.parametrize("end", [b"", b"\0" * 20, b"\r\n", b"more data"], ids=repr)
def test_bytes_behind_a_picture_do_no_harm(encode, picture, end):
    """Files with something behind their end open, and travel as they are."""
    for format_ in ("PNG", "JPEG"):
        data = picture("RGB", format_) + end
        uri = encode(IMAGE, pa.array([data])).values[0]
        assert base64.b64decode(uri.split(",")[1]) == data


@given(st.binary(max_size=60))
def test_any_bytes_but_a_picture_fail(encode, data):
    """Bytes that Pillow does not know fail the row, never the job."""
    encoded = encode(IMAGE, pa.array([data]))
    assert "does not open" in encoded.failures[0]


@given(st.data())
def test_a_damaged_picture_is_sent_or_fails(encode, picture, data):
    """No damage to a file raises anything but its row's failure."""
    raw = bytearray(
        picture(*data.draw(st.sampled_from([("P", "PNG"), ("P", "GIF"), ("L", "TIFF")])))
    )
    for _ in range(3):
        raw[data.draw(st.integers(0, len(raw) - 1))] = data.draw(st.integers(0, 255))
    encoded = encode(IMAGE, pa.array([bytes(raw)]))
    assert (encoded.values[0] is None) == bool(encoded.failures)


@pytest.mark.parametrize("format_", ["PNG", "JPEG", "BMP"])
@pytest.mark.parametrize("limit", [100, 10], ids=["warning", "error"])
def test_a_picture_with_too_many_pixels_fails(encode, picture, monkeypatch, format_, limit):
    """A decompression bomb is not opened, and Pillow's warning goes nowhere."""
    data = picture("RGB", format_, (12, 12))
    monkeypatch.setattr(Image, "MAX_IMAGE_PIXELS", limit)
    encoded = encode(IMAGE, pa.array([data]))
    assert f"more than {limit} pixels" in encoded.failures[0]


def test_postscript_is_not_run(encode, picture):
    """EPS would start a program; it is no picture here."""
    assert "format is not known" in encode(IMAGE, pa.array([picture("RGB", "EPS")])).failures[0]


def test_threads_leave_the_warning_filters_alone(encode, picture):
    """Encoding in several threads at once ends with the filters that were."""
    before = list(warnings.filters)
    column = pa.array([picture("P", "GIF")] * 20)
    with ThreadPoolExecutor(4) as pool:
        results = list(pool.map(lambda _: encode(IMAGE, column), range(8)))
    assert all(not encoded.failures for encoded in results)
    assert list(warnings.filters) == before


def test_a_struct_gives_bytes_first_and_else_its_path(encode, picture, folder):
    """In {bytes, path} the path counts where there are no bytes; neither is null."""
    own, filed = picture("L"), (folder.base / "in.png").read_bytes()
    rows = [
        {"bytes": b"cut off by the slice", "path": None},
        {"bytes": own, "path": "in.png"},
        {"bytes": None, "path": "in.png"},
        {"bytes": None, "path": None},
        None,
        {"bytes": None, "path": "none.png"},
    ]
    type_ = pa.struct([("bytes", pa.binary()), ("path", pa.string())])
    encoded = encode(IMAGE, pa.array(rows, type_)[1:], folder=folder)
    found = [uri and base64.b64decode(uri.split(",")[1]) for uri in encoded.values]
    assert found == [own, filed, None, None, None]
    assert list(encoded.failures) == [4]


def test_a_struct_needs_only_one_of_the_two(encode, picture, folder):
    """A struct of bytes alone, of a path alone, or with nothing but nulls in one, will do."""
    data = picture()
    for rows, type_ in [
        ([{"bytes": data}], pa.struct([("bytes", pa.large_binary())])),
        ([{"path": "in.png"}], pa.struct([("path", pa.string())])),
        ([{"bytes": data, "path": None}], pa.struct([("bytes", pa.binary()), ("path", pa.null())])),
        ([{"bytes": None, "path": "in.png"}],
         pa.struct([("bytes", pa.null()), ("path", pa.string())])),
    ]:  # fmt: skip
        encoded = encode(IMAGE, pa.array(rows, type_), folder=folder)
        assert encoded.values[0].startswith("data:image/png")


@pytest.mark.parametrize(
    "type_",
    [pa.string(), pa.large_string(), pa.string_view(), pa.dictionary(pa.int8(), pa.string())],
    ids=str,
)
@pytest.mark.parametrize("untyped", [False, True])
def test_paths_are_read_below_the_folder(encode, folder, type_, untyped):
    """Paths are relative to the base; one that leads up but not out, or is absolute, is read."""
    if untyped and pa.types.is_dictionary(type_):
        untyped = False
    cells = ["in.png", "../up.png", str(folder.root / "up.png"), None]
    encoded = encode(IMAGE, pa.array(cells).cast(type_), folder=folder, untyped=untyped)
    assert not encoded.failures
    files = [folder.base / "in.png", folder.root / "up.png", folder.root / "up.png"]
    for value, file in zip(encoded.values, files, strict=False):
        assert base64.b64decode(value.split(",")[1]) == file.read_bytes()
    assert encoded.values[3] is None


def test_the_content_tells_the_media_type_not_the_suffix(encode, picture, folder):
    """A JPEG in a file called .png is sent as JPEG."""
    (folder.base / "wrong.png").write_bytes(picture("RGB", "JPEG"))
    encoded = encode(IMAGE, pa.array(["wrong.png"]), folder=folder)
    assert encoded.values[0].startswith("data:image/jpeg;base64,")


def test_no_path_leads_out_of_the_root(encode, folder):
    """Neither `..`, nor an absolute path, nor a symbolic link to a file or folder leaves it."""
    outside = folder.root.parent
    (folder.base / "link.png").symlink_to(outside / "out.png")
    (folder.base / "door").symlink_to(outside)
    (outside / "root-twin").mkdir()
    (outside / "root-twin" / "a.png").write_bytes((outside / "out.png").read_bytes())
    cells = [
        "../../out.png", str(outside / "out.png"), "link.png", "door/out.png",
        "../../root-twin/a.png", "../base/../../out.png", "/etc/hostname", "../../nowhere.png",
    ]  # fmt: skip
    encoded = encode(IMAGE, pa.array(cells), folder=folder)
    assert list(encoded.failures) == list(range(len(cells)))
    for cell, text in zip(cells, encoded.failures.values(), strict=True):
        assert "is outside the image root" in text
        assert cell[:39] in text
    assert set(encoded.values) == {None}


def test_links_inside_the_root_are_followed(encode, folder):
    """A symbolic link that stays inside is a file like others, also where the root is a link."""
    (folder.base / "link.png").symlink_to(folder.root / "up.png")
    (folder.root.parent / "alias").symlink_to(folder.root)
    alias = ImageFolder(folder.root.parent / "alias" / "base", folder.root.parent / "alias")
    for where in (folder, alias):
        assert not encode(IMAGE, pa.array(["link.png", "in.png"]), folder=where).failures


@pytest.mark.parametrize(
    ("cell", "why"),
    [
        ("none.png", "does not exist"),
        (".", "is a folder"),
        ("in.png/x", "cannot be read"),
        ("a\0b", "is not a path"),
        ("pipe", "is not a plain file"),
        ("loop", "cannot be read"),
        ("x" * 5000, "cannot be read"),
        ("text.png", "does not open"),
        ("empty.png", "does not open"),
        ("", "is not a path"),
        ("data:image/png;base64,%%%", "base64 is not valid"),
        ("data:text/plain;base64,aGk=", "is no data URI of a picture"),
        ("data:image/png,abc", "is no data URI of a picture"),
    ],
)
def test_a_file_that_cannot_be_a_picture_fails_with_its_path(encode, folder, cell, why):
    """The message names the path and the reason, once."""
    os.mkfifo(folder.base / "pipe")
    (folder.base / "loop").symlink_to("loop")
    (folder.base / "text.png").write_text("not a picture")
    (folder.base / "empty.png").touch()
    encoded = encode(IMAGE, pa.array(["in.png", cell]), folder=folder)
    assert list(encoded.failures) == [1]
    assert why in encoded.failures[1]
    if cell:
        assert encoded.failures[1].count(repr(cell)[1:-1][:39]) == 1


def test_an_empty_untyped_cell_is_a_missing_picture(encode, folder, wire):
    """CSV has no other way to say null."""
    encoded = encode(IMAGE, pa.array(["", "in.png"]), folder=folder, untyped=True)
    assert not encoded.failures
    assert encoded.values[0] is None


def test_data_uris_in_cells_are_checked_and_sent(encode, picture):
    """A cell may hold the picture itself; its media type is told by its content."""
    data = picture("RGB", "JPEG")
    cell = "data:image/png;base64," + base64.b64encode(data).decode()
    encoded = encode(IMAGE, pa.array([cell]))
    assert encoded.values == ["data:image/jpeg" + cell.removeprefix("data:image/png")]


def test_paths_without_a_folder_fail_and_name_the_option(encode):
    """Rows from standard input have no folder until one is named."""
    assert "--image-root" in encode(IMAGE, pa.array(["in.png"])).failures[0]


def test_nulls_and_empty_batches_are_no_trouble(encode, wire):
    """A column of nulls is sent as nulls, and no rows as none."""
    assert wire(encode(IMAGE, pa.nulls(2))) == "[null,null]"
    assert wire(encode(IMAGE, pa.nulls(2, pa.binary()))) == "[null,null]"
    assert wire(encode(IMAGE, pa.array([], pa.string()))) == "[]"


def test_wire_bytes_count_files_and_bytes(folder, picture):
    """The estimate is base64's four thirds, of files too; a missing file counts nothing."""
    data = picture(size=(60, 60))
    (folder.base / "big.png").write_bytes(data)
    for column in (pa.array([data, None]), pa.array(["big.png", "none.png"])):
        codec = input_codec(IMAGE, pa.field("x", column.type), tensor_json=True, folder=folder)
        assert len(data) * 4 // 3 <= codec.wire_bytes(column) <= len(data) * 4 // 3 + 100


@pytest.mark.parametrize(
    "type_",
    [pa.int64(), pa.list_(pa.uint8()), pa.timestamp("s"), pa.struct([("a", pa.binary())]),
     pa.struct([("bytes", pa.string())]), pa.struct([("bytes", pa.binary()), ("path", pa.int8())])],
    ids=str,
)  # fmt: skip
def test_a_column_that_can_never_be_a_picture_is_refused(type_):
    """The error names the column, its type and the feature."""
    with pytest.raises(InputError) as caught:
        input_codec(IMAGE, pa.field("height", type_), tensor_json=True, folder=None)
    for part in ("'height'", str(type_), "'photo'"):
        assert part in str(caught.value)


@given(st.lists(st.none() | st.binary(max_size=40)))
def test_answers_decode_to_the_bytes_that_came(values):
    """The bytes are those of the data URI; null is null."""
    uris = [
        v if v is None else f"data:image/png;base64,{base64.b64encode(v).decode()}" for v in values
    ]
    (column,) = output_codec(IMAGE).decode(uris)
    assert column.type == pa.binary()
    assert column.to_pylist() == values


def test_the_media_type_is_learned_and_stands_in_the_metadata():
    """The first picture's media type counts; image/jpg is image/jpeg."""
    assert output_codec(IMAGE).fields[0].metadata is None
    spec = learn(IMAGE, [None, "data:image/jpg;base64,aGk="])
    assert spec.media_type == "image/jpeg"
    assert output_codec(spec).fields[0].metadata == {b"media_type": b"image/jpeg"}
    assert learn(spec, ["data:image/png;base64,aGk="]) == spec
    with pytest.raises(DecodeError, match="holds no picture but '7'"):
        learn(IMAGE, [7])


@pytest.mark.parametrize(
    "value",
    ["hi", 7, {"a": 1}, "data:image/png,aGk=", "data:image/png;base64,aGk", "data:;base64,aGk=",
     "data:image/png;base64,a Gk=", "data:text/plain;base64,aGk=", "data:image/png;base64"],
    ids=str,
)  # fmt: skip
def test_an_answer_that_is_no_picture_is_a_decode_error(value):
    """Base64 is read to the letter."""
    with pytest.raises(DecodeError, match="'photo'"):
        output_codec(IMAGE).decode([None, value])
