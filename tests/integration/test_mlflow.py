"""The mlflow protocol, through real files and a server that speaks like MLflow's."""

import base64
import datetime as dt
import io
import json
import math
import re

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from faultserver import MlflowServer, faults
from faultserver.untold import PARQUET
from integration.conftest import read_arrow
from integration.test_processes import until_joined
from integration.test_resume import interrupted, run
from PIL import Image

import batchscore
from batchscore.errors import InputError, StoppedError, UsageError

JSON = "application/json"
NUMBERS = pa.table({"id": pa.array(range(300)), "x": [float(n) for n in range(300)]})


def double(rows):
    """Twice the number, or an error: of text, of null, of numbers below zero."""
    if any(row["x"] < 0 for row in rows):
        raise ValueError("a number is below zero")
    return [2 * row["x"] for row in rows]


def echo(rows):
    return [{key: value for key, value in row.items() if value is not None} for row in rows]


def predictions(out: pa.Table, name: str = "prediction") -> list:
    return out[f"predicted_{name}"].to_pylist()


def mlmodel(folder, *inputs):
    """A file as MLflow writes it, with these inputs."""
    path = folder / "MLmodel"
    path.write_text(
        "artifact_path: model\nflavors:\n  python_function:\n    loader_module: mlflow.sklearn\n"
        f"signature:\n  inputs: '{json.dumps(inputs)}'\n  outputs: null\n  params: null\n"
    )
    return path


def column(name, kind, **more):
    return {"type": kind, "name": name, "required": True, **more}


def tensor(name, dtype, *shape):
    item = {"type": "tensor", "tensor-spec": {"dtype": dtype, "shape": [-1, *shape]}}
    return {**item, "name": name} if name else item


@pytest.mark.parametrize("takes_parquet", [True, False])
def test_numbers_come_back_in_order(score_table, takes_parquet):
    """As Parquet where that is taken; else it is asked once, and all rows go as JSON."""
    with MlflowServer(double, takes_parquet=takes_parquet) as server:
        out = score_table(NUMBERS, server.url, features="x", batch_size=32)
        assert server.spec_requests >= 1
        kinds = server.content_types
    assert predictions(out) == [2.0 * n for n in range(300)]
    assert out["prediction_error"].null_count == 300
    assert kinds == ([PARQUET] * 10 if takes_parquet else [PARQUET, *[JSON] * 10])


@pytest.mark.parametrize("status", [415, 500])
def test_one_row_alone_falls_back_too(score_table, status):
    """There is nothing to halve, and the row was not looked at."""
    with MlflowServer(double, takes_parquet=False, refuses_with=status) as server:
        out = score_table(NUMBERS.slice(5, 1), server.url, features="x", max_attempts=1)
        assert server.content_types == [PARQUET, JSON]
    assert predictions(out) == [10.0]


def test_a_server_that_stumbles_over_parquet_gets_json(score_table):
    """MLflow 2 reads a Parquet body as text and answers 500, so the same rows go as JSON."""
    with MlflowServer(double, takes_parquet=False, refuses_with=500) as server:
        out = score_table(NUMBERS, server.url, features="x", batch_size=32)
        assert server.content_types == [PARQUET, *[JSON] * 10]
    assert predictions(out) == [2.0 * n for n in range(300)]
    with MlflowServer(double, script=[None, faults.status(500)]) as server:
        out = score_table(NUMBERS, server.url, features="x", batch_size=100, concurrency=1)
        assert set(server.content_types) == {PARQUET}
    assert predictions(out) == [2.0 * n for n in range(300)]


@pytest.mark.parametrize("takes_parquet", [True, False])
def test_bad_rows_stand_alone(score_table, takes_parquet):
    """Every error is 400: the rows are halved, and the last line of the trace is the reason."""
    values = [-1.0 if n in (3, 57) else float(n) for n in range(100)]
    with MlflowServer(double, takes_parquet=takes_parquet) as server:
        out = score_table(pa.table({"x": values}), server.url, features="x", batch_size=50)
    errors = out["prediction_error"].to_pylist()
    assert [n for n, error in enumerate(errors) if error] == [3, 57]
    assert errors[3] == "http_400: BAD_REQUEST: Bad.: ValueError: a number is below zero"
    assert predictions(out) == [None if n in (3, 57) else 2.0 * n for n in range(100)]


