"""--processes: whatever the number, the output, the report and the end are those of one."""

import json
import os
import random
import signal
import subprocess
import sys
import threading
import time
from pathlib import Path

import numpy as np
import PIL.Image
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from faultserver import CLASSIFIER, LINEAR, FaultServer, Model, classify_predict, faults
from integration.conftest import read_arrow
from integration.test_resume import (
    command,
    environment,
    run,
    start,
    wait_for,
    wait_for_request,
)

import batchscore
from batchscore.errors import ModelChangedError, TooManyFailuresError, UsageError, WorkerLostError
from batchscore.observers import NullObserver

pytestmark = pytest.mark.skipif(sys.platform == "win32", reason="one process there")


def write_rows(path: Path, count: int, bad: tuple[int, ...] = ()) -> Path:
    """Rows with an id, and a number that is none in the bad rows (of text formats)."""
    rows = [(f'row "{n}"', "?" if n in bad else n) for n in range(count)]
    if path.suffix == ".csv":
        quoted = [f'"{a.replace(chr(34), chr(34) * 2)}",{b}' for a, b in rows]
        path.write_text("\n".join(["id,x", *quoted, ""]))
    elif path.suffix == ".jsonl":
        path.write_text("".join(json.dumps({"id": a, "x": b}) + "\n" for a, b in rows))
    else:
        table = pa.table({"id": [a for a, _ in rows], "x": pa.array(range(count), pa.int64())})
        pq.write_table(table, path, row_group_size=max(1, count // 3))
    return path


def until_joined(processes: int, seconds: float = 0.25):
    """Service times that keep a job from ending before all its processes take part.

    With as many requests in flight as processes, each has one connection.
    """

    def delay(_info) -> float:
        return 0.002 if delay.server.connections >= processes else seconds

    return delay


class Joined:
    """A server that is slow until every process of the job has sent a request."""

    def __init__(self, model: Model, processes: int, **options) -> None:
        delay = until_joined(processes)
        self.server = delay.server = FaultServer(*model, delay_s=delay, **options)
        self._processes = processes

    def __enter__(self) -> FaultServer:
        return self.server.__enter__()

    def __exit__(self, *error) -> None:
        self.server.__exit__(*error)
        if error[0] is None:
            assert self.server.connections >= self._processes, "a process sent nothing"


def children(pid: int) -> list[int]:
    """The processes that a process has started."""
    found = []
    for folder in Path("/proc").iterdir():
        if folder.name.isdigit():
            try:
                state = (folder / "stat").read_text().rpartition(")")[2].split()
            except OSError:
                continue  # it has ended meanwhile
            if int(state[1]) == pid and state[0] != "Z":
                found.append(int(folder.name))
    return found


def is_there(pid: int) -> bool:
    try:
        state = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0]
    except OSError:
        return False
    return state != "Z"


# The same output.


@pytest.mark.parametrize(
    ("suffix_in", "suffix_out", "batch_size", "processes"),
    [
        ("parquet", "arrow", "auto", 2),
        ("csv", "csv", 50, 3),
        ("jsonl", "jsonl", 40, 2),
        ("csv", "parquet", 64, 2),
    ],
)
def test_the_output_is_that_of_one_process(tmp_path, suffix_in, suffix_out, batch_size, processes):
    """Byte for byte, also where classes are learned and rows cannot be read; so is the report."""
    count = 130 * (1024 if batch_size == "auto" else batch_size) + 7
    source = write_rows(tmp_path / f"in.{suffix_in}", count, bad=(0, 1, 777, count - 1))
    words = {"batch_size": batch_size, "concurrency": processes}
    out, one = tmp_path / f"out.{suffix_out}", tmp_path / f"one.{suffix_out}"
    with FaultServer(*CLASSIFIER, keep_requests=False) as server:
        expected = batchscore.score(source, one, url=server.url, **words)
    with Joined(CLASSIFIER, processes, keep_requests=False, port=server.port) as server:
        found = batchscore.score(source, out, url=server.url, processes=processes, **words)
        assert server.max_in_flight <= processes
        assert server.rows_seen == expected.rows_scored
        assert server.request_count == found.requests == expected.requests
    assert out.read_bytes() == one.read_bytes()
    for name in (
        "status", "exit_code", "rows_read", "rows_scored", "rows_failed", "failed_rows",
        "concurrency", "bytes_sent", "bytes_received", "retries", "fingerprint",
    ):  # fmt: skip
        assert getattr(found, name) == getattr(expected, name), name
    assert found.latency_s["max"] is not None


def test_wide_rows_are_cut_into_the_same_chunks(tmp_path):
    """Where a MiB is fewer than 1,024 rows the chunks, and with them the batches, stay the same."""
    wide = pa.FixedShapeTensorArray.from_numpy_ndarray(
        np.random.default_rng(0).random((3000, 40, 40), "float32")
    )
    pq.write_table(pa.table({"grid": wide, "id": pa.array(range(3000))}), tmp_path / "in.parquet")
    model = Model(
        {"grid": ("numeric", [40, 40])}, {"y": ("numeric", [1])},
        lambda rows: [{"y": row["grid"]["data"][0]} for row in rows],
    )  # fmt: skip
    words = {"concurrency": 2, "keep": "id"}
    with FaultServer(*model, keep_requests=False) as server:
        batchscore.score(tmp_path / "in.parquet", tmp_path / "one.arrow", url=server.url, **words)
    with Joined(model, 2, keep_requests=False, port=server.port) as server:
        batchscore.score(
            tmp_path / "in.parquet", tmp_path / "out.arrow", url=server.url, processes=2, **words
        )
    assert (tmp_path / "out.arrow").read_bytes() == (tmp_path / "one.arrow").read_bytes()


@pytest.mark.parametrize("count", [0, 1, 30])
def test_a_job_of_fewer_chunks_than_processes_ends_as_ever(tmp_path, count):
    """A job that is over before the others are there ends as ever."""
    source = write_rows(tmp_path / "in.csv", count)
    with FaultServer(*CLASSIFIER) as server:
        for processes in (1, 4):
            report = batchscore.score(
                source, tmp_path / f"{processes}.arrow", url=server.url, processes=processes
            )
            assert (report.exit_code, report.rows_scored) == (0, count)
    assert (tmp_path / "1.arrow").read_bytes() == (tmp_path / "4.arrow").read_bytes()
    assert children(os.getpid()) == []


def test_standard_input_and_output_are_shared_out_like_files(tmp_path):
    """What can be read only once is shared out like any other input."""
    source = write_rows(tmp_path / "in.csv", 4000)
    with Joined(LINEAR, 2) as server:
        done = subprocess.run(
            command("-", "--input-format", "csv", "-o", "-", "--output-format", "csv", "--url",
                    server.url, "--processes", 2, "--concurrency", 2, "--batch-size", 40, "-q"),
            cwd=tmp_path, env=environment(), input=source.read_bytes(), capture_output=True,
            timeout=60, check=True,
        )  # fmt: skip
    assert done.stderr == b""
    lines = done.stdout.decode().splitlines()
    assert lines[1] == '"row ""0""","0",1.0,'
    assert lines[-1] == '"row ""3999""","3999",7999.0,'
    assert len(lines) == 4001


def test_a_script_needs_no_main_guard(tmp_path):
    """``score(..., processes=2)`` works in any script, whose top level runs once."""
    write_rows(tmp_path / "in.parquet", 4000)
    with Joined(LINEAR, 2) as server:
        script = f"""
import batchscore
print("once")
report = batchscore.score("in.parquet", "out.arrow", url={server.url!r}, processes=2,
                          concurrency=2, batch_size=40)
print(report.rows_scored)
"""
        (tmp_path / "mine.py").write_text(script)
        # A module of the user's that has the name of one of Python's.
        (tmp_path / "sub").mkdir()
        done = subprocess.run(
            [sys.executable, "mine.py"], cwd=tmp_path, env=environment(), capture_output=True,
            text=True, timeout=60, check=False,
        )  # fmt: skip
    assert (done.stdout, done.stderr) == ("once\n4000\n", "")


def test_a_table_in_memory_is_shared_out_too(tmp_path):
    """score_table shares the work out as well."""
    table = pa.table({"x": pa.array(range(4000), pa.int64())})
    with Joined(LINEAR, 2) as server:
        scored = batchscore.score_table(
            table, url=server.url, processes=2, concurrency=2, batch_size=40
        )
    assert scored["predicted_y"].to_pylist() == [2.0 * n + 1 for n in range(4000)]


def test_rescoring_is_shared_out_too(tmp_path):
    """Rescoring shares its rows out too, and what it makes of the output is the same."""
    source = write_rows(tmp_path / "in.parquet", 6000)
    refused = faults.refuse_rows(lambda row: row["x"] % 2 == 0)
    with Joined(LINEAR, 2, script=refused, keep_requests=False) as server:
        words = {"url": server.url, "processes": 2, "concurrency": 2}
        report = batchscore.score(source, tmp_path / "out.arrow", batch_size=4, **words)
        assert report.rows_failed == 3000
        server.script = None
        report = batchscore.rescore(tmp_path / "out.arrow", **words)
    assert (report.exit_code, report.rows_failed, report.rows_resumed) == (0, 0, 3000)
    expected = [2.0 * n + 1 for n in range(6000)]
    assert read_arrow(tmp_path / "out.arrow")["predicted_y"].to_pylist() == expected


def test_pictures_are_read_by_who_sends_them(tmp_path):
    """Paths in cells mean the same files in every process."""
    rng = np.random.default_rng(0)
    (tmp_path / "pictures").mkdir()
    for number in range(120):
        pixels = rng.integers(0, 256, (4, 4, 3), "uint8")
        PIL.Image.fromarray(pixels).save(tmp_path / "pictures" / f"{number:03}.png")
    model = Model(
        {"picture": ("image", [4, 4, 3])}, {"same": ("image", [4, 4, 3])},
        lambda rows: [{"same": row["picture"]} for row in rows],
    )  # fmt: skip
    with Joined(model, 2, keep_requests=False) as server:
        batchscore.score(
            tmp_path / "pictures", tmp_path / "out.arrow", url=server.url, processes=2,
            concurrency=2, batch_size=1, map={"picture": "path"},
        )  # fmt: skip
    for row in read_arrow(tmp_path / "out.arrow").to_pylist():
        assert row["predicted_same"] == Path(row["path"]).read_bytes()


# Trouble.


def test_under_faults_only_refused_rows_fail(tmp_path):
    """Under mixed faults every row is scored, and only rows that the server refuses fail."""
    source = write_rows(tmp_path / "in.parquet", 6000)
    poison = {11, 40, 41, 2999, 5999}
    script = faults.first_of(
        faults.mixed_faults(3, 0.1), faults.refuse_rows(lambda row: row["x"] in poison)
    )
    with Joined(LINEAR, 2, script=script, keep_requests=False) as server:
        report = batchscore.score(
            source, tmp_path / "out.arrow", url=server.url, processes=2, concurrency=2,
            batch_size=40, max_attempts=12,
        )  # fmt: skip
        assert report.requests == server.request_count
    assert report.failed_rows == {"http_422": len(poison)}
    assert sum(report.retries.values()) > 5
    scored = read_arrow(tmp_path / "out.arrow")
    expected = [None if n in poison else 2.0 * n + 1 for n in range(6000)]
    assert scored["predicted_y"].to_pylist() == expected


def test_a_new_token_is_read_once_for_all(tmp_path):
    """A 401 in several processes makes the source be asked once, in the first process."""
    source = write_rows(tmp_path / "in.parquet", 6000)
    asked: list[str] = []
    with Joined(LINEAR, 2, token="first", keep_requests=False) as server:

        def token() -> str:
            asked.append(server.token)
            return server.token

        def renew(info):
            if server.connections >= 2 and server.rows_seen > 2000:
                server.token = "second"

        server.script = renew
        report = batchscore.score(
            source, tmp_path / "out.arrow", url=server.url, token=token, processes=2,
            concurrency=2, batch_size=40,
        )  # fmt: skip
    assert (report.rows_scored, sum(report.retries.values())) == (6000, 0)
    assert asked == ["first", "second"]


def test_one_probe_at_a_time_while_the_deployment_is_away(tmp_path, caplog):
    """All processes are held back, one row at a time asks, and then all go on."""
    source = write_rows(tmp_path / "in.parquet", 8000)
    away: list = []
    began: list[float] = []
    with Joined(LINEAR, 3, keep_requests=False) as server:

        def script(info):
            if not began and server.connections >= 3 and server.rows_seen > 2000:
                began.append(time.monotonic())
            if began and time.monotonic() - began[0] < 2.0:
                away.append(info)
                return faults.status(503)
            return None

        server.script = script
        report = batchscore.score(
            source, tmp_path / "out.arrow", url=server.url, processes=3, concurrency=3,
            batch_size=40, max_attempts=1,
        )  # fmt: skip
    assert report.rows_scored == 8000
    # Those that had passed the gate by then; from the first probe on there is nobody else.
    first = next(place for place, info in enumerate(away) if len(info.rows) == 1)
    assert first >= 1
    assert {(len(info.rows), info.in_flight) for info in away[first:]} == {(1, 1)}
    told = [record.getMessage() for record in caplog.records]
    assert sum("is away" in line for line in told) == sum("is back" in line for line in told) == 1


def test_an_outage_that_takes_too_long_ends_the_whole_job(tmp_path):
    """--max-outage ends the whole job, with its own exit code."""
    source = write_rows(tmp_path / "in.parquet", 8000)
    with Joined(LINEAR, 2, keep_requests=False) as server:
        server.script = lambda _: (
            faults.status(503) if server.connections >= 2 and server.rows_seen > 2000 else None
        )
        with pytest.raises(batchscore.TemporaryError, match=r"is away for 1 s: http_503"):
            batchscore.score(
                source, tmp_path / "out.arrow", url=server.url, processes=2, concurrency=2,
                batch_size=40, max_attempts=1, max_outage=1,
            )  # fmt: skip
    assert children(os.getpid()) == []


@pytest.mark.parametrize(
    ("spoil", "error", "match"),
    [
        ("class", ModelChangedError, "class"),
        ("403", batchscore.StoppedError, "403"),
        ("failures", TooManyFailuresError, "more than --max-failed-rows allows"),
    ],
)
def test_what_one_process_finds_ends_the_job(tmp_path, spoil, error, match):
    """With the error's own words and exit code, whichever process met it; no process is left."""
    source = write_rows(tmp_path / "in.parquet", 8000)
    late = 3000

    def predict(rows):
        if spoil == "class" and rows[0]["x"] >= late:
            return [{"animal": {"whale": 1.0}} for _ in rows]
        return classify_predict(rows)

    def script(info):
        if info.rows and info.rows[-1]["x"] >= late:
            return {"403": faults.status(403), "failures": faults.status(422)}.get(spoil)
        return None

    model = CLASSIFIER._replace(predict=predict)
    with Joined(model, 2, script=script, keep_requests=False) as server:
        with pytest.raises(error, match=match):
            batchscore.score(
                source, tmp_path / "out.arrow", url=server.url, processes=2, concurrency=2,
                batch_size=40, max_failed_rows=100,
            )  # fmt: skip
    assert children(os.getpid()) == []
    assert not (tmp_path / "out.arrow").exists()


# Limits.


def test_requests_in_flight_are_shared_out(tmp_path):
    """Never more than --concurrency in all, and all of them are used."""
    source = write_rows(tmp_path / "in.parquet", 20_000)
    with FaultServer(*LINEAR, delay_s=0.03, keep_requests=False) as server:
        report = batchscore.score(
            source, tmp_path / "out.arrow", url=server.url, processes=2, concurrency=5,
            batch_size=20,
        )  # fmt: skip
        assert server.max_in_flight == report.concurrency == 5


def test_fewer_requests_than_processes_leave_fewer_processes(tmp_path):
    """--concurrency 1 leaves one process, which sends one request at a time."""
    source = write_rows(tmp_path / "in.parquet", 2000)
    with FaultServer(*LINEAR, delay_s=0.01, keep_requests=False) as server:
        words = {"url": server.url, "concurrency": 1, "batch_size": 20}
        batchscore.score(source, tmp_path / "out.arrow", processes=8, **words)
        assert (server.max_in_flight, server.connections) == (1, 1)


def test_what_is_read_ahead_is_bounded(tmp_path):
    """Behind a request that takes long, no more than the window is read, whatever has room."""
    source = write_rows(tmp_path / "in.parquet", 20_000)
    most = 0

    class Watch(NullObserver):
        def on_batch(self, metrics):
            nonlocal most
            most = max(most, metrics.rows_read - metrics.rows_done)

    held = threading.Event()
    with Joined(LINEAR, 2, keep_requests=False) as server:

        def script(_info):
            if server.rows_seen > 3000 and not held.is_set():
                held.set()
                return faults.slow(1.5)
            return None

        server.script = script
        batchscore.score(
            source, tmp_path / "out.arrow", url=server.url, processes=2, concurrency=2,
            batch_size=20, observer=Watch(),
        )  # fmt: skip
    assert 300 < most <= (2 * 32 + 1) * 20


# Ends.


def long_job(tmp_path: Path, server: FaultServer, *words: object) -> list[object]:
    write_rows(tmp_path / "in.parquet", 40_000)
    return ["in.parquet", "--url", server.url, "-o", "out.arrow", "--batch-size", 40,
            "--concurrency", 2, *words]  # fmt: skip


def joined(process: subprocess.Popen[str], server: FaultServer) -> list[int]:
    """Wait until the job's worker sends requests; the workers."""
    wait_for(lambda: server.connections >= 2 or process.poll() is not None)
    return children(process.pid)


@pytest.mark.parametrize("again", [1, 3])
def test_a_killed_job_is_resumed_with_any_number_of_processes(tmp_path, again):
    """The first process killed leaves no other behind, and any number goes on with its work."""
    with Joined(LINEAR, 2, keep_requests=False) as server:
        words = long_job(tmp_path, server)
        process = start(tmp_path, *words, "--processes", 2)
        workers = joined(process, server)
        time.sleep(0.3)
        process.kill()
        process.communicate()
        assert process.returncode == -signal.SIGKILL
        assert len(workers) == 1
        wait_for(lambda: not any(map(is_there, workers)))
        server.delay_s = 0.0
        done = run(tmp_path, *words, "--processes", again, "--resume", "--report", "report.json")
        assert done.returncode == 0, done.stderr
        whole = [word if word != "out.arrow" else "whole.arrow" for word in words]
        assert run(tmp_path, *whole).returncode == 0
    assert json.loads((tmp_path / "report.json").read_text())["rows_resumed"] > 0
    assert (tmp_path / "out.arrow").read_bytes() == (tmp_path / "whole.arrow").read_bytes()


def test_a_worker_that_is_killed_ends_the_job_resumably(tmp_path):
    """One of the other processes gone: 75, said clearly, and --resume goes on."""
    with Joined(LINEAR, 2, keep_requests=False) as server:
        words = long_job(tmp_path, server)
        process = start(tmp_path, *words, "--processes", 2)
        [worker] = joined(process, server)
        os.kill(worker, signal.SIGKILL)
        _, told = process.communicate(timeout=20)
        assert process.returncode == 75
        assert "error: worker process 1 was ended by SIGKILL" in told
        assert "--resume" in told
        assert "Traceback" not in told
        server.delay_s = 0.0
        done = run(tmp_path, *words, "--resume")
        assert done.returncode == 0, done.stderr
    expected = [2.0 * n + 1 for n in range(40_000)]
    assert read_arrow(tmp_path / "out.arrow")["predicted_y"].to_pylist() == expected


@pytest.mark.parametrize(("number", "code"), [(signal.SIGTERM, 143), (signal.SIGINT, 130)])
def test_a_signal_stops_all_processes_resumably(tmp_path, number, code):
    """The job ends at once, resumable, and no process is left."""
    with Joined(LINEAR, 2, keep_requests=False) as server:
        process = start(tmp_path, *long_job(tmp_path, server, "--processes", 2))
        workers = joined(process, server)
        # A supervisor may tell all of them; the first one puts things in order.
        for pid in [*workers, process.pid]:
            os.kill(pid, number)
        sent = time.monotonic()
        _, told = process.communicate(timeout=20)
        assert time.monotonic() - sent < 2
        assert process.returncode == code
        assert "the same command with --resume goes on" in told
        assert "Traceback" not in told
        assert not any(map(is_there, workers))


def test_an_error_of_the_token_source_ends_the_job(tmp_path):
    """What the first process cannot find out for another ends the job as it would its own."""
    source = write_rows(tmp_path / "in.parquet", 8000)
    with Joined(LINEAR, 2, token="first", keep_requests=False) as server:

        def token() -> str:
            if server.token != "first":
                raise UsageError("the vault is sealed")
            return "first"

        def renew(_info):
            if server.connections >= 2 and server.rows_seen > 2000:
                server.token = "second"

        server.script = renew
        with pytest.raises(UsageError, match="the vault is sealed"):
            batchscore.score(
                source, tmp_path / "out.arrow", url=server.url, token=token, processes=2,
                concurrency=2, batch_size=40,
            )  # fmt: skip


def test_a_worker_that_cannot_start_is_told_as_such(tmp_path, monkeypatch):
    """An interpreter that does not find what it needs is told as such, and the work is kept."""
    source = write_rows(tmp_path / "in.parquet", 8000)
    monkeypatch.setattr("batchscore.processes.child._COMMAND", "raise SystemExit(7)")
    with FaultServer(*LINEAR, delay_s=0.05, keep_requests=False) as server:
        with pytest.raises(WorkerLostError, match="worker process 1 ended with code 7"):
            batchscore.score(
                source, tmp_path / "out.arrow", url=server.url, processes=2, batch_size=40,
                concurrency=2,
            )  # fmt: skip


@pytest.mark.slow
def test_a_job_killed_again_and_again_under_faults_loses_no_row(tmp_path):
    """Each time resumed with another number of processes: no row is lost, repeated or misplaced."""
    rng = random.Random(5)
    write_rows(tmp_path / "in.parquet", 20_000)
    script = faults.first_of(
        faults.mixed_faults(9, 0.15), faults.refuse_rows(lambda row: row["x"] % 4999 == 7)
    )
    words = ["in.parquet", "-o", "out.arrow", "--batch-size", 40, "--concurrency", 4,
             "--max-attempts", 12, "--resume", "--url"]  # fmt: skip
    kills = 0
    with FaultServer(*LINEAR, script=script, delay_s=0.01, keep_requests=False) as server:
        for processes in [2, 3, 1, 2, 4]:
            process = start(tmp_path, *words, server.url, "--processes", processes)
            wanted = server.request_count + rng.randrange(30, 130)
            wait_for_request(server, wanted, process)
            workers = children(process.pid)
            process.kill()
            process.communicate()
            kills += process.returncode == -signal.SIGKILL
            wait_for(lambda left=workers: not any(map(is_there, left)))
        done = run(tmp_path, *words, server.url, "--processes", 2)
    assert kills == 5
    assert done.returncode == 3, done.stderr
    scored = read_arrow(tmp_path / "out.arrow")
    assert scored["id"].to_pylist() == [f'row "{n}"' for n in range(20_000)]
    expected = [None if n % 4999 == 7 else 2.0 * n + 1 for n in range(20_000)]
    assert scored["predicted_y"].to_pylist() == expected


def test_retry_after_holds_for_all_processes(tmp_path):
    """A server that asks one process to wait is sent nothing by the others either."""
    source = write_rows(tmp_path / "in.parquet", 12_000)
    asked: list[float] = []
    arrived: list[float] = []
    with Joined(LINEAR, 2, keep_requests=False) as server:

        def script(info):
            if asked:
                arrived.append(info.time_s - asked[0])
            elif server.connections >= 2 and server.rows_seen > 4000:
                asked.append(info.time_s)
                return faults.status(429, retry_after=2)
            return None

        server.script = script
        report = batchscore.score(
            source, tmp_path / "out.arrow", url=server.url, processes=2, concurrency=2,
            batch_size=40,
        )  # fmt: skip
    assert report.rows_scored == 12_000
    # What the other process had begun when it was told; by far more would fit into the time.
    assert sum(after < 1.5 for after in arrived) < 30
    assert sum(after >= 1.5 for after in arrived) > 100
