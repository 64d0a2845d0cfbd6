"""Every feature type of the protocol, both ways, through real files and a real server."""

import base64
import io

import numpy as np
import pyarrow as pa
import pytest
from faultserver import LINEAR, FaultServer, Model, echo
from PIL import Image

from batchscore.errors import InputError, UsageError


def picture(number: int, *, mode="RGB", form="PNG", size=(6, 5)) -> bytes:
    buffer = io.BytesIO()
    pixels = np.random.default_rng(number).integers(0, 255, (*size[::-1], 3), np.uint8)
    image = Image.fromarray(pixels).convert(mode)
    image.save(buffer, form)
    return buffer.getvalue()


def data_uri(data: bytes, media="image/png") -> str:
    return f"data:{media};base64,{base64.b64encode(data).decode()}"


IMAGE = echo({"picture": ("image", [5, 6, 3])})
ARRAY = echo({"a": ("numeric", [2, 3])})
ARRAYS = np.arange(24, dtype=np.float32).reshape(4, 2, 3) / 7


def test_scalars_of_all_kinds_go_out_and_come_back(score_table):
    """Numbers, probabilities, text and categories return as they were sent."""
    table = pa.table(
        {
            "n": [0.1, None, -1e300],
            "b": pa.array([0.5, 0.25, None], pa.float32()),
            "t": ['é\u2028"\\', "", None],
            "c": pa.array(["x", "y", "x"]).dictionary_encode(),
        }
    )
    model = echo(
        {"n": ("numeric", [1]), "b": ("binary", []), "t": ("text", [1]), "c": ("categorical", [2])}
    )
    with FaultServer(*model) as server:
        out = score_table(table, server.url, batch_size=2, classes="x,y")
    assert out["predicted_n"].to_pylist() == [0.1, None, -1e300]
    assert out["predicted_b"].to_pylist() == [0.5, 0.25, None]
    assert out["predicted_t"].to_pylist() == ['é\u2028"\\', "", None]
    assert out["predicted_c"].to_pylist() == ["x", "y", "x"]
    assert out["predicted_c_probs"].to_pylist()[1] == {"x": None, "y": 1.0}
    assert out.schema.field("c").type == pa.string()


def in_column_form(form: str, pictures: list[bytes], folder) -> pa.Array:
    match form:
        case "binary":
            return pa.array(pictures, pa.binary())
        case "struct with bytes":
            return pa.array([{"bytes": data, "path": "no/such.png"} for data in pictures])
        case "paths" | "struct with paths":
            (folder / "pics").mkdir(exist_ok=True)
            paths = [f"pics/{number}.png" for number in range(len(pictures))]
            for path, data in zip(paths, pictures, strict=True):
                (folder / path).write_bytes(data)
            if form == "paths":
                return pa.array(paths)
            kind = pa.struct([("bytes", pa.binary()), ("path", pa.string())])
            return pa.array([{"bytes": None, "path": path} for path in paths], kind)
        case _:
            return pa.array([data_uri(data) for data in pictures])


@pytest.mark.parametrize(
    "form", ["binary", "struct with bytes", "paths", "struct with paths", "data URIs"]
)
def test_pictures_in_every_column_form_travel_as_their_own_bytes(tmp_path, score_table, form):
    """PNG and JPEG files of modes RGB and L are never encoded again, out or back."""
    pictures = [picture(n, mode=mode) for n, mode in enumerate(["RGB", "L", "RGB"])]
    table = pa.table({"picture": in_column_form(form, pictures, tmp_path)})
    with FaultServer(*IMAGE) as server:
        out = score_table(table, server.url, batch_size=2, keep="none")
        sent = {row["picture"] for request in server.requests for row in request.rows}
    assert sent == {data_uri(data) for data in pictures}
    assert out["predicted_picture"].to_pylist() == pictures
    assert out.schema.field("predicted_picture").metadata == {b"media_type": b"image/png"}


