"""The Open Inference Protocol in earnest: a real server on the loopback, real files, commands."""

import io
import json
import subprocess
import sys
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from faultserver import OpenInferenceServer, faults
from integration.conftest import read_arrow
from integration.test_resume import environment, interrupted, run
from PIL import Image

import batchscore
from batchscore.errors import InputError, StoppedError, UsageError

SPEAKS = ["json", "unlisted", "listed"]


def doubled(tensors):
    """``y = 2 x``, as one number a row; 500 where there is a negative one."""
    x = tensors["x"]
    if (x < 0).any():
        raise ValueError("Traceback (most recent call last)\n  ...\nValueError: a negative number")
    return {"y": 2.0 * x.reshape(len(x), -1).sum(axis=1)}


def server(speaks="json", predict=doubled, inputs=None, outputs=None, **options):
    return OpenInferenceServer(
        {"x": ("FP64", [-1])} if inputs is None else inputs,
        {"y": ("FP64", [-1])} if outputs is None else outputs,
        predict,
        speaks=speaks,
        **options,
    )


def numbers(count, *more) -> pa.Table:
    return pa.table({"id": range(count), "x": pa.array(range(count), pa.float64())})


# What travels, both ways.


@pytest.mark.parametrize("speaks", SPEAKS)
def test_every_row_is_scored_in_order(score_table, speaks):
    """In each form, in many requests at once; each row is sent once and gets its own prediction."""
    with server(speaks) as found:
        out = score_table(numbers(3000), found.url, batch_size=40, concurrency=8)
        forms, rows = found.forms, found.rows_seen
    assert out["predicted_y"].to_pylist() == [2.0 * n for n in range(3000)]
    assert out["prediction_error"].null_count == 3000
    assert (rows, len(forms)) == (3000, 75)
    if speaks == "json":
        assert set(forms) == {"json"}
    elif speaks == "listed":
        assert set(forms) == {"binary"}
    else:
        assert forms[0] == "json"
        assert forms[-1] == "binary"
        assert forms.count("json") <= 2 * 8, "only what was encoded before the first answer"
    assert all(body["id"] for body in found.bodies)
    assert len({body["id"] for body in found.bodies}) == 75


