"""ONNX files as models. The files are written here, message by message of their protobuf."""

from __future__ import annotations

import struct
import sys
from typing import TYPE_CHECKING, Any

import numpy as np
import pytest

from batchscore.errors import UsageError
from batchscore.serving.load import load_model
from batchscore.serving.models import RowError

if TYPE_CHECKING:
    from pathlib import Path

FLOAT, INT64, STRING = 1, 7, 8
ML = "ai.onnx.ml"


def varint(number: int) -> bytes:
    """A whole number as protobuf writes it."""
    head, rest = number & 0x7F, number >> 7
    return bytes([head | 0x80]) + varint(rest) if rest else bytes([head])


def field(number: int, value: int | str | bytes) -> bytes:
    """One field of a message."""
    if isinstance(value, int):
        return varint(number << 3) + varint(value)
    data = value.encode() if isinstance(value, str) else value
    return varint(number << 3 | 2) + varint(len(data)) + data


def tensor_type(kind: int, shape: list[int | str]) -> bytes:
    """The type of a tensor; a string is an open dimension."""
    dims = (field(1, field(1 if isinstance(size, int) else 2, size)) for size in shape)
    return field(1, field(1, kind) + field(2, b"".join(dims)))


def map_type() -> bytes:
    """seq(map(string, tensor(float))) without a shape."""
    value = field(1, field(1, FLOAT))
    return field(4, field(1, field(5, field(1, STRING) + field(2, value))))


def value_info(name: str, type_: bytes) -> bytes:
    """A named input or output."""
    return field(1, name) + field(2, type_)


def node(operator: str, inputs: list[str], output: str, attributes: bytes = b"", of: str = ""):
    """One operation of the graph."""
    message = b"".join(field(1, name) for name in inputs) + field(2, output)
    return field(1, message + field(4, operator) + attributes + field(7, of))


def whole(name: str, value: int) -> bytes:
    """An attribute that is a whole number."""
    return field(5, field(1, name) + field(3, value) + field(20, 2))


def strings(name: str, values: list[str]) -> bytes:
    """An attribute that is a list of strings."""
    return field(5, field(1, name) + b"".join(field(9, v) for v in values) + field(20, 8))


def floats(name: str, shape: list[int], values: list[float]) -> bytes:
    """A constant tensor of the graph."""
    dims = b"".join(field(1, size) for size in shape)
    data = struct.pack(f"<{len(values)}f", *values)
    return field(5, dims + field(2, FLOAT) + field(8, name) + field(9, data))


def onnx_file(
    path: Path, nodes: bytes, inputs: dict[str, bytes], outputs: dict[str, bytes]
) -> Path:
    """Write an ONNX model of these parts."""
    graph = nodes + field(2, "test")
    graph += b"".join(field(11, value_info(*item)) for item in inputs.items())
    graph += b"".join(field(12, value_info(*item)) for item in outputs.items())
    opsets = field(8, field(2, 13)) + field(8, field(1, ML) + field(2, 1))
    path.write_bytes(field(1, 8) + opsets + field(7, graph))
    return path


@pytest.fixture
def everything(tmp_path: Path) -> Path:
    """A graph of y = x @ w, and of copies of an array, a whole number and a text."""
    nodes = floats("w", [1, 1], [3.0]) + node("MatMul", ["x", "w"], "y")
    for name in ("array", "whole", "text"):
        nodes += node("Identity", [name], f"{name}_out")
    inputs = {
        "x": tensor_type(FLOAT, ["N", 1]),
        "array": tensor_type(FLOAT, ["N", 2, 3]),
        "whole": tensor_type(INT64, ["N"]),
        "text": tensor_type(STRING, ["N", 1]),
    }
    outputs = {"y": tensor_type(FLOAT, ["N", 1])}
    outputs.update({f"{name}_out": inputs[name] for name in ("array", "whole", "text")})
    return onnx_file(tmp_path / "every thing.onnx", nodes, inputs, outputs)


def row(**values: Any) -> dict[str, Any]:
    """A row for the model of the fixture."""
    array = np.arange(6, dtype=np.float32).reshape(2, 3)
    return {"x": 2.0, "array": array, "whole": 7.0, "text": "é"} | values


def test_scalars_arrays_and_text_go_through(everything: Path):
    """[N] and [N, 1] are scalars, [N, k...] arrays, strings text; rows keep their order."""
    identifier, model = load_model(str(everything))
    assert identifier == "every-thing"
    assert model.inputs == {
        "x": ("numeric", ()),
        "array": ("numeric", (2, 3)),
        "whole": ("numeric", ()),
        "text": ("text", ()),
    }
    assert list(model.outputs) == ["y", "array_out", "whole_out", "text_out"]
    answers = model.predict([row(x=float(number)) for number in range(5)])
    assert [answer["y"] for answer in answers] == [0, 3, 6, 9, 12]
    np.testing.assert_array_equal(answers[4]["array_out"], row()["array"])
    assert (answers[4]["whole_out"], answers[4]["text_out"]) == (7, "é")