@pytest.mark.parametrize("takes_parquet", [True, False])
def test_columns_have_the_types_of_the_model(tmp_path, score_table, takes_parquet):
    """CSV text and numbers of other types become what the MLmodel file says; what cannot fails."""
    schema = mlmodel(
        tmp_path,
        column("i", "integer"), column("n", "long"), column("f", "float"), column("d", "double"),
        column("b", "boolean"), column("s", "string"), column("t", "datetime"),
        column("gone", "double", required=False),
    )  # fmt: skip
    (tmp_path / "in.csv").write_text(
        "i,n,f,d,b,s,t\n"
        "1,9007199254740993,0.1,1e3,true,é,2024-07-01T12:30:00\n"
        "-2.0,+5,3,.5,0,,2024-07-01T12:30:00+02:00\n"
        "2147483648,1,1,1,1,x,2024-07-01\n"
        "1,1.5,1,1,1,x,2024-07-01\n"
        "1,1,abc,1,1,x,2024-07-01\n"
        "1,1,1,1,yes,x,2024-07-01\n"
        "1,1,1,1,1,x,yesterday\n"
        "3,,nan,,False,y,\n"
    )
    seen = []

    def score(rows):
        seen.extend(rows)
        return [row["s"] for row in rows]

    with MlflowServer(score, takes_parquet=takes_parquet) as server:
        batchscore.score(tmp_path / "in.csv", tmp_path / "out.arrow", url=server.url, schema=schema)
    out = read_arrow(tmp_path / "out.arrow")
    errors = out["prediction_error"].to_pylist()
    words = ["is no int32", "is no int64", "is no number", "neither true nor false", "no date and"]
    for error, word in zip(errors[2:7], words, strict=True):
        assert error.startswith("invalid_input: ")
        assert word in error
    assert predictions(out) == ["é", "", *[None] * 5, "y"]

    def moment(hour):
        told = dt.datetime(2024, 7, 1, hour, 30)  # noqa: DTZ001 - MLflow's have no zone
        return told if takes_parquet else told.isoformat()

    first, second, third = seen[:3]
    single = float(np.float32(0.1))
    assert first == {
        "i": 1, "n": 2**53 + 1, "f": single if takes_parquet else pytest.approx(single, rel=1e-7),
        "d": 1000.0, "b": True, "s": "é", "t": moment(12),
    }  # fmt: skip
    assert first["b"] is True
    assert second == {"i": -2, "n": 5, "f": 3.0, "d": 0.5, "b": False, "s": "", "t": moment(10)}
    assert (third["n"], third["d"], third["t"]) == (None, None, None)
    assert math.isnan(third["f"]) if takes_parquet else third["f"] is None


def test_integers_become_doubles_and_dates_moments(tmp_path, score_table):
    """MLflow refuses int64 for a double in Parquet, so the column is cast before it is sent."""
    table = pa.table(
        {
            "d": pa.array([1, 2**40]),
            "n": pa.array([1.0, 2.5]),
            "t": pa.array([dt.date(2024, 7, 1), None]),
        }
    )
    schema = mlmodel(tmp_path, column("d", "double"), column("n", "long"), column("t", "datetime"))
    seen = []
    with MlflowServer(lambda rows: seen.extend(rows) or [1.0] * len(rows)) as server:
        out = score_table(table, server.url, schema=schema)
        sent = pq.read_schema(io.BytesIO(server.requests[0].body))
    assert sent.types == [pa.float64(), pa.int64(), pa.timestamp("us")]
    assert seen[0] == {"d": 1.0, "n": 1, "t": dt.datetime(2024, 7, 1)}  # noqa: DTZ001
    assert "2.5' is no int64" in out["prediction_error"][1].as_py()


def test_a_column_of_the_wrong_type_is_refused_at_once(tmp_path, score_table):
    """A typed string column never serves a number."""
    schema = mlmodel(tmp_path, column("x", "double"))
    with MlflowServer(double) as server:
        with pytest.raises(InputError, match="'x' has type string"):
            score_table(pa.table({"x": ["1"]}), server.url, schema=schema)
        assert server.request_count == 0


@pytest.mark.parametrize("takes_parquet", [True, False])
def test_arrays_and_pictures(tmp_path, score_table, takes_parquet):
    """Lists of any length as lists, pictures as bytes or as base64 text."""
    buffer = io.BytesIO()
    Image.new("L", (3, 2), 7).save(buffer, "PNG")
    table = pa.table(
        {
            "a": pa.array([[[1.5], [2, 3]], [[4.0]]]),
            "p": pa.array([buffer.getvalue(), None], pa.binary()),
        }
    )
    inner = {"type": "array", "items": {"type": "double"}}
    schema = mlmodel(tmp_path, column("a", "array", items=inner), column("p", "binary"))
    seen = []
    with MlflowServer(
        lambda rows: seen.extend(rows) or [1.0] * len(rows), takes_parquet=takes_parquet
    ) as server:
        out = score_table(table, server.url, schema=schema)
    picture = buffer.getvalue() if takes_parquet else base64.b64encode(buffer.getvalue()).decode()
    assert out["prediction_error"].null_count == 2
    assert seen[:2] == [
        {"a": [[1.5], [2.0, 3.0]], "p": picture},
        {"a": [[4.0]], "p": None},
    ]