@pytest.mark.parametrize(
    ("mode", "form", "sent_mode", "sent_form"),
    [
        ("RGB", "JPEG", "RGB", "JPEG"),
        ("L", "JPEG", "L", "JPEG"),
        ("RGBA", "PNG", "RGB", "PNG"),
        ("P", "PNG", "RGB", "PNG"),
        ("LA", "PNG", "L", "PNG"),
        ("I;16", "PNG", "RGB", "PNG"),
        ("CMYK", "JPEG", "RGB", "PNG"),
        ("RGB", "BMP", "RGB", "PNG"),
        ("P", "GIF", "RGB", "PNG"),
        ("RGB", "WEBP", "RGB", "PNG"),
        ("L", "TIFF", "L", "PNG"),
    ],
)
def test_other_pictures_are_sent_as_rgb_or_l(score_table, mode, form, sent_mode, sent_form):
    """Alpha, palettes, CMYK, 16 bits and other file formats become what the API takes."""
    if mode == "I;16":
        buffer = io.BytesIO()
        Image.fromarray(np.full((5, 6), 30000, np.uint16)).save(buffer, "PNG")
        data = buffer.getvalue()
    else:
        data = picture(1, mode=mode, form=form)
    with FaultServer(*IMAGE) as server:
        score_table(pa.table({"picture": [data]}), server.url)
        head, _, body = server.requests[0].rows[0]["picture"].partition(",")
    sent = Image.open(io.BytesIO(base64.b64decode(body)))
    assert head == f"data:image/{sent_form.lower()};base64"
    assert (sent.mode, sent.format, sent.size) == (sent_mode, sent_form, (6, 5))
    if mode == "I;16":
        assert abs(sent.getpixel((0, 0))[0] - 30000 / 257) <= 1


def test_a_picture_that_does_not_open_fails_its_row_alone(tmp_path, score_table):
    """Broken, missing, outside the root: each such row fails unsent and names its trouble."""
    (tmp_path / "pics").mkdir()
    (tmp_path / "secret.png").write_bytes(picture(1))
    (tmp_path / "pics" / "good.png").write_bytes(picture(2))
    (tmp_path / "pics" / "torn.png").write_bytes(picture(3)[:60])
    (tmp_path / "pics" / "text.png").write_text("no picture")
    (tmp_path / "pics" / "link.png").symlink_to(tmp_path / "secret.png")
    paths = [
        "good.png", "torn.png", "text.png", "none.png", "../secret.png", "link.png",
        str(tmp_path / "secret.png"), "", None, "good.png",
    ]  # fmt: skip
    with FaultServer(*IMAGE) as server:
        out = score_table(pa.table({"picture": paths}), server.url, image_root=tmp_path / "pics")
        assert server.rows_seen == 3
    errors = out["prediction_error"].to_pylist()
    assert [error is None for error in errors] == [p in ("good.png", None) for p in paths]
    assert all(error.startswith("invalid_input: ") for error in errors if error)
    assert "none.png" in errors[3]
    assert out["predicted_picture"].to_pylist()[0] == picture(2)


def test_a_folder_of_pictures_is_a_table(tmp_path):
    """A folder of pictures needs no --map where the deployment takes one picture."""
    from integration.conftest import read_arrow

    import batchscore

    folder = tmp_path / "pics"
    (folder / "sub").mkdir(parents=True)
    for number, name in enumerate(["b.png", "a.jpg", "sub/c.png", "_no.png", ".no.png"]):
        form = "JPEG" if name.endswith("jpg") else "PNG"
        (folder / name).write_bytes(picture(number, form=form))
    with FaultServer(*IMAGE) as server:
        batchscore.score(folder, tmp_path / "out.arrow", url=server.url)
        batchscore.score(f"{folder}/*.png", tmp_path / "glob.arrow", url=server.url)
    out = read_arrow(tmp_path / "out.arrow")
    assert out["path"].to_pylist() == [str(folder / n) for n in ("a.jpg", "b.png", "sub/c.png")]
    assert out["predicted_picture"].to_pylist()[1] == picture(0)
    assert read_arrow(tmp_path / "glob.arrow")["path"].to_pylist() == [str(folder / "b.png")]


