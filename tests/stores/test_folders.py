"""Outputs as folders of parts, on a disk and in a store."""

from __future__ import annotations

import io
import json
import os
import signal
import subprocess
import threading
from collections import Counter
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from faultserver import LINEAR, FaultServer
from stores.broken_store import DROP, Asked, BrokenStore
from stores.conftest import Store, command

import batchscore
from batchscore.errors import OutputError, UsageError
from batchscore.stores import s3

ROWS = 10_000
PARTS = 5


@pytest.fixture
def source(tmp_path: Path) -> Path:
    path = tmp_path / "in.parquet"
    pq.write_table(pa.table({"x": np.arange(ROWS, dtype=float)}), path)
    return path


def score(source: Path, out: object, url: str, **options: Any) -> Any:
    given = {"batch_size": 500, "max_part_bytes": "40KiB", **options}
    return batchscore.score(source, str(out), url=url, **given)


class Place:
    """A folder on a disk or in a store, looked at in the same way."""

    def __init__(self, kind: str, store: Store, tmp_path: Path) -> None:
        self._store = store if kind == "store" else None
        self._folder = tmp_path / "scored"
        self.out = store.uri("a/scored/") if self._store else f"{self._folder}/"

    def names(self) -> list[str]:
        if self._store:
            return [k.removeprefix("a/scored/") for k in self._store.objects() if k[:2] == "a/"]
        return sorted(p.name for p in self._folder.iterdir()) if self._folder.is_dir() else []

    def read(self, name: str) -> bytes:
        return self._store.get(f"a/scored/{name}") if self._store else (
            self._folder / name
        ).read_bytes()  # fmt: skip

    def put(self, name: str, data: bytes) -> None:
        if self._store:
            self._store.put(f"a/scored/{name}", data)
        else:
            self._folder.mkdir(exist_ok=True)
            (self._folder / name).write_bytes(data)

    def values(self) -> list[float]:
        parts = [name for name in self.names() if name.startswith("part-")]
        tables = [pq.read_table(io.BytesIO(self.read(name))) for name in parts]
        return pa.concat_tables(tables)["x"].to_pylist()


@pytest.fixture(params=["disk", "store"])
def place(request: pytest.FixtureRequest, store: Store, tmp_path: Path) -> Place:
    return Place(request.param, store, tmp_path)


def test_the_parts_have_all_rows_in_input_order(place: Place, store: Store, source: Path) -> None:
    """Parts that sort as the rows do, of one schema, and _SUCCESS beside them."""
    with FaultServer(*LINEAR) as server:
        report = score(source, place.out, server.url)
    assert report.rows_scored == ROWS
    names = [f"part-{n:05d}.parquet" for n in range(PARTS)]
    assert place.names() == ["_SUCCESS", *names]
    assert place.values() == [float(n) for n in range(ROWS)]
    schemas = [pq.read_schema(io.BytesIO(place.read(name))) for name in names]
    assert all(schema.equals(schemas[0], check_metadata=True) for schema in schemas)
    told = json.loads(place.read("_SUCCESS"))
    assert (told["rows"], told["failed"]) == (ROWS, {})
    assert store.uploads() == []


def test_a_folder_of_another_format_and_of_no_rows(place: Place, source: Path) -> None:
    """--output-format tells the format; without a row there is one part, with the columns."""
    with FaultServer(*LINEAR) as server:
        score(source, place.out, server.url, output_format="csv", limit=0)
    assert place.names() == ["_SUCCESS", "part-00000.csv"]
    assert place.read("part-00000.csv") == b'"x","predicted_y","prediction_error"\n'


def test_a_folder_that_is_there_is_refused_accepted_or_replaced(place: Place, source: Path) -> None:
    """Refused, --resume accepts this job's, --overwrite leaves no part of the larger one."""
    with FaultServer(*LINEAR) as server:
        score(source, place.out, server.url)
        sent = len(server.requests)
        with pytest.raises(UsageError, match="exists; --overwrite replaces it"):
            score(source, place.out, server.url)
        assert score(source, place.out, server.url, resume=True).rows_resumed == ROWS
        assert len(server.requests) == sent
        with pytest.raises(UsageError, match="is of another job: --limit"):
            score(source, place.out, server.url, resume=True, limit=500)
        score(source, place.out, server.url, overwrite=True, limit=500)
        assert place.names() == ["_SUCCESS", "part-00000.parquet"]
        assert place.values() == [float(n) for n in range(500)]


def test_a_folder_with_files_of_others_is_left_alone(place: Place, source: Path) -> None:
    """--overwrite replaces outputs, not whatever else somebody keeps in a folder."""
    place.put("thesis.doc", b"years of work")
    with FaultServer(*LINEAR) as server:
        with pytest.raises(UsageError, match="holds 'thesis.doc', which no output has"):
            score(source, place.out, server.url, overwrite=True)
    assert place.names() == ["thesis.doc"]


def test_the_parts_can_be_scored_in_their_turn(place: Place, source: Path, tmp_path: Path) -> None:
    """A folder of parts is an input: _SUCCESS is skipped, the order is that of the rows."""
    with FaultServer(*LINEAR) as server:
        score(source, place.out, server.url, keep="all", prefix="first_")
        out = tmp_path / "again.parquet"
        batchscore.score(place.out, out, url=server.url)
    assert pq.read_table(out)["x"].to_pylist() == [float(n) for n in range(ROWS)]


