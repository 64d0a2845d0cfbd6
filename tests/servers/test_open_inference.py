"""The servers that speak v2: docs/servers.md is true of them, and their values are right."""

from __future__ import annotations

import base64
import gzip
import json

import pytest
import requests
from servers import wire
from servers.conftest import on
from servers.wire import Tensor, infer, infer_binary, outputs

TRAINED = {"wine_columns": "wine", "wine_proba": "wine", "wine_both": "wine"}
ROW = [14.23, 1.71, 2.43, 15.6, 127.0, 2.8, 3.06, 0.28, 2.29, 5.64, 1.04, 3.92, 1065.0]


def get(server, path):
    return requests.get(server.url + path, timeout=wire.TIMEOUT_S, allow_redirects=False)


def row(*, name="x", datatype="FP64", shape=(1, 13), values=ROW):
    return Tensor(name, datatype, list(shape), list(values))


def check(got, sample, *, proba=False):
    """What a tensor says is what the model itself says."""
    expected = wire.flat(sample.predict_proba) if proba else sample.predict
    assert got.values == (pytest.approx(expected, rel=1e-9, abs=1e-12)
                          if isinstance(expected[0], float) else expected)  # fmt: skip
    assert got.shape[0] == sample.table.num_rows


@pytest.mark.parametrize("model", ["wine", "wine_columns", "diabetes", "digits", "sentiment"])
def test_every_row_of_json_gets_the_models_own_word(open_inference, model):
    """Numbers, arrays and texts, one tensor or one a column: as the model's own ``predict``."""
    sample = open_inference.sample(TRAINED.get(model, model))
    answer = infer(open_inference, model, *wire.inputs_of(model, sample))
    check(outputs(answer)["predict"], sample)


@pytest.mark.parametrize("model", ["wine", "wine_columns", "diabetes", "digits", "sentiment"])
def test_every_row_of_binary_gets_the_models_own_word(open_inference, model):
    """The binary extension both ways gives the same values; MLServer has none."""
    sample = open_inference.sample(TRAINED.get(model, model))
    answer = infer_binary(open_inference, model, *wire.inputs_of(model, sample))
    if open_inference.name == "mlserver":
        assert answer.status_code in {422, 500}
        return
    assert answer.headers.get("Content-Type") == {
        "kserve": None, "triton": "application/octet-stream",
    }[open_inference.name]  # fmt: skip
    check(outputs(answer)["predict"], sample)


def test_probabilities_are_a_matrix(open_inference):
    """``predict_proba`` is a tensor of rows by classes, in both forms."""
    sample = open_inference.sample("wine")
    asked = [infer]
    if open_inference.name != "mlserver":
        asked.append(infer_binary)
    for ask in asked:
        answer = outputs(ask(open_inference, "wine_proba", wire.matrix(sample.table)))
        check(answer["predict_proba"], sample, proba=True)
        assert answer["predict_proba"].shape == [178, 3]


def test_two_outputs_come_where_they_are_asked_for(open_inference):
    """All of them without asking, but on MLServer, which gives ``predict`` alone."""
    sample = open_inference.sample("wine")
    both = ["predict", "predict_proba"]
    x = wire.matrix(sample.table)
    alone = outputs(infer(open_inference, "wine_both", x))
    assert list(alone) == (both[:1] if open_inference.name == "mlserver" else both)
    wanted = [{"name": name} for name in both]
    answer = outputs(infer(open_inference, "wine_both", x, outputs=wanted))
    check(answer["predict"], sample)
    check(answer["predict_proba"], sample, proba=True)


def test_a_vector_has_the_shape_that_the_server_gives_it(open_inference):
    """KServe ``[n]``, the others ``[n,1]``."""
    answer = outputs(infer(open_inference, "diabetes", row(shape=[2, 10], values=[0.1] * 20)))
    assert answer["predict"].shape == ([2] if open_inference.name == "kserve" else [2, 1])


def test_pictures_travel_as_base64_in_json_or_as_bytes(open_inference):
    """KServe and MLServer take base64; Triton bytes in the binary form, which KServe refuses."""
    sample = open_inference.sample("picture")
    inputs = wire.inputs_of("picture", sample)
    if open_inference.name == "triton":
        assert infer(open_inference, "picture", *inputs).status_code == 500
        check(outputs(infer_binary(open_inference, "picture", *inputs))["predict"], sample)
        return
    check(outputs(infer(open_inference, "picture", *inputs))["predict"], sample)
    assert infer_binary(open_inference, "picture", *inputs).status_code == 500


