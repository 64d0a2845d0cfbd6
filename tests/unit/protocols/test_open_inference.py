"""The Open Inference Protocol: golden bytes, without a network."""

import io
import itertools
import json
import struct
from decimal import Decimal

import numpy as np
import pyarrow as pa
import pytest
from hypothesis import given
from hypothesis import strategies as st
from PIL import Image

from batchscore.batches import RowBatch
from batchscore.config import EndpointConfig
from batchscore.errors import DecodeError, InputError, MetadataError, UsageError
from batchscore.protocols import protocol, recognised
from batchscore.protocols.base import Response, Treatment
from batchscore.protocols.open_inference import OpenInferenceProtocol
from batchscore.protocols.tensor_numbers import in_datatype
from batchscore.schema import UNTYPED_KEY, FeatureSpec, ModelSignature

URL = "http://host:8000/gate/v2/models/m"
HEADER = "inference-header-content-length"
INTEGERS = [f"{sign}INT{bits}" for sign in ("", "U") for bits in (8, 16, 32, 64)]
FLOATS = ["FP16", "FP32", "FP64"]


def numpy_of(datatype: str) -> np.dtype:
    if datatype == "BOOL":
        return np.dtype(bool)
    return np.dtype(datatype.lower().replace("fp", "float"))


def made(*, classes=(), url=URL) -> OpenInferenceProtocol:
    found = protocol("open-inference", EndpointConfig(url=url, classes=classes))
    found._ids = map(str, itertools.count(1))
    found.metadata_request(url)
    return found


def number(name="x", shape=(1,), datatype="float64") -> FeatureSpec:
    return FeatureSpec(name, "numeric", shape, datatype=datatype)


def encoded(column: pa.Array, spec: FeatureSpec, *, binary=True, untyped=False, outputs=()):
    """One column as its tensor."""
    field = pa.field("c", column.type, metadata={UNTYPED_KEY: b"1"} if untyped else None)
    signature = ModelSignature((spec,), outputs, binary_tensors=binary)
    encoder = made().encoder(signature, [field], None)
    rows = pa.RecordBatch.from_arrays([column], schema=pa.schema([field]))
    return encoder.encode(RowBatch(rows))


def said(rows) -> tuple[dict, bytes]:
    """The JSON of a whole body, and the bytes behind it."""
    body = rows.body(0, len(rows.positions))
    if isinstance(body, tuple):
        return json.loads(bytes(body[0])), b"".join(body[1:])
    return json.loads(body), b""


def data_of(rows) -> list:
    head, _ = said(rows)
    return head["inputs"][0]["data"]


def errors(rows) -> dict[int, str]:
    return {row: str(failure) for row, failure in rows.failures.items()}


def answer(outputs: list[dict], raw: bytes | None = None) -> Response:
    body = json.dumps({"model_name": "m", "outputs": outputs}).encode()
    if raw is None:
        return Response(200, body)
    return Response(200, body + raw, {HEADER: str(len(body))})


def output(data=None, *, name="y", datatype="FP64", shape=None, size=None) -> dict:
    found = {"name": name, "datatype": datatype, "shape": shape or [len(data)]}
    if size is not None:
        return {**found, "parameters": {"binary_data_size": size}}
    return {**found, "data": data}


def decoded(response: Response, *specs: FeatureSpec, num_rows: int, classes=(), probs="struct"):
    decoder = made(classes=classes).decoder(ModelSignature((), specs), probs=probs)
    return decoder.decode(response, num_rows)


def metadata(inputs=(), outputs=(), **more) -> Response:
    document = {"name": "m", "platform": "", "inputs": list(inputs), "outputs": list(outputs)}
    return Response(200, json.dumps({**document, **more}).encode())


def tensor(name, datatype, shape, **more) -> dict:
    return {"name": name, "datatype": datatype, "shape": shape, **more}


# Addresses


@pytest.mark.parametrize(
    ("url", "specification", "infer"),
    [
        ("http://h/v2/models/m", "http://h/v2/models/m", "http://h/v2/models/m/infer"),
        ("http://h/v2/models/m/", "http://h/v2/models/m", "http://h/v2/models/m/infer"),
        ("http://h/v2/models/m/infer", "http://h/v2/models/m", "http://h/v2/models/m/infer"),
        (
            "https://h/a/v2/models/m/versions/3?key=1",
            "https://h/a/v2/models/m/versions/3?key=1",
            "https://h/a/v2/models/m/versions/3/infer?key=1",
        ),
    ],
)
def test_every_form_of_address_leads_to_metadata_and_scoring(url, specification, infer):
    """With or without version, infer, slash and query: all are understood, and are recognised."""
    assert made(url=url).metadata_request(url).url == specification
    assert made(url=url).score_request(url, b"{}").url == infer
    assert recognised(url) == "open-inference"