def test_nothing_of_a_folder_is_seen_before_all_of_it_is_in_the_store(
    store: Store, source: Path
) -> None:
    """While parts are uploaded there is no object; _SUCCESS comes when all parts are there."""
    seen: list[tuple[str, list[str]]] = []

    def watch(asked: Asked) -> None:
        if asked.is_part or asked.is_complete or asked.is_put:
            name = asked.path.rpartition("/")[2]
            step = "part" if asked.is_part else "complete" if asked.is_complete else name
            seen.append((step, store.objects()))

    with FaultServer(*LINEAR) as server, BrokenStore(store.endpoint, watch) as broken:
        score(source, store.uri("out/"), server.url, store_endpoint=broken.endpoint)
    steps = [step for step, _ in seen]
    wanted = ["part"] * PARTS + ["_COMMITTING"] + ["complete"] * PARTS + ["_SUCCESS"]
    assert steps == wanted
    assert all(keys == [] for step, keys in seen if step == "part")
    assert len(seen[-1][1]) == PARTS + 1
    assert len(store.objects()) == PARTS + 1


@pytest.mark.parametrize("step", ["part", "complete", "success"])
def test_a_folder_that_cannot_be_written_leaves_nothing_and_resumes(
    store: Store, source: Path, monkeypatch: pytest.MonkeyPatch, step: str
) -> None:
    """The third request of a kind fails for good: no object, no piece; --resume uploads."""
    monkeypatch.setattr(s3, "_ATTEMPTS", 1)
    count = Counter[str]()

    def fault(asked: Asked) -> int | None:
        kind = "part" if asked.is_part else "complete" if asked.is_complete else "success"
        count[kind] += asked.is_part or asked.is_complete
        is_success = asked.is_put and asked.path.endswith("_SUCCESS")
        is_due = is_success if kind == "success" else count[kind] >= 3
        return 500 if kind == step and is_due else None

    out = store.uri("out/")
    with FaultServer(*LINEAR) as server:
        with BrokenStore(store.endpoint, fault) as broken, pytest.raises(OutputError) as caught:
            score(source, out, server.url, store_endpoint=broken.endpoint)
        assert caught.value.exit_code == 75
        assert store.objects() == store.uploads() == []
        s3.s3_client.cache_clear()
        report = score(source, out, server.url, resume=True)
        assert (report.rows_scored, report.requests) == (ROWS, 0)
    assert len(store.objects()) == PARTS + 1


@pytest.mark.parametrize("part_bytes", ["40KiB", "70KiB"])
def test_a_kill_while_parts_appear_is_mended_by_the_next_run(
    store: Store, source: Path, tmp_path: Path, part_bytes: str
) -> None:
    """Kill -9 between the third part and the fourth: --resume leaves each row once."""
    completed, go_on = Counter[str](), threading.Event()
    is_midway = threading.Event()

    def fault(asked: Asked) -> str | None:
        completed["parts"] += asked.is_complete
        if asked.is_complete and completed["parts"] > 3 and not go_on.is_set():
            is_midway.set()
            go_on.wait(30)
            return DROP
        return None

    out = store.uri("out/")
    with FaultServer(*LINEAR) as server, BrokenStore(store.endpoint, fault) as broken:
        words = ("score", source, "--url", server.url, "-o", out, "--batch-size", "500", "-q",
                 "--store-endpoint", broken.endpoint)  # fmt: skip
        process = subprocess.Popen(
            command(*words, "--max-part-bytes", "40KiB"), cwd=tmp_path, env={**os.environ}
        )
        assert is_midway.wait(60)
        process.send_signal(signal.SIGKILL)
        process.wait()
        go_on.set()
        assert len(store.objects()) == 4  # with what keeps others out
        assert len(store.uploads()) == 2
        done = subprocess.run(
            command(*words, "--resume", "--max-part-bytes", part_bytes), check=False, timeout=60,
            capture_output=True, text=True, cwd=tmp_path,
        )  # fmt: skip
        assert (done.returncode, done.stderr) == (0, "")
    keys = store.objects()
    assert keys[0] == "out/_SUCCESS"
    tables = [store.table(key) for key in keys[1:]]
    assert pa.concat_tables(tables)["x"].to_pylist() == [float(n) for n in range(ROWS)]
    assert store.uploads() == []


def test_of_two_runs_that_write_one_folder_one_commits(
    store: Store, source: Path, tmp_path: Path
) -> None:
    """Two machines, one folder: all parts are of one run, and the other leaves nothing."""
    meet = threading.Barrier(2, timeout=60)

    def fault(asked: Asked) -> None:
        if asked.is_put and asked.path.endswith("_COMMITTING"):
            meet.wait()

    out = store.uri("out/")
    with FaultServer(*LINEAR) as server, BrokenStore(store.endpoint, fault) as broken:
        processes = [
            subprocess.Popen(
                command("score", source, "--url", server.url, "-o", out, "-q", "--batch-size", 500,
                        "--max-part-bytes", "40KiB", "--prefix", f"{n}_"),
                stderr=subprocess.PIPE, text=True, cwd=tmp_path,
                env={**os.environ, "XDG_STATE_HOME": str(tmp_path / f"machine{n}"),
                     "AWS_ENDPOINT_URL": broken.endpoint},
            )
            for n in range(2)
        ]  # fmt: skip
        for process in processes:
            process.communicate(timeout=60)
    codes = [process.returncode for process in processes]
    assert sorted(codes) == [0, 2]
    tables = [store.table(key) for key in store.objects()[1:]]
    assert {table.schema.names[1] for table in tables} == {f"{codes.index(0)}_y"}
    assert len(store.objects()) == PARTS + 1
    assert store.uploads() == []
