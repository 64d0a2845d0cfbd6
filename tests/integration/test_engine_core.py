"""Jobs of an engine without an engine: all that its workers do, in this process, one at a time.

Everything that goes to a worker or comes from it is pickled on the way.
"""

import asyncio
import json
import pickle
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from faultserver import CLASSIFIER, LINEAR, FaultServer, faults
from integration.conftest import read_arrow

import batchscore
from batchscore.config import ScoreConfig, configured
from batchscore.engines.job import score_files
from batchscore.engines.loop import LoopThread
from batchscore.engines.partition import Partition
from batchscore.engines.plan import plan_rows
from batchscore.engines.rows import GivenRows, rows_config
from batchscore.engines.work import FileWorker
from batchscore.errors import (
    InputError,
    RefusedError,
    StoppedError,
    TooManyFailuresError,
    UsageError,
)


def sent(message):
    """What comes out at the other end."""
    return pickle.loads(pickle.dumps(message))


class OneByOne:
    """An ``Engine`` that has its workers take turns here, and some splits done twice."""

    def __init__(self, workers: int = 2, twice: tuple[int, ...] = ()) -> None:
        self.workers, self.twice = workers, twice
        self.stopped = False

    def start(self, config: ScoreConfig) -> int:
        return self.workers

    def score(self, work, splits, tell) -> None:
        self.work, self.splits = work, splits
        workers = [FileWorker(sent(work), number) for number in range(work.plan.workers)]
        try:
            for split in splits:
                for _ in range(1 + (split.number in self.twice)):
                    worker = workers[split.number % len(workers)]
                    tell(sent(worker.score(sent(split))))
        finally:
            for worker in workers:
                worker.close()

    def stop(self) -> None:
        self.stopped = True


def score(engine: OneByOne, inputs: Path, output: Path, url: str, **options):
    values = {"inputs": [str(inputs)], "output": str(output), "url": url, "engine": "ray"}
    config = configured(ScoreConfig, {**values, **options})
    return asyncio.run(score_files(config, engine))


def write_rows(path: Path, rows: int = 600, group: int = 50, bad: tuple[int, ...] = ()) -> Path:
    table = pa.table({"id": range(rows), "x": [-1 if n in bad else n for n in range(rows)]})
    pq.write_table(table, path, row_group_size=group)
    return path


def parts(folder: Path) -> list[str]:
    return sorted(path.name for path in folder.iterdir())


def whole(folder: Path) -> pa.Table:
    """The parts in the order of their names, as one table."""
    names = [name for name in parts(folder) if name != "_SUCCESS"]
    read = read_arrow if names[0].endswith(".arrow") else pq.read_table
    return pa.concat_tables([read(folder / name) for name in names])


def refuse_negative(info):
    return faults.status(422, "negative") if any(row["x"] < 0 for row in info.rows) else None


@pytest.mark.parametrize("model", [LINEAR, CLASSIFIER], ids=["linear", "classes"])
@pytest.mark.parametrize("form", ["parquet", "arrow"])
def test_the_parts_are_the_output_of_a_local_run(tmp_path, model, form):
    """Rows, columns, errors and metadata are the same, each row scored once, but for the first."""
    source = write_rows(tmp_path / "in.parquet", bad=(1, 300))
    with FaultServer(*model, script=refuse_negative) as server:
        options = {"batch_size": 10, "output_format": form}
        report = score(OneByOne(), source, tmp_path / "out", server.url, **options)
        local = batchscore.score(source, tmp_path / "local.arrow", url=server.url, batch_size=10)
    expected = read_arrow(tmp_path / "local.arrow")
    assert whole(tmp_path / "out").equals(expected)
    found = whole(tmp_path / "out").schema
    assert found.metadata == expected.schema.metadata
    assert parts(tmp_path / "out") == ["_SUCCESS", *(f"part-0000{n}.{form}" for n in range(6))]
    assert not (tmp_path / "out.partial").exists()
    same = ("status", "exit_code", "rows_read", "rows_scored", "rows_failed", "failed_rows")
    assert {name: getattr(report, name) for name in same} == {
        name: getattr(local, name) for name in same
    }
    assert report.failed_examples == local.failed_examples
    assert report.requests == local.requests + 1