@pytest.mark.parametrize("speaks", SPEAKS)
def test_columns_of_every_kind_travel(tmp_path, speaks):
    """One input a column: numbers of all datatypes, text, arrays, pictures, there and back."""
    buffer = io.BytesIO()
    Image.new("RGB", (2, 2), (9, 8, 7)).save(buffer, "PNG")
    types = {"FP64": pa.float64(), "FP32": pa.float32(), "INT64": pa.int64(), "UINT64": pa.uint64(),
             "INT8": pa.int8(), "BOOL": pa.bool_()}  # fmt: skip
    cells = {
        "FP64": [0.1, 1e300], "FP32": [0.1, 3e38], "INT64": [2**63 - 1, -(2**63)],
        "UINT64": [2**64 - 1, 0], "INT8": [-128, 127], "BOOL": [True, False],
    }  # fmt: skip
    columns = {name.lower(): pa.array(cells[name], type_) for name, type_ in types.items()}
    columns["text"] = pa.array(['é\n"', ""])
    columns["grid"] = pa.array(
        [[[1, 2], [3, 4]], [[5, 6], [7, 2**60]]], pa.list_(pa.list_(pa.int64()))
    )
    columns["picture"] = pa.array([buffer.getvalue()] * 2, pa.binary())
    declared = {name.lower(): (name, [-1, 1]) for name in types}
    declared |= {"text": ("BYTES", [-1]), "grid": ("INT64", [-1, 2, 2]), "picture": ("BYTES", [-1])}
    outputs = {name: tensor for name, tensor in declared.items() if name != "picture"}
    outputs["size"] = ("INT64", [-1])

    def echo(tensors):
        sizes = [len(each) for each in tensors["picture"]]
        return {**tensors, "size": np.array(sizes)}

    pq.write_table(pa.table(columns), tmp_path / "in.parquet")
    with server(speaks, echo, declared, outputs) as found:
        batchscore.score(tmp_path / "in.parquet", tmp_path / "o.arrow", url=found.url, keep="none")
    out = read_arrow(tmp_path / "o.arrow")
    for name, type_ in types.items():
        column = out[f"predicted_{name.lower()}"]
        assert column.type == type_, name
        assert column.to_pylist() == columns[name.lower()].to_pylist(), name
    assert out["predicted_text"].to_pylist() == ['é\n"', ""]
    assert out["predicted_grid"].type == pa.fixed_shape_tensor(pa.int64(), (2, 2))
    assert out["predicted_grid"].combine_chunks().to_numpy_ndarray().tolist() == columns[
        "grid"].to_pylist()  # fmt: skip
    size = len(buffer.getvalue())
    sent = size if speaks == "listed" else 4 * -(-size // 3)
    assert out["predicted_size"].to_pylist() == [sent] * 2


@pytest.mark.parametrize("suffix", ["parquet", "csv", "jsonl"])
def test_every_datatype_has_a_place_in_every_format(tmp_path, suffix):
    """Half floats, booleans and 64 bits unsigned are written to whatever file is asked for."""
    outputs = {"h": ("FP16", [-1]), "u": ("UINT64", [-1]), "b": ("BOOL", [-1]),
               "m": ("BOOL", [-1, 2]), "f": ("FP32", [-1, 2])}  # fmt: skip

    def predict(tensors):
        x = tensors["x"]
        both = np.stack([x, x], axis=1)
        return {"h": x, "u": x + 2.0**63, "b": x > 1, "m": both > 1, "f": both / 4}

    pq.write_table(numbers(3), tmp_path / "in.parquet")
    out = tmp_path / f"o.{suffix}"
    with server("listed", predict, outputs=outputs) as found:
        report = batchscore.score(tmp_path / "in.parquet", out, url=found.url)
    assert report.rows_scored == 3
    if suffix == "parquet":
        row = pq.read_table(out).to_pylist()[2]
    elif suffix == "jsonl":
        row = json.loads(out.read_text().splitlines()[2])
    else:
        assert out.read_text().splitlines()[3].startswith("2,2")
        return
    assert (row["predicted_h"], row["predicted_u"], row["predicted_b"]) == (2, 2**63, True)
    assert (row["predicted_m"], row["predicted_f"]) == ([1, 1], [0.5, 0.5])


@pytest.mark.parametrize("speaks", SPEAKS)
@pytest.mark.parametrize("declares", [True, False])
def test_columns_are_packed_into_one_tensor(score_table, speaks, declares):
    """Several columns go side by side, and what the model does not declare is learned."""
    table = pa.table({"a": [1, 2, 3], "b": [0.5, None, 1.5], "c": pa.array([1, 2, 3], pa.int8())})
    with server(speaks, inputs={"x": ("FP64", [-1, 3])}, declares=declares) as found:
        out = score_table(table, found.url, pack={"x": "a,b,c"})
        shapes = [body["inputs"][0]["shape"] for body in found.bodies]
    assert shapes == [[2, 3]]
    assert out["predicted_y"].to_pylist() == [5.0, None, 15.0]
    assert out["prediction_error"].to_pylist()[1].startswith("invalid_input: column 'b' is empty")


@pytest.mark.parametrize("processes", [1, 2])
@pytest.mark.parametrize("declares", [True, False])
def test_a_matrix_becomes_classes(score_table, processes, declares):
    """With --classes: the class and the probability of each, whoever scores; without: a tensor."""

    def predict(tensors):
        rank = tensors["x"].ravel().astype(int) % 3
        return {"p": np.eye(3)[rank] / 2 + 0.25}

    outputs = {"p": ("FP32", [-1, 3])}
    columns = {} if declares else {"features": "x"}
    with server("unlisted", predict, outputs=outputs, declares=declares) as found:
        words = {"batch_size": 50, "processes": processes, **columns}
        out = score_table(numbers(5000), found.url, classes="dog,cat,bird", **words)
        plain = score_table(numbers(50), found.url, **columns)
    assert out["predicted_p"].to_pylist() == ["dog", "cat", "bird"] * 1666 + ["dog", "cat"]
    assert out["predicted_p_probs"].to_pylist()[1] == {"bird": 0.25, "cat": 0.75, "dog": 0.25}
    assert plain["predicted_p"].type.shape == [3]


# Rows that cannot be scored.


@pytest.mark.parametrize("speaks", SPEAKS)
@pytest.mark.parametrize("status", [None, 400])
def test_bad_rows_alone_fail(score_table, speaks, status):
    """A 500 is what bad rows get from these servers: batches are halved as after a 400."""
    bad = {7, 8, 500, 999}
    table = pa.table({"x": [-1.0 if n in bad else float(n) for n in range(1000)]})
    refused = faults.status(400, body=b'{"error":"a row is not acceptable"}')

    def script(info):
        return refused if status and any(row["x"] < 0 for row in info.rows) else None

    with server(speaks, script=script) as found:
        out = score_table(table, found.url, batch_size=250, max_attempts=2)
        requests = found.request_count
    errors = out["prediction_error"].to_pylist()
    assert {row for row, error in enumerate(errors) if error} == bad
    said = "http_400: a row is not acceptable" if status else "http_500: ValueError: a negative"
    assert all(errors[row].startswith(said) for row in bad)
    assert out["predicted_y"].to_pylist() == [None if n in bad else 2.0 * n for n in range(1000)]
    assert requests < 120


@pytest.mark.parametrize("speaks", SPEAKS)
def test_nulls_fail_unsent_and_nan_travels(score_table, speaks):
    """A null has no place in a tensor; NaN reaches the model in each form."""
    table = pa.table({"x": pa.array([1.0, None, float("nan"), 4.0])})
    with server(speaks) as found:
        out = score_table(table, found.url, batch_size=2)
        rows = found.rows_seen
    assert rows == 3
    np.testing.assert_array_equal(out["predicted_y"].to_numpy(), [2, np.nan, np.nan, 8])
    assert out["predicted_y"].null_count == 1
    assert out["prediction_error"].to_pylist()[1] == (
        "invalid_input: column 'x': the cell is empty; a tensor has no nulls"
    )
    # It depends on when the first answer came where that is what tells the form.
    counts = {"json": {1}, "unlisted": {0, 1}, "listed": {0}}[speaks]
    assert score_table.report.nonfinite_as_null in counts


def test_a_csv_is_read_in_the_datatype_of_the_model(tmp_path):
    """Integers keep every digit from text to tensor, and what is none fails its row."""
    (tmp_path / "in.csv").write_text("x\n9007199254740993\n\n1.5\nword\n7\n")
    with server(inputs={"x": ("INT64", [-1])}, outputs={"y": ("INT64", [-1])},
                predict=lambda tensors: {"y": tensors["x"]}) as found:  # fmt: skip
        batchscore.score(tmp_path / "in.csv", tmp_path / "o.arrow", url=found.url)
    out = read_arrow(tmp_path / "o.arrow")
    assert [n for n in out["predicted_y"].to_pylist() if n] == [9007199254740993, 7]
    errors = [error for error in out["prediction_error"].to_pylist() if error]
    assert errors[-2:] == [
        "invalid_input: column 'x': '1.5' is no INT64",
        "invalid_input: column 'x': 'word' is no number",
    ]


@pytest.mark.parametrize("speaks", ["json", "listed"])
@pytest.mark.parametrize(
    ("change", "what"),
    [
        ({"name": "z"}, "the answer has no output 'y', only 'z'"),
        ({"datatype": "INT64"}, "output 'y' came as INT64, but is to be FP64"),
        ({"shape": [1, 2]}, "rows, 3 were sent|has 3 values"),
        ({"datatype": "BF16"}, "datatype 'BF16'"),
    ],
)
def test_a_wrong_answer_is_no_prediction(score_table, speaks, change, what):
    """Names, datatypes and shapes are checked; the rows fail with what came."""
    with server(speaks) as found:
        found.alter = lambda outputs: outputs[0].update(change)
        out = score_table(numbers(3), found.url, max_attempts=1)
    for error in out["prediction_error"].to_pylist():
        assert error.startswith("bad_response: ")
    if "shape" not in change:
        assert what in out["prediction_error"].to_pylist()[0]


def test_answers_that_broke_are_asked_for_again(score_table):
    """Transient faults of all kinds cost retries, no rows."""
    kinds = [kind for kind in faults.TRANSIENT if kind.name != "wrong_row_count"]
    with server("unlisted", script=faults.mixed_faults(3, 0.2, kinds)) as found:
        out = score_table(numbers(2000), found.url, batch_size=25, max_attempts=20)
    assert out["predicted_y"].to_pylist() == [2.0 * n for n in range(2000)]


# Addresses, options, outputs.


def test_the_protocol_is_recognised_by_address_or_server(tmp_path):
    """A model's address is enough; a server's own is told what to add, with its models."""
    pq.write_table(numbers(3), tmp_path / "in.parquet")
    with server("listed") as found:
        base = found.url.removesuffix("/v2/models/m")
        for url in (found.url, f"{found.url}/infer", f"{found.url}/"):
            batchscore.score(tmp_path / "in.parquet", tmp_path / "o.arrow", url=url, overwrite=True)
        for words in ({}, {"protocol": "open-inference"}):
            with pytest.raises(UsageError, match=r"add /v2/models/NAME; it has m, other"):
                batchscore.score(tmp_path / "in.parquet", tmp_path / "n.arrow", url=base, **words)
    metadata = read_arrow(tmp_path / "o.arrow").schema.metadata
    assert json.loads(metadata[b"batchscore.options"])["protocol"] == "open-inference"


def test_names_are_checked_before_anything_is_sent(tmp_path):
    """Servers score a wrong input's name with 200, so a missing column is told here."""
    pq.write_table(pa.table({"z": [1.0]}), tmp_path / "in.parquet")
    with server(inputs={"x": ("FP64", [-1, 2])}) as found:
        with pytest.raises(InputError, match="no column 'x'.*--pack 'x=COLUMN"):
            batchscore.score(tmp_path / "in.parquet", tmp_path / "o.arrow", url=found.url)
        with pytest.raises(UsageError, match="takes 2 numbers, 1 columns are given"):
            batchscore.score(tmp_path / "in.parquet", tmp_path / "o.arrow", url=found.url,
                             pack={"x": "z"})  # fmt: skip
        assert found.request_count == 0


def test_all_declared_outputs_are_asked_for(score_table):
    """Some servers give the first output alone unless the others are named."""

    def predict(tensors):
        return {"y": tensors["x"], "z": tensors["x"] + 1}

    outputs = {"y": ("FP64", [-1]), "z": ("FP64", [-1])}
    with server(predict=predict, outputs=outputs, ignores_outputs=True) as found:
        out = score_table(numbers(3), found.url)
    assert out["predicted_z"].to_pylist() == [1, 2, 3]


@pytest.mark.parametrize("declares", [True, False])
def test_no_rows_make_an_output_with_the_columns(score_table, declares):
    """--limit 0 sends nothing; without metadata the output is taken for one number."""
    with server(declares=declares, outputs={"y": ("INT32", [-1])}) as found:
        out = score_table(numbers(3), found.url, limit=0, **({} if declares else {"features": "x"}))
        assert found.request_count == 0
    name, type_ = ("y", pa.int32()) if declares else ("prediction", pa.float64())
    assert out.num_rows == 0
    assert out.schema.field(f"predicted_{name}").type == type_


def test_open_sizes_are_those_of_the_columns_and_the_first_answer(score_table):
    """Where metadata says -1 inside a row, the files and the answers say how many."""
    grid = pa.FixedShapeTensorArray.from_numpy_ndarray(np.ones((4, 2, 3)))
    with server(
        inputs={"x": ("FP64", [-1, -1, -1])}, outputs={"y": ("FP64", [-1, -1])},
        predict=lambda tensors: {"y": tensors["x"].reshape(len(tensors["x"]), -1)},
    ) as found:  # fmt: skip
        out = score_table(pa.table({"x": grid}), found.url, batch_size=1)
        shapes = {tuple(body["inputs"][0]["shape"]) for body in found.bodies}
        ragged = pa.table({"x": pa.array([[[1.0]]], pa.list_(pa.list_(pa.float64())))})
        with pytest.raises(InputError, match="no fixed length"):
            score_table(ragged, found.url)
    assert shapes == {(1, 2, 3)}
    assert out["predicted_y"].type == pa.fixed_shape_tensor(pa.float64(), (6,))


def test_half_floats_go_out_in_binary_from_the_first_request(score_table):
    """FP16 has no form in JSON, so nothing is asked first."""
    with server("unlisted", inputs={"x": ("FP16", [-1])}) as found:
        out = score_table(numbers(3), found.url, batch_size=1)
        assert set(found.forms) == {"binary"}
    assert out["predicted_y"].to_pylist() == [0, 2, 4]


def test_a_server_that_tells_nothing_of_itself_is_used_all_the_same(score_table):
    """Where a gateway lets only the model's address through, JSON goes out."""

    class Gateway(OpenInferenceServer):
        def on_body(self, exchange):
            if exchange.path == "/v2":
                self._finish(exchange, faults.status(403).reply)
            else:
                super().on_body(exchange)

    with Gateway({"x": ("FP64", [-1])}, {"y": ("FP64", [-1])}, doubled, speaks="listed") as found:
        out = score_table(numbers(30), found.url, batch_size=1, concurrency=1)
        assert (found.forms[0], found.forms[-1]) == ("json", "binary")
    assert out["predicted_y"].to_pylist() == [2 * n for n in range(30)]


def test_a_server_that_stumbles_when_asked_about_itself_is_asked_again(score_table):
    """A moment's trouble does not decide in which form NaN is sent."""

    class Stumbling(OpenInferenceServer):
        stumbles = 1

        def on_body(self, exchange):
            if exchange.path == "/v2" and self.stumbles:
                self.stumbles -= 1
                self._finish(exchange, faults.status(503).reply)
            else:
                super().on_body(exchange)

    with Stumbling({"x": ("FP64", [-1])}, {"y": ("FP64", [-1])}, doubled, speaks="listed") as found:
        score_table(numbers(3), found.url)
        assert found.forms == ["binary"]


# Resume, processes, surfaces.


@pytest.mark.parametrize(
    ("speaks", "outputs", "declares"),
    [
        ("unlisted", {"y": ("FP32", [-1])}, True),
        ("unlisted", {"y": ("FP32", [-1])}, False),
        ("listed", {"y": ("FP32", [-1, -1])}, True),
    ],
)
def test_a_killed_run_goes_on_to_the_same_bytes(tmp_path, speaks, outputs, declares):
    """Whatever was learned by the first run is known to the next one; nothing is scored twice."""
    pq.write_table(numbers(2000), tmp_path / "in.parquet")
    columns = [] if declares else ["--features", "x"]

    def predict(tensors):
        return {"y": tensors["x"].astype(np.float32)[:, None]}

    with server(speaks, predict, outputs=outputs, declares=declares, delay_s=0.02) as found:
        words = ["in.parquet", "--url", found.url, "--batch-size", 50, "--concurrency", 2, *columns]
        assert run(tmp_path, *words, "-o", "whole.arrow").returncode == 0
        interrupted(tmp_path, found, *words, "-o", "out.arrow", requests=12)
        before = found.rows_seen
        done = run(tmp_path, *words, "-o", "out.arrow", "--resume")
        assert done.returncode == 0, done.stderr
        assert found.rows_seen - before < 2000
        refused = run(tmp_path, *words, "-o", "out.arrow", "--resume", "--classes", "a,b")
        assert refused.returncode == 2
    assert (tmp_path / "out.arrow").read_bytes() == (tmp_path / "whole.arrow").read_bytes()


@pytest.mark.parametrize("speaks", SPEAKS)
def test_processes_make_the_same_output(tmp_path, speaks):
    """Each process learns by itself what the server speaks; the file is that of one process."""
    pq.write_table(numbers(20_000), tmp_path / "in.parquet")
    with server(speaks, delay_s=0.005) as found:
        for processes in (1, 2):
            report = batchscore.score(
                tmp_path / "in.parquet", tmp_path / f"{processes}.arrow", url=found.url,
                batch_size=100, concurrency=4, processes=processes,
            )  # fmt: skip
            assert report.rows_scored == 20_000
        assert found.rows_seen == 40_000
    assert (tmp_path / "1.arrow").read_bytes() == (tmp_path / "2.arrow").read_bytes()


def test_rescore_sends_the_failed_rows_again(tmp_path):
    """The options in the output's metadata are enough to do it in the same protocol."""
    pq.write_table(pa.table({"x": [1.0, 2.0, 3.0]}), tmp_path / "in.parquet")
    out = tmp_path / "o.arrow"
    with server("listed", script=faults.refuse_rows(lambda row: row["x"] == 2)) as found:
        batchscore.score(tmp_path / "in.parquet", out, url=found.url)
        assert read_arrow(out)["predicted_y"].to_pylist() == [2, None, 6]
        found.script = None
        batchscore.rescore(out, url=found.url)
    assert read_arrow(out)["predicted_y"].to_pylist() == [2, 4, 6]


def test_the_python_deployment_speaks_it():
    """Numbers, arrays, texts and pictures go in and come out in the model's datatypes."""
    inputs = {"x": ("INT64", [-1, 2]), "any": ("FP64", [-1, -1]), "t": ("BYTES", [-1]),
              "p": ("BYTES", [-1]), "k": ("BOOL", [-1])}  # fmt: skip
    outputs = {"x": ("INT64", [-1, 2]), "any": ("FP64", [-1, 3]), "size": ("INT32", [-1]),
               "t": ("BYTES", [-1]), "k": ("BOOL", [-1])}  # fmt: skip

    def predict(tensors):
        return {**tensors, "size": np.array([len(each) for each in tensors["p"]])}

    picture = Image.new("RGB", (2, 2))
    row = {"x": np.array([1, 2**53 + 1]), "any": [0.1, 2, 3], "t": "é", "p": picture, "k": True}
    with server("listed", predict, inputs, outputs) as found:
        with batchscore.Deployment(found.url) as deployment:
            assert deployment.feature_specs_in[0].datatype == "int64"
            said = deployment.predict(**row)
            with pytest.raises(InputError, match="takes arrays of shape"):
                deployment.predict(**{**row, "x": [1, 2, 3]})
            with pytest.raises(batchscore.PredictionError, match="1.5 is no INT64"):
                deployment.predict(**{**row, "x": [1, 1.5]})
    assert said["x"].tolist() == [1, 2**53 + 1]
    assert said["any"].tolist() == [0.1, 2, 3]
    assert (said["t"], said["k"]) == ("é", True)
    assert said["size"] > 50


@pytest.mark.parametrize("datatype", ["FP32", "float32", "complex64", "FP8"])
def test_a_schema_file_says_the_datatype(tmp_path, datatype):
    """In NumPy's words or the protocol's; what is neither is told."""
    schema = {"inputs": {"x": {"type": "numeric", "datatype": datatype}}}
    (tmp_path / "schema.json").write_text(json.dumps(schema))
    pq.write_table(numbers(3), tmp_path / "in.parquet")
    words = {"schema": tmp_path / "schema.json"}
    with server(declares=False) as found:
        if datatype in {"FP32", "float32"}:
            batchscore.score(tmp_path / "in.parquet", tmp_path / "o.arrow", url=found.url, **words)
            assert found.bodies[0]["inputs"][0]["datatype"] == "FP32"
        else:
            with pytest.raises(InputError, match=f"declared with the datatype '{datatype}'"):
                batchscore.score(tmp_path / "in.parquet", tmp_path / "o.arrow", url=found.url,
                                 **words)  # fmt: skip


def inspected(*words) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-m", "batchscore", "inspect", *words],
        env=environment(), capture_output=True, text=True, timeout=60, check=True,
    )  # fmt: skip


