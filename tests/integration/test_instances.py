"""The instances protocol, through real files and a server that speaks like KServe and its kin."""

import base64
import io
import json
import math

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from faultserver import InstancesServer, faults
from integration.conftest import read_arrow
from integration.test_processes import until_joined
from integration.test_resume import interrupted, run
from PIL import Image

import batchscore
from batchscore.errors import InputError, StoppedError, UsageError

NUMBERS = pa.table({"id": pa.array(range(300)), "x": pa.array(range(300), pa.float64())})


def double(rows):
    """Twice the number, or an error: of text, of null, of numbers below zero."""
    if any(row < 0 for row in rows):
        raise ValueError("a number is below zero")
    return [2 * row for row in rows]


def predictions(out: pa.Table, name: str = "prediction") -> list:
    return out[f"predicted_{name}"].to_pylist()


def test_numbers_come_back_in_order(score_table):
    """One feature is its bare value; the nameless answer is a column of doubles."""
    with InstancesServer(double) as server:
        out = score_table(NUMBERS, server.url, features="x", batch_size=32)
        assert json.loads(server.requests[0].body) == {"instances": [float(n) for n in range(32)]}
        assert server.spec_requests >= 1
    assert out.column_names == ["id", "x", "predicted_prediction", "prediction_error"]
    assert out.schema.field("predicted_prediction").type == pa.float64()
    assert predictions(out) == [2.0 * n for n in range(300)]
    assert out["id"].to_pylist() == list(range(300))


def test_several_features_are_an_object(score_table):
    """With names; integers with every digit, text as it is, booleans true and false, null null."""
    table = pa.table(
        {
            "n": pa.array([2**62 + 1, None, 3]),
            "t": ['é"', None, ""],
            "b": [True, False, None],
            "f": [0.5, math.nan, None],
        }
    )
    with InstancesServer(lambda rows: [len(row) for row in rows]) as server:
        score_table(table, server.url, features="n,t,b,f")
        rows = server.requests[0].rows
    assert rows == [
        {"n": 2**62 + 1, "t": 'é"', "b": True, "f": 0.5},
        {"n": None, "t": None, "b": False, "f": None},
        {"n": 3, "t": "", "b": None, "f": None},
    ]
    assert rows[0]["b"] is True
    assert score_table.report.nonfinite_as_null == 1


def test_a_pack_is_the_list_alone(score_table):
    """Several columns of one input are a list a row, as scikit-learn servers take them."""
    table = pa.table({"a": [1.0, 2.0], "b": [3, 4]})
    with InstancesServer(lambda rows: [sum(row) for row in rows]) as server:
        out = score_table(table, server.url, pack="x=a,b")
        assert server.requests[0].rows == [[1.0, 3.0], [2.0, 4.0]]
    assert predictions(out) == [4.0, 6.0]


@pytest.mark.parametrize(
    ("answers", "type_", "values"),
    [
        (["a", None, ""], pa.string(), ["a", None, ""]),
        ([True, False, None], pa.float64(), [1.0, 0.0, None]),
        ([[1, 2.5], None, [3, None]], pa.fixed_shape_tensor(pa.float64(), [2]), None),
        ([[[1], [2]], [[3], [4]], None], pa.fixed_shape_tensor(pa.float64(), [2, 1]), None),
        ([[0.5], [1.5], None], pa.float64(), [0.5, 1.5, None]),
        ([[1], [2, 3], None], pa.string(), ["[1]", "[2,3]", None]),
        ([["a", "b"], [], None], pa.string(), ['["a","b"]', "[]", None]),
        ([None, 2, 3.5], pa.float64(), [None, 2.0, 3.5]),
    ],
    ids=["text", "booleans", "vectors", "matrices", "wrapped", "ragged", "lists of texts", "late"],
)
def test_what_the_answers_are_is_learned(score_table, answers, type_, values):
    """The first answer that is not null tells the column's type; what has none is JSON text."""
    table = pa.table({"x": [0, 1, 2]})
    with InstancesServer(lambda rows: [answers[row] for row in rows]) as server:
        out = score_table(table, server.url, features="x")
    column = out["predicted_prediction"]
    assert column.type == type_
    if values is None:
        flat = [None if value is None else np.ravel(value) for value in answers]
        for found, wanted in zip(column.to_pylist(), flat, strict=True):
            assert (found is None) == (wanted is None)
            if wanted is not None:
                assert np.array_equal(found, np.array(wanted, np.float64), equal_nan=True)
    else:
        assert column.to_pylist() == values
    assert out["prediction_error"].to_pylist() == [None] * 3