def test_null_is_nan_where_the_model_takes_floats(everything: Path):
    """A null float or float array reaches the graph as NaN."""
    _, model = load_model(str(everything))
    (answer,) = model.predict([row(x=None, array=None)])
    assert np.isnan(answer["y"])
    assert np.isnan(answer["array_out"]).all()


@pytest.mark.parametrize(
    ("values", "words"),
    [
        ({"whole": None}, "null"),
        ({"text": None}, "null"),
        ({"whole": 1.5}, "whole numbers"),
        ({"whole": float("nan")}, "whole numbers"),
        ({"whole": 1e30}, "whole numbers"),
    ],
)
def test_what_the_graph_cannot_take_is_the_rows_fault(
    everything: Path, values: dict[str, Any], words: str
):
    """A null or a fraction for a whole number names its row and feature."""
    _, model = load_model(str(everything))
    name = next(iter(values))
    with pytest.raises(RowError, match=rf"rows\[1\], feature '{name}': .*{words}"):
        model.predict([row(), row(**values)])


def test_the_maps_of_a_classifier_are_categorical(tmp_path: Path):
    """A sequence of maps is a categorical output, and its classes are known at once."""
    nodes = node("ZipMap", ["p"], "label", strings("classlabels_strings", ["no", "yes"]), ML)
    path = onnx_file(
        tmp_path / "zip.onnx", nodes, {"p": tensor_type(FLOAT, ["N", 2])}, {"label": map_type()}
    )
    _, model = load_model(str(path))
    assert model.outputs == {"label": ("categorical", ())}
    assert getattr(model, "classes", None) == {"label": ["no", "yes"]}
    answers = model.predict([{"p": np.float32([0.25, 0.75])}, {"p": np.float32([1, 0])}])
    assert answers == [{"label": {"no": 0.25, "yes": 0.75}}, {"label": {"no": 1, "yes": 0}}]


def test_a_graph_for_one_row_at_a_time_serves_many(tmp_path: Path):
    """Where the graph's first dimension is 1, the rows go through one by one."""
    one = tensor_type(FLOAT, [1, 2])
    path = onnx_file(tmp_path / "one.onnx", node("Neg", ["a"], "b"), {"a": one}, {"b": one})
    _, model = load_model(str(path))
    answers = model.predict([{"a": np.float32([i, 1])} for i in range(3)])
    assert [answer["b"].tolist() for answer in answers] == [[0, -1], [-1, -1], [-2, -1]]


def test_an_output_of_open_shape_is_learned_by_trying(tmp_path: Path):
    """A shape that the file leaves open is what one row of zeros gives."""
    nodes = node("Identity", ["a"], "b")
    path = onnx_file(
        tmp_path / "open.onnx",
        nodes,
        {"a": tensor_type(FLOAT, ["N", 4])},
        {"b": tensor_type(FLOAT, ["N", "M"])},
    )
    assert load_model(str(path))[1].outputs == {"b": ("numeric", (4,))}


@pytest.mark.parametrize(
    ("kind", "shape", "words"),
    [
        (FLOAT, ["N", "M"], "only the number of rows may be open"),
        (FLOAT, [5, 2], "no rows in it"),
        (FLOAT, [], "no rows in it"),
        (STRING, ["N", 2], "array of strings"),
        (16, ["N"], "bfloat16"),
    ],
)
def test_what_no_feature_is_gets_refused(tmp_path: Path, kind: int, shape: list, words: str):
    """An input that cannot be a feature is a usage error that names file and input."""
    a = tensor_type(kind, shape)
    path = onnx_file(tmp_path / "bad.onnx", node("Identity", ["a"], "b"), {"a": a}, {"b": a})
    with pytest.raises(UsageError, match=words) as caught:
        load_model(str(path))
    assert "bad.onnx" in str(caught.value)
    assert "'a'" in str(caught.value)


def test_a_file_that_is_no_model_is_told(tmp_path: Path):
    """A file that ONNX Runtime cannot load is a usage error that names it."""
    path = tmp_path / "junk.onnx"
    path.write_bytes(b"junk")
    with pytest.raises(UsageError, match=r"junk\.onnx does not load"):
        load_model(str(path))


def test_without_onnx_runtime_the_command_to_install_it_is_told(
    everything: Path, monkeypatch: pytest.MonkeyPatch
):
    """Where ONNX Runtime is missing, the error says what to install."""
    monkeypatch.setitem(sys.modules, "onnxruntime", None)
    with pytest.raises(UsageError, match=r"pip install 'batchscore\[onnx\]'"):
        load_model(str(everything))
