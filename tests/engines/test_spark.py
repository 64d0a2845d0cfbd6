"""Spark itself, on this computer: rows in and out, and executors that are killed on the way."""

import json
import os
import signal
import subprocess
import sys
import threading
import warnings
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from faultserver import CLASSIFIER, LINEAR, FaultServer, RowTally, echo, faults, spark_here
from faultserver.clients import command_of, wait_until
from integration.conftest import read_arrow

import batchscore
from batchscore.engines.spark import errors, score_dataframe
from batchscore.errors import RefusedError, UsageError

pytestmark = [
    pytest.mark.timeout(240),
    # It names the version of pandas, which is only asked for here.
    pytest.mark.filterwarnings("ignore:PySpark does not yet fully support pandas:FutureWarning"),
]

TESTS = Path(__file__).parents[1]


@pytest.fixture(scope="module")
def spark():
    """A session with two executors of one core each, processes of their own."""
    with spark_here.spark_home() as environment, pytest.MonkeyPatch.context() as patch:
        patch.setenv("PYSPARK_PYTHON", sys.executable)
        patch.setenv("PYTHONPATH", os.pathsep.join([str(TESTS), *sys.path]))
        for name, value in environment.items():
            patch.setenv(name, value)
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", FutureWarning)
            from pyspark.sql import SparkSession

            session = (
                SparkSession.builder.master(spark_here.MASTER)
                .config("spark.ui.enabled", "false")
                .config("spark.ui.showConsoleProgress", "false")
                .config("spark.driver.host", "127.0.0.1")
                .config("spark.driver.bindAddress", "127.0.0.1")
                .getOrCreate()
            )
        session.sparkContext.setLogLevel("OFF")
        yield session
        gateway = session.sparkContext._gateway
        session.stop()
        gateway.shutdown()
        gateway.proc.stdin.close()
        gateway.proc.wait()
        session.sparkContext.__class__._gateway = session.sparkContext.__class__._jvm = None


def numbers(rows: int) -> pa.Table:
    return pa.table({"id": range(rows), "x": pa.array(range(rows), pa.int64())})


def write_rows(path: Path, rows: int, group: int) -> Path:
    pq.write_table(numbers(rows), path, row_group_size=group)
    return path


def frame(spark, table: pa.Table, partitions: int):
    """The rows as a DataFrame, in their order."""
    ids = table.num_rows
    return spark.createDataFrame(table).repartitionByRange(partitions, "id").sortWithinPartitions(
        "id"
    ) if ids else spark.createDataFrame(table)  # fmt: skip


def refuse(*numbers: int):
    """A script that refuses these rows."""
    return lambda info: (
        faults.status(422, "no") if any(row["x"] in numbers for row in info.rows) else None
    )


def whole(folder: Path) -> pa.Table:
    assert (folder / "_SUCCESS").exists()
    return pa.concat_tables([pq.read_table(path) for path in sorted(folder.glob("part-*"))])


def told(table: pa.Table) -> dict[bytes, bytes]:
    """What an output tells of its job, but for the server's port."""
    return {k: v for k, v in table.schema.metadata.items() if k != b"batchscore.endpoint"}


class Killer(threading.Thread):
    """Kills the first executor that it meets, once both are at work."""

    def __init__(self, server: FaultServer) -> None:
        super().__init__(daemon=True)
        self._server, self.killed = server, 0

    def run(self) -> None:
        executors = wait_until(self._both, "two executors at work", 120.0)
        os.kill(executors[0], signal.SIGKILL)
        self.killed = executors[0]

    def _both(self) -> list[int]:
        found = spark_here.executors_at_work(self._server.url)
        return found if len(found) == spark_here.EXECUTORS else []

    def __enter__(self):
        self.start()
        return self

    def __exit__(self, *_: object) -> None:
        self.join(1)
        assert self.killed, "no executor was killed: the job was too quick"


# DataFrames.


def test_a_dataframe_gets_the_columns_of_a_table(spark):
    """Rows, order, values and errors are those of score_table; kept columns keep their types."""
    table = numbers(3000)
    df = frame(spark, table, 3).selectExpr(
        "id", "x", "timestamp_micros(id) t", "array(id, null) a", "named_struct('q', id) s",
        "cast(id as decimal(10, 2)) d", "cast(id as string) w", "map('k', id) m", "id % 2 = 0 b",
    )  # fmt: skip
    with FaultServer(*CLASSIFIER, script=refuse(77, 2999)) as server:
        scored = score_dataframe(df, url=server.url, batch_size=50)
        assert len(server.requests) == 1, "only one row is scored before Spark asks for them"
        found = scored.toArrow()
        expected = batchscore.score_table(df.toArrow(), url=server.url, batch_size=50)
    assert scored.schema.fields[:9] == df.schema.fields
    assert found.schema.names == expected.schema.names
    assert found.to_pylist() == expected.to_pylist()
    assert found["prediction_error"].null_count == 2998


