"""Ray itself, on this computer: rows in and out, and actors that are killed on the way."""

import gc
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
from engines import deadly
from faultserver import CLASSIFIER, LINEAR, FaultServer, echo, faults
from faultserver.clients import clients_of, command_of, wait_until
from integration.conftest import read_arrow
from stores.servers import LOGIN, s3_server

import batchscore
from batchscore.config import ScoreConfig, configured
from batchscore.engines.ray import RayEngine, score_dataset
from batchscore.errors import InputError, RefusedError, UsageError, WorkerLostError
from batchscore.stores import StoreOptions
from batchscore.stores.s3 import s3_client
from batchscore.stores.s3_session import session

pytestmark = [
    pytest.mark.timeout(180),
    # Ray's own settings warn of themselves whenever they are made or copied.
    pytest.mark.filterwarnings("ignore::DeprecationWarning:ray.data.context"),
]

WORKERS = 2
TESTS = Path(__file__).parents[1]


@pytest.fixture(scope="module")
def ray():
    """A cluster with room for two actors and what reads for them."""
    # So that workers find the modules that stand beside the tests.
    patch = pytest.MonkeyPatch()
    patch.setenv("PYTHONPATH", os.pathsep.join([str(TESTS), *sys.path]))
    for name, value in LOGIN.items():
        patch.setenv(name, value)
    values = {"inputs": ["-"], "output": "-", "url": "http://127.0.0.1:1", "engine": "ray"}
    engine = RayEngine()
    engine.start(configured(ScoreConfig, {**values, "workers": 4}))
    import ray.data

    context = ray.data.DataContext.get_current()
    context.enable_progress_bars = context.print_on_execution_start = False
    context.execution_options.preserve_order = True
    yield ray
    engine.stop()
    patch.undo()
    # Ray leaves its processes and their logs to whoever clears the memory.
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", ResourceWarning)
        gc.collect()


def numbers(rows: int) -> pa.Table:
    return pa.table({"id": range(rows), "x": pa.array(range(rows), pa.int64())})


def write_rows(path: Path, rows: int, group: int) -> Path:
    pq.write_table(numbers(rows), path, row_group_size=group)
    return path


def rows_of(ds) -> pa.Table:
    tables = ds.iter_batches(batch_size=None, batch_format="pyarrow", prefetch_batches=0)
    return pa.concat_tables(list(tables))


def whole(folder: Path) -> pa.Table:
    assert (folder / "_SUCCESS").exists()
    return pa.concat_tables([pq.read_table(path) for path in sorted(folder.glob("part-*"))])


def actors_of(server: FaultServer) -> list[int]:
    """The actors that are connected to a server."""
    return [pid for pid in clients_of(server.url) if command_of(pid).startswith("ray::")]


class Killer(threading.Thread):
    """Kills the first actor that it meets, once both are at work."""

    def __init__(self, server: FaultServer) -> None:
        super().__init__(daemon=True)
        self._server, self.killed = server, 0

    def run(self) -> None:
        actors = wait_until(self._both, "two actors at work", 90.0)
        self.killed = actors[0]
        os.kill(self.killed, signal.SIGKILL)

    def _both(self) -> list[int]:
        actors = actors_of(self._server)
        return actors if len(actors) == WORKERS else []

    def __enter__(self):
        self.start()
        return self

    def __exit__(self, *_: object) -> None:
        self.join(1)
        assert self.killed, "no actor was killed: the job was too quick"


# Datasets.


def test_a_dataset_gets_the_columns_of_a_table(ray):
    """Rows, order, columns and errors are those of score_table, classes and all."""
    table = numbers(3000)
    script = lambda info: faults.status(422) if any(r["x"] == 77 for r in info.rows) else None  # noqa: E731
    with FaultServer(*CLASSIFIER, script=script) as server:
        expected = batchscore.score_table(table, url=server.url, batch_size=50)
        ds = ray.data.from_arrow([table.slice(start, 300) for start in range(0, 3000, 300)])
        ds = ds.map_batches(lambda rows: rows, batch_format="pyarrow")
        # As many as there are CPUs: what reads the rows must still find room.
        scored = score_dataset(ds, url=server.url, workers=4, batch_size=50)
        found = rows_of(scored)
        assert len(actors_of(server)) <= 4
    assert found.to_pylist() == expected.to_pylist()
    assert found.schema.equals(expected.schema)
    assert found["prediction_error"].null_count == 2999


def test_arrays_and_text_survive_the_way_through_ray(ray):
    """Tensors of Arrow and of Ray go in, and come back as tensors of Arrow."""
    arrays = np.arange(120, dtype=np.float32).reshape(20, 2, 3) / 7
    with FaultServer(*echo({"a": ("numeric", [2, 3]), "t": ("text", [1])})) as server:
        words = [f"é{n}" for n in range(20)]
        theirs = ray.data.from_items(
            [{"a": a, "t": t} for a, t in zip(arrays, words, strict=True)], override_num_blocks=1
        )
        assert theirs.schema().types[0] != pa.fixed_shape_tensor(pa.float32(), [2, 3])
        found = rows_of(score_dataset(theirs, url=server.url, workers=1))
    assert found["predicted_t"].to_pylist() == words
    predicted = found["predicted_a"].combine_chunks()
    assert predicted.type == pa.fixed_shape_tensor(pa.float32(), [2, 3])
    np.testing.assert_array_equal(predicted.to_numpy_ndarray(), arrays)