def test_an_address_without_a_model_is_told_what_to_add():
    """A server that is no model says which it has, where it does."""
    found = made(url="http://h")
    assert found.metadata_request("http://h").url == "http://h/v2"
    signature = found.parse_metadata(Response(200, b'{"name":"kserve","extensions":[]}'))
    assert found.server_request("http://h").url == "http://h/v2/models"
    with pytest.raises(UsageError, match=r"add /v2/models/NAME; it has a, b"):
        found.with_server(signature, Response(200, b'{"models":["a","b"]}'))
    with pytest.raises(UsageError, match=r"add /v2/models/NAME$"):
        found.with_server(signature, None)
    with pytest.raises(MetadataError):
        found.parse_metadata(Response(200, b'{"openapi":"3"}'))


# Metadata


def test_metadata_tells_names_datatypes_and_shapes():
    """The rows' dimension is left out; a scalar a row is [-1] or [-1, 1]."""
    signature = made().parse_metadata(
        metadata(
            [
                tensor("a", "FP32", [-1]),
                tensor("b", "INT64", [-1, 1]),
                tensor("c", "UINT8", [-1, 28, 28]),
                tensor("t", "BYTES", [-1, 1]),
                tensor("p", "BYTES", [-1], parameters={"content_type": "base64"}),
                tensor("row", "FP64", [13]),
                tensor("open", "FP64", [-1, -1]),
            ],
            [tensor("y", "BOOL", [-1]), tensor("z", "FP32", [-1, 3]), tensor("s", "BYTES", [-1])],
        )
    )
    assert [(spec.shape, spec.dtype, spec.datatype) for spec in signature.inputs] == [
        ((), "numeric", "float32"),
        ((1,), "numeric", "int64"),
        ((28, 28), "numeric", "uint8"),
        ((1,), "text", "bytes"),
        ((), "image", "bytes"),
        ((13,), "numeric", "float64"),
        ((-1,), "numeric", "float64"),
    ]
    assert [(spec.kind, spec.shape, spec.datatype) for spec in signature.outputs] == [
        ("number", (1,), "bool"),
        ("array", (3,), "float32"),
        ("text", (1,), "bytes"),
    ]
    assert made().is_complete(signature)


def test_a_model_that_declares_nothing_is_none_that_fails():
    """Without inputs and outputs the signature is empty, and the outputs are to be learned."""
    signature = made().parse_metadata(metadata())
    assert signature == ModelSignature((), ())
    assert not made().is_complete(signature)


@pytest.mark.parametrize("datatype", ["BF16", "fp64", "STRING", ""])
def test_a_datatype_that_numpy_lacks_is_refused(datatype):
    """BF16 and misspelled datatypes are told, with the input's name and what is known."""
    with pytest.raises(MetadataError, match=rf"'x', has the datatype '{datatype}'.*FP64, BYTES"):
        made().parse_metadata(metadata([tensor("x", datatype, [-1])]))


BAD_SHAPE = b'{"name":1,"inputs":[{"name":"x","datatype":"FP64","shape":"ab"}]}'


@pytest.mark.parametrize(
    "document",
    [
        *(b"", b"[]", b'"x"', b"{}"),
        b'{"name":"m","inputs":[{"name":"x"}]}',
        BAD_SHAPE,
        b'{"inputs":{"a":1}}',
    ],
)
def test_what_is_no_metadata_is_told(document):
    """Whatever stands there, it is an error of metadata and nothing else."""
    with pytest.raises(MetadataError):
        made().parse_metadata(Response(200, document))


@pytest.mark.parametrize(
    ("body", "lists"),
    [
        (b'{"name":"triton","extensions":["sequence","binary_tensor_data"]}', True),
        (b'{"name":"mlserver","extensions":[]}', False),
        (b'{"name":"x","extensions":null}', False),
        (b'{"name":"x","extensions":[[1],{}]}', False),
        (b"<html>", False),
        (None, False),
    ],
)
def test_a_server_that_lists_the_binary_extension_is_known_to_speak_it(body, lists):
    """Whether it says so is no part of the model's fingerprint."""
    signature = ModelSignature((number(),), (number("y"),))
    found = made().with_server(signature, None if body is None else Response(200, body))
    assert found.binary_tensors is lists
    assert found.fingerprint() == signature.fingerprint()


# Requests