def test_what_spark_cannot_hold_becomes_the_nearest_type(spark):
    """A tensor comes as lists of lists, text as text, and what failed as null."""
    arrays = np.arange(120, dtype=np.float32).reshape(20, 2, 3) / 7
    table = pa.table({"id": range(20), "a": arrays.tolist(), "t": [f"é{n}" for n in range(20)]})
    script = lambda info: faults.status(422) if info.rows[0]["t"] == "é7" else None  # noqa: E731
    with FaultServer(
        *echo({"a": ("numeric", [2, 3]), "t": ("text", [1])}), script=script
    ) as server:
        df = frame(spark, table, 2)
        found = score_dataframe(df, url=server.url, workers=1, batch_size=1).toArrow()
    assert found["predicted_t"].to_pylist() == [None if n == 7 else f"é{n}" for n in range(20)]
    predicted = found["predicted_a"].to_pylist()
    assert predicted.pop(7) is None
    np.testing.assert_array_equal(np.float32(predicted), np.delete(arrays, 7, 0))


def test_a_written_dataframe_is_committed_whole_though_an_executor_is_killed(spark, tmp_path):
    """Spark gives its partitions to another one, and its own committer takes each once."""
    df = frame(spark, numbers(4000), 20)
    with FaultServer(*LINEAR, delay_s=0.02) as server, Killer(server):
        scored = score_dataframe(df, url=server.url, batch_size=10, concurrency=2)
        scored.write.parquet(str(tmp_path / "out"))
    found = whole(tmp_path / "out")
    assert found["id"].to_pylist() == list(range(4000))
    assert found["predicted_y"].to_pylist() == [2 * n + 1 for n in range(4000)]
    assert found["prediction_error"].null_count == 4000


def test_fewer_requests_than_tasks_put_partitions_together(spark):
    """--concurrency counts for all tasks together, also where it is less than their number."""
    df = frame(spark, numbers(400), 4)
    with FaultServer(*LINEAR, delay_s=0.02) as server:
        for concurrency in (1, 3):
            server.max_in_flight = 0
            scored = score_dataframe(df, url=server.url, batch_size=10, concurrency=concurrency)
            assert scored.toArrow()["id"].to_pylist() == list(range(400))
            assert server.max_in_flight <= concurrency


def test_what_is_wrong_with_a_dataframe_is_told_at_once(spark):
    """A column, a type or an option that cannot serve is an error before Spark is asked."""
    with FaultServer(*LINEAR) as server:
        for columns, options, words in [
            ("id", {}, "no column 'x'"),
            ("id, id, 1 x", {}, "two columns of the DataFrame are called 'id'"),
            ("1 x, interval '3' month m", {}, "'m' of the DataFrame has the type interval month"),
            ("1 x", {"output": "out.parquet"}, "no option 'output'"),
            ("1 x", {"limit": 3}, "no option 'limit'"),
            ("1 x, 2 Predicted_Y", {}, "takes 'Predicted_Y' and 'predicted_y' for one name"),
        ]:
            df = spark.range(3).selectExpr(*columns.split(", "))
            with pytest.raises(UsageError, match=words):
                score_dataframe(df, url=server.url, **options)


def test_an_empty_dataframe_is_scored_without_a_request(spark):
    """No row, no request, and all the columns."""
    with FaultServer(*LINEAR) as server:
        scored = score_dataframe(spark.range(0).selectExpr("id", "id x"), url=server.url)
        assert scored.toArrow().num_rows == 0
        assert scored.columns == ["id", "x", "predicted_y", "prediction_error"]
        assert server.request_count == 0


def test_an_error_of_a_task_comes_as_ours(spark):
    """Within ``errors``, who asks for rows gets the error that ended the task, in its words."""
    # The row that the driver scores comes first; which one that is, is Spark's.
    script = lambda info: faults.status(403, "closed") if info.index else None  # noqa: E731
    with FaultServer(*LINEAR, script=script) as server:
        scored = score_dataframe(frame(spark, numbers(100), 2), url=server.url, batch_size=10)
        with pytest.raises(RefusedError, match="403.*closed") as caught, errors():
            scored.toArrow()
        assert "Traceback" not in str(caught.value)
        with pytest.raises(ZeroDivisionError), errors():
            _ = 1 / 0


# Files.