def test_inspect_shows_tensors_and_the_form(tmp_path):
    """Datatypes, shapes, and whether bytes travel raw, for people and for programs."""
    inputs = {"x": ("FP32", [-1, -1]), "t": ("BYTES", [-1])}
    with server("listed", inputs=inputs) as found:
        table = inspected("--url", found.url).stdout
        content = json.loads(inspected("--url", found.url, "--json").stdout)
    assert "protocol open-inference in binary," in table
    assert "numeric, float32" in table
    assert (content["protocol"], content["binary"]) == ("open-inference", True)
    assert content["inputs"][0] == {
        "name": "x", "type": "numeric", "shape": [-1], "datatype": "float32"
    }  # fmt: skip
    with server(declares=False) as found:
        table = inspected("--url", found.url).stdout
    assert "protocol open-inference in JSON, binary once answers are," in table
    assert "inputs: the deployment does not tell" in table


def test_a_file_of_bad_rows_stops_with_the_servers_words(tmp_path):
    """Where every row is refused, the job ends with what the server says."""
    pq.write_table(pa.table({"x": [-1.0] * 100}), tmp_path / "in.parquet")
    with server() as found:
        with pytest.raises(StoppedError, match="ValueError: a negative number"):
            batchscore.score(tmp_path / "in.parquet", tmp_path / "o.arrow", url=found.url,
                             max_attempts=1)  # fmt: skip


def test_the_example_configuration_runs(tmp_path):
    """configs/open-inference.toml scores a model that takes its three columns as one tensor."""
    table = pa.table({name: [1.0, 2.0] for name in ("alcohol", "ash", "hue")})
    pq.write_table(table, tmp_path / "in.parquet")
    config = Path(__file__).parents[2] / "configs" / "open-inference.toml"
    with server("unlisted", inputs={"x": ("FP64", [-1, 3])}) as found:
        words = ["in.parquet", "--config", config, "--url", found.url, "-o", "o.arrow"]
        done = run(tmp_path, *words)
    assert done.returncode == 0, done.stderr
    assert read_arrow(tmp_path / "o.arrow")["predicted_y"].to_pylist() == [6, 12]