def test_metadata_tells_names_types_and_shapes(open_inference):
    """``GET /v2/models/NAME``, with what the author declared; Triton's scalars are ``[-1,1]``."""
    wine, columns = (get(open_inference, f"/v2/models/{name}").json()
                     for name in ("wine", "wine_columns"))  # fmt: skip
    assert wine["inputs"] == [{"name": "x", "datatype": "FP64", "shape": [-1, 13]}]
    scalar = [-1, 1] if open_inference.name == "triton" else [-1]
    assert wine["outputs"] == [{"name": "predict", "datatype": "BYTES", "shape": scalar}]
    assert (
        wine["versions"] == {"kserve": None, "mlserver": [], "triton": ["1"]}[open_inference.name]
    )
    names = open_inference.sample("wine").table.column_names
    assert [each["name"] for each in columns["inputs"]] == names
    assert {tuple(each["shape"]) for each in columns["inputs"]} == {tuple(scalar)}


def test_the_server_says_who_it_is(open_inference):
    """``GET /v2``: its name, and whether it lists the binary extension."""
    said = get(open_inference, "/v2").json()
    assert said["name"] == open_inference.name
    assert ("binary_tensor_data" in said["extensions"]) == (open_inference.name == "triton")


@pytest.mark.parametrize("name", on("kserve", "mlserver"))
def test_a_model_may_declare_nothing(servers, name):
    """Metadata without inputs, and it scores all the same, whatever the tensor is called."""
    server = servers.named(name)
    said = get(server, "/v2/models/undeclared").json()
    assert (said["inputs"], said["outputs"]) == ([], [])
    sample = server.sample("diabetes")
    check(outputs(infer(server, "undeclared", wire.matrix(sample.table, "z")))["predict"], sample)


VERSIONS = {"kserve": ("1", 501, 501), "mlserver": ("v1", 200, 404), "triton": ("1", 200, 404)}


def test_versions_are_known_or_not(open_inference):
    """KServe answers 501 to any version; the others know theirs."""
    version, known, unknown = VERSIONS[open_inference.name]
    path = "/v2/models/wine/versions"
    assert get(open_inference, f"{path}/{version}").status_code == known
    assert get(open_inference, f"{path}/99").status_code == unknown
    body = {"id": "7", "inputs": [row().as_json()]}
    assert wire.post(open_inference, f"{path}/{version}/infer", body).status_code == known


def test_an_unknown_model_is_404_with_the_servers_words(open_inference):
    """Of GET and POST."""
    answers = get(open_inference, "/v2/models/nope"), infer(open_inference, "nope", row())
    assert [answer.status_code for answer in answers] == [404, 404]
    assert all("nope" in answer.json()["error"] for answer in answers)


# What is sent, and the status of KServe, MLServer and Triton.
STATUSES = {
    "integers as FP64": ([row(values=[1] * 13)], 200, 200, 200),
    "another datatype": ([row(datatype="FP32")], 200, 200, 400),
    "a wrong name": ([row(name="nope")], 200, 200, 400),
    "an input too many": ([row(), row(name="more")], 200, 400, 400),
    "no input": ([], 500, 400, 400),
    "a column too few": ([row(values=ROW[1:], shape=[1, 12])], 500, 500, 400),
    "no dimension of rows": ([row(shape=[13])], 500, 500, 400),
    "less data than the shape says": ([row(shape=[2, 13])], 500, 500, 500),
    "no rows": ([row(values=[], shape=[0, 13])], 500, 500, 400),
    "null in one of two rows": ([row(values=[*ROW, None, *ROW[1:]], shape=[2, 13])], 500, 500, 500),
    "text among numbers": ([row(values=["abc", *ROW[1:]])], 500, 500, 500),
    "too large for the model": ([row(values=[1e308] * 13)], 500, 500, 500),
}  # fmt: skip


@pytest.mark.parametrize("what", STATUSES)
def test_the_status_of_what_does_not_fit(open_inference, what):
    """Bad rows are mostly 500; wrong names are often nobody's business."""
    inputs, *statuses = STATUSES[what]
    expected = dict(zip(("kserve", "mlserver", "triton"), statuses, strict=True))
    assert infer(open_inference, "wine", *inputs).status_code == expected[open_inference.name]


