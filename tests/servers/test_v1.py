"""KServe's v1: what docs/servers.md says of it is true, and its values are right."""

from __future__ import annotations

import base64

import pytest
from servers import wire


def predict(server, model, instances):
    return wire.post(server, f"/v1/models/{model}:predict", {"instances": instances})


def as_json(value):
    return {"b64": base64.b64encode(value).decode()} if isinstance(value, bytes) else value


@pytest.mark.parametrize("model", ["wine", "diabetes", "digits", "sentiment", "picture"])
@pytest.mark.parametrize("named", [False, True], ids=["plain", "named"])
def test_every_instance_gets_the_models_own_word(kserve, model, named):
    """Rows, arrays, texts and pictures, with names and without: as the model's own ``predict``."""
    sample = kserve.sample(model)
    rows = [{key: as_json(value) for key, value in row.items()}
            for row in sample.table.to_pylist()]  # fmt: skip
    if not named:
        rows = [[*row.values()] if len(row) > 1 else next(iter(row.values())) for row in rows]
    said = predict(kserve, model, rows).json()["predictions"]
    floats = isinstance(sample.predict[0], float)
    assert said == (pytest.approx(sample.predict, rel=1e-9) if floats else sample.predict)


def test_a_matrix_is_lists_and_several_outputs_are_objects(kserve):
    """A row is a list of probabilities, or an object with an entry an output."""
    sample = kserve.sample("wine")
    rows = [[*row.values()] for row in sample.table.to_pylist()]
    matrix = predict(kserve, "wine_proba", rows).json()["predictions"]
    assert wire.flat(matrix) == pytest.approx(wire.flat(sample.predict_proba), rel=1e-9, abs=1e-12)
    both = predict(kserve, "wine_both", rows).json()["predictions"]
    assert both == [
        {"predict": label, "predict_proba": row}
        for label, row in zip(sample.predict, matrix, strict=True)
    ]


ROW = [1.0] * 13


@pytest.mark.parametrize(
    ("instances", "status"),
    [
        ([ROW, ROW[1:]], 500),
        ([ROW, [None, *ROW[1:]]], 500),
        ([["x", *ROW[1:]]], 500),
        ([{"nope": 1.0}], 500),
        ([], 500),
        ("rows", 400),
    ],
    ids=["ragged", "null", "text", "a wrong name", "none", "no list"],
)
def test_the_status_of_bad_rows(kserve, instances, status):
    """Bad rows are 500, what is no request 400; both tell it in ``error``."""
    answer = predict(kserve, "wine", instances)
    assert answer.status_code == status
    assert answer.json()["error"]


@pytest.mark.parametrize("body", [b"{", b'{"instances": [[NaN]]}', b'{"instances": [[1e400]]}'])
def test_what_is_no_json_is_400(kserve, body):
    """Bare NaN and what no double holds count among it."""
    answer = wire.post(kserve, "/v1/models/wine:predict", body, Content_Type="application/json")
    assert answer.status_code == 400


def test_a_request_without_instances_is_500_and_an_unknown_model_404(kserve):
    """The model looks for its key."""
    answer = wire.post(kserve, "/v1/models/wine:predict", {"inputs": [ROW]})
    assert (answer.status_code, answer.json()) == (500, {"error": "'instances'"})
    assert predict(kserve, "nope", [ROW]).status_code == 404


def test_a_prediction_that_no_json_number_holds_is_null(kserve):
    """The row was scored: null is what the model said."""
    assert predict(kserve, "diabetes", [[1e308] * 10]).json() == {"predictions": [None]}