def test_a_killed_executor_changes_nothing_of_the_output(spark, tmp_path):
    """The folder is what a local run writes; only what was not finished is sent again."""
    source = write_rows(tmp_path / "in.parquet", 6000, 100)
    options = {"batch_size": 10, "concurrency": 4}
    tally = RowTally("x", 6000)
    script = refuse(77, 5999)
    with (
        FaultServer(*CLASSIFIER, delay_s=0.02, tally=tally, script=script) as server,
        Killer(server),
    ):
        out = tmp_path / "out"
        report = batchscore.score(source, out, url=server.url, engine="spark", **options)
        assert server.max_in_flight <= 4
    with FaultServer(*CLASSIFIER, script=script) as server:
        batchscore.score(source, tmp_path / "local.arrow", url=server.url, **options)
    found, expected = whole(tmp_path / "out"), read_arrow(tmp_path / "local.arrow")
    assert found.to_pylist() == expected.to_pylist()
    assert found.schema.equals(expected.schema)
    assert told(found) == told(expected)
    assert (report.rows_read, report.rows_scored, report.rows_failed) == (6000, 5998, 2)
    assert [row["row"] for row in report.failed_examples["http_422"]] == [78, 6000]
    again = tally.counts()["rows_sent_twice"]
    assert 0 < again < 3000, f"{again} rows were sent again"
    assert not (tmp_path / "out.partial").exists()


def test_the_bound_of_requests_is_that_of_all_tasks(spark, tmp_path):
    """--concurrency is shared out exactly, also where it does not divide evenly."""
    source = write_rows(tmp_path / "in.parquet", 1600, 100)
    with FaultServer(*LINEAR, delay_s=0.02) as server:
        for concurrency in (3, 1):
            server.max_in_flight = 0
            batchscore.score(
                source, tmp_path / "out", url=server.url, engine="spark", batch_size=10,
                concurrency=concurrency, overwrite=True,
            )  # fmt: skip
            assert server.max_in_flight <= concurrency
            assert whole(tmp_path / "out")["id"].to_pylist() == list(range(1600))


def test_an_error_of_a_task_ends_the_job_at_once(spark, tmp_path):
    """What stops a job stops all of it: nobody tries again, and the output does not appear."""
    source = write_rows(tmp_path / "in.parquet", 2000, 100)
    # The row that the driver scores comes first; which one that is, is Spark's.
    script = lambda info: faults.status(403, "closed") if info.index else None  # noqa: E731
    with FaultServer(*LINEAR, script=script) as server:
        with pytest.raises(RefusedError, match="closed"):
            batchscore.score(
                source, tmp_path / "out", url=server.url, engine="spark", batch_size=10
            )
        refused = sum(1 for request in server.requests if request.rows[0]["x"] >= 50)
    assert refused < 60
    assert [path.name for path in tmp_path.iterdir()] == ["in.parquet"]
    assert spark.range(3).count() == 3, "the user's session goes on"


def test_another_master_than_that_of_the_session_is_refused(spark, tmp_path):
    """Who has a session, and names another cluster, is told so before anything is written."""
    source = write_rows(tmp_path / "in.parquet", 10, 10)
    with FaultServer(*LINEAR) as server, pytest.raises(UsageError, match="runs in this program"):
        batchscore.score(
            source, tmp_path / "out", url=server.url, engine="spark", master="local[2]"
        )


# The command.


def start(folder: Path, *words: object, **variables: str) -> subprocess.Popen[str]:
    unset = ("BATCHSCORE_", "PYSPARK_", "SPARK_")
    environment = {k: v for k, v in os.environ.items() if not k.startswith(unset)}
    return subprocess.Popen(
        [sys.executable, "-m", "batchscore", "score", *map(str, words)],
        cwd=folder,
        env={**environment, **variables},
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )


def test_the_command_scores_with_a_spark_of_its_own_without_a_word_of_it(tmp_path):
    """Relative paths, the token of the environment and the report are as here; Spark is quiet."""
    write_rows(tmp_path / "in.parquet", 500, 50)
    with FaultServer(*LINEAR, token="se-cret") as server:
        words = ["in.parquet", "--url", server.url, "-o", "out", "-q", "--workers", 2]
        words += ["--batch-size", 5, "--report", "report.json", "--source-column", "file"]
        done = start(tmp_path, *words, BATCHSCORE_ENGINE="spark", BATCHSCORE_TOKEN="se-cret")
        out, err = done.communicate(timeout=180)
    assert (done.returncode, out, err) == (0, "", "")
    assert whole(tmp_path / "out")["id"].to_pylist() == list(range(500))
    assert set(whole(tmp_path / "out")["file"].to_pylist()) == {"in.parquet"}
    report = json.loads((tmp_path / "report.json").read_text())
    assert (report["status"], report["rows_scored"]) == ("ok", 500)
    assert "se-cret" not in (tmp_path / "report.json").read_text()