def test_an_object_is_an_output_a_key(score_table):
    """One level deeper too; what is deeper still is JSON text."""

    def score(rows):
        return [
            {
                "label": f"l{row}",
                "scores": {"a": row / 2, "b": [row, row]},
                "more": {"x": {"y": row}},
            }
            for row in rows
        ]

    with InstancesServer(score) as server:
        out = score_table(pa.table({"x": [1, 2, 3]}), server.url, features="x", batch_size=2)
    assert predictions(out, "label") == ["l1", "l2", "l3"]
    assert predictions(out, "scores.a") == [0.5, 1.0, 1.5]
    assert predictions(out, "scores.b") == [[1, 1], [2, 2], [3, 3]]
    assert predictions(out, "more.x") == ['{"y":1}', '{"y":2}', '{"y":3}']


def test_probabilities_become_the_class(score_table):
    """``--classes`` in the order of the model; a list of them is a category, sorted by class."""
    probabilities = [[0.7, 0.2, 0.1], [0.1, 0.2, 0.7], None]
    table = pa.table({"x": [0, 1, 2]})
    with InstancesServer(lambda rows: [probabilities[row] for row in rows]) as server:
        out = score_table(table, server.url, features="x", classes="cat,ant,bee")
        assert predictions(out) == ["cat", "bee", None]
        assert predictions(out, "prediction_probs") == [
            {"ant": 0.2, "bee": 0.1, "cat": 0.7},
            {"ant": 0.2, "bee": 0.7, "cat": 0.1},
            None,
        ]
        with pytest.raises(UsageError, match="--classes names 2 classes"):
            score_table(table, server.url, features="x", classes="cat,ant")


def test_bad_rows_stand_alone(score_table):
    """A server that answers 500 to bad rows: they are found, with its words, the others scored."""
    values = [float(n) for n in range(100)]
    for row in (3, 57):
        values[row] = -1.0
    with InstancesServer(double) as server:
        out = score_table(pa.table({"x": values}), server.url, features="x", max_attempts=2)
    errors = out["prediction_error"].to_pylist()
    assert [n for n, error in enumerate(errors) if error] == [3, 57]
    assert errors[3] == "http_500: ValueError: a number is below zero"
    assert predictions(out) == [None if n in (3, 57) else 2.0 * n for n in range(100)]


@pytest.mark.parametrize(
    ("changed", "words"),
    [
        ("text", "is no number"),
        ([1.0], None),
        ({"a": 1.0}, "is no number"),
    ],
)
def test_an_answer_of_another_kind_is_no_prediction(score_table, changed, words):
    """What does not fit the first answer fails its rows alone; it is never written as data."""
    with InstancesServer(lambda rows: [changed if row == 40 else row for row in rows]) as server:
        out = score_table(
            pa.table({"x": [float(n) for n in range(64)]}), server.url, features="x",
            batch_size=16, max_attempts=1,
        )  # fmt: skip
    errors = out["prediction_error"].to_pylist()
    if words is None:  # a number in brackets is that number
        assert not any(errors)
    else:
        assert [n for n, error in enumerate(errors) if error] == [40]
        assert errors[40].startswith("bad_response: ")
        assert words in errors[40]


@pytest.mark.parametrize(
    ("good", "bad", "words"),
    [
        ([1, 2], [1, 2, 3], "its shape is [3], not [2]"),
        ([1, 2], ["a", "b"], "does not hold numbers"),
        ({"a": 1}, {"b": 1}, "a prediction has no output 'a'"),
        ({"a": 1}, {"a": 1, "b": 1}, "a prediction has the outputs a, b, the first one a"),
        ({"a": 1}, 1, "not an object"),
        ({"a": {"b": 1}}, {"a": {"c": 1}}, "no output 'a.b'"),
        ("text", 1, "is no text"),
    ],
)
def test_another_length_or_key_fails_its_row_alone(score_table, good, bad, words):
    """Told in words of that row."""
    table = pa.table({"x": list(range(8))})
    with InstancesServer(lambda rows: [bad if row == 5 else good for row in rows]) as server:
        out = score_table(table, server.url, features="x", batch_size=4, max_attempts=1)
    errors = out["prediction_error"].to_pylist()
    assert [n for n, error in enumerate(errors) if error] == [5]
    assert words in errors[5]


