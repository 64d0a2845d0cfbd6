"""The upload that commits: whole or not at all, once, whatever happens on the way."""

from __future__ import annotations

import os
import signal
import subprocess
import threading
import time
from collections import Counter
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from faultserver import LINEAR, FaultServer
from stores.broken_store import DROP, LOSE, Asked, BrokenStore
from stores.conftest import Store, command

import batchscore
from batchscore.errors import OutputError, UsageError
from batchscore.stores import s3

ROWS = 2_000


@pytest.fixture
def large(tmp_path: Path) -> Path:
    """Rows whose output is 20 MB, two pieces of an upload, whatever compresses it."""
    noise = np.random.default_rng(1).bytes(ROWS * 10_000)
    texts = [noise[at : at + 10_000] for at in range(0, len(noise), 10_000)]
    path = tmp_path / "in.parquet"
    rows = pa.table({"x": np.arange(ROWS, dtype=float), "noise": pa.array(texts, pa.binary())})
    pq.write_table(rows, path, compression="none")
    return path


@pytest.fixture
def small(tmp_path: Path) -> Path:
    path = tmp_path / "in.parquet"
    pq.write_table(pa.table({"x": np.arange(100, dtype=float)}), path)
    return path


@pytest.fixture
def quick_to_give_up(monkeypatch: pytest.MonkeyPatch) -> None:
    """One try for each request: how long a client waits in between is not what is tested."""
    monkeypatch.setattr(s3, "_ATTEMPTS", 1)


def score(source: Path, out: str, url: str, **options: Any) -> Any:
    return batchscore.score(source, out, url=url, batch_size=500, **options)


def work_folders(tmp_path: Path) -> list[Path]:
    return list((tmp_path / "state" / "batchscore").iterdir())


def test_an_output_appears_whole_and_leaves_nothing_else(
    store: Store, large: Path, tmp_path: Path
) -> None:
    """The object has every row in order; no upload and no work in progress are left."""
    with FaultServer(*LINEAR) as server:
        report = score(large, store.uri("out.parquet"), server.url)
    assert report.rows_scored == ROWS
    assert store.objects() == ["out.parquet"]
    table = store.table("out.parquet")
    assert table["x"].to_pylist() == [float(n) for n in range(ROWS)]
    assert table["noise"].equals(pq.read_table(large)["noise"])
    assert store.uploads() == []
    assert work_folders(tmp_path) == []


@pytest.mark.parametrize("suffix", ["arrow", "csv", "jsonl"])
def test_every_format_is_the_same_as_in_a_local_file(
    store: Store, small: Path, tmp_path: Path, suffix: str
) -> None:
    """An output in a store has the bytes of a local one."""
    with FaultServer(*LINEAR) as server:
        score(small, store.uri(f"out.{suffix}"), server.url)
        score(small, str(tmp_path / f"out.{suffix}"), server.url)
    assert store.get(f"out.{suffix}") == (tmp_path / f"out.{suffix}").read_bytes()


@pytest.mark.parametrize("fault", [500, 503, DROP, LOSE])
def test_a_request_that_fails_is_made_again(store: Store, large: Path, fault: str | int) -> None:
    """Each kind of request may fail once: the output is whole, once, and nothing else is left."""
    seen: Counter[str] = Counter()

    def once(asked: Asked) -> str | int | None:
        kinds = ("is_begin", "is_part", "is_complete", "is_abort")
        kind = next((name for name in kinds if getattr(asked, name)), asked.method)
        seen[kind] += 1
        return fault if seen[kind] == 1 else None

    with FaultServer(*LINEAR) as server, BrokenStore(store.endpoint, once) as broken:
        score(large, store.uri("out.arrow"), server.url, store_endpoint=broken.endpoint)
    assert {"is_begin", "is_part", "is_complete"} <= set(seen)
    with pa.ipc.open_file(store.get("out.arrow")) as reader:
        assert reader.read_all()["x"].to_pylist() == [float(n) for n in range(ROWS)]
    # An upload whose beginning was never told of is empty: it has no pieces that cost anything.
    assert len(store.uploads()) <= (1 if fault == LOSE else 0)


@pytest.mark.usefixtures("quick_to_give_up")
@pytest.mark.parametrize("step", ["is_begin", "is_part", "is_complete"])
def test_an_upload_that_fails_for_good_keeps_the_rows_and_resumes_without_the_deployment(
    store: Store, large: Path, step: str
) -> None:
    """Exit code 75, nothing in the store; --resume uploads, though the deployment is gone."""
    tries: Counter[str] = Counter()

    def fault(asked: Asked) -> str | int | None:
        # The first upload of a run only tries whether one may be begun.
        tries["begin"] += asked.is_begin
        is_step = getattr(asked, step) and (step != "is_begin" or tries["begin"] > 1)
        return 500 if is_step else None

    out = store.uri("out.arrow")
    with FaultServer(*LINEAR) as server:
        url = server.url
        with BrokenStore(store.endpoint, fault) as broken, pytest.raises(OutputError) as caught:
            score(large, out, url, store_endpoint=broken.endpoint)
        assert caught.value.exit_code == 75
        assert "all rows are kept" in str(caught.value)
        assert str(caught.value).startswith(f"cannot write {out}: ")
        assert store.objects() == store.uploads() == []
    s3.s3_client.cache_clear()
    report = score(large, out, url, resume=True)
    assert (report.rows_scored, report.requests) == (ROWS, 0)
    assert store.objects() == ["out.arrow"]