def test_csv_rows_that_cannot_be_read_are_the_same_rows(tmp_path):
    """Types, nulls and broken records of text mean what they mean in a local run."""
    folder = tmp_path / "in"
    folder.mkdir()
    (folder / "a.csv").write_text('x;y\n1;"a"\nz;b\n3\n')
    (folder / "b.csv").write_text("y;x\nNA;4\n;5\n")
    options = {"delimiter": ";", "null": "NA", "source_column": "file", "batch_size": 10}
    with FaultServer(*LINEAR) as server:
        score(OneByOne(), folder, tmp_path / "out", server.url, **options)
        batchscore.score(folder, tmp_path / "local.arrow", url=server.url, **options)
    found, expected = whole(tmp_path / "out"), read_arrow(tmp_path / "local.arrow")
    assert found.to_pylist() == expected.to_pylist()
    assert found.schema.equals(expected.schema, check_metadata=True)
    assert found["prediction_error"].null_count == 3


def test_a_split_that_is_done_again_changes_nothing(tmp_path):
    """Its part is replaced by an equal one, and its rows are counted once."""
    source = write_rows(tmp_path / "in.parquet")
    with FaultServer(*LINEAR) as server:
        engine = OneByOne(twice=(0, 3))
        report = score(engine, source, tmp_path / "out", server.url, batch_size=10)
    assert report.rows_scored == 600
    assert whole(tmp_path / "out")["id"].to_pylist() == list(range(600))


def test_no_more_workers_than_requests_in_flight(tmp_path):
    """--concurrency bounds all workers together; what does not divide evenly goes to the first."""
    source = write_rows(tmp_path / "in.parquet", 800)
    with FaultServer(*LINEAR) as server:
        engine = OneByOne(workers=4)
        options = {"batch_size": 2, "concurrency": 3}
        report = score(engine, source, tmp_path / "out", server.url, **options)
        assert (engine.work.plan.workers, report.concurrency) == (3, 3)
        engine = OneByOne(workers=2)
        options = {"batch_size": 2, "concurrency": 7, "overwrite": True}
        score(engine, source, tmp_path / "out", server.url, **options)
    limits = [engine.work.plan.share(n).limiter(7, None).limit for n in (0, 1, 2)]
    assert limits == [4, 3, 3]


@pytest.mark.parametrize("suffix", ["csv", "jsonl"])
def test_parts_of_text_are_written_too(tmp_path, suffix):
    """The suffix of OUT, or --output-format, tells the format of the parts."""
    source = write_rows(tmp_path / "in.parquet", 20)
    with FaultServer(*LINEAR) as server:
        score(OneByOne(), source, tmp_path / f"out.{suffix}", server.url)
    assert parts(tmp_path / f"out.{suffix}") == ["_SUCCESS", f"part-00000.{suffix}"]
    text = (tmp_path / f"out.{suffix}" / f"part-00000.{suffix}").read_text()
    assert len(text.splitlines()) == (21 if suffix == "csv" else 20)


@pytest.mark.parametrize("limit", [0, 1, 130])
def test_a_limit_means_the_first_rows_of_the_input(tmp_path, limit):
    """As many rows as asked for come out, also none; then one part tells the columns."""
    source = write_rows(tmp_path / "in.parquet")
    with FaultServer(*LINEAR) as server:
        score(OneByOne(), source, tmp_path / "out", server.url, batch_size=10, limit=limit)
        assert server.rows_seen == limit + (limit > 0)
    assert whole(tmp_path / "out")["id"].to_pylist() == list(range(limit))
    assert whole(tmp_path / "out").schema.names[-2:] == ["predicted_y", "prediction_error"]


def test_what_is_wrong_is_told_before_an_engine_is_started(tmp_path):
    """A missing column, or a refused token, is the same error as in a local run."""
    source = write_rows(tmp_path / "in.parquet")
    engine = OneByOne()
    engine.start = lambda _: pytest.fail("started")
    with FaultServer(*LINEAR, token="good") as server:
        with pytest.raises(InputError, match="no column 'id2'"):
            score(engine, source, tmp_path / "out", server.url, token="good", map="x=id2")
        with pytest.raises(RefusedError, match="401"):
            score(engine, source, tmp_path / "out", server.url, token="bad")
        with pytest.raises(UsageError, match="--resume.*cannot be gone on with"):
            score(engine, source, tmp_path / "out", server.url, resume=True)
        with pytest.raises(UsageError, match="say --workers"):
            score(engine, source, tmp_path / "out", server.url, processes=2)
        with pytest.raises(UsageError, match="standard input"):
            score(engine, "-", tmp_path / "out", server.url, input_format="csv")
    assert sorted(path.name for path in tmp_path.iterdir()) == ["in.parquet"]


