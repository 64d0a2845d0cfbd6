"""Jobs of an engine that write to a store: parts of many workers, seen when all are there.

The engine is one that has its workers take turns here, and pickles what goes either way.
"""

from __future__ import annotations

import asyncio
import io
import json
import pickle
import threading
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from faultserver import LINEAR, FaultServer, faults
from integration.test_engine_core import OneByOne, parts, sent
from stores.broken_store import DROP, Asked, BrokenStore
from stores.conftest import Store

import batchscore
from batchscore.config import ScoreConfig, configured
from batchscore.engines.job import score_files
from batchscore.engines.upload_records import UploadRecord, UploadRecords
from batchscore.engines.work import FileWorker
from batchscore.errors import BatchscoreError, OutputError, RefusedError, UsageError
from batchscore.stores import s3

ROWS, PARTS = 600, 6
NAMES = ["_SUCCESS", *(f"part-0000{n}.parquet" for n in range(PARTS))]


def config_of(source: object, out: str, url: str, **options: Any) -> ScoreConfig:
    values = {"inputs": [str(source)], "output": out, "url": url, "engine": "ray"}
    return configured(ScoreConfig, {**values, "batch_size": 10, **options})


def score(engine: OneByOne, source: object, out: str, url: str, **options: Any) -> Any:
    return asyncio.run(score_files(config_of(source, out, url, **options), engine))


@pytest.fixture
def rows() -> pa.Table:
    return pa.table({"id": range(ROWS), "x": range(ROWS)})


@pytest.fixture
def source(tmp_path: Path, rows: pa.Table) -> Path:
    path = tmp_path / "in.parquet"
    pq.write_table(rows, path, row_group_size=50)
    return path