def test_the_bound_of_requests_is_that_of_all_actors(ray):
    """--concurrency counts for the whole cluster, also where it does not divide evenly."""
    ds = ray.data.from_arrow([numbers(200)] * 8)
    with FaultServer(*LINEAR, delay_s=0.02) as server:
        scored = score_dataset(ds, url=server.url, workers=WORKERS, batch_size=10, concurrency=3)
        assert rows_of(scored).num_rows == 1600
        assert 2 <= server.max_in_flight <= 3


def test_an_actor_that_is_killed_costs_no_row(ray):
    """Its blocks are scored by another, in their places."""
    tables = [numbers(4000).slice(start, 200) for start in range(0, 4000, 200)]
    with FaultServer(*LINEAR, delay_s=0.02) as server, Killer(server):
        ds = ray.data.from_arrow(tables)
        options = {"workers": WORKERS, "batch_size": 10, "concurrency": 2}
        found = rows_of(score_dataset(ds, url=server.url, **options))
    assert found["id"].to_pylist() == list(range(4000))
    assert found["predicted_y"].to_pylist() == [2 * n + 1 for n in range(4000)]


def test_what_is_wrong_with_a_dataset_is_told_at_once(ray):
    """A column that is missing, or an option of files, is an error before anything is scored."""
    ds = ray.data.from_arrow(pa.table({"z": [1]}))
    with FaultServer(*LINEAR) as server:
        with pytest.raises(InputError, match="no column 'x'"):
            score_dataset(ds, url=server.url)
        with pytest.raises(UsageError, match="no option 'output'"):
            score_dataset(ds, url=server.url, output="out.parquet")


@pytest.mark.slow
def test_an_error_of_an_actor_is_the_cause_of_rays(ray):
    """Whoever asks for the rows gets Ray's error, with ours, words and all, behind it."""
    script = lambda info: faults.status(403, "closed") if info.rows[0]["x"] >= 50 else None  # noqa: E731
    with FaultServer(*LINEAR, script=script) as server:
        ds = ray.data.from_arrow(numbers(100))
        scored = score_dataset(ds, url=server.url, batch_size=10, workers=1)
        with pytest.raises(ray.exceptions.RayTaskError, match="closed") as caught:
            rows_of(scored)
    assert isinstance(caught.value, RefusedError)
    assert "403" in str(caught.value)


# Files.


def test_a_killed_actor_changes_nothing_of_the_output(ray, tmp_path):
    """The folder is what a local run writes, each row once, and the report counts each row once."""
    source = write_rows(tmp_path / "in.parquet", 6000, 100)
    options = {"batch_size": 10, "concurrency": 4}
    with FaultServer(*CLASSIFIER, delay_s=0.01) as server, Killer(server):
        out = tmp_path / "out"
        report = batchscore.score(
            source, out, url=server.url, engine="ray", workers=WORKERS, **options
        )
    with FaultServer(*CLASSIFIER) as server:
        batchscore.score(source, tmp_path / "local.arrow", url=server.url, **options)
    found, expected = whole(tmp_path / "out"), read_arrow(tmp_path / "local.arrow")
    assert found.to_pylist() == expected.to_pylist()
    assert found.schema.equals(expected.schema)
    assert (report.rows_read, report.rows_scored, report.rows_failed) == (6000, 6000, 0)
    assert report.requests >= 600
    assert not (tmp_path / "out.partial").exists()


def test_actors_write_into_a_store_and_one_is_killed(ray, tmp_path):
    """From S3 into S3, no folder in common: every row once, and nothing beside the parts."""
    s3_client.cache_clear()
    session.cache_clear()
    with s3_server(tmp_path) as endpoint, FaultServer(*LINEAR, delay_s=0.01) as server:
        store = s3_client(StoreOptions(endpoint, "us-east-1"))
        store.create_bucket(Bucket="rows")
        source = write_rows(tmp_path / "in.parquet", 4000, 100)
        store.put_object(Bucket="rows", Key="in/a.parquet", Body=source.read_bytes())
        options = {"store_endpoint": endpoint, "store_region": "us-east-1", "workers": WORKERS}
        with Killer(server):
            report = batchscore.score(
                "s3://rows/in/", "s3://rows/scored/", url=server.url, engine="ray",
                batch_size=10, concurrency=4, **options,
            )  # fmt: skip
        found = store.list_objects_v2(Bucket="rows", Prefix="scored/")["Contents"]
        names = [item["Key"].removeprefix("scored/") for item in found]
        bodies = [store.get_object(Bucket="rows", Key=f"scored/{n}")["Body"].read() for n in names]
        assert "Uploads" not in store.list_multipart_uploads(Bucket="rows")
    s3_client.cache_clear()
    session.cache_clear()
    assert names == ["_SUCCESS", *(f"part-{n:05}.parquet" for n in range(len(names) - 1))]
    table = pa.concat_tables([pq.read_table(pa.BufferReader(body)) for body in bodies[1:]])
    assert table["id"].to_pylist() == list(range(4000))
    assert (report.rows_read, report.rows_scored) == (4000, 4000)