def test_an_error_in_a_worker_is_the_error_of_the_job(tmp_path):
    """It comes out with its type and words, and leaves no output and nothing half done."""
    source = write_rows(tmp_path / "in.parquet")

    def refuse_later(info):
        return faults.status(403, "closed") if any(row["x"] == 300 for row in info.rows) else None

    report = tmp_path / "report.json"
    engine = OneByOne()
    with FaultServer(*LINEAR, script=refuse_later) as server:
        with pytest.raises(RefusedError, match="403.*closed"):
            score(engine, source, tmp_path / "out", server.url, batch_size=10, report=[report])
    assert engine.stopped
    assert sorted(path.name for path in tmp_path.iterdir()) == ["in.parquet", "report.json"]
    told = json.loads(report.read_text())
    assert (told["status"], told["exit_code"], told["rows_scored"]) == ("stopped", 1, 300)


def test_failures_of_all_parts_count_together(tmp_path):
    """--max-failed-rows looks at the whole input: bad parts may be within it, or all beyond."""
    source = write_rows(tmp_path / "in.parquet", bad=tuple(range(100, 160)))
    with FaultServer(*LINEAR, script=refuse_negative) as server:
        options = {"batch_size": 10, "max_failed_rows": "10%"}
        report = score(OneByOne(), source, tmp_path / "out", server.url, **options)
        assert (report.exit_code, report.rows_failed) == (0, 60)
        options = {"batch_size": 10, "max_failed_rows": "9%", "overwrite": True}
        with pytest.raises(TooManyFailuresError, match="60 rows failed"):
            score(OneByOne(), source, tmp_path / "out", server.url, **options)
    # What was there before stands.
    assert whole(tmp_path / "out").num_rows == 600


def test_an_input_that_is_bad_throughout_stops_on_the_driver(tmp_path):
    """Where the server refuses the first rows one by one, no worker begins."""
    source = write_rows(tmp_path / "in.parquet", bad=tuple(range(600)))
    engine = OneByOne()
    engine.start = lambda _: pytest.fail("started")
    with FaultServer(*LINEAR, script=refuse_negative) as server:
        with pytest.raises(StoppedError, match="refused 20 rows one by one.*negative"):
            score(engine, source, tmp_path / "out", server.url)


def test_an_output_is_replaced_only_when_a_run_wrote_it(tmp_path):
    """--overwrite never removes a folder of something else, nor the input."""
    source = write_rows(tmp_path / "in.parquet", 20)
    mine = tmp_path / "mine"
    mine.mkdir()
    (mine / "letter.txt").write_text("dear")
    with FaultServer(*LINEAR) as server:
        with pytest.raises(UsageError, match="exists; --overwrite replaces it"):
            score(OneByOne(), source, mine, server.url)
        with pytest.raises(UsageError, match="no output of a run"):
            score(OneByOne(), source, mine, server.url, overwrite=True)
        with pytest.raises(UsageError, match="is a file"):
            score(OneByOne(), source, source, server.url, overwrite=True)
        (mine / "_SUCCESS").touch()
        inside = write_rows(mine / "in.parquet", 20)
        with pytest.raises(UsageError, match="holds the input"):
            score(OneByOne(), inside, mine, server.url, overwrite=True)
        inside.unlink()
        score(OneByOne(), source, mine, server.url, overwrite=True)
    assert parts(mine) == ["_SUCCESS", "part-00000.parquet"]
    assert sorted(path.name for path in tmp_path.iterdir()) == ["in.parquet", "mine"]


# Rows that an engine gives.


def plan_of(table: pa.Table, url: str, **options):
    config = rows_config("score_dataset", "ray", options, url=url, token=options.pop("token", None))
    return plan_rows(config, table.schema, table.to_batches(), workers=1)