@pytest.mark.usefixtures("quick_to_give_up")
def test_a_store_that_cannot_be_told_to_forget_is_told_by_the_next_run(
    store: Store, large: Path
) -> None:
    """Pieces that could not be removed when the upload failed go with the next --resume."""
    out = store.uri("out.arrow")
    with FaultServer(*LINEAR) as server:
        begun = Counter[str]()

        def fault(asked: Asked) -> int | None:
            begun["begin"] += asked.is_begin
            is_late = begun["begin"] > 1
            broken_part = asked.is_part and asked.query["partNumber"] == ["2"]
            return 500 if broken_part or (asked.is_abort and is_late) else None

        with BrokenStore(store.endpoint, fault) as broken, pytest.raises(OutputError):
            score(large, out, server.url, store_endpoint=broken.endpoint)
        assert store.uploads() == ["out.arrow"]
        s3.s3_client.cache_clear()
        score(large, out, server.url, resume=True)
    assert store.uploads() == []
    assert store.objects() == ["out.arrow"]


@pytest.mark.parametrize("is_terminated", [False, True])
def test_a_kill_in_the_middle_of_an_upload_leaves_no_object_and_no_piece(
    store: Store, large: Path, tmp_path: Path, is_terminated: bool
) -> None:
    """After kill -9, --resume removes the pieces; on SIGTERM the run itself does."""
    is_uploading, go_on = threading.Event(), threading.Event()

    def fault(asked: Asked) -> str | None:
        if asked.is_part and asked.query["partNumber"] == ["2"] and not go_on.is_set():
            is_uploading.set()
            go_on.wait(30)
            return DROP
        return None

    out = store.uri("out.arrow")
    with FaultServer(*LINEAR) as server, BrokenStore(store.endpoint, fault) as broken:
        words = ("score", large, "--url", server.url, "-o", out, "--batch-size", "500", "-q",
                 "--store-endpoint", broken.endpoint)  # fmt: skip
        process = subprocess.Popen(
            command(*words), stderr=subprocess.PIPE, text=True, cwd=tmp_path, env={**os.environ}
        )
        assert is_uploading.wait(60)
        process.send_signal(signal.SIGTERM if is_terminated else signal.SIGKILL)
        process.communicate(timeout=30)
        assert process.returncode == (143 if is_terminated else -9)
        assert store.objects() == []
        assert store.uploads() == ([] if is_terminated else ["out.arrow"])
        go_on.set()
        sent = len(server.requests)
        done = subprocess.run(
            command(*words, "--resume"), capture_output=True, text=True, cwd=tmp_path, check=False,
            timeout=60,
        )  # fmt: skip
        assert (done.returncode, done.stderr) == (0, "")
        assert len(server.requests) == sent
    assert store.uploads() == []
    assert store.objects() == ["out.arrow"]


def test_a_kill_after_the_object_appeared_is_no_other_jobs_output(
    store: Store, large: Path, tmp_path: Path
) -> None:
    """The answer to the commit never came, for the process was killed: --resume ends as done."""
    asked_to_commit = threading.Event()

    def fault(asked: Asked) -> str | None:
        if (asked.is_put or asked.is_complete) and not asked_to_commit.is_set():
            asked_to_commit.set()
            return LOSE
        if asked_to_commit.is_set():
            time.sleep(30)
        return None

    out = store.uri("out.csv")
    with FaultServer(*LINEAR) as server:
        words = ("score", large, "--url", server.url, "-o", out, "--drop", "noise", "-q")
        with BrokenStore(store.endpoint, fault) as broken:
            process = subprocess.Popen(
                command(*words, "--store-endpoint", broken.endpoint), cwd=tmp_path
            )
            assert asked_to_commit.wait(60)
            while store.objects() != ["out.csv"]:
                time.sleep(0.05)
            process.kill()
            process.wait()
        assert len(work_folders(tmp_path)) == 1
        again = subprocess.run(
            command(*words, "--resume"), capture_output=True, text=True, cwd=tmp_path, check=False,
            timeout=60,
        )  # fmt: skip
        assert (again.returncode, again.stderr) == (0, "")
    assert work_folders(tmp_path) == []
    assert store.get("out.csv").count(b"\n") == ROWS + 1