def test_a_request_in_json_is_these_bytes():
    """The golden bytes of two inputs, with the question for an answer in the binary form."""
    signature = ModelSignature(
        (number("x", (2,)), FeatureSpec("t", "text", (1,), datatype="bytes")), (number("y"),)
    )
    fields = [pa.field("x", pa.list_(pa.float64(), 2)), pa.field("t", pa.string())]
    found = made()
    rows = pa.table({"x": [[1, 0.5], [2, -1e300]], "t": ['é"', ""]}, pa.schema(fields))
    body = found.encoder(signature, fields, None).encode(RowBatch(rows.to_batches()[0])).body(0, 2)
    assert body == (
        b'{"id":"1","parameters":{"binary_data_output":true},'
        b'"outputs":[{"name":"y","parameters":{"binary_data":true}}],"inputs":['
        b'{"name":"x","shape":[2,2],"datatype":"FP64","data":[1.0,0.5,2.0,-1e+300]},'
        b'{"name":"t","shape":[2,1],"datatype":"BYTES","data":["\xc3\xa9\\"",""]}]}'
    )
    request = found.score_request(URL, body)
    assert request.headers["Content-Type"] == "application/json"
    assert request.headers["Accept-Encoding"] == "identity"
    assert HEADER not in {name.lower() for name in request.headers}


def test_a_binary_request_is_these_bytes():
    """The JSON, then the raw tensors in the inputs' order; a header says where they begin."""
    signature = ModelSignature(
        (number("x", (2,)), FeatureSpec("t", "text", (), datatype="bytes")), (), binary_tensors=True
    )
    fields = [pa.field("x", pa.list_(pa.float64(), 2)), pa.field("t", pa.string())]
    found = made()
    rows = pa.table({"x": [[1, 0.5], [2, -1e300]], "t": ["é", ""]}, pa.schema(fields))
    body = found.encoder(signature, fields, None).encode(RowBatch(rows.to_batches()[0])).body(0, 2)
    head = (
        b'{"id":"1","parameters":{"binary_data_output":true},"inputs":['
        b'{"name":"x","shape":[2,2],"datatype":"FP64","parameters":{"binary_data_size":32}},'
        b'{"name":"t","shape":[2],"datatype":"BYTES","parameters":{"binary_data_size":10}}]}'
    )
    raw = struct.pack("<4d", 1, 0.5, 2, -1e300) + b"\x02\0\0\0\xc3\xa9\0\0\0\0"
    assert b"".join(body) == head + raw
    request = found.score_request(URL, body)
    assert request.headers["Inference-Header-Content-Length"] == str(len(head))
    assert request.headers["Content-Type"] == "application/octet-stream"


def test_the_first_answer_in_the_binary_form_turns_requests_binary():
    """An answer is all it takes to find out, and infinities stay what JSON made of them."""
    found, spec = made(), number()
    column = pa.array([1.5, np.inf, np.nan])
    encoder = found.encoder(ModelSignature((spec,), ()), [pa.field("c", pa.float64())], None)
    batch = RowBatch(pa.RecordBatch.from_arrays([column], ["c"]))
    first = encoder.encode(batch)
    assert data_of(first) == [1.5, None, None]
    assert first.nonfinite == 2
    decoder = found.decoder(ModelSignature((), (number("y"),)), probs="struct")
    decoder.decode(answer([output([1.0, 2.0, 3.0])]), 3)
    assert isinstance(encoder.encode(batch).body(0, 3), bytes)
    decoder.decode(answer([output(shape=[1], size=8)], bytes(8)), 1)
    second = encoder.encode(batch)
    np.testing.assert_array_equal(np.frombuffer(said(second)[1]), [1.5, np.nan, np.nan])
    assert second.nonfinite == 1


def test_numbers_go_out_without_a_copy():
    """The bytes of a column of the model's own datatype are those that are sent."""
    column = pa.array(np.arange(1000.0))
    body = encoded(column, number()).body(0, 1000)
    sent = np.frombuffer(body[1], np.float64)
    assert np.shares_memory(sent, column.to_numpy())
    assert np.shares_memory(
        np.frombuffer(encoded(column, number()).body(7, 9)[1], np.float64), column.to_numpy()[7:9]
    )


