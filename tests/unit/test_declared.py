"""What a model takes, as the user declares it."""

import json
from pathlib import Path

import pyarrow as pa
import pytest

from batchscore.config import EndpointConfig
from batchscore.declared import inputs_of_objects, read_schema, with_inputs
from batchscore.errors import InputError, UsageError
from batchscore.schema import FeatureSpec, ModelSignature

FILES = sorted((Path(__file__).parent / "mlmodel").glob("*.json"))
COLUMNS = (
    FeatureSpec("boolean", "numeric", (1,), datatype="bool"),
    FeatureSpec("integer", "numeric", (1,), datatype="int32"),
    FeatureSpec("long", "numeric", (1,), datatype="int64"),
    FeatureSpec("float", "numeric", (1,), datatype="float32"),
    FeatureSpec("double", "numeric", (1,), datatype="float64"),
    FeatureSpec("string", "text", (1,)),
    FeatureSpec("binary", "image", (1,)),
    FeatureSpec("datetime", "text", (1,), datatype="datetime"),
)
WANTED = {
    "columns": COLUMNS,
    "unnamed": (
        FeatureSpec("0", "numeric", (1,), datatype="float64"),
        FeatureSpec("1", "text", (1,)),
    ),
    "tensor": (FeatureSpec("0", "numpy", (8, 8), datatype="float64"),),
    "tensors": (
        FeatureSpec("a", "numpy", (3,), datatype="float32"),
        FeatureSpec("b", "numpy", (), datatype="int64"),
    ),
    "arrays": (
        FeatureSpec("v", "numeric", (-1,), datatype="float64"),
        FeatureSpec("m", "numeric", (-1, -1), datatype="int64"),
    ),
}


def declared(columns: pa.Schema, mapping=None, **options) -> tuple[FeatureSpec, ...]:
    config = EndpointConfig(url="http://h/invocations", **options)
    none = ModelSignature((), ())
    return with_inputs(none, config, columns, mapping or {}, is_pictures=False).inputs


@pytest.mark.parametrize("path", FILES, ids=[path.stem for path in FILES])
def test_the_files_of_mlflow_are_read(tmp_path, path):
    """MLmodel files as four versions of MLflow wrote them; an input may be optional."""
    files = json.loads(path.read_text())
    assert set(files) >= {"columns", "unnamed", "tensor", "tensors"}
    for name, text in files.items():
        (tmp_path / "MLmodel").write_text(text)
        assert read_schema(tmp_path / "MLmodel", known=set("01abvm") | {
            spec.name for spec in COLUMNS
        }) == WANTED[name]  # fmt: skip


def test_an_optional_input_is_left_out_where_it_has_no_column(tmp_path):
    """A required one is not; nor an optional one that --map gives a column."""
    for word in ({"required": False}, {"optional": True}):
        inputs = [{"name": "a", "type": "long"}, {"name": "b", "type": "long", **word}]
        path = tmp_path / "MLmodel"
        path.write_text(f"signature:\n  inputs: '{json.dumps(inputs)}'\n")
        schema = pa.schema([("x", pa.int64())])
        assert [spec.name for spec in declared(schema, schema=path)] == ["a"]
        mapped = declared(schema, {"b": "x"}, schema=path)
        assert [spec.name for spec in mapped] == ["a", "b"]


@pytest.mark.parametrize(
    ("item", "words"),
    [
        ({"type": "hologram"}, "'hologram', which is not known"),
        ({"type": "array", "items": {"type": "string"}}, "an array of string"),
        ({"type": "object", "properties": {}}, "'object'"),
    ],
)
def test_a_type_that_is_not_known_is_told(tmp_path, item, words):
    """With the input's name."""
    path = tmp_path / "MLmodel"
    path.write_text(f"signature:\n  inputs: '{json.dumps([{'name': 'a', **item}])}'\n")
    with pytest.raises(UsageError, match=words):
        read_schema(path)


@pytest.mark.parametrize("text", ["flavors: {}\n", "flavors: {}\nsignature: null\n"])
def test_a_model_without_a_signature_says_so(tmp_path, text):
    """MLflow leaves the key out, or writes null."""
    (tmp_path / "MLmodel").write_text(text)
    with pytest.raises(UsageError, match="without a signature"):
        read_schema(tmp_path / "MLmodel")


@pytest.mark.parametrize(
    ("type_", "spec"),
    [
        (pa.list_(pa.float64()), FeatureSpec("x", "numeric", (-1,))),
        (pa.list_(pa.list_(pa.int8(), 2)), FeatureSpec("x", "numeric", (-1, 2))),
        (pa.list_(pa.list_(pa.int8(), 2), 3), FeatureSpec("x", "numeric", (3, 2))),
        (pa.bool_(), FeatureSpec("x", "numeric", (1,), datatype="bool")),
    ],
)
def test_a_column_says_what_it_is(type_, spec):
    """Lists without a fixed size are of any length."""
    assert declared(pa.schema([("x", type_)]), features="x") == (spec,)


@pytest.mark.parametrize("type_", [pa.list_(pa.string()), pa.map_(pa.string(), pa.int8())])
def test_a_column_that_does_not_say_it_is_refused(type_):
    """With its type, and what helps."""
    with pytest.raises(InputError, match="a file for --schema"):
        declared(pa.schema([("x", type_)]), features="x")


def test_objects_say_what_they_are():
    """Pictures are what is neither number, text nor list."""
    rows = [{"n": None, "t": "a", "b": False, "a": [[1, 2]], "p": b""}, {"n": 1}]
    found = inputs_of_objects(EndpointConfig(url="http://h"), rows)
    assert found == (
        FeatureSpec("n", "numeric", (1,)),
        FeatureSpec("t", "text", (1,)),
        FeatureSpec("b", "numeric", (1,), datatype="bool"),
        FeatureSpec("a", "numeric", (1, 2)),
        FeatureSpec("p", "image", (1,)),
    )


@pytest.mark.parametrize(
    ("rows", "options", "words"),
    [
        ([{}], {}, "the first row has none"),
        ([{"a": None}], {}, "'a' is None"),
        ([{"a": [[1], [1, 2]]}], {}, "different lengths"),
        ([{"a": 1}], {"pack": "x=a"}, "pack is for files"),
    ],
)
def test_objects_that_do_not_say_it_are_refused(rows, options, words):
    """In words of Python."""
    with pytest.raises(UsageError, match=words):
        inputs_of_objects(EndpointConfig(url="http://h", **options), rows)