def changed(columns, what):
    if what == "a wrong name":
        return [columns[0]._replace(name="nope"), *columns[1:]]
    if what == "one missing":
        return columns[1:]
    if what == "another order":
        return columns[::-1]
    return [columns[0]._replace(shape=[1, 1], values=[1.0]), *columns[1:]]


@pytest.mark.parametrize(
    ("what", "statuses"),
    [
        ("a wrong name", (500, 500, 400)),
        ("one missing", (500, 500, 400)),
        ("another order", (500, 500, 200)),
        ("another length", (500, 500, 400)),
    ],
)
def test_the_status_of_wrong_columns(open_inference, what, statuses):
    """With one input a column the model checks the names; Triton minds no order."""
    columns = [Tensor(name, "FP64", [2, 1], [value] * 2) for name, value in
               zip(open_inference.sample("wine").table.column_names, ROW, strict=True)]  # fmt: skip
    assert infer(open_inference, "wine_columns", *columns).status_code == 200
    status = dict(zip(("kserve", "mlserver", "triton"), statuses, strict=True))
    answer = infer(open_inference, "wine_columns", *changed(columns, what))
    assert answer.status_code == status[open_inference.name]


def test_a_scalar_column_may_have_one_dimension_where_it_is_declared_so(open_inference):
    """Triton wants its ``[n,1]``; the others take ``[n]``."""
    inputs = wire.inputs_of("sentiment", open_inference.sample("sentiment"), scalar=True)
    status = infer(open_inference, "sentiment", *inputs).status_code
    assert status == (400 if open_inference.name == "triton" else 200)


def body(**changes):
    return json.dumps({"id": "7", "inputs": [row().as_json()], **changes})


PLAIN = body().replace("14.23", "NaN")
BODIES = {
    "no id": (json.dumps({"inputs": [row().as_json()]}).encode(), {}, 500, 200, 200),
    "bare NaN": (PLAIN.encode(), {}, 500, 422, 500),
    "no JSON": (b"{nope", {}, 422, 422, 500),
    "an unknown output": (body(outputs=[{"name": "nope"}]).encode(), {}, 400, 400, 400),
    "gzip": (gzip.compress(body().encode()), {"Content_Encoding": "gzip"}, 400, 200, 200),
    "no content type": (body().encode(), {"Content_Type": None}, 400, 200, 200),
}


@pytest.mark.parametrize("what", BODIES)
def test_the_status_of_odd_requests(open_inference, what):
    """Always with an id and a content type, never NaN, never compressed."""
    sent, headers, *statuses = BODIES[what]
    expected = dict(zip(("kserve", "mlserver", "triton"), statuses, strict=True))
    headers = {"Content_Type": "application/json", **headers}
    answer = wire.post(open_inference, "/v2/models/wine/infer", sent, **headers)
    assert answer.status_code == expected[open_inference.name]


def test_nested_texts_are_taken_for_empty_ones_by_mlserver(open_inference):
    """BYTES data has to be flat: MLServer says 200 and scores ``""`` for each."""
    good_bad = {"name": "text", "datatype": "BYTES", "shape": [2, 1]}
    said = []
    for data in (["good", "bad"], [["good"], ["bad"]]):
        request = {"id": "7", "inputs": [{**good_bad, "data": data}]}
        answer = wire.post(open_inference, "/v2/models/sentiment/infer", request)
        said.append(outputs(answer)["predict"].values)
    assert said[0] == ["good", "bad"]
    assert said[1] == (["good", "good"] if open_inference.name == "mlserver" else said[0])


def test_where_an_error_tells_what_it_was(open_inference):
    """MLServer's 500 is a traceback whose last line says it; the others have ``error``."""
    answer = infer(open_inference, "sentiment", Tensor("text", "BYTES", [1, 1], [None]))
    assert answer.status_code == 500
    if open_inference.name == "mlserver":
        assert answer.headers["Content-Type"] == "text/plain; charset=utf-8"
        assert answer.text.rstrip().splitlines()[-1].startswith("AttributeError")
    else:
        assert set(answer.json()) == {"error"}


def test_every_datatype_comes_back_as_it_went(open_inference):
    """Numbers at the ends of their ranges and texts of any letters."""
    sent = [
        Tensor("fp64", "FP64", [1, 3], [0.1, -1e300, 5e-324]),
        Tensor("int64", "INT64", [1, 2], [2**63 - 1, -(2**63)]),
        Tensor("uint8", "UINT8", [1, 2], [0, 255]),
        Tensor("bytes", "BYTES", [1, 3], ["", "naïve ☕", 'a"\\\n']),
    ]
    for each in sent:
        suffix = "_out" if open_inference.name == "triton" else ""
        answers = [infer(open_inference, "echo", each)]
        if open_inference.name != "mlserver":
            answers.append(infer_binary(open_inference, "echo", each))
        for answer in answers:
            got = outputs(answer)[each.name + suffix]
            assert (got.datatype, got.shape, got.values) == (each.datatype, each.shape, each.values)