@pytest.mark.parametrize("datatype", [*INTEGERS, *FLOATS, "BOOL"])
@pytest.mark.parametrize("binary", [True, False])
def test_every_datatype_goes_out_and_comes_in(datatype, binary):
    """The least and the greatest number of each datatype travel both ways unchanged."""
    dtype = numpy_of(datatype)
    if dtype.kind == "b":
        values = np.array([True, False])
    else:
        limits = np.iinfo(dtype) if dtype.kind in "iu" else np.finfo(dtype)
        values = np.array([limits.min, limits.max, 1], dtype)
    rows = encoded(pa.array(values), number(datatype=dtype.name), binary=binary)
    head, raw = said(rows)
    assert head["inputs"][0]["datatype"] == datatype
    needs_binary = binary or datatype == "FP16"
    if needs_binary:
        assert raw == values.tobytes()
        response = answer([output(datatype=datatype, shape=[len(values)], size=len(raw))], raw)
    else:
        np.testing.assert_array_equal(np.array(head["inputs"][0]["data"], dtype), values)
        response = answer([output(values.tolist(), datatype=datatype)])
    (column,) = decoded(response, number("y", datatype=dtype.name), num_rows=len(values))
    assert column.type == pa.from_numpy_dtype(dtype)
    np.testing.assert_array_equal(column.to_numpy(zero_copy_only=False), values)


@given(st.lists(st.integers(-(2**63), 2**64 - 1), min_size=1), st.sampled_from(INTEGERS))
def test_integers_that_fit_go_out_with_every_digit_and_others_fail(numbers, datatype):
    """A row whose number the datatype has not fails; the others keep every digit."""
    limits = np.iinfo(numpy_of(datatype))
    column = pa.array([Decimal(n) for n in numbers], pa.decimal128(30, 0))
    rows = encoded(column, number(datatype=numpy_of(datatype).name), binary=False)
    fits = [int(limits.min) <= n <= int(limits.max) for n in numbers]
    assert data_of(rows) == [n for n, ok in zip(numbers, fits, strict=True) if ok]
    assert sorted(rows.failures) == [row for row, ok in enumerate(fits) if not ok]


@given(
    st.lists(st.floats(width=64) | st.integers(-(2**63), 2**63 - 1).map(float), min_size=1),
    st.sampled_from([*INTEGERS, "BOOL", *FLOATS]),
)
def test_numbers_are_fitted_as_python_would(numbers, datatype):
    """Fractions and what is out of range are no integers; nothing finite becomes infinite."""
    dtype = numpy_of(datatype)
    fitted, bad = in_datatype(np.array(numbers), dtype)
    for row, value in enumerate(numbers):
        if dtype.kind == "f":
            with np.errstate(over="ignore"):
                ok = not np.isfinite(value) or bool(np.isfinite(np.float64(value).astype(dtype)))
        elif dtype.kind == "b":
            ok = value in (0, 1)
        else:
            limits = np.iinfo(dtype)
            ok = bool(np.isfinite(value)) and int(value) == value
            ok = ok and int(limits.min) <= int(value) <= int(limits.max)
        assert (bad is None or not bad[row]) == ok
        if ok and dtype.kind in "iu":
            assert int(fitted[row]) == int(value)


@pytest.mark.parametrize(
    "type_",
    [
        *(pa.float64(), pa.float16(), pa.int32(), pa.uint64(), pa.bool_(), pa.null()),
        *(pa.decimal128(5, 2), pa.dictionary(pa.int8(), pa.int16())),
    ],
)
def test_an_empty_number_fails_its_row(type_):
    """A tensor has no nulls: that row is not sent, the others are."""
    cells = [None, None] if pa.types.is_null(type_) else [1, None]
    if pa.types.is_decimal(type_):
        cells = [Decimal(1), None]
    column = pa.array([True, None] if pa.types.is_boolean(type_) else cells, type_)
    rows = encoded(column, number(datatype="float64"))
    sent = 0 if pa.types.is_null(type_) else 1
    assert errors(rows)[1] == "invalid_input: column 'c': the cell is empty; a tensor has no nulls"
    assert (len(rows.positions), said(rows)[1]) == (sent, struct.pack(f"<{sent}d", *[1.0] * sent))


def test_numbers_written_as_text_are_read_to_the_last_digit():
    """Text of CSV: blank is empty, every way of writing is understood, anything else fails."""
    cells = pa.array(["9007199254740993", " 7 ", "+1", "2.0", "1e2", "", None, "x", "1.5", "1e99"])
    rows = encoded(cells, number(datatype="int64"), binary=False, untyped=True)
    assert data_of(rows) == [9007199254740993, 7, 1, 2, 100]
    assert {row: text.partition(": ")[2] for row, text in errors(rows).items()} == {
        5: "column 'c': the cell is empty; a tensor has no nulls",
        6: "column 'c': the cell is empty; a tensor has no nulls",
        7: "column 'c': 'x' is no number",
        8: "column 'c': '1.5' is no INT64",
        9: "column 'c': '1e99' is no INT64",
    }
    whole = encoded(pa.array(["1", "-2"]), number(datatype="int8"), untyped=True)
    assert said(whole)[1] == b"\x01\xfe"
    floats = encoded(pa.array(["0.1", "-1e3", "nan"]), number(), untyped=True)
    np.testing.assert_array_equal(np.frombuffer(said(floats)[1]), [0.1, -1000, np.nan])