def test_an_interrupted_command_leaves_no_output_and_no_process(tmp_path):
    """One SIGINT is enough: exit code 130, nothing under the output's name, nobody who sends."""
    write_rows(tmp_path / "in.parquet", 5000, 100)
    with FaultServer(*LINEAR, delay_s=0.05) as server:
        words = ["in.parquet", "--url", server.url, "-o", "out", "--engine", "spark"]
        words += ["--batch-size", 5, "--concurrency", 2, "--master", "local[2]"]
        running = start(tmp_path, *words)
        wait_until(lambda: spark_here.python_workers(server.url), "a task at work", 120.0)
        started = spark_here.descendants(running.pid)
        running.send_signal(signal.SIGINT)
        _, err = running.communicate(timeout=60)
        assert running.returncode == 130, err
        assert len(started) >= 2
        wait_until(
            lambda: not any(map(command_of, started)),
            "the end of Spark's processes",
        )
    assert not (tmp_path / "out").exists()


def test_a_python_worker_that_is_killed_costs_a_split(tmp_path):
    """Also where Spark is one process with its workers, a lost one is made up for."""
    write_rows(tmp_path / "in.parquet", 3000, 100)
    with FaultServer(*LINEAR, delay_s=0.02) as server:
        words = ["in.parquet", "--url", server.url, "-o", "out", "--engine", "spark"]
        words += ["--batch-size", 10, "--concurrency", 2, "--workers", 2]
        running = start(tmp_path, *words)
        found = wait_until(lambda: spark_here.python_workers(server.url), "a task at work", 120.0)
        os.kill(found[0], signal.SIGKILL)
        _, err = running.communicate(timeout=120)
    assert running.returncode == 0, err
    assert whole(tmp_path / "out")["predicted_y"].to_pylist() == [2 * n + 1 for n in range(3000)]


@pytest.mark.parametrize(
    ("master", "variables", "code", "words"),
    [
        ("spark://127.0.0.1:9", {}, 75, "nobody answers at 'spark://127.0.0.1:9'"),
        ("spark://", {}, 2, "is not spark://HOST:PORT"),
        ("sc://127.0.0.1", {}, 2, "is Spark Connect"),
        ("nonsense", {}, 2, "Master must either be yarn or start with spark"),
        ("local[0]", {}, 2, "leaves no room for a task"),
        ("local[1]", {"JAVA_HOME": "/nowhere"}, 2, "Java, 17 or later"),
    ],
)
def test_a_spark_that_does_not_start_is_told_in_a_line(tmp_path, master, variables, code, words):
    """What is not there, and what to do; no traceback, and nothing of the output is left."""
    write_rows(tmp_path / "in.parquet", 10, 10)
    with FaultServer(*LINEAR) as server:
        line = ["in.parquet", "--url", server.url, "-o", "out", "--engine", "spark"]
        done = start(tmp_path, *line, "--master", master, "-q", **variables)
        out, err = done.communicate(timeout=120)
    assert (done.returncode, out) == (code, ""), err
    assert words in err
    assert len(err.splitlines()) <= 2
    assert [path.name for path in tmp_path.iterdir()] == ["in.parquet"]


@pytest.mark.parametrize(
    ("python", "words"),
    [
        ("without-packages", "'; the executors need the Python of the driver"),
        ("missing", "missing'; PYSPARK_PYTHON names their Python"),
    ],
)
def test_a_python_that_cannot_serve_is_told_in_a_line(tmp_path, python, words):
    """An executor without what the driver has ends the job, and says what is missing."""
    write_rows(tmp_path / "in.parquet", 10, 10)
    bare = tmp_path / "without-packages"
    bare.write_text(f'#!/bin/sh\nexec "{sys.executable}" -S "$@"\n')
    bare.chmod(0o755)
    with FaultServer(*LINEAR) as server:
        line = ["in.parquet", "--url", server.url, "-o", "out", "--engine", "spark", "-q"]
        # What the other tests here tell Spark to look through has all packages.
        variables = {"PYSPARK_PYTHON": str(tmp_path / python), "PYTHONPATH": ""}
        done = start(tmp_path, *line, "--master", "local[1]", **variables)
        out, err = done.communicate(timeout=120)
    assert (done.returncode, out) == (1, ""), err
    assert words in err
    assert len(err.splitlines()) <= 2
    assert not (tmp_path / "out").exists()


def test_without_spark_the_extra_is_named(tmp_path):
    """Who asks for an engine that is not installed is told how to install it."""
    write_rows(tmp_path / "in.parquet", 10, 10)
    program = (
        "import sys; sys.modules['pyspark'] = None; import batchscore.cli;"
        "sys.argv = ['batchscore', *sys.argv[1:]]; batchscore.cli.main()"
    )
    with FaultServer(*LINEAR) as server:
        words = ["score", "in.parquet", "--url", server.url, "-o", "out", "--engine", "spark"]
        done = subprocess.run(
            [sys.executable, "-c", program, *words],
            cwd=tmp_path,
            capture_output=True,
            text=True,
            check=False,
        )
    assert done.returncode == 2
    assert "pip install 'batchscore[spark]'" in done.stderr
    assert not (tmp_path / "out").exists()