def test_a_tensor_goes_as_inputs(tmp_path, score_table):
    """Without a name the list alone, with one an object; in the type of the tensor."""
    table = pa.table({"a": pa.array([[1.0, 2.0], [3.0, 4.0]], pa.list_(pa.float64(), 2))})
    with MlflowServer(lambda rows: [sum(row) for row in rows]) as server:
        schema = mlmodel(tmp_path, tensor(None, "int64", 2))
        out = score_table(table, server.url, schema=schema, map={"0": "a"})
        assert json.loads(server.requests[0].body) == {"inputs": [[1, 2], [3, 4]]}
        assert predictions(out) == [3.0, 7.0]
        packed = pa.table({"b": [1.0, 3.0], "c": [2, 4]})
        out = score_table(packed, server.url, schema=schema, pack="0=b,c")
        assert predictions(out) == [3.0, 7.0]
    with MlflowServer(lambda rows: [sum(row["a"]) for row in rows]) as server:
        out = score_table(table, server.url, schema=mlmodel(tmp_path, tensor("a", "float64", 2)))
        assert json.loads(server.requests[0].body) == {"inputs": {"a": [[1.0, 2.0], [3.0, 4.0]]}}
        assert predictions(out) == [3.0, 7.0]


@pytest.mark.parametrize("is_bare", [False, True])
def test_answers_of_all_shapes(score_table, is_bare):
    """Records, dicts of arrays, and the bare lists of servers before version 2."""
    table = pa.table({"x": [1, 2, 3]})
    with MlflowServer(
        lambda rows: [{"label": f"l{row['x']}", "sure": 0.5} for row in rows], is_bare=is_bare
    ) as server:
        out = score_table(table, server.url, features="x")
    assert predictions(out, "label") == ["l1", "l2", "l3"]
    assert predictions(out, "sure") == [0.5] * 3
    if is_bare:
        return
    with MlflowServer(
        lambda rows: {"y": [row["x"] for row in rows], "p": [[0.25, 0.75] for _ in rows]}
    ) as server:
        out = score_table(table, server.url, features="x", classes="no,yes")
    assert predictions(out, "y") == [1.0, 2.0, 3.0]
    assert predictions(out, "p") == ["yes"] * 3
    assert predictions(out, "p_probs")[0] == {"no": 0.25, "yes": 0.75}


def test_nan_and_infinities_travel_in_parquet(score_table):
    """JSON has none: there they are null, and counted."""
    table = pa.table({"x": [math.nan, math.inf, 1.0]})
    for takes_parquet, counted in ((True, 0), (False, 2)):
        with MlflowServer(
            lambda rows: ["null" if row["x"] is None else str(row["x"]) for row in rows],
            takes_parquet=takes_parquet,
        ) as server:
            out = score_table(table, server.url, features="x")
        wanted = ["nan", "inf", "1.0"] if takes_parquet else ["null", "null", "1.0"]
        assert predictions(out) == wanted
        assert score_table.report.nonfinite_as_null == counted


@pytest.mark.parametrize(
    "fault",
    [
        faults.wrong_row_count(-1),
        faults.html_200(),
        faults.status(200, body=b'{"predictions": {"a": 1}}'),
        faults.status(500),
        faults.status(504),
        faults.close(),
    ],
    ids=str,
)
def test_a_wrong_answer_is_asked_for_again(score_table, fault):
    """Another number of predictions, or none at all, never becomes data."""
    with MlflowServer(double, script=[fault, None, fault]) as server:
        out = score_table(NUMBERS, server.url, features="x", batch_size=64)
    assert predictions(out) == [2.0 * n for n in range(300)]


def test_what_is_refused_for_good_stops(score_table):
    """A wrong address, and a server that knows neither Parquet nor JSON."""
    with MlflowServer(double, spec_script=[faults.status(404)]) as server:
        with pytest.raises(StoppedError, match="404"):
            score_table(NUMBERS, server.url, features="x")
    text = faults.status(415, body=b"only text/csv")
    with MlflowServer(double, script=lambda _: text) as server:
        with pytest.raises(StoppedError, match="415: only text/csv"):
            score_table(NUMBERS, server.url, features="x")