@pytest.mark.parametrize(
    ("column", "datatype"),
    [
        (pa.array([1, 2], pa.int32()), "INT32"),
        (pa.array([1.5], pa.float32()), "FP32"),
        (pa.array([True]), "BOOL"),
        (pa.array([Decimal("1.5")]), "FP64"),
        (pa.array([[1, 2]], pa.list_(pa.uint8(), 2)), "UINT8"),
    ],
)
def test_without_metadata_the_column_says_the_datatype(column, datatype):
    """Where the model declares nothing, numbers go out in the type that they have."""
    spec = FeatureSpec("x", "numeric", (2,) if pa.types.is_nested(column.type) else (1,))
    assert said(encoded(column, spec))[0]["inputs"][0]["datatype"] == datatype


@pytest.mark.parametrize("binary", [True, False])
def test_arrays_keep_their_own_digits(binary):
    """Lists of float64 are not cut to float32; ragged, empty and null ones fail their row."""
    column = pa.array([[[0.1, 2]], None, [[1]], [[None, 1]], [[3, 1e300]]])
    rows = encoded(column, number(shape=(1, 2)), binary=binary)
    head, raw = said(rows)
    numbers = np.frombuffer(raw).tolist() if binary else head["inputs"][0]["data"]
    assert numbers == [0.1, 2, 3, 1e300]
    assert head["inputs"][0]["shape"] == [2, 1, 2]
    assert [text[:40] for _, text in sorted(errors(rows).items())] == [
        "invalid_input: column 'c': the cell is e",
        "invalid_input: column 'c': its shape is ",
        "invalid_input: column 'c': there is a nu",
    ]
    floats = encoded(pa.array([[1.0, 2.5]]), number(shape=(2,), datatype="int32"))
    assert errors(floats) == {0: "invalid_input: column 'c': 2.5 is no INT32"}
    halves = encoded(pa.array([[1.0, 7e4]]), number(shape=(2,), datatype="float16"))
    assert errors(halves) == {0: "invalid_input: column 'c': 70000.0 is no FP16"}


@pytest.mark.parametrize("binary", [True, False])
@pytest.mark.parametrize("type_", [pa.string(), pa.large_string(), pa.binary()])
def test_texts_go_out_as_utf_8(binary, type_):
    """Empty text stays empty, null and what is no UTF-8 fails; a slice of a column is only that."""
    cells = ["é\n", None, "", "drop me"]
    column = pa.array(cells, pa.string()).cast(type_)[:3]
    spec = FeatureSpec("t", "text", (1,), datatype="bytes")
    rows = encoded(column, spec, binary=binary)
    head, raw = said(rows)
    assert sorted(rows.failures) == [1]
    if binary:
        assert raw == b"\x03\0\0\0\xc3\xa9\n\0\0\0\0"
    else:
        assert head["inputs"][0]["data"] == ["é\n", ""]
    bad = encoded(pa.array([b"a", b"\xff", b"c"]), spec, binary=binary)
    assert errors(bad) == {1: "invalid_input: column 'c': byte 0 of the cell is not UTF-8"}
    assert encoded(pa.array([1.0, 2.5]), spec, binary=False).failures == {}


def picture(mode="RGB", form="PNG") -> bytes:
    buffer = io.BytesIO()
    Image.new(mode, (3, 2), 7 if mode == "L" else (1, 2, 3)).save(buffer, form)
    return buffer.getvalue()


def test_pictures_are_bytes_or_base64_text():
    """Their own bytes where the server says that it takes bytes, else what JSON can hold."""
    import base64

    good, other = picture(), picture(form="BMP")
    column = pa.array([good, b"no picture", None, other], pa.binary())
    spec = FeatureSpec("p", "image", (1,), datatype="bytes")
    raw = encoded(column, spec)
    assert sorted(raw.failures) == [1, 2]
    head, data = said(raw)
    assert data[: 4 + len(good)] == struct.pack("<I", len(good)) + good
    assert "content_type" not in head["inputs"][0]["parameters"]
    text = encoded(column, spec, binary=False)
    sent = data_of(text)
    assert base64.b64decode(sent[0]) == good
    assert Image.open(io.BytesIO(base64.b64decode(sent[1]))).format == "PNG"
    assert said(text)[0]["inputs"][0]["parameters"] == {"content_type": "base64"}
    assert json.loads(text.body(1, 2))["inputs"][0]["data"] == sent[1:]