@pytest.mark.slow
def test_a_split_that_kills_every_worker_ends_the_job(ray, tmp_path, monkeypatch):
    """Nobody tries forever: the error tells which part, and the exit code that it may pass."""
    source = write_rows(tmp_path / "in.parquet", 100, 100)
    with FaultServer(*LINEAR, token="good") as server:
        with pytest.raises(WorkerLostError, match="split 0 .* begun 5 times") as caught:
            batchscore.score(
                source, tmp_path / "out", url=server.url, engine="ray", token=deadly.token
            )
    assert caught.value.exit_code == 75
    assert [path.name for path in tmp_path.iterdir()] == ["in.parquet"]


# The command.


def start(folder: Path, *words: object, **variables: str) -> subprocess.Popen[str]:
    environment = {k: v for k, v in os.environ.items() if not k.startswith("BATCHSCORE_")}
    return subprocess.Popen(
        [sys.executable, "-m", "batchscore", "score", *map(str, words)],
        cwd=folder,
        env={**environment, **variables},
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )


def test_the_command_scores_with_a_cluster_of_its_own(tmp_path):
    """Paths below the working directory, the token of the environment, the report: all as here."""
    write_rows(tmp_path / "in.parquet", 500, 50)
    with FaultServer(*LINEAR, token="se-cret") as server:
        words = ["in.parquet", "--url", server.url, "-o", "out", "--workers", 2]
        words += ["--batch-size", 5, "--report", "report.json", "--source-column", "file"]
        done = start(tmp_path, *words, BATCHSCORE_ENGINE="ray", BATCHSCORE_TOKEN="se-cret")
        out, err = done.communicate(timeout=120)
    assert (done.returncode, out) == (0, ""), err
    assert whole(tmp_path / "out")["id"].to_pylist() == list(range(500))
    assert set(whole(tmp_path / "out")["file"].to_pylist()) == {"in.parquet"}
    report = json.loads((tmp_path / "report.json").read_text())
    assert (report["status"], report["rows_scored"]) == ("ok", 500)
    assert report["options"]["engine"] == "ray"
    assert "se-cret" not in err + (tmp_path / "report.json").read_text()
    assert "500 rows" in err


@pytest.mark.slow
def test_an_interrupted_command_leaves_no_output_and_no_worker(tmp_path):
    """One SIGINT is enough: exit code 130, nothing under the output's name, nobody who sends."""
    write_rows(tmp_path / "in.parquet", 5000, 100)
    with FaultServer(*LINEAR, delay_s=0.05) as server:
        words = ["in.parquet", "--url", server.url, "-o", "out", "--engine", "ray"]
        words += ["--batch-size", 5, "--workers", 2, "--concurrency", 2]
        running = start(tmp_path, *words)
        wait_until(lambda: actors_of(server), "an actor at work", 90.0)
        running.send_signal(signal.SIGINT)
        _, err = running.communicate(timeout=60)
        assert running.returncode == 130, err
        wait_until(lambda: not actors_of(server), "the end of the actors")
    assert not (tmp_path / "out").exists()


def test_a_cluster_that_is_not_there_is_named(tmp_path):
    """The address that was given, and what to do, in one line."""
    write_rows(tmp_path / "in.parquet", 10, 10)
    with FaultServer(*LINEAR) as server:
        words = ["in.parquet", "--url", server.url, "-o", "out", "--engine", "ray"]
        done = start(tmp_path, *words, "--ray-address", "127.0.0.1:1")
        _, err = done.communicate(timeout=120)
    assert done.returncode == 2, err
    assert err.splitlines()[-1].startswith("error: --ray-address: no Ray cluster at '127.0.0.1:1'")


def test_without_ray_the_extra_is_named(tmp_path):
    """Who asks for an engine that is not installed is told how to install it."""
    write_rows(tmp_path / "in.parquet", 10, 10)
    program = (
        "import sys; sys.modules['ray'] = sys.modules['ray.data'] = None; import batchscore.cli;"
        "sys.argv = ['batchscore', *sys.argv[1:]]; batchscore.cli.main()"
    )
    with FaultServer(*LINEAR) as server:
        words = ["score", "in.parquet", "--url", server.url, "-o", "out", "--engine", "ray"]
        done = subprocess.run(
            [sys.executable, "-c", program, *words],
            cwd=tmp_path,
            capture_output=True,
            text=True,
            check=False,
        )
        assert server.request_count == 0
    assert done.returncode == 2
    assert "pip install 'batchscore[ray]'" in done.stderr
    assert not (tmp_path / "out").exists()