@pytest.mark.parametrize(
    "fault",
    [
        faults.wrong_row_count(-1),
        faults.wrong_row_count(2),
        faults.html_200(),
        faults.empty_200(),
        faults.status(200, body=b'{"predictions": 5}'),
        faults.status(200, body=b'{"predictions": {"a": [1]}}'),
        faults.status(200, body=b'{"error": "no"}'),
        faults.status(503),
        faults.reset("middle"),
        faults.truncate(),
    ],
    ids=str,
)
def test_a_wrong_answer_is_asked_for_again(score_table, fault):
    """Another number of predictions, or none at all, never becomes data, the first time either."""
    with InstancesServer(double, script=[fault, None, fault]) as server:
        out = score_table(NUMBERS, server.url, features="x", batch_size=64)
    assert predictions(out) == [2.0 * n for n in range(300)]
    assert out["prediction_error"].null_count == 300


def test_no_rows_and_no_limit(score_table):
    """``--limit 0`` and an empty file: the nameless column is there, and nothing is sent."""
    with InstancesServer(double) as server:
        for table, limit in ((NUMBERS, 0), (NUMBERS.slice(0, 0), None)):
            out = score_table(table, server.url, features="x", limit=limit)
            assert out.num_rows == 0
            assert out.schema.field("predicted_prediction").type == pa.float64()
        assert server.request_count == 0


def test_a_null_first_answer_is_no_type(score_table):
    """Rows whose prediction is null before any type is known fail; the next ones tell it."""
    with InstancesServer(lambda rows: [None if row < 4 else row for row in rows]) as server:
        out = score_table(
            pa.table({"x": list(range(12))}), server.url, features="x", batch_size=4,
            max_attempts=1,
        )  # fmt: skip
    errors = out["prediction_error"].to_pylist()
    assert all("null throughout" in error for error in errors[:4])
    assert predictions(out)[4:] == [float(n) for n in range(4, 12)]


def test_the_columns_are_listed_where_nothing_is_declared(score_table):
    """A deployment that tells nothing needs --features, and the message says what there is."""
    with InstancesServer(double) as server, pytest.raises(UsageError, match="id, x"):
        score_table(NUMBERS, server.url)


def test_a_model_that_is_not_there_is_told_at_once(score_table):
    """KServe's own words for a wrong name, before anything is sent."""
    with InstancesServer(double, spec_script=[faults.status(404, "no model m")]) as server:
        with pytest.raises(StoppedError, match="404"):
            score_table(NUMBERS, server.url, features="x")
        assert server.request_count == 0


def test_a_host_header_reaches_a_model_behind_an_ingress(score_table):
    """``--header 'Host: ...'`` takes the place of the address's own, in every request."""
    with InstancesServer(double) as server:
        out = score_table(NUMBERS, server.url, features="x", header="Host: m.models.example.com")
        assert {request.headers["host"] for request in server.requests} == {"m.models.example.com"}
    assert predictions(out)[-1] == 598.0


def png(number: int) -> bytes:
    buffer = io.BytesIO()
    Image.fromarray(np.full((3, 2), number, np.uint8)).save(buffer, "PNG")
    return buffer.getvalue()


@pytest.mark.parametrize(
    ("form", "unwrap"),
    [
        ("b64", lambda value: value["b64"]),
        ("base64", str),
        ("data-uri", lambda value: value.removeprefix("data:image/png;base64,")),
    ],
)
def test_pictures_travel_as_base64(score_table, form, unwrap):
    """In the form that the server takes; one that does not open fails unsent."""
    pictures = [png(1), png(2), None, b"no picture"]

    def brightness(rows):
        data = [base64.b64decode(unwrap(row)) if row else None for row in rows]
        return [np.asarray(Image.open(io.BytesIO(each))).mean() if each else -1 for each in data]

    table = pa.table({"picture": pa.array(pictures, pa.binary())})
    with InstancesServer(brightness) as server:
        out = score_table(table, server.url, features="picture", instances={"image": form})
    assert predictions(out) == [1.0, 2.0, -1.0, None]
    assert out["prediction_error"][3].as_py().startswith("invalid_input: ")


def test_arrays_travel_as_nested_lists(score_table):
    """In their own numbers: 64-bit integers are not rounded."""
    big = 2**53 + 1
    values = [[[1, 2], [3, big]], [[5, 6], [7, 8]]]
    type_ = pa.list_(pa.list_(pa.int64(), 2), 2)
    with InstancesServer(lambda rows: [row[1][1] == big for row in rows]) as server:
        out = score_table(pa.table({"a": pa.array(values, type_)}), server.url, features="a")
        assert server.requests[0].rows == values
    assert predictions(out) == [1.0, 0.0]