@pytest.mark.parametrize("binary", [True, False])
def test_any_run_of_rows_is_what_encoding_them_alone_gives(binary):
    """The size of a run is that of its body, and its rows are those of the whole."""
    table = pa.table(
        {
            "a": pa.array([1.5, -2e300, 3, None, 5]),
            "b": pa.array([[1, 2], [3, 4], [5, 6], [7, 8], [9, 10]], pa.list_(pa.int64(), 2)),
            "t": ["x,y", 'a "quote"', "", "z", "ü"],
            "k": [True, False, True, True, False],
        }
    )
    specs = (number("a"), number("b", (2,), "int64"),
             FeatureSpec("t", "text", (1,), datatype="bytes"), number("k", (), "bool"))  # fmt: skip
    encoder = made().encoder(
        ModelSignature(specs, (), binary_tensors=binary), list(table.schema), None
    )
    rows = encoder.encode(RowBatch(table.to_batches()[0]))
    assert rows.positions.tolist() == [0, 1, 2, 4]

    def tensors(body) -> list:
        pieces = body if isinstance(body, tuple) else (body,)
        head = json.loads(bytes(pieces[0]))
        head.pop("id")
        return [head, *map(bytes, pieces[1:])]

    for start, stop in itertools.combinations(range(5), 2):
        body = rows.body(start, stop)
        size = sum(map(len, body)) if isinstance(body, tuple) else len(body)
        assert rows.size(start, stop) == size
        taken = table.take(rows.positions[start:stop]).combine_chunks().to_batches()[0]
        alone = encoder.encode(RowBatch(taken)).body(0, stop - start)
        assert tensors(body) == tensors(alone)


def test_a_column_that_can_never_serve_is_refused():
    """Typed text is no number, and several texts a row are not supported."""
    with pytest.raises(InputError, match="takes numbers or booleans"):
        encoded(pa.array(["1"]), number())
    with pytest.raises(InputError, match=r"takes \[3\] texts a row"):
        encoded(pa.array(["1"]), FeatureSpec("t", "text", (3,), datatype="bytes"))
    with pytest.raises(InputError):
        encoded(pa.array([[1.0, 2.0]], pa.list_(pa.float64(), 2)), number(shape=(3,)))


# Answers


@pytest.mark.parametrize("data", [[1, 2, 3, 4], [[1, 2], [3, 4]]])
@pytest.mark.parametrize("datatype", ["FP32", "INT64"])
def test_arrays_come_flat_or_nested(data, datatype):
    """Higher ranks become tensors of the datatype that the answer states."""
    dtype = numpy_of(datatype)
    response = answer([output(data, datatype=datatype, shape=[2, 2])])
    (column,) = decoded(response, number("y", (2,), dtype.name), num_rows=2)
    assert column.type == pa.fixed_shape_tensor(pa.from_numpy_dtype(dtype), (2,))
    np.testing.assert_array_equal(column.to_numpy_ndarray(), [[1, 2], [3, 4]])


def test_a_matrix_of_classes_becomes_the_class_and_its_probabilities():
    """The columns stand in the order that the user named them in, the struct's fields sorted."""
    spec = FeatureSpec("y", "categorical", (3,), ("a", "b", "c"), datatype="float32")
    matrix = np.array([[0.25, 0.5, 0.25], [0.75, 0, 0.25]], np.float32)
    response = answer([output(datatype="FP32", shape=[2, 3], size=24)], matrix.tobytes())
    labels, probs = decoded(response, spec, num_rows=2, classes=("c", "a", "b"))
    assert labels.to_pylist() == ["a", "c"]
    assert probs.to_pylist() == [{"a": 0.5, "b": 0.25, "c": 0.25}, {"a": 0, "b": 0.25, "c": 0.75}]
    (only,) = decoded(response, spec, num_rows=2, classes=("c", "a", "b"), probs="none")
    assert only.to_pylist() == ["a", "c"]
    _, listed = decoded(response, spec, num_rows=2, classes=("c", "a", "b"), probs="list")
    assert listed.to_pylist()[0][0] == {"label": "a", "prob": 0.5}


def test_texts_come_in_both_forms():
    """BYTES become strings; several a row become a list."""
    spec = FeatureSpec("y", "text", (1,), datatype="bytes")
    (column,) = decoded(answer([output(["a", "é"], datatype="BYTES")]), spec, num_rows=2)
    assert column.to_pylist() == ["a", "é"]
    raw = b"\x01\0\0\0a\x02\0\0\0\xc3\xa9"
    binary = answer([output(datatype="BYTES", shape=[2, 1], size=len(raw))], raw)
    assert decoded(binary, spec, num_rows=2)[0].to_pylist() == ["a", "é"]
    two = FeatureSpec("y", "text", (2,), datatype="bytes")
    wide = answer([output(datatype="BYTES", shape=[1, 2], size=len(raw))], raw)
    assert decoded(wide, two, num_rows=1)[0].to_pylist() == [["a", "é"]]


