"""The main job: files in, a real server, a file out."""

import json
import os
import random
import subprocess
import sys
import threading
import time

import pyarrow as pa
import pyarrow.csv as pacsv
import pyarrow.parquet as pq
import pytest
from faultserver import CLASSIFIER, LINEAR, FaultServer, Model, faults
from integration.conftest import read_arrow

import batchscore
from batchscore.errors import (
    InputError,
    MetadataError,
    ModelChangedError,
    OutageError,
    RefusedError,
    StoppedError,
    TooManyFailuresError,
    UnreachableError,
    UsageError,
)


def numbers(count: int) -> pa.Table:
    return pa.table(
        {
            "id": pa.array([f"row {n}" for n in range(count)]),
            "x": pa.array(range(count), pa.int64()),
        }
    )


def assert_scored(out: pa.Table, count: int) -> None:
    """Every row is there, once, in order, with its own prediction."""
    assert out["id"].to_pylist() == [f"row {n}" for n in range(count)]
    assert out["predicted_y"].to_pylist() == [2.0 * n + 1 for n in range(count)]
    assert out["prediction_error"].null_count == count


@pytest.mark.parametrize("batch_size", [1, 7, 1000, "auto"])
@pytest.mark.parametrize("concurrency", [1, 5])
def test_every_row_comes_out_once_and_in_order(score_table, batch_size, concurrency):
    """Answers that overtake one another change nothing in the file."""
    rng = random.Random(batch_size)
    count = 3000 if batch_size != 1 else 300
    with FaultServer(*LINEAR, delay_s=lambda _: rng.random() / 100) as server:
        out = score_table(
            numbers(count), server.url, batch_size=batch_size, concurrency=concurrency
        )
        assert_scored(out, count)
        assert server.max_in_flight <= concurrency
    size = 1024 if batch_size == "auto" else batch_size
    assert server.request_count == -(-count // size)


def test_the_schema_is_kept_columns_predictions_and_the_error(score_table):
    """Kept columns first, unchanged in type, then the prediction, then prediction_error."""
    with FaultServer(*LINEAR) as server:
        out = score_table(numbers(3), server.url)
    assert out.schema.names == ["id", "x", "predicted_y", "prediction_error"]
    assert out.schema.types == [pa.string(), pa.int64(), pa.float64(), pa.string()]
    metadata = {key.decode(): value.decode() for key, value in out.schema.metadata.items()}
    assert metadata["batchscore.endpoint"] == server.url
    assert metadata["batchscore.version"] == batchscore.__version__
    assert len(metadata["batchscore.fingerprint"]) == 16
    assert json.loads(metadata["batchscore.options"])["keep"] == "all"


def test_equal_runs_give_equal_files(tmp_path, score_table):
    """Nothing in the file depends on the time, the concurrency or luck."""
    with FaultServer(*LINEAR, script=faults.mixed_faults(1, 0.3)) as server:
        score_table(numbers(5000), server.url, batch_size=100, max_attempts=50, timeout=0.5)
        first = (tmp_path / "out.arrow").read_bytes()
        score_table(
            numbers(5000), server.url, batch_size=100, max_attempts=50, timeout=0.5, concurrency=2
        )
        assert (tmp_path / "out.arrow").read_bytes() == first


@pytest.mark.parametrize("suffix", ["arrow", "parquet", "csv", "jsonl"])
@pytest.mark.parametrize("source", ["parquet", "csv", "csv.gz", "tsv", "arrow", "arrows", "jsonl"])
def test_every_input_format_goes_into_every_output_format(tmp_path, source, suffix):
    """Seven kinds of input, four kinds of output, the same rows and predictions."""
    table = numbers(50)
    path = tmp_path / f"in.{source}"
    match source:
        case "parquet":
            pq.write_table(table, path)
        case "csv" | "csv.gz" | "tsv":
            options = pacsv.WriteOptions(delimiter="\t" if source == "tsv" else ",")
            with pa.output_stream(str(path)) as sink:
                pacsv.write_csv(table, sink, options)
        case "arrow":
            with pa.ipc.new_file(str(path), table.schema) as writer:
                writer.write_table(table)
        case "arrows":
            with pa.ipc.new_stream(str(path), table.schema) as writer:
                writer.write_table(table)
        case "jsonl":
            path.write_text("".join(json.dumps(row) + "\n" for row in table.to_pylist()))
    out = tmp_path / f"out.{suffix}"
    with FaultServer(*LINEAR) as server:
        report = batchscore.score(path, out, url=server.url)
    assert (report.exit_code, report.rows_read, report.rows_scored) == (0, 50, 50)
    match suffix:
        case "arrow":
            rows = read_arrow(out).to_pylist()
        case "parquet":
            rows = pq.read_table(out).to_pylist()
        case "csv":
            rows = pacsv.read_csv(out).to_pylist()
        case "jsonl":
            rows = [json.loads(line) for line in out.read_text().splitlines()]
    assert [row["id"] for row in rows] == table["id"].to_pylist()
    assert [row["predicted_y"] for row in rows] == [2 * n + 1 for n in range(50)]
    assert all(row["prediction_error"] is None for row in rows)
    assert sorted(os.listdir(tmp_path)) == sorted([path.name, out.name])


def test_several_files_are_one_table_and_their_names_can_be_kept(tmp_path):
    """A folder is read in byte order of path; --source-column says where each row came from."""
    folder = tmp_path / "data"
    folder.mkdir()
    for name, start in (("b.parquet", 10), ("a.parquet", 0), ("_skipped.parquet", 99)):
        rows = pa.table({"x": pa.array(range(start, start + 10), pa.int64())})
        pq.write_table(rows, folder / name)
    with FaultServer(*LINEAR) as server:
        batchscore.score(
            folder, tmp_path / "out.arrow", url=server.url, source_column="file", batch_size=7
        )
        assert server.request_count == 3
    out = read_arrow(tmp_path / "out.arrow")
    assert out["x"].to_pylist() == list(range(20))
    names = [str(folder / "a.parquet")] * 10 + [str(folder / "b.parquet")] * 10
    assert out["file"].to_pylist() == names


@pytest.mark.parametrize(
    ("options", "columns"),
    [
        ({"keep": "none"}, []),
        ({"keep": ["x"]}, ["x"]),
        ({"drop": ["x"]}, ["id"]),
        ({"keep": "all"}, ["id", "x"]),
        ({"keep": "x,id"}, ["id", "x"]),
    ],
)
def test_kept_columns_can_be_chosen(score_table, options, columns):
    """--keep and --drop choose what is carried along; what is sent does not change."""
    with FaultServer(*LINEAR) as server:
        out = score_table(numbers(10), server.url, **options)
    assert out.schema.names == [*columns, "predicted_y", "prediction_error"]
    assert out["predicted_y"].to_pylist() == [2.0 * n + 1 for n in range(10)]


def test_limit_scores_the_first_rows_only(score_table):
    """--limit cuts the input, not the output."""
    with FaultServer(*LINEAR) as server:
        out = score_table(numbers(1000), server.url, limit=5)
        assert server.rows_seen == 5
    assert_scored(out, 5)


def test_limit_does_not_wait_for_rows_it_does_not_want(tmp_path):
    """The first rows of a pipe that stays open are scored and written."""
    with FaultServer(*LINEAR) as server:
        words = ["score", "-", "--input-format", "csv", "--limit", "2", "--url", server.url]
        process = subprocess.Popen(
            [sys.executable, "-m", "batchscore", *words, "-o", "out.arrow"],
            stdin=subprocess.PIPE, stderr=subprocess.PIPE, cwd=tmp_path,
        )  # fmt: skip
        process.stdin.write(b"x\n0\n1\n")
        process.stdin.flush()
        assert process.wait(60) == 0
        process.stdin.close()
        process.stderr.close()
    assert read_arrow(tmp_path / "out.arrow")["predicted_y"].to_pylist() == [1.0, 3.0]


def test_a_feature_can_come_from_another_column(score_table):
    """--map FEATURE=COLUMN."""
    table = numbers(10).rename_columns(["id", "Größe in m"])
    with FaultServer(*LINEAR) as server:
        out = score_table(table, server.url, map={"x": "Größe in m"}, prefix="p.")
    assert out["p.y"].to_pylist() == [2.0 * n + 1 for n in range(10)]
    assert out.schema.names[-1] == "p.error"


@pytest.mark.parametrize("name", ["in.csv", "in.jsonl", "in.parquet"])
def test_an_input_without_rows_gives_the_full_schema_and_no_rows(tmp_path, name):
    """A header and no rows is a good input; probabilities have the list form."""
    if name == "in.parquet":
        pq.write_table(pa.table({"x": pa.array([], pa.float64())}), tmp_path / name)
    elif name == "in.csv":
        (tmp_path / name).write_text("x\n")
    else:
        (tmp_path / name).write_text('{"x": 1}\n')
    with FaultServer(*CLASSIFIER) as server:
        report = batchscore.score(tmp_path / name, tmp_path / "out.arrow", url=server.url, limit=0)
        assert server.request_count == 0
    out = read_arrow(tmp_path / "out.arrow")
    assert report.exit_code == 0
    assert out.num_rows == 0
    assert out.schema.names == [
        "x",
        "predicted_animal",
        "predicted_animal_probs",
        "prediction_error",
    ]
    assert out.schema.field("predicted_animal_probs").type == pa.list_(
        pa.struct([("label", pa.string()), ("prob", pa.float64())])
    )


# Classes


@pytest.mark.parametrize("known", [None, {"animal": ["dog", "bird", "cat"]}])
def test_classes_come_from_the_specification_or_the_first_answer(score_table, known):
    """Struct of class to probability, sorted by class, however the classes are known."""
    with FaultServer(*CLASSIFIER, classes=known, delay_s=0.01) as server:
        out = score_table(numbers(300), server.url, batch_size=10, concurrency=4)
    assert out["predicted_animal"].to_pylist() == ["bird", "cat", "dog"] * 100
    assert out.schema.field("predicted_animal_probs").type == pa.struct(
        [(name, pa.float64()) for name in ("bird", "cat", "dog")]
    )
    assert out["predicted_animal_probs"][1].as_py() == {"bird": 0.25, "cat": 0.5, "dog": 0.25}


def test_until_classes_are_known_requests_go_one_at_a_time_in_order(score_table):
    """Nothing is sent twice to learn classes: all else waits for the first answer."""
    script = faults.refuse_rows(lambda row: row["x"] < 15)
    with FaultServer(*CLASSIFIER, script=script, delay_s=0.01) as server:
        out = score_table(numbers(200), server.url, batch_size=10, concurrency=8)
        first = next(request.index for request in server.requests if request.status == 200)
        assert {request.in_flight for request in server.requests[: first + 1]} == {1}
        assert server.max_in_flight > 1
        starts = [request.rows[0]["x"] for request in server.requests[: first + 1]]
        assert starts == sorted(starts)
    errors = out["prediction_error"].to_pylist()
    assert all(error.startswith("http_422: ") for error in errors[:15])
    assert errors[15:] == [None] * 185
    assert out["predicted_animal"].to_pylist()[15:] == (["bird", "cat", "dog"] * 62)[:185]


def test_where_no_row_is_ever_scored_the_file_is_whole_all_the_same(score_table):
    """All rows refused: every row is there with its error; probabilities have the list form."""
    with FaultServer(*CLASSIFIER, script=faults.always(faults.status(400, "never"))) as server:
        out = score_table(numbers(15), server.url, batch_size=10)
    assert out["predicted_animal"].null_count == 15
    assert pa.types.is_list(out.schema.field("predicted_animal_probs").type)
    assert score_table.report.failed_rows == {"http_400": 15}
    assert score_table.report.exit_code == 3


@pytest.mark.parametrize(
    ("probs", "names"),
    [
        ("none", ["predicted_animal", "prediction_error"]),
        ("list", ["predicted_animal", "predicted_animal_probs", "prediction_error"]),
    ],
)
def test_probabilities_can_be_a_list_or_left_out(score_table, probs, names):
    """--probs list is a list of label and prob in class order, --probs none has no such column."""
    with FaultServer(*CLASSIFIER) as server:
        out = score_table(numbers(3), server.url, probs=probs, keep="none")
    assert out.schema.names == names
    assert out["predicted_animal"].to_pylist() == ["bird", "cat", "dog"]
    if probs == "list":
        assert out["predicted_animal_probs"][0].as_py() == [
            {"label": "bird", "prob": 0.5},
            {"label": "cat", "prob": 0.25},
            {"label": "dog", "prob": 0.25},
        ]


def test_given_classes_fix_the_schema_and_a_missing_one_is_null(score_table):
    """--classes names more than an answer shows: those are null."""
    with FaultServer(*CLASSIFIER) as server:
        out = score_table(numbers(3), server.url, classes="dog,cat,bird,emu")
    assert out["predicted_animal_probs"][0].as_py() == {
        "bird": 0.5, "cat": 0.25, "dog": 0.25, "emu": None,
    }  # fmt: skip


def test_a_new_class_means_that_the_model_changed_and_stops_the_job(tmp_path, score_table):
    """A class that the job did not know is named; there is no output that looks whole."""

    def predict(rows):
        return [{"animal": {"emu" if row["x"] == 77 else "cat": 1.0}} for row in rows]

    model = Model(CLASSIFIER.inputs, CLASSIFIER.outputs, predict)
    with FaultServer(*model) as server, pytest.raises(ModelChangedError, match="emu"):
        score_table(numbers(100), server.url, batch_size=10)
    assert not (tmp_path / "out.arrow").exists()


# Rows that fail


@pytest.mark.parametrize("status", [400, 422, 500])
def test_only_the_bad_rows_of_a_refused_batch_fail(score_table, status):
    """A refused batch is halved until the bad rows stand alone; all others are scored."""
    bad = {3, 20, 21, 47}

    def script(request):
        is_bad = any(row["x"] in bad for row in request.rows)
        return faults.status(status, "no such thing") if is_bad else None

    with FaultServer(*LINEAR, script=script) as server:
        out = score_table(numbers(50), server.url, batch_size=25, max_attempts=1)
        assert server.request_count <= 2 + 2 * 4 * 5
    errors = out["prediction_error"].to_pylist()
    assert {n for n in range(50) if errors[n]} == bad
    assert all(errors[n].startswith(f"http_{status}: ") for n in bad)
    assert all("no such thing" in errors[n] for n in bad)
    expected = [None if n in bad else 2.0 * n + 1 for n in range(50)]
    assert out["predicted_y"].to_pylist() == expected
    report = score_table.report
    assert (report.exit_code, report.status, report.rows_failed) == (3, "failed_rows", 4)
    assert report.failed_rows == {f"http_{status}": 4}


@pytest.mark.parametrize(
    ("fault", "code"),
    [
        (faults.wrong_row_count(-1), "bad_response"),
        (faults.wrong_row_count(1), "bad_response"),
        (faults.html_200(), "bad_response"),
        (faults.empty_200(), "bad_response"),
        (faults.error_in_200(), "bad_response"),
        (faults.invalid_json(), "bad_response"),
        (faults.broken_gzip(), "bad_response"),
        (faults.status(500), "http_500"),
        (faults.status(422), "http_422"),
    ],
)
def test_rows_are_never_matched_with_an_answer_that_is_not_theirs(score_table, fault, code):
    """Whatever a server answers instead of so many predictions, the rows fail by their code."""
    with FaultServer(*LINEAR, script=faults.always(fault)) as server:
        out = score_table(numbers(4), server.url, max_attempts=1)
    assert [error.partition(": ")[0] for error in out["prediction_error"].to_pylist()] == [code] * 4
    assert out["predicted_y"].null_count == 4
    assert score_table.report.exit_code == 3


@pytest.mark.parametrize(("concurrency", "batch_size"), [(2, 64), ("auto", "auto")])
def test_a_file_that_is_bad_throughout_ends_early_with_the_servers_words(
    tmp_path, score_table, concurrency, batch_size
):
    """When 20 rows have failed alone and none was ever scored, the job stops."""
    script = faults.always(faults.status(422, "feature x is out of range"))
    with FaultServer(*LINEAR, script=script) as server:
        with pytest.raises(StoppedError, match="feature x is out of range") as caught:
            score_table(numbers(5000), server.url, concurrency=concurrency, batch_size=batch_size)
        assert server.request_count < 100
    assert caught.value.exit_code == 1
    assert not (tmp_path / "out.arrow").exists()


@pytest.mark.parametrize(
    "fault",
    [faults.status(503), faults.reset("middle"), faults.truncate(), faults.hang()],
)
def test_a_deployment_that_stays_away_ends_the_job_as_temporary(tmp_path, score_table, fault):
    """Past --max-outage the job ends with 75, and only probes of one row were sent meanwhile."""
    with FaultServer(*LINEAR, script=faults.always(fault)) as server:
        with pytest.raises(OutageError, match="is away for 1 s") as caught:
            score_table(
                numbers(100), server.url, max_attempts=2, timeout=0.2, max_outage="1s",
                batch_size=10, concurrency=4,
            )  # fmt: skip
        probes = [request for request in server.requests if len(request.rows) == 1]
        assert 1 <= len(probes) <= 5
        assert {request.in_flight for request in probes} == {1}
    assert caught.value.exit_code == 75
    assert not (tmp_path / "out.arrow").exists()


def test_a_deployment_that_comes_back_is_waited_for(score_table):
    """A restart in the middle costs time, and no row."""
    with FaultServer(*LINEAR, delay_s=0.005) as server:

        def restart(request):
            if request.index == 20:
                threading.Timer(0.02, server.go_away).start()
                threading.Timer(1.0, server.come_back).start()

        server.script = restart
        out = score_table(
            numbers(2000), server.url, batch_size=10, max_attempts=2, max_outage="30s"
        )
        # At the beginning, after the outage, and before the output is taken for whole.
        assert server.spec_requests == 3
    assert_scored(out, 2000)


def test_a_model_that_changed_during_an_outage_stops_the_job(tmp_path, score_table):
    """After an outage the specification is read again: two models are never mixed in a file."""
    with FaultServer(*LINEAR, delay_s=0.005) as server:

        def redeploy():
            server.outputs = {"y": ("numeric", [1]), "z": ("numeric", [1])}
            server.come_back()

        def restart(request):
            if request.index == 20:
                threading.Timer(0.02, server.go_away).start()
                threading.Timer(0.6, redeploy).start()

        server.script = restart
        with pytest.raises(ModelChangedError, match="another specification"):
            score_table(numbers(2000), server.url, batch_size=10, max_attempts=2)
    assert not (tmp_path / "out.arrow").exists()


def test_a_model_that_changes_without_an_outage_is_noticed_too(tmp_path, score_table, monkeypatch):
    """The specification is read again every few minutes."""
    monkeypatch.setattr("batchscore.scorer._CHECK_MODEL_EVERY_S", 0.05)
    with FaultServer(*LINEAR, delay_s=0.01) as server:

        def redeploy(request):
            if request.index == 50:
                server.outputs = {"y": ("numeric", [1]), "z": ("numeric", [1])}

        server.script = redeploy
        with pytest.raises(ModelChangedError, match="another specification"):
            score_table(numbers(20_000), server.url, batch_size=10)
    assert not (tmp_path / "out.arrow").exists()


@pytest.mark.parametrize("poison", [13, 20])
def test_a_row_that_takes_the_server_down_is_found(score_table, poison):
    """A batch in flight at two outages in a row is halved; its poison fails, the rest is scored."""
    with FaultServer(*LINEAR) as server:

        def script(request):
            if any(row["x"] == poison for row in request.rows):
                server._loop.call_soon(lambda: threading.Thread(target=bounce, daemon=True).start())
                return faults.reset("after")
            return None

        bouncing = threading.Lock()

        def bounce():
            if bouncing.acquire(blocking=False):
                server.go_away()
                time.sleep(0.4)
                server.come_back()
                bouncing.release()

        server.script = script
        out = score_table(
            numbers(80), server.url, batch_size=20, max_attempts=2, concurrency=4, timeout=2
        )
    errors = out["prediction_error"].to_pylist()
    assert {n for n in range(80) if errors[n]} == {poison}
    assert errors[poison].startswith("connection: ")


def test_passing_faults_of_all_kinds_leave_no_trace_in_the_file(score_table):
    """With enough attempts, a third of bad answers costs time and nothing else."""
    with FaultServer(*LINEAR, script=faults.mixed_faults(7, 0.33)) as server:
        out = score_table(
            numbers(2000), server.url, batch_size=20, max_attempts=40, timeout=0.5, concurrency=16
        )
    assert_scored(out, 2000)
    assert score_table.report.exit_code == 0
    assert sum(score_table.report.retries.values()) > 10


@pytest.mark.parametrize("limit", [10, "20%", "10"])
def test_failures_within_an_explicit_limit_are_a_good_end(score_table, limit):
    """--max-failed-rows makes exit code 0 of failures within it."""
    with FaultServer(*LINEAR, script=faults.refuse_rows(lambda row: row["x"] < 10)) as server:
        score_table(numbers(50), server.url, batch_size=10, max_failed_rows=limit)
    assert (score_table.report.exit_code, score_table.report.rows_failed) == (0, 10)


@pytest.mark.parametrize("limit", [9, "19%", 0])
def test_more_failures_than_the_limit_stop_the_job(tmp_path, score_table, limit):
    """Past the limit the job ends with 1 and no output that looks whole."""
    with FaultServer(*LINEAR, script=faults.refuse_rows(lambda row: row["x"] < 10)) as server:
        with pytest.raises(TooManyFailuresError) as caught:
            score_table(numbers(50), server.url, batch_size=10, max_failed_rows=limit)
    assert "10 rows failed (10 http_422)" in str(caught.value)
    assert caught.value.exit_code == 1
    assert not (tmp_path / "out.arrow").exists()


def test_the_retry_table_moves_a_status(score_table):
    """[retry] can make a 409, which would stop the job, worth another try."""
    with FaultServer(*LINEAR, script=[faults.status(409)]) as server:
        out = score_table(numbers(5), server.url, retry={"retry": [409]})
    assert_scored(out, 5)


# Bad input


def bad_inputs(folder):
    (folder / "empty.parquet").write_bytes(b"")
    (folder / "torn.parquet").write_bytes(b"PAR1 and no more")
    (folder / "some.xyz").write_text("x")
    (folder / "two.csv").write_text("x,x\n1,2\n")
    pq.write_table(pa.table({"x": ["a", "b"]}), folder / "text.parquet")
    pq.write_table(pa.table({"X": [1.0]}), folder / "case.parquet")
    pq.write_table(pa.table({"x": [1], "predicted_y": [2]}), folder / "collision.parquet")
    pq.write_table(pa.table({"x": [1]}), folder / "good.parquet")


@pytest.mark.parametrize(
    ("name", "options", "words"),
    [
        ("none.parquet", {}, ["none.parquet", "no such file"]),
        ("empty.parquet", {}, ["empty.parquet"]),
        ("torn.parquet", {}, ["torn.parquet"]),
        ("some.xyz", {}, ["some.xyz", "--input-format"]),
        ("two.csv", {}, ["two.csv", "'x'"]),
        ("text.parquet", {}, ["'x'", "string", "numeric"]),
        ("case.parquet", {}, ["'x'", "'X'"]),
        ("collision.parquet", {}, ["predicted_y", "--prefix", "--drop"]),
        ("good.parquet", {"map": {"z": "x"}}, ["--map", "'z'"]),
        ("good.parquet", {"map": {"x": "z"}}, ["--map", "'z'"]),
        ("good.parquet", {"keep": ["z"]}, ["--keep", "'z'"]),
        ("good.parquet", {"drop": ["z"]}, ["--drop", "'z'"]),
        ("good.parquet", {"batch_size": 0}, ["batch_size"]),
        ("good.parquet", {"batchsize": 1}, ["batchsize"]),
        ("good.parquet", {"timeout": "soon"}, ["timeout", "30s"]),
        ("good.parquet", {"classes": "a,b"}, ["--classes"]),
        ("good.parquet", {"protocol": "carrier-pigeon"}, ["carrier-pigeon"]),
        ("good.parquet", {"report": ["nowhere/r.json"]}, ["--report", "nowhere"]),
        ("good.parquet", {"header": ["no colon"]}, ["header"]),
    ],
)
def test_bad_input_gets_a_clear_answer_before_a_row_is_sent(tmp_path, name, options, words):
    """One or two lines that name the thing; exit code 2; no row sent, no output."""
    bad_inputs(tmp_path)
    with FaultServer(*LINEAR) as server, pytest.raises(UsageError) as caught:
        batchscore.score(tmp_path / name, tmp_path / "out.arrow", url=server.url, **options)
    text = str(caught.value)
    assert all(word in text for word in words), text
    assert text.count("\n") <= 1
    assert caught.value.exit_code == 2
    assert server.request_count == 0
    assert not (tmp_path / "out.arrow").exists()
    assert not (tmp_path / "out.arrow.partial").exists()


@pytest.mark.parametrize(
    ("output", "words"),
    [
        ("nowhere/out.arrow", "nowhere"),
        ("out.xyz", "--output-format"),
        ("there.arrow", "--overwrite"),
        ("folder.arrow", "folder"),
    ],
)
def test_an_output_that_cannot_be_written_is_told_first(tmp_path, output, words):
    """A bad OUT is found before anything is sent, and an existing one is not touched."""
    bad_inputs(tmp_path)
    (tmp_path / "there.arrow").write_text("mine")
    (tmp_path / "folder.arrow").mkdir()
    with FaultServer(*LINEAR) as server, pytest.raises(UsageError, match=words):
        batchscore.score(tmp_path / "good.parquet", tmp_path / output, url=server.url)
    assert server.spec_requests == 0
    assert (tmp_path / "there.arrow").read_text() == "mine"


def test_overwrite_replaces_only_with_something_whole(tmp_path):
    """The old output stands until the new one is whole."""
    bad_inputs(tmp_path)
    out = tmp_path / "out.arrow"
    out.write_text("mine")
    with FaultServer(*LINEAR, script=[faults.status(403)]) as server:
        with pytest.raises(RefusedError):
            batchscore.score(tmp_path / "good.parquet", out, url=server.url, overwrite=True)
        assert out.read_text() == "mine"
        batchscore.score(tmp_path / "good.parquet", out, url=server.url, overwrite=True)
    assert read_arrow(out)["predicted_y"].to_pylist() == [3.0]


@pytest.mark.parametrize(
    ("break_it", "error", "words"),
    [
        (lambda s: setattr(s, "token", "right"), RefusedError, "401"),
        (lambda s: setattr(s, "disabled", True), RefusedError, "403"),
        (lambda s: s.go_away(), UnreachableError, "127.0.0.1:"),
        (lambda s: setattr(s, "spec_script", [faults.html_200()]), MetadataError, "specification"),
        (lambda s: setattr(s, "spec_script", [faults.status(404)]), RefusedError, "/forward"),
    ],
)
def test_a_deployment_that_cannot_be_used_is_told_apart(tmp_path, break_it, error, words):
    """Wrong token, disabled, unreachable, no deployment at all: each says so, with its code."""
    bad_inputs(tmp_path)
    report = tmp_path / "report.json"
    with FaultServer(*LINEAR) as server:
        break_it(server)
        with pytest.raises(error, match=words) as caught:
            batchscore.score(
                tmp_path / "good.parquet", tmp_path / "out.arrow", url=server.url,
                token="my-secret-token", report=report,
            )  # fmt: skip
    assert "my-secret-token" not in str(caught.value)
    assert not (tmp_path / "out.arrow").exists()
    written = json.loads(report.read_text())
    assert written["exit_code"] == caught.value.exit_code
    assert written["message"] == str(caught.value)
    assert "my-secret-token" not in report.read_text()


def test_row_local_trouble_fails_that_row_alone(tmp_path):
    """A bad cell and a ragged record fail their rows; the others are scored."""
    lines = ["id,x"] + [f"row {n},{n}" for n in range(5000)]
    lines[1001] = "row 1000,abc"
    lines[3001] = "row 3000,1,2,3"
    lines[4001] = "row 4000"
    (tmp_path / "in.csv").write_text("\n".join(lines))
    with FaultServer(*LINEAR) as server:
        report = batchscore.score(
            tmp_path / "in.csv", tmp_path / "out.arrow", url=server.url, batch_size=64
        )
        assert server.rows_seen == 4997
    out = read_arrow(tmp_path / "out.arrow")
    bad = {1000, 3000, 4000}
    assert out["id"].to_pylist() == [f"row {n}" for n in range(5000)]
    assert out["predicted_y"].to_pylist() == [
        None if n in bad else 2.0 * n + 1 for n in range(5000)
    ]
    errors = out["prediction_error"].to_pylist()
    assert {n for n in range(5000) if errors[n]} == bad
    assert all(errors[n].startswith("invalid_input: ") for n in bad)
    assert report.failed_rows == {"invalid_input": 3}
    assert report.exit_code == 3


def test_nan_and_infinity_are_sent_as_null_and_counted(score_table):
    """JSON has no NaN: it goes out as null, and the report says how often."""
    table = pa.table({"x": [1.0, float("nan"), float("inf"), None]})
    with FaultServer(*LINEAR) as server:
        out = score_table(table, server.url)
        assert [row["x"] for row in server.requests[0].rows] == [1.0, None, None, None]
    assert score_table.report.nonfinite_as_null == 2
    assert out["x"].to_pylist()[2] == float("inf")


def test_requests_stay_below_the_byte_bound_and_are_equal_slices(score_table):
    """--max-batch-bytes cuts a chunk into requests; the output's batches stay chunks."""
    model = Model({"t": ("text", [1])}, {"n": ("numeric", [1])},
                  lambda rows: [{"n": len(row["t"])} for row in rows])  # fmt: skip
    table = pa.table({"t": ["a" * (n % 700) for n in range(2000)]})
    with FaultServer(*model) as server:
        out = score_table(table, server.url, batch_size=1000, max_batch_bytes=30_000)
        assert all(request.body_bytes <= 40_000 for request in server.requests)
        assert server.request_count > 20
    assert out["predicted_n"].to_pylist() == [float(n % 700) for n in range(2000)]
    assert [len(chunk) for chunk in out["t"].chunks] == [1000, 1000]


async def test_score_async_runs_inside_a_loop_and_score_does_too(tmp_path):
    """Both forms work in async code and notebooks."""
    bad_inputs(tmp_path)
    with FaultServer(*LINEAR) as server:
        report = await batchscore.score_async(
            tmp_path / "good.parquet", str(tmp_path / "a.arrow"), url=server.url
        )
        assert report.exit_code == 0
        report = batchscore.score(
            [str(tmp_path / "good.parquet")], tmp_path / "b.arrow", url=server.url
        )
        assert report.exit_code == 0
    assert (tmp_path / "a.arrow").read_bytes() == (tmp_path / "b.arrow").read_bytes()


def test_a_job_that_hits_an_internal_error_still_writes_its_report(tmp_path, monkeypatch):
    """A bug ends with 1, and its report is there."""
    bad_inputs(tmp_path)

    def broken(*_):
        raise ZeroDivisionError("a bug")

    monkeypatch.setattr("batchscore.protocols.rows.RowsEncoder.encode", broken)
    with FaultServer(*LINEAR) as server, pytest.raises(ZeroDivisionError):
        batchscore.score(
            tmp_path / "good.parquet", tmp_path / "out.arrow", url=server.url,
            report=tmp_path / "r.json",
        )  # fmt: skip
    assert json.loads((tmp_path / "r.json").read_text())["exit_code"] == 1
    assert isinstance(InputError("x"), UsageError)