def array_column(form: str, folder) -> pa.Array:
    match form:
        case "tensor":
            return pa.FixedShapeTensorArray.from_numpy_ndarray(ARRAYS)
        case "nested lists":
            return pa.array(ARRAYS.tolist(), pa.list_(pa.list_(pa.float32())))
        case "flat fixed-size lists":
            flat = pa.array(ARRAYS.ravel())
            return pa.FixedSizeListArray.from_arrays(flat, 6)
        case "nested fixed-size lists":
            inner = pa.FixedSizeListArray.from_arrays(pa.array(ARRAYS.ravel()), 3)
            return pa.FixedSizeListArray.from_arrays(inner, 2)
        case _:
            (folder / "npy").mkdir(exist_ok=True)
            for number, array in enumerate(ARRAYS):
                np.save(folder / "npy" / f"{number}.npy", array.astype(np.float64))
            return pa.array([f"npy/{number}.npy" for number in range(len(ARRAYS))])


@pytest.mark.parametrize("tensor_json", [True, False])
@pytest.mark.parametrize(
    "form",
    ["tensor", "nested lists", "flat fixed-size lists", "nested fixed-size lists", ".npy paths"],
)
def test_arrays_arrive_bit_for_bit_from_every_column_form_in_both_encodings(
    tmp_path, score_table, form, tensor_json
):
    """Arrays arrive bit for bit, in the encoding that the specification asks for."""
    table = pa.table({"a": array_column(form, tmp_path)})
    with FaultServer(*ARRAY, tensor_json=tensor_json) as server:
        out = score_table(table, server.url, batch_size=3, keep="none")
        value = max(server.requests, key=lambda request: len(request.rows)).rows[1]["a"]
    if tensor_json:
        assert value["shape"] == [2, 3]
        assert np.array_equal(np.array(value["data"], np.float32), ARRAYS[1].ravel())
    else:
        head, _, body = value.partition(",")
        assert head == "data:application/x.peltarion.npy;base64"
        sent = np.load(io.BytesIO(base64.b64decode(body)))
        assert sent.dtype == np.float32
        assert np.array_equal(sent, ARRAYS[1])
    column = out["predicted_a"]
    assert column.type == pa.fixed_shape_tensor(pa.float32(), [2, 3])
    assert np.array_equal(column.combine_chunks().to_numpy_ndarray(), ARRAYS)


def test_the_type_numpy_always_travels_as_npy(score_table):
    """Numpy features are NumPy files whatever the specification says of tensor JSON."""
    model = echo({"a": ("numpy", [3])})
    table = pa.table({"a": pa.FixedSizeListArray.from_arrays(pa.array([1.0, 2, 3, 4, 5, 6]), 3)})
    with FaultServer(*model, tensor_json=True) as server:
        out = score_table(table, server.url)
        assert server.requests[0].rows[0]["a"].startswith("data:application/x.peltarion.npy")
    assert out["predicted_a"].to_pylist() == [[1, 2, 3], [4, 5, 6]]


def test_an_array_of_the_wrong_shape_fails_its_row_alone(score_table):
    """Ragged and short arrays fail; the rows beside them are scored."""
    table = pa.table({"a": [[[1, 2, 3], [4, 5, 6]], [[1], [2, 3]], [[1, 2]], None]})
    with FaultServer(*ARRAY) as server:
        out = score_table(table, server.url)
        assert server.rows_seen == 2
    errors = out["prediction_error"].to_pylist()
    assert [bool(error) for error in errors] == [False, True, True, False]
    assert out["predicted_a"].to_pylist()[0] == [1, 2, 3, 4, 5, 6]


@pytest.mark.parametrize(
    ("column", "words"),
    [
        (pa.FixedShapeTensorArray.from_numpy_ndarray(np.zeros((1, 3, 2), np.float32)), "[2, 3]"),
        (pa.FixedSizeListArray.from_arrays(pa.array([1.0, 2.0]), 2), "[2, 3]"),
        (pa.array([1.0]), "double"),
        (pa.array([["a"]]), "a"),
    ],
)
def test_a_column_that_can_never_be_the_array_is_refused_at_once(score_table, column, words):
    """A wrong static shape is a usage error that names both shapes."""
    with FaultServer(*ARRAY) as server, pytest.raises(InputError) as caught:
        score_table(pa.table({"a": column}), server.url)
    assert "'a'" in str(caught.value)
    assert words in str(caught.value)
    assert server.request_count == 0