def test_batches_of_an_engine_come_back_in_order(tmp_path):
    """Whatever their sizes, and with columns in another order or a smaller type."""
    table = pa.table({"id": range(500), "x": pa.array(range(500), pa.float64())})
    batches = [
        table.slice(0, 3).to_batches()[0],
        table.slice(3, 400).select(["x", "id"]).to_batches()[0],
        table.slice(403).cast(pa.schema([("id", "int64"), ("x", "float32")])).to_batches()[0],
    ]
    with FaultServer(*CLASSIFIER) as server:
        plan = sent(plan_of(table, server.url, batch_size=7))
        expected = batchscore.score_table(table, url=server.url, batch_size=7)
        with Partition(plan) as partition:
            for _ in range(2):
                found = pa.Table.from_batches(partition.score_batches(batches))
                assert found.equals(expected)
                assert found.schema.equals(expected.schema, check_metadata=True)
            assert list(partition.score_batches([])) == []
            assert partition.take_traffic().requests >= 2 * 72


def test_a_reader_that_is_left_early_leaves_nothing_running(tmp_path):
    """An engine may take only some batches, and then begin with others over the same connection."""
    table = pa.table({"x": range(20_000)})
    with FaultServer(*LINEAR) as server:
        plan = plan_of(table, server.url, batch_size=10)
        with Partition(plan) as partition:
            taken = partition.score_batches(table.to_batches())
            assert next(taken).num_rows == 10
            taken.close()
            seen = server.rows_seen
            assert seen < 20_000
            assert sum(b.num_rows for b in partition.score_batches(table[:50].to_batches())) == 50
            assert server.rows_seen == seen + 50


def test_the_token_travels_and_is_never_shown(tmp_path, monkeypatch):
    """Workers have the driver's token; what is printed of a plan has neither it nor the address."""
    table = pa.table({"x": [1.0]})
    monkeypatch.setenv("BATCHSCORE_TOKEN", "se-cret")
    with FaultServer(*LINEAR, token="se-cret") as server:
        plan = plan_of(table, server.url, header=["X-Key: hid-den"])
        monkeypatch.delenv("BATCHSCORE_TOKEN")
        with Partition(sent(plan)) as partition:
            (batch,) = partition.score_batches(table.to_batches())
    assert batch["predicted_y"].to_pylist() == [3.0]
    assert "se-cret" not in repr(plan)
    assert "hid-den" not in repr(plan)


def test_a_token_function_that_cannot_travel_is_refused(tmp_path):
    """A function that workers could not be sent is refused where it is given."""
    with FaultServer(*LINEAR, token="t") as server:
        with pytest.raises(UsageError, match="token: workers cannot be sent this function"):
            plan_of(pa.table({"x": [1.0]}), server.url, token=lambda: "t")


def test_rows_that_cannot_be_sent_do_not_hide_the_classes(tmp_path):
    """The first row that can be sent shows them, wherever it stands; one row is sent for it."""
    rows = pa.table({"x": ["?" if n < 3000 else str(n) for n in range(3010)]})
    rows = rows.cast(pa.schema([pa.field("x", pa.string(), metadata={"batchscore:untyped": "1"})]))
    with FaultServer(*CLASSIFIER) as server:
        plan = plan_of(rows, server.url)
        assert server.rows_seen == 1
    assert "predicted_animal_probs" in plan.output_schema.names
    assert plan.output_schema.field("predicted_animal_probs").type.num_fields == 3


def test_a_loop_of_its_own_ends_what_still_runs_in_it():
    """Closing the thread's loop cancels its tasks, and tells those who wait."""
    ended = []
    loop = LoopThread()
    loop.start(asyncio.sleep(3600), lambda: ended.append(True))
    loop.close()
    assert ended == [True]


def test_given_rows_skip_what_was_done():
    """A reader over an engine's batches begins at any row."""
    batches = pa.table({"x": range(10)}).to_batches(max_chunksize=4)
    reader = GivenRows(batches[0].schema, batches)
    rows = [row for batch in reader.batches(5) for row in batch.columns["x"].to_pylist()]
    assert rows == list(range(5, 10))


@pytest.mark.parametrize("option", ["report", "source_column", "limit", "max_failed_rows"])
def test_an_option_that_means_nothing_for_given_rows_is_refused(option):
    """Nothing that a user says is left aside without a word."""
    with pytest.raises(UsageError, match=f"score_dataset has no option '{option}'"):
        rows_config("score_dataset", "ray", {option: "1"}, url="http://127.0.0.1:1", token=None)