def test_a_reason_is_told_without_the_rows(score_table):
    """MLflow repeats all rows before the reason, which would never be seen."""
    message = "Failed to predict data '" + "0.5 " * 500 + "'. \nError: column ash is missing"
    body = json.dumps({"error_code": "BAD_REQUEST", "message": message}).encode()
    with MlflowServer(double, script=lambda _: faults.status(400, body=body)) as server:
        out = score_table(NUMBERS.slice(0, 5), server.url, features="x")
    assert set(out["prediction_error"].to_pylist()) == {"http_400: column ash is missing"}


def test_without_a_declaration_the_columns_are_listed(tmp_path, score_table):
    """So too for a model that was logged without a signature."""
    path = tmp_path / "MLmodel"
    path.write_text("flavors: {}\nsignature: null\n")
    with MlflowServer(double) as server:
        with pytest.raises(UsageError, match="id, x"):
            score_table(NUMBERS, server.url)
        with pytest.raises(UsageError, match="without a signature"):
            score_table(NUMBERS, server.url, schema=path)
        with pytest.raises(UsageError, match=re.escape("no input 'y'")):
            score_table(
                NUMBERS, server.url, schema=mlmodel(tmp_path, column("x", "double")), features="y"
            )


def write(tmp_path, count=3000):
    table = pa.table({"id": range(count), "x": [float(n) for n in range(count)]})
    pq.write_table(table, tmp_path / "in.parquet")


@pytest.mark.parametrize("takes_parquet", [True, False])
def test_a_job_that_was_killed_goes_on(tmp_path, takes_parquet):
    """Many requests at once may find that Parquet is not taken: no row is lost by it."""
    write(tmp_path)
    words = ("in.parquet", "--features", "x", "-o", "out.arrow", "--batch-size", 50)
    with MlflowServer(double, takes_parquet=takes_parquet, delay_s=0.01) as server:
        interrupted(tmp_path, server, *words, "--url", server.url, requests=12)
        server.delay_s = 0
        done = run(tmp_path, *words, "--url", server.url, "--resume", "--concurrency", 8)
        assert done.returncode == 0, done.stderr
    out = read_arrow(tmp_path / "out.arrow")
    assert predictions(out) == [2.0 * n for n in range(3000)]


@pytest.mark.parametrize("takes_parquet", [True, False])
def test_two_processes_write_what_one_does(tmp_path, takes_parquet):
    """Each finds out by itself what the server takes."""
    write(tmp_path)
    words = ("in.parquet", "--features", "x", "--batch-size", 50, "--concurrency", 2)
    with MlflowServer(double, takes_parquet=takes_parquet) as server:
        one = run(tmp_path, *words, "--url", server.url, "-o", "one.arrow")
        delay = until_joined(2)
        delay.server, server.delay_s = server, delay
        two = run(tmp_path, *words, "--url", server.url, "-o", "two.arrow", "--processes", 2)
    assert (one.returncode, two.returncode) == (0, 0), one.stderr + two.stderr
    assert (tmp_path / "one.arrow").read_bytes() == (tmp_path / "two.arrow").read_bytes()


def test_no_rows_give_an_output_without_rows(score_table):
    """``--limit 0``: the nameless column is there, and nothing is sent."""
    with MlflowServer(double) as server:
        out = score_table(NUMBERS, server.url, features="x", limit=0)
        assert (out.num_rows, server.request_count) == (0, 0)
    assert out.schema.field("predicted_prediction").type == pa.float64()


def test_a_finished_job_that_is_resumed_sends_nothing(tmp_path):
    """What the user declares of the inputs is a part of the model that the output is known by."""
    write(tmp_path)
    words = ("in.parquet", "--features", "x", "-o", "out.arrow", "--resume")
    with MlflowServer(double) as server:
        assert run(tmp_path, *words, "--url", server.url).returncode == 0
        sent = server.request_count
        done = run(tmp_path, *words, "--url", server.url)
        assert done.returncode == 0, done.stderr
        assert server.request_count == sent
        other = run(tmp_path, *words, "--url", server.url, "--classes", "a,b")
    assert other.returncode == 2
    assert "--classes was not given, now a,b" in other.stderr


def test_declared_inputs_are_no_other_model_after_an_outage(tmp_path):
    """Each process knows the deployment by what it publishes, whatever the user declared."""
    write(tmp_path)
    with MlflowServer(double, keep_requests=False) as server:
        joined = until_joined(2)
        joined.server = server
        server.delay_s = joined
        went = []

        def once(info):
            if server.connections >= 2 and info.index > 30 and not went:
                went.append(info.index)
                server.restart(0.5)

        server.script = once
        report = batchscore.score(
            tmp_path / "in.parquet", tmp_path / "out.arrow", url=server.url, features="x",
            batch_size=20, concurrency=2, processes=2,
        )  # fmt: skip
    assert went
    assert report.rows_scored == 3000