def test_an_output_of_the_name_of_a_column_is_refused(score_table):
    """Which only the first answer shows: two columns of one name are never written."""
    table = pa.table({"x": [1], "predicted_label": ["a"]})
    with InstancesServer(lambda rows: [{"label": "b"} for _ in rows]) as server:
        with pytest.raises(UsageError, match="--drop predicted_label"):
            score_table(table, server.url, features="x")
        out = score_table(table, server.url, features="x", drop="predicted_label")
    assert predictions(out, "label") == ["b"]


# Kin

FORMS = {
    "TensorFlow Serving, by columns": (
        {"columnar": True, "extra": {"signature_name": "serving_default"}},
        {"columnar": True, "request_key": "inputs", "response_key": "outputs"},
        lambda rows: [{"sum": row["a"] + row["b"]} for row in rows],
        "sum",
    ),
    "BentoML": (
        {"request_key": "input_data", "response_key": "", "row": "list"},
        {"request_key": "input_data", "response_key": ""},
        lambda rows: [a + b for a, b in rows],
        "prediction",
    ),
    "LitServe, a row a request": (
        {"request_key": "input", "response_key": "output", "single": True},
        {"request_key": "input", "response_key": "output", "single": True},
        lambda rows: [row["a"] + row["b"] for row in rows],
        "prediction",
    ),
    "a bare list both ways": (
        {"request_key": "", "response_key": ""},
        {"request_key": "", "response_key": ""},
        lambda rows: [row["a"] + row["b"] for row in rows],
        "prediction",
    ),
    "a bare object a request": (
        {"request_key": "", "response_key": "result.sum", "single": True},
        {"request_key": "", "response_key": "result.sum", "single": True},
        lambda rows: [row["a"] + row["b"] for row in rows],
        "prediction",
    ),
}


@pytest.mark.parametrize("kin", FORMS)
def test_other_keys_and_forms_by_a_table(score_table, kin):
    """``[instances]`` says what an endpoint has otherwise."""
    table, options, score, name = FORMS[kin]
    rows = pa.table({"a": range(50), "b": [float(n) / 2 for n in range(50)]})
    with InstancesServer(score, path="/predict", **options) as server:
        out = score_table(
            rows, server.url, protocol="instances", features="a,b", instances=table, batch_size=20
        )
        bodies = [request.body for request in server.requests]
    assert predictions(out, name) == [1.5 * n for n in range(50)]
    assert len(bodies) == (50 if options.get("single") else 3)
    if "extra" in table:
        assert all(json.loads(body)["signature_name"] == "serving_default" for body in bodies)


def test_a_bad_row_of_single_requests_fails_alone(score_table):
    """Where each request is one row, there is nothing to halve."""
    table = {"request_key": "input", "response_key": "output", "single": True}
    rows = pa.table({"x": [1.0, -1.0, 3.0]})
    with InstancesServer(
        double, path="/predict", request_key="input", response_key="output", single=True
    ) as server:
        out = score_table(
            rows, server.url, protocol="instances", features="x", instances=table, max_attempts=1
        )
    assert predictions(out) == [2.0, None, 6.0]
    assert "below zero" in out["prediction_error"][1].as_py()


# Resuming, processes


def write(tmp_path, count=3000):
    table = pa.table({"id": range(count), "x": [float(n) for n in range(count)]})
    pq.write_table(table, tmp_path / "in.parquet")


def test_a_job_that_was_killed_goes_on(tmp_path):
    """With what the first run learned: the second one asks for no row twice that is there."""
    write(tmp_path)

    def score(rows):
        return [{"twice": 2 * row, "pair": [row, -row]} for row in rows]

    words = ("in.parquet", "--features", "x", "-o", "out.arrow", "--batch-size", 50)
    with InstancesServer(score, delay_s=0.01) as server:
        interrupted(tmp_path, server, *words, "--url", server.url, requests=12)
        server.delay_s = 0
        done = run(tmp_path, *words, "--url", server.url, "--resume")
        assert done.returncode == 0, done.stderr
    out = read_arrow(tmp_path / "out.arrow")
    assert predictions(out, "twice") == [2.0 * n for n in range(3000)]
    assert predictions(out, "pair")[-1] == [2999.0, -2999.0]


def test_two_processes_write_what_one_does(tmp_path):
    """Types are learned before the second one begins."""
    write(tmp_path)
    words = ("in.parquet", "--features", "x", "--batch-size", 50, "--concurrency", 2)
    with InstancesServer(double) as server:
        one = run(tmp_path, *words, "--url", server.url, "-o", "one.arrow")
        delay = until_joined(2)
        delay.server, server.delay_s = server, delay
        two = run(tmp_path, *words, "--url", server.url, "-o", "two.arrow", "--processes", 2)
    assert (one.returncode, two.returncode) == (0, 0), one.stderr + two.stderr
    assert (tmp_path / "one.arrow").read_bytes() == (tmp_path / "two.arrow").read_bytes()