def test_nan_is_understood_however_it_is_written():
    """A null and a bare NaN are NaN in JSON; NaN and infinities come whole in the binary form."""
    for written in (b"null", b"NaN"):
        body = b'{"outputs":[{"name":"y","datatype":"FP64","shape":[2],"data":[1.5,%b]}]}' % written
        (column,) = decoded(Response(200, body), number("y"), num_rows=2)
        np.testing.assert_array_equal(column.to_numpy(), [1.5, np.nan])
    raw = struct.pack("<2d", np.nan, -np.inf)
    (column,) = decoded(answer([output(shape=[2], size=16)], raw), number("y"), num_rows=2)
    np.testing.assert_array_equal(column.to_numpy(), [np.nan, -np.inf])


def test_a_narrower_datatype_than_declared_is_widened():
    """What an author declares is not always what comes; nothing is lost by widening."""
    response = answer([output([1, 2], datatype="INT32")])
    (column,) = decoded(response, number("y", datatype="int64"), num_rows=2)
    assert column.equals(pa.array([1, 2], pa.int64()))


@pytest.mark.parametrize(
    ("outputs", "raw", "what"),
    [
        ([output([1.0])], None, "has 1 rows, 2 were sent"),
        ([output([1.0, 2.0, 3.0])], None, "has 3 rows, 2 were sent"),
        ([output([1.0], shape=[2])], None, "has 1 values, its shape says 2"),
        ([output([1.0, 2.0], name="z")], None, "no output 'y', only 'z'"),
        ([], None, "no output 'y', only none"),
        ([output(["a", "b"])], None, "values that are no FP64"),
        ([output([1.0, 2.0], datatype="BF16")], None, "datatype 'BF16'"),
        ([output(["a", "b"], datatype="BYTES")], None, "came as BYTES, but is to be FP64"),
        ([output([1, 2], datatype="INT64")], None, "came as INT64, but is to be FP64"),
        ([output([1.0] * 4, shape=[2, 2])], None, r"came in the shape \[2, 2\]"),
        ([output([1.0], shape=[-1])], None, "without rows"),
        ([{**output([1.0]), "shape": []}], None, "without rows"),
        ([output(shape=[2], size=8)], bytes(8), "has 1 values, its shape says 2"),
        ([output(shape=[2], size=16)], bytes(8), "is to have 16 bytes; 8 came"),
        ([output(shape=[2], size=-1)], bytes(16), "is to have -1 bytes"),
        ([{"name": "y", "datatype": "FP64", "shape": [2]}], None, "has no data"),
        ([{"name": "y"}], None, "has no outputs"),
        ([output({"a": 1}, shape=[2])], None, "data that is no list"),
        ([output([[1.0], 2.0], shape=[2, 1])], None, "no FP64"),
    ],
)
def test_an_answer_that_is_none_is_told(outputs, raw, what):
    """Wrong counts, shapes, names and datatypes are the server's error; the message says which."""
    with pytest.raises(DecodeError, match=what):
        decoded(answer(outputs, raw), number("y"), num_rows=2)


@pytest.mark.parametrize(
    "raw", [b"\x05\0\0\0ab", b"\x01\0\0", b"\x01\0\0\0a", b"\x01\0\0\0a" * 3, b"\0\0\0\0" * 999]
)
def test_texts_that_are_cut_off_are_told(raw):
    """The lengths in the bytes are believed only as far as there are bytes."""
    spec = FeatureSpec("y", "text", (1,), datatype="bytes")
    response = answer([output(datatype="BYTES", shape=[2], size=len(raw))], raw)
    with pytest.raises(DecodeError, match="cut off|values"):
        decoded(response, spec, num_rows=2)


@pytest.mark.parametrize("length", ["-1", "1e3", "99999", "", "x"])
def test_a_header_that_cannot_be_is_told(length):
    """The length of the JSON is checked against the body."""
    response = Response(200, b'{"outputs":[]}', {HEADER: length})
    with pytest.raises(DecodeError, match="which cannot be"):
        decoded(response, number("y"), num_rows=1)