def test_arrays_and_pictures_survive_every_output_format(tmp_path):
    """Parquet keeps the tensor type; CSV and JSON Lines hold JSON text and data URIs."""
    import csv
    import json

    import pyarrow.parquet as pq

    import batchscore

    pictures = [picture(n) for n in range(4)]
    table = pa.table(
        {"a": pa.FixedShapeTensorArray.from_numpy_ndarray(ARRAYS), "picture": pictures}
    )
    pq.write_table(table, tmp_path / "in.parquet")
    model = echo({"a": ("numeric", [2, 3]), "picture": ("image", [5, 6, 3])})
    with FaultServer(*model) as server:
        for suffix in ("parquet", "csv", "jsonl"):
            out = tmp_path / f"out.{suffix}"
            batchscore.score(tmp_path / "in.parquet", out, url=server.url, keep="none")
        # What was written as text can be read again.
        batchscore.score(
            tmp_path / "out.csv", tmp_path / "again.parquet", url=server.url, keep="none",
            map=["a=predicted_a", "picture=predicted_picture"],
        )  # fmt: skip
    for name in ("out", "again"):
        read = pq.read_table(tmp_path / f"{name}.parquet")
        tensors = read["predicted_a"].combine_chunks()
        assert tensors.type == pa.fixed_shape_tensor(pa.float32(), [2, 3])
        assert np.array_equal(tensors.to_numpy_ndarray(), ARRAYS)
        assert read["predicted_picture"].to_pylist() == pictures
    with (tmp_path / "out.csv").open(newline="") as file:
        rows = list(csv.DictReader(file))
    rows_json = [json.loads(line) for line in (tmp_path / "out.jsonl").read_text().splitlines()]
    for number in range(4):
        assert np.array_equal(
            np.array(json.loads(rows[number]["predicted_a"]), np.float32), ARRAYS[number]
        )
        assert np.array_equal(
            np.array(rows_json[number]["predicted_a"], np.float32), ARRAYS[number]
        )
        assert rows[number]["predicted_picture"] == data_uri(pictures[number])
        assert rows_json[number]["predicted_picture"] == data_uri(pictures[number])


def test_a_first_answer_without_any_picture_is_an_answer_all_the_same(score_table):
    """Null pictures are predictions; only the media type stays unknown."""
    model = Model(IMAGE.inputs, IMAGE.outputs, lambda rows: [{"picture": None} for _ in rows])
    with FaultServer(*model) as server:
        out = score_table(pa.table({"picture": [picture(1)] * 3}), server.url)
    assert out["predicted_picture"].null_count == 3
    assert out["prediction_error"].null_count == 3
    assert not out.schema.field("predicted_picture").metadata


def test_an_image_root_that_is_not_there_is_a_usage_error(tmp_path, score_table):
    """A wrong folder of pictures is told at once, not a row at a time."""
    (tmp_path / "file").write_bytes(b"")
    for place in ("nowhere", "file"):
        with FaultServer(*LINEAR) as server, pytest.raises(UsageError, match="--image-root"):
            score_table(pa.table({"x": [1]}), server.url, image_root=tmp_path / place)
        assert server.request_count == 0


def test_large_pictures_are_loaded_a_few_at_a_time(tmp_path, score_table):
    """A chunk of pictures is sent in bodies below the bound, not loaded whole."""
    rng = np.random.default_rng(0)
    (tmp_path / "pics").mkdir()
    for number in range(40):
        noise = rng.integers(0, 255, (100, 100, 3), np.uint8)
        Image.fromarray(noise).save(tmp_path / "pics" / f"{number}.png")
    table = pa.table({"picture": [f"pics/{number}.png" for number in range(40)]})
    model = Model(IMAGE.inputs, {"n": ("numeric", [1])},
                  lambda rows: [{"n": len(row["picture"])} for row in rows])  # fmt: skip
    with FaultServer(*model) as server:
        out = score_table(table, server.url, max_batch_bytes=100_000)
        assert max(request.body_bytes for request in server.requests) < 130_000
        assert server.request_count >= 14
    assert out.num_rows == 40
    assert out["prediction_error"].null_count == 40