@pytest.mark.parametrize("size", ["small", "large"])
def test_two_runs_cannot_both_commit_one_output(
    store: Store, request: pytest.FixtureRequest, tmp_path: Path, size: str
) -> None:
    """Of two machines that write one OUT, one commits; the other keeps its rows and exits 2."""
    small = request.getfixturevalue(size)
    meet = threading.Barrier(2, timeout=60)

    def fault(asked: Asked) -> None:
        if (asked.is_put and size == "small") or asked.is_complete:
            assert asked.headers["if-none-match"] == "*"
            meet.wait()

    out = store.uri("out.parquet")
    with FaultServer(*LINEAR) as server, BrokenStore(store.endpoint, fault) as broken:
        processes = [
            subprocess.Popen(
                command("score", small, "--url", server.url, "-o", out, "-q", "--prefix", f"{n}_"),
                stderr=subprocess.PIPE,
                text=True,
                cwd=tmp_path,
                env={**os.environ, "XDG_STATE_HOME": str(tmp_path / f"machine{n}"),
                     "AWS_ENDPOINT_URL": broken.endpoint},
            )
            for n in range(2)
        ]  # fmt: skip
        errors = [process.communicate(timeout=60)[1] for process in processes]
        codes = [process.returncode for process in processes]
        assert sorted(codes) == [0, 2]
        winner, loser = codes.index(0), codes.index(2)
        assert "appeared while the job ran; all rows are kept" in errors[loser]
        assert f"{winner}_y" in store.table("out.parquet").schema.names
        assert store.uploads() == []
        s3.s3_client.cache_clear()
        done = subprocess.run(
            command("score", small, "--url", server.url, "-o", out, "-q", "--prefix", f"{loser}_",
                    "--resume", "--overwrite"),
            cwd=tmp_path, check=False, timeout=60,
            env={**os.environ, "XDG_STATE_HOME": str(tmp_path / f"machine{loser}")},
        )  # fmt: skip
        assert done.returncode == 0
    assert f"{loser}_y" in store.table("out.parquet").schema.names


@pytest.mark.parametrize("size", ["small", "large"])
def test_a_store_without_conditions_is_looked_at_just_before(
    store: Store, request: pytest.FixtureRequest, size: str
) -> None:
    """Where the store does not know If-None-Match, an output that is there is not replaced."""
    small = request.getfixturevalue(size)

    def fault(asked: Asked) -> int | None:
        return 501 if "if-none-match" in asked.headers else None

    with FaultServer(*LINEAR) as server, BrokenStore(store.endpoint, fault) as broken:
        options = {"store_endpoint": broken.endpoint}
        score(small, store.uri("out.arrow"), server.url, **options)
        assert store.objects() == ["out.arrow"]

        def appear(asked: Asked) -> int | None:
            if asked.is_part or (asked.is_put and "if-none-match" in asked.headers):
                store.put("late.arrow", b"theirs")
            return fault(asked)

        with BrokenStore(store.endpoint, appear) as late, pytest.raises(UsageError, match="appear"):
            score(small, store.uri("late.arrow"), server.url, store_endpoint=late.endpoint)
    assert store.get("late.arrow") == b"theirs"
    assert store.uploads() == []


def test_an_output_that_is_there_is_refused_replaced_or_accepted(store: Store, small: Path) -> None:
    """As with local files: without an option refused, then --overwrite, then --resume."""
    out = store.uri("out.csv")
    store.put("out.csv", b"theirs")
    with FaultServer(*LINEAR) as server:
        with pytest.raises(UsageError, match="exists; --overwrite replaces it"):
            score(small, out, server.url)
        with pytest.raises(UsageError, match="nothing tells that this job wrote it"):
            score(small, out, server.url, resume=True)
        assert store.get("out.csv") == b"theirs"
        score(small, out, server.url, overwrite=True)
        sent = len(server.requests)
        report = score(small, out, server.url, resume=True)
        assert (report.rows_scored, len(server.requests)) == (100, sent)
        with pytest.raises(UsageError, match="is of another job: --limit was not given, now 5"):
            score(small, out, server.url, resume=True, limit=5)


def test_an_output_that_cannot_be_written_is_told_before_a_row_is_sent(
    store: Store, small: Path, run: Any
) -> None:
    """No bucket, no permission, no login: exit code 2, nothing sent, no secret shown."""

    def refuse(asked: Asked) -> int | None:
        return 403 if asked.is_begin else None

    with FaultServer(*LINEAR) as server, BrokenStore(store.endpoint, refuse) as broken:
        words = ("score", small, "--url", server.url, "-q", "-o")
        for out, variables, message in [
            ("s3://no-such-bucket-anywhere/o.csv", {}, "there is no such bucket"),
            (store.uri("o.csv"), {"AWS_ENDPOINT_URL": broken.endpoint}, "Scripted"),
            (store.uri("o.csv"), {"AWS_PROFILE": "nobody"}, "(nobody)"),
            (f"s3://k:secret@{store.bucket}/o.csv", {}, "takes no user part"),
            (store.uri("o.csv?secret_key=secret"), {}, "takes no options after '?'"),
            (store.uri("*.csv"), {}, "has no *, ? or ["),
            ("s3:///o.csv", {}, "of the form s3://BUCKET/KEY"),
            ("ftp://127.0.0.1/o.csv", {}, "can be read, not written to"),
        ]:
            done = run(*words, out, **variables)
            assert done.code == 2 or "Scripted" in message, done.err
            assert message in done.err
            assert "secret" not in done.err.replace("secret key", "").replace("secret_key=", "")
            assert len(done.err.splitlines()) <= 2
        assert not [asked for asked in server.requests if asked.rows]