def test_integers_out_of_range_and_fractions_are_no_answer():
    """An answer's integers are those of its datatype."""
    for data in ([300, 1], [1.5, 2], [True, "x"]):
        with pytest.raises(DecodeError, match="no UINT8"):
            decoded(
                answer([output(data, datatype="UINT8")]), number("y", datatype="uint8"), num_rows=2
            )


def test_an_answer_of_too_many_values_is_not_read():
    """What is parsed is bounded by what was asked."""
    body = answer([output([0] * 2_000_000)])
    with pytest.raises(DecodeError, match="more than"):
        decoded(body, number("y"), num_rows=2)


# Learning


def test_outputs_are_learned_from_the_first_answer():
    """Names, datatypes, shapes and classes of a model that declares nothing."""
    found = made(classes=("b", "a"))
    empty = ModelSignature((number(),), ())
    response = answer(
        [
            output([1.0, 2.0]),
            output([0.5] * 4, name="p", datatype="FP32", shape=[2, 2]),
            output([1] * 6, name="q", datatype="INT64", shape=[2, 3]),
            output(["x", "y"], name="s", datatype="BYTES", shape=[2, 1]),
        ]
    )
    learned = found.learn(empty, response, 2)
    assert [(spec.name, spec.kind, spec.shape, spec.datatype) for spec in learned.outputs] == [
        ("y", "number", (1,), "float64"),
        ("p", "category", (2,), "float32"),
        ("q", "array", (3,), "int64"),
        ("s", "text", (1,), "bytes"),
    ]
    assert found.is_complete(learned)
    fields = found.decoder(learned, probs="struct").fields
    assert [field.name for field in fields] == ["y", "p", "p_probs", "q", "s"]


def test_open_sizes_are_learned_and_the_declared_names_stay():
    """A declared size of -1 is that of the first answer; what was not declared is left out."""
    declared = ModelSignature((), (number("y", (-1,), "float32"),))
    assert not made().is_complete(declared)
    assert made().decoder(declared, probs="struct").fields[0].type == pa.list_(pa.float32())
    response = answer([output([1], name="z"), output([1, 2], datatype="FP32", shape=[1, 2])])
    learned = made().learn(declared, response, 1)
    assert learned.outputs == (number("y", (2,), "float32"),)
    with pytest.raises(DecodeError, match="no output 'y'"):
        made().learn(declared, answer([output([1], name="z")]), 1)


def test_classes_that_no_output_has_are_told():
    """As many probabilities as classes, or the job ends with what there is."""
    outputs = [tensor("y", "FP64", [-1, 3]), tensor("n", "INT64", [-1])]
    with pytest.raises(UsageError, match=r"2 classes, but .*: y \[3\], n \[1\]"):
        made(classes=("a", "b")).parse_metadata(metadata(outputs=outputs))
    signature = made(classes=("c", "a", "b")).parse_metadata(metadata(outputs=outputs))
    assert signature.outputs[0].classes == ("a", "b", "c")


# Errors


@pytest.mark.parametrize(
    ("treatment", "statuses"),
    [
        (Treatment.ISOLATE, [400, 413, 422]),
        (Treatment.HALVE, [500]),
        (Treatment.RETRY, [408, 425, 429, 502, 503, 504, 520]),
        (Treatment.STOP, [401, 403, 404, 405, 415, 501, 505]),
    ],
)
def test_statuses_mean_what_these_servers_mean(treatment, statuses):
    """500 is what bad rows get too; 501 is no trouble that passes."""
    assert {made().treatment(status) for status in statuses} == {treatment}


TRACEBACK = """Traceback (most recent call last):
  File "/x/starlette/errors.py", line 165, in __call__
    await self.app(scope, receive, _send)
ValueError: Input X contains NaN.
LogisticRegression does not accept missing values"""


@pytest.mark.parametrize(
    ("body", "text"),
    [
        (b'{"error":"unexpected inference input"}', "unexpected inference input"),
        (b'{"detail":"Not Found"}', "Not Found"),
        (
            b'{"detail":[{"loc":["body",3],"msg":"JSON decode error"}]}',
            "body.3: JSON decode error",
        ),
        (
            TRACEBACK.encode(),
            "ValueError: Input X contains NaN. LogisticRegression does not accept missing values",
        ),
        (
            json.dumps({"error": f"Failed for model 'm': {TRACEBACK}"}).encode(),
            "ValueError: Input X contains NaN. LogisticRegression does not accept missing values",
        ),
        (b"<h1>Bad Gateway</h1>", "<h1>Bad Gateway</h1>"),
        (b"", "the server answered 500 without a word"),
    ],
)
def test_the_servers_words_are_found(body, text):
    """Of an error's JSON its text, of a traceback what it comes to."""
    assert made().error_text(Response(500, body)) == text