@pytest.fixture(autouse=True)
def temporary(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The workers' folder for temporary files, where nothing may be left."""
    folder = tmp_path / "temporary"
    folder.mkdir()
    monkeypatch.setattr("tempfile.tempdir", str(folder))
    return folder


def names(store: Store, folder: str = "scored/") -> list[str]:
    return [key.removeprefix(folder) for key in store.objects() if key.startswith(folder)]


def whole(store: Store, folder: str = "scored/") -> pa.Table:
    found = names(store, folder)
    assert "_SUCCESS" in found
    return pa.concat_tables(store.table(folder + n) for n in found if n.startswith("part-"))


def check_clean(store: Store, temporary: Path) -> None:
    """Nothing is left of a job: no object, no piece, no file."""
    assert (names(store), store.uploads(), parts(temporary)) == ([], [], [])


class Before(OneByOne):
    """Does something before the split of a number is scored."""

    def __init__(self, number: int, action: Callable[[Before], object]) -> None:
        super().__init__()
        self._number, self._action = number, action

    def score(self, work: Any, splits: Any, tell: Any) -> None:
        self.work, self.all = work, splits
        super().score(work, splits[: self._number], tell)
        self._action(self)
        super().score(work, splits[self._number :], tell)


def test_the_parts_are_those_of_a_local_folder(
    store: Store, rows: pa.Table, tmp_path: Path, temporary: Path
) -> None:
    """From a store into a store, byte for byte what a shared folder gets, and _SUCCESS."""
    buffer = io.BytesIO()
    pq.write_table(rows, buffer, row_group_size=50)
    source = store.put("rows/in.parquet", buffer.getvalue())
    folder = tmp_path / "local"
    report_file = tmp_path / "report.json"
    with FaultServer(*LINEAR) as server:
        options = {"store_endpoint": store.endpoint, "store_region": "us-east-1"}
        report = score(
            OneByOne(), source, store.uri("scored/"), server.url, report=[report_file], **options
        )
        score(OneByOne(), source, str(folder), server.url, **options)
    assert report.rows_scored == ROWS
    assert names(store) == NAMES == parts(folder)
    for name in NAMES[1:]:
        assert store.get(f"scored/{name}") == (folder / name).read_bytes()
    assert (store.uploads(), parts(temporary)) == ([], [])
    assert json.loads(report_file.read_text())["output"] == store.uri("scored/")


def test_nothing_is_seen_before_all_parts_are_there(store: Store, source: Path) -> None:
    """Parts appear after the claim, _SUCCESS when all are there; readers meet nothing before."""
    seen: list[tuple[str, list[str]]] = []

    def watch(asked: Asked) -> None:
        name = asked.path.rpartition("/")[2]
        if asked.is_complete or (asked.is_put and name.startswith("_")):
            shown = [n for n in names(store) if not n.startswith("_uploads/")]
            seen.append(("complete" if asked.is_complete else name, shown))

    with FaultServer(*LINEAR) as server, BrokenStore(store.endpoint, watch) as broken:
        score(OneByOne(), source, store.uri("scored"), server.url, store_endpoint=broken.endpoint)
    assert [step for step, _ in seen] == ["_COMMITTING", *["complete"] * PARTS, "_SUCCESS"]
    assert seen[0][1] == []
    assert seen[-1][1] == ["_COMMITTING", *NAMES[1:]]


def test_a_split_that_is_done_again_changes_nothing(
    store: Store, source: Path, temporary: Path
) -> None:
    """A part that was uploaded twice appears once, and nothing is left of the other upload."""
    with FaultServer(*LINEAR) as server:
        report = score(OneByOne(twice=(0, 3)), source, store.uri("scored/"), server.url)
    assert report.rows_scored == ROWS
    assert whole(store)["id"].to_pylist() == list(range(ROWS))
    assert (names(store), store.uploads(), parts(temporary)) == (NAMES, [], [])


def test_pieces_of_a_worker_that_was_killed_are_removed(store: Store, source: Path) -> None:
    """It told of its upload before it sent a byte; the driver ends what it could not."""

    def killed(engine: Before) -> None:
        # What is in the store when a worker dies in the middle of an upload.
        writer = engine.work.parts
        key = "scored/part-00002.parquet"
        begun = store.client.create_multipart_upload(Bucket=store.bucket, Key=key)
        store.client.upload_part(
            Bucket=store.bucket, Key=key, UploadId=begun["UploadId"], PartNumber=1, Body=b"half"
        )
        records = UploadRecords(_folder_of(writer), writer.token)
        records.tell(UploadRecord("part-00002.parquet", begun["UploadId"]))

    with FaultServer(*LINEAR) as server:
        score(Before(2, killed), source, store.uri("scored/"), server.url)
    assert whole(store)["id"].to_pylist() == list(range(ROWS))
    assert (names(store), store.uploads()) == (NAMES, [])


def _folder_of(writer: Any) -> Any:
    from batchscore.sinks.appearing import PartsInStore

    return PartsInStore(writer.uri, writer.options, s3.S3Uploads(writer.options))


def test_a_worker_that_outlives_its_job_leaves_nothing(
    store: Store, source: Path, temporary: Path
) -> None:
    """A part that is uploaded after the job has ended is removed by the worker itself."""

    def fail(_: Before) -> None:
        raise OutputError("lost")

    engine = Before(2, fail)
    with FaultServer(*LINEAR) as server:
        with pytest.raises(OutputError, match="lost"):
            score(engine, source, store.uri("scored/"), server.url)
        check_clean(store, temporary)
        with FileWorker(sent(engine.work), 0) as worker:
            done = worker.score(sent(engine.all[3]))
    assert "the job ended before" in str(done.error)
    check_clean(store, temporary)


@pytest.mark.parametrize("step", ["is_begin", "is_part", "is_complete", "_SUCCESS", "_COMMITTING"])
def test_an_upload_that_fails_leaves_nothing(
    store: Store, source: Path, temporary: Path, monkeypatch: pytest.MonkeyPatch, step: str
) -> None:
    """Exit code 75, a message that tells the address and what to do, no object and no piece."""
    monkeypatch.setattr(s3, "_ATTEMPTS", 1)
    count = 0

    def fault(asked: Asked) -> int | None:
        nonlocal count
        is_step = getattr(asked, step, asked.is_put and asked.path.endswith(step))
        count += bool(is_step)
        return 500 if is_step and (step[0] == "_" or count > 3) else None

    out = store.uri("scored/")
    with FaultServer(*LINEAR) as server, BrokenStore(store.endpoint, fault) as broken:
        with pytest.raises(OutputError) as caught:
            score(OneByOne(), source, out, server.url, store_endpoint=broken.endpoint)
    assert caught.value.exit_code == 75
    assert str(caught.value).startswith(f"cannot write {out}")
    assert "run the same command again" in str(caught.value)
    assert "--resume" not in str(caught.value)
    check_clean(store, temporary)


def test_requests_to_the_store_that_fail_are_made_again(store: Store, source: Path) -> None:
    """A connection that ends in the middle of a piece, or of completing, costs nothing."""
    dropped: set[str] = set()

    def fault(asked: Asked) -> str | None:
        kind = f"{asked.is_part} {asked.is_complete} {asked.is_put}"
        is_first = asked.method in {"PUT", "POST"} and kind not in dropped
        dropped.add(kind)
        return DROP if is_first else None

    with FaultServer(*LINEAR) as server, BrokenStore(store.endpoint, fault) as broken:
        out = store.uri("scored/")
        score(OneByOne(), source, out, server.url, store_endpoint=broken.endpoint)
    assert whole(store)["id"].to_pylist() == list(range(ROWS))
    assert (names(store), store.uploads()) == (NAMES, [])


def test_an_error_of_the_deployment_leaves_nothing_in_the_store(
    store: Store, source: Path, temporary: Path
) -> None:
    """What ends the job in a worker removes the parts of all workers."""
    script = lambda info: faults.status(403, "no") if info.rows[0]["x"] == 300 else None  # noqa: E731
    with FaultServer(*LINEAR, script=script) as server:
        with pytest.raises(RefusedError, match="403"):
            score(OneByOne(), source, store.uri("scored/"), server.url)
    check_clean(store, temporary)


@pytest.mark.parametrize("when", ["scoring", "appearing"])
def test_an_interrupted_job_leaves_nothing(
    store: Store, source: Path, temporary: Path, when: str
) -> None:
    """Whether parts are uploaded or appear when the job is cancelled, none is left."""
    reached, go_on = threading.Event(), threading.Event()

    def pause(_: object = None) -> None:
        reached.set()
        assert go_on.wait(60)

    count = 0

    def slow(asked: Asked) -> None:
        nonlocal count
        count += asked.is_complete
        if when == "appearing" and asked.is_complete and count == 3:
            pause()

    async def interrupted(config: ScoreConfig, engine: OneByOne) -> None:
        job = asyncio.create_task(score_files(config, engine))
        await asyncio.to_thread(reached.wait, 60)
        job.cancel()
        asyncio.get_running_loop().call_later(1.0, go_on.set)
        with pytest.raises((asyncio.CancelledError, BatchscoreError)):
            await job

    engine = Before(3, pause) if when == "scoring" else OneByOne()
    with FaultServer(*LINEAR) as server, BrokenStore(store.endpoint, slow) as broken:
        config = config_of(source, store.uri("scored/"), server.url, store_endpoint=broken.endpoint)
        asyncio.run(interrupted(config, engine))
    assert reached.is_set()
    check_clean(store, temporary)


def test_of_two_jobs_at_one_folder_one_commits(store: Store, source: Path, temporary: Path) -> None:
    """They begin and commit at once: all parts are of one, and the other leaves nothing."""
    meet = threading.Barrier(2, timeout=60)
    ended: dict[str, object] = {}

    def fault(asked: Asked) -> None:
        # Each has found nobody there when it says that it begins.
        if asked.is_put and asked.path.endswith(("/job", "_COMMITTING")):
            meet.wait()

    def run(prefix: str, url: str, endpoint: str) -> None:
        options = {"prefix": prefix, "store_endpoint": endpoint}
        try:
            ended[prefix] = score(OneByOne(), source, store.uri("scored/"), url, **options)
        except BatchscoreError as error:
            ended[prefix] = error

    with FaultServer(*LINEAR) as server, BrokenStore(store.endpoint, fault) as broken:
        jobs = [
            threading.Thread(target=run, args=(prefix, server.url, broken.endpoint))
            for prefix in ("a_", "b_")
        ]
        for job in jobs:
            job.start()
        for job in jobs:
            job.join()
    assert sorted(ended) == ["a_", "b_"]
    (lost,) = [name for name, end in ended.items() if isinstance(end, BatchscoreError)]
    assert ended[lost].exit_code == 2, ended[lost]
    (won,) = {"a_", "b_"} - {lost}
    assert whole(store)["id"].to_pylist() == list(range(ROWS))
    assert f"{won}y" in whole(store).column_names
    assert (names(store), store.uploads(), parts(temporary)) == (NAMES, [], [])


def test_an_output_that_appears_meanwhile_is_not_replaced(store: Store, source: Path) -> None:
    """A local run that commits first wins; the job ends with exit code 2, and leaves its folder."""
    out = store.uri("scored/")
    with FaultServer(*LINEAR) as server:
        local = Before(3, lambda _: batchscore.score(source, out, url=server.url, prefix="l_"))
        with pytest.raises(UsageError, match="appeared while the job ran") as caught:
            score(local, source, out, server.url)
    assert caught.value.exit_code == 2
    assert "l_y" in whole(store).column_names
    assert (names(store), store.uploads()) == (["_SUCCESS", "part-00000.parquet"], [])


def test_a_second_job_is_refused_while_the_first_is_at_work(store: Store, source: Path) -> None:
    """It is told before anything is sent, that --overwrite ends the other; which it then does."""
    out = store.uri("scored/")
    with FaultServer(*LINEAR) as server, FaultServer(*LINEAR) as second:

        def refused(_: Before) -> None:
            with pytest.raises(UsageError, match="another run is at work on .* --overwrite"):
                score(OneByOne(), source, out, second.url)
            assert second.rows_seen == 0
            score(OneByOne(), source, out, second.url, overwrite=True, prefix="second_")

        with pytest.raises(BatchscoreError, match="run the same command again|ended before"):
            score(Before(3, refused), source, out, server.url)
    assert "second_y" in whole(store).column_names
    assert (names(store), store.uploads()) == (NAMES, [])


def test_an_output_is_replaced_only_when_asked_for_and_stands_until_then(
    store: Store, source: Path
) -> None:
    """Refused without --overwrite; with it the old parts stand until the new ones are there."""
    out = store.uri("scored/")
    with FaultServer(*LINEAR) as server:
        score(OneByOne(), source, out, server.url)
        with pytest.raises(UsageError, match="exists; --overwrite replaces it"):
            score(OneByOne(), source, out, server.url)
        script = lambda info: faults.status(403) if info.rows[0]["x"] == 300 else None  # noqa: E731
        with FaultServer(*LINEAR, script=script) as bad, pytest.raises(RefusedError):
            score(OneByOne(), source, out, bad.url, overwrite=True)
        assert names(store) == NAMES
        assert whole(store).num_rows == ROWS
        score(OneByOne(), source, out, server.url, overwrite=True, limit=130)
    assert whole(store)["id"].to_pylist() == list(range(130))
    assert store.uploads() == []


def test_folders_that_are_no_output_are_left_alone(store: Store, source: Path) -> None:
    """What others keep there, the input, and a claim: each is named, and nothing is sent."""
    out = store.uri("scored/")
    with FaultServer(*LINEAR) as server:
        store.put("scored/letter.txt", b"dear")
        with pytest.raises(UsageError, match="holds 'letter.txt', which no output has"):
            score(OneByOne(), source, out, server.url, overwrite=True)
        store.client.delete_object(Bucket=store.bucket, Key="scored/letter.txt")
        inside = store.put_table("scored/part-00000.parquet", {"x": [1.0]})
        with pytest.raises(UsageError, match="holds the input"):
            score(OneByOne(), inside, out, server.url, overwrite=True)
        store.put("scored/_COMMITTING", b"")
        with pytest.raises(UsageError, match="remove .*_COMMITTING where no run"):
            score(OneByOne(), source, out, server.url, overwrite=True)
        with pytest.raises(UsageError, match="there is no such bucket"):
            score(OneByOne(), source, "s3://no-such-bucket-here/scored/", server.url)
        assert server.rows_seen == 0


def test_other_stores_are_refused_by_name(source: Path) -> None:
    """A store that cannot hold parts unseen is told so, with what can be written to."""
    with FaultServer(*LINEAR) as server:
        with pytest.raises(UsageError, match="parts go to s3:// or to a folder"):
            score(OneByOne(), source, "gs://bucket/scored/", server.url)


def test_a_job_without_rows_has_one_part(store: Store, source: Path) -> None:
    """It tells the columns."""
    with FaultServer(*LINEAR) as server:
        score(OneByOne(), source, store.uri("scored/"), server.url, limit=0)
    assert names(store) == NAMES[:2]
    assert whole(store).schema.names[-1] == "prediction_error"


def test_what_workers_are_sent_holds_no_login(
    store: Store, source: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Neither the keys of the store nor the token is in what is printed; keys do not travel."""
    engine = OneByOne()
    with FaultServer(*LINEAR, token="se-cret") as server:
        monkeypatch.setenv("BATCHSCORE_TOKEN", "se-cret")
        score(engine, source, store.uri("scored/"), server.url)
    assert b"wJalrXUtnFEMI" not in pickle.dumps(engine.work)
    assert "wJalrXUtnFEMI" not in repr(engine.work)
    assert "se-cret" not in repr(engine.work)


def test_parts_are_made_in_the_work_dir_of_the_worker(
    store: Store, source: Path, tmp_path: Path
) -> None:
    """--work-dir is where a worker makes its part; one that is not there is named."""
    there = tmp_path / "work"
    out = store.uri("scored/")
    with FaultServer(*LINEAR) as server:
        with pytest.raises(OutputError, match=r"cannot write .*work/part-00000\.parquet"):
            score(OneByOne(), source, out, server.url, work_dir=there)
        there.mkdir()
        score(OneByOne(), source, out, server.url, work_dir=there)
    assert parts(there) == []
    assert whole(store).num_rows == ROWS