@pytest.mark.parametrize(
    ("datatype", "values", "statuses"),
    [
        ("INT64", [1.0, 2.5], (200, 200, 500)),
        ("UINT8", [256, -1], (500, 200, 500)),
        ("FP16", [1.5, 2.0], (400, 200, 400)),
    ],
)
def test_the_status_of_numbers_that_a_datatype_does_not_hold(
    open_inference, datatype, values, statuses
):
    """MLServer looks at no number; FP16 is for the binary form alone elsewhere."""
    status = dict(zip(("kserve", "mlserver", "triton"), statuses, strict=True))
    sent = Tensor(datatype.lower(), datatype, [1, 2], values)
    assert infer(open_inference, "echo", sent).status_code == status[open_inference.name]


def test_answers_are_compressed_by_those_who_can(open_inference):
    """Where ``Accept-Encoding`` says gzip: by MLServer and Triton; bodies may be chunked."""
    request = body(inputs=[row(shape=[60, 13], values=ROW * 60).as_json()]).encode()
    answer = requests.post(
        f"{open_inference.url}/v2/models/wine/infer",
        data=iter([request]),
        headers={"Content-Type": "application/json", "Accept-Encoding": "gzip"},
        timeout=wire.TIMEOUT_S,
    )
    assert answer.request.headers["Transfer-Encoding"] == "chunked"
    assert len(outputs(answer)["predict"].values) == 60
    packed = None if open_inference.name == "kserve" else "gzip"
    assert answer.headers.get("Content-Encoding") == packed


@pytest.mark.parametrize("path", ["/v2/models/wine/", "/nope"])
def test_paths_that_are_not_there(open_inference, path):
    """404, and a slash too many a redirect, but from Triton."""
    status = get(open_inference, path).status_code
    assert status == (307 if path.endswith("/") and open_inference.name != "triton" else 404)


def test_nan_and_infinity_in_answers(open_inference):
    """As they are in the binary form; in JSON null (KServe) or bare (Triton)."""
    if open_inference.name == "mlserver":
        assert infer_binary(open_inference, "echo", row()).status_code == 500
        return
    odd = Tensor("fp64", "FP64", [1, 2], [float("nan"), float("inf")])
    (got,) = outputs(infer_binary(open_inference, "echo", odd)).values()
    assert repr(got.values) == "[nan, inf]"
    head = {"id": "7", "inputs": [{**odd.head(), "parameters": {"binary_data_size": 16}}]}
    start = json.dumps(head).encode()
    answer = wire.post(
        open_inference,
        "/v2/models/echo/infer",
        start + odd.raw(),
        Inference_Header_Content_Length=str(len(start)),
    )
    assert (b"[null,null]" if open_inference.name == "kserve" else b"[NaN,Infinity]") in (
        answer.content
    )


def test_triton_takes_no_more_rows_than_its_model(triton):
    """A batch over ``max_batch_size`` is a 400; ``/config`` tells it."""
    assert get(triton, "/v2/models/wine/config").json()["max_batch_size"] == 4096
    statuses = [
        infer(triton, "wine", row(shape=[n, 13], values=ROW * n)).status_code for n in (4096, 4097)
    ]
    assert statuses == [200, 400]


def test_kserve_takes_binary_only_where_it_is_not_called_json(kserve):
    """``application/json`` on a binary body is a 400."""
    answer = infer_binary(kserve, "wine", row(), Content_Type="application/json")
    assert answer.status_code == 400


def test_base64_is_what_a_request_may_say_to_mlserver(mlserver):
    """The content type in the request does what the metadata does."""
    sample = mlserver.sample("picture")
    (pictures,) = (each.as_json() for each in wire.inputs_of("picture", sample))
    assert base64.b64decode(pictures["data"][0])[1:4] == b"PNG"
    pictures["parameters"] = {"content_type": "base64"}
    answer = wire.post(mlserver, "/v2/models/picture/infer", {"id": "7", "inputs": [pictures]})
    check(outputs(answer)["predict"], sample)