def test_rescore_sends_only_what_failed(tmp_path):
    """In the form and with the types of the first run."""
    write(tmp_path, 100)
    words = ("in.parquet", "--features", "x", "-o", "out.arrow", "--max-attempts", 1)
    with InstancesServer(lambda rows: double([-1 if row == 7 else row for row in rows])) as server:
        assert run(tmp_path, *words, "--url", server.url).returncode == 3
        server.predict = double
        sent = server.rows_seen
        batchscore.rescore(tmp_path / "out.arrow", url=server.url)
        assert server.rows_seen == sent + 1
    assert predictions(read_arrow(tmp_path / "out.arrow")) == [2.0 * n for n in range(100)]


# In Python


def test_a_deployment_learns_its_features_from_the_first_rows():
    """Numbers, text, booleans, arrays and pictures as Python objects, and back."""

    def score(rows):
        return [{"n": row["n"], "kind": row["t"], "a": row["a"]} for row in rows]

    rows = [
        {"n": 2**60 + 1, "t": "x", "b": True, "a": np.ones((2, 2)), "p": Image.new("L", (2, 2))},
        {"n": None, "t": None, "b": None, "a": None, "p": None},
    ]
    with InstancesServer(score) as server, batchscore.Deployment(server.url) as deployment:
        assert deployment.feature_specs_in == []
        first, second = deployment.predict_many(rows)
        sent = server.requests[0].rows
        assert [spec.name for spec in deployment.feature_specs_in] == ["n", "t", "b", "a", "p"]
        assert deployment.predict(**rows[1]) == second
    assert sent[0]["n"] == 2**60 + 1
    assert sent[0]["b"] is True
    assert sent[0]["a"] == [[1, 1], [1, 1]]
    assert base64.b64decode(sent[0]["p"]["b64"]).startswith(b"\x89PNG")
    assert sent[1] == dict.fromkeys(rows[1])
    assert (first["n"], first["kind"]) == (float(2**60), "x")
    assert first["a"].tolist() == [[1, 1], [1, 1]]
    assert second == {"n": None, "kind": None, "a": None}


def test_a_deployment_can_be_told_its_features(tmp_path):
    """By name, or with their types by a file; of a None alone nothing can be learned."""
    schema = tmp_path / "schema.json"
    schema.write_text(json.dumps({"inputs": {"x": {"type": "numeric", "datatype": "float64"}}}))
    with InstancesServer(double) as server:
        with batchscore.Deployment(server.url, features="x") as deployment:
            with pytest.raises(InputError, match="'x' is None in the first rows"):
                deployment.predict(x=None, y="more")
            assert deployment.predict(x=1, y="more") == {"prediction": 2.0}
        with batchscore.Deployment(server.url, schema=schema) as deployment:
            assert deployment.predict(x=1.5) == {"prediction": 3.0}


@pytest.mark.parametrize("options", [{"features": ["x", "z"]}, {"pack": {"both": ["x", "z"]}}])
def test_rows_that_failed_are_scored_again(tmp_path, options):
    """What the first answer told stands in the output, so the failed rows get the same columns."""
    table = pa.table({"x": [1.0, -2.0, 3.0], "z": [0.5, 0.5, 0.5]})
    pq.write_table(table, tmp_path / "in.parquet")
    is_strict = [True]

    def classes(rows):
        firsts = [row["x"] if isinstance(row, dict) else row[0] for row in rows]
        if is_strict[0] and min(firsts) < 0:
            raise ValueError("below zero")
        return [[0.25, 0.75] if first > 0 else [0.75, 0.25] for first in firsts]

    out = tmp_path / "out.arrow"
    with InstancesServer(classes) as server:
        report = batchscore.score(
            tmp_path / "in.parquet", out, url=server.url, classes=["no", "yes"], max_attempts=1,
            **options,
        )  # fmt: skip
        assert report.rows_failed == 1
        is_strict[0] = False
        assert batchscore.rescore(out, url=server.url).rows_failed == 0
    found = read_arrow(out)
    assert found["predicted_prediction"].to_pylist() == ["yes", "no", "yes"]
    assert found["predicted_prediction_probs"].to_pylist()[1] == {"no": 0.75, "yes": 0.25}
