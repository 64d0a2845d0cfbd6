"""--resume: whatever ends a run, the next one goes on, and the file is that of an unbroken run."""

import json
import os
import random
import resource
import shutil
import signal
import subprocess
import sys
import time
from dataclasses import replace
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from faultserver import CLASSIFIER, LINEAR, FaultServer, Model, faults
from integration.conftest import read_arrow

import batchscore
from batchscore.errors import OutputError, UsageError
from batchscore.partial import PartialFile
from batchscore.partial import folder as partial_folder
from batchscore.readers.chunks import AUTO_ROWS

FORMATS = ["arrow", "parquet", "csv", "jsonl"]


def write_rows(path: Path, count: int, bad: tuple[int, ...] = ()) -> None:
    """Rows with an id, a number as text (which may be none) and a list."""
    rows = pa.table(
        {
            "id": [f"row {n}" for n in range(count)],
            "x": ["?" if n in bad else str(n) for n in range(count)],
        }
    )
    if path.suffix == ".csv":
        lines = [f"{a},{b}" for a, b in zip(*rows.to_pydict().values(), strict=True)]
        path.write_text("\n".join(["id,x", *lines, ""]))
    else:
        pq.write_table(rows.set_column(1, "x", pa.array(range(count), pa.int64())), path)


def command(*words: object) -> list[str]:
    return [sys.executable, "-m", "batchscore", "score", *map(str, words)]


def environment() -> dict[str, str]:
    # Without the measuring of coverage, which on a full disk cannot write its own file and says so.
    foreign = ("BATCHSCORE_", "COV_", "COVERAGE_")
    return {name: value for name, value in os.environ.items() if not name.startswith(foreign)}


def run(folder: Path, *words: object, **options) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        command(*words), cwd=folder, env=environment(), capture_output=True, text=True,
        timeout=60, check=False, **options,
    )  # fmt: skip


def start(folder: Path, *words: object) -> subprocess.Popen[str]:
    return subprocess.Popen(
        command(*words), cwd=folder, env=environment(), text=True,
        stdout=subprocess.DEVNULL, stderr=subprocess.PIPE,
    )  # fmt: skip


def wait_for(happened, seconds: float = 20.0) -> None:
    deadline = time.monotonic() + seconds
    while not happened():
        assert time.monotonic() < deadline, "it never happened"
        time.sleep(0.002)


def wait_for_request(server: FaultServer, number: int, process: subprocess.Popen[str]) -> None:
    wait_for(lambda: server.request_count >= number or process.poll() is not None)


def interrupted(folder: Path, server: FaultServer, *words: object, requests: int = 3) -> None:
    """A run that is killed after some requests."""
    before = server.request_count
    process = start(folder, *words)
    wait_for_request(server, before + requests, process)
    process.kill()
    process.communicate()
    assert process.returncode == -signal.SIGKILL


# Killed.


@pytest.mark.parametrize(
    ("suffix", "concurrency", "batch_size", "most"),
    [
        ("arrow", 1, 50, 3), ("arrow", 8, 25, 10), ("arrow", 4, "auto", 4),
        ("parquet", 4, 40, 3), ("csv", 3, 64, 3), ("jsonl", 8, 10, 4),
    ],
)  # fmt: skip
def test_killed_at_any_moment_any_number_of_times_the_file_is_the_same(
    tmp_path, suffix, concurrency, batch_size, most
):
    """After kills at random moments the file has the bytes of an unbroken run, and what was sent
    twice is at most the window a kill.
    """
    rng = random.Random(f"{suffix}{concurrency}{batch_size}")
    size = AUTO_ROWS if batch_size == "auto" else batch_size
    count = 60 * size + size // 2
    write_rows(tmp_path / "in.csv", count, bad=(3, size + 1, count - 1))
    out, report = f"out.{suffix}", tmp_path / "report.json"
    with FaultServer(*CLASSIFIER, delay_s=lambda _: 0.01 + rng.random() / 50) as server:
        words = ["in.csv", "--url", server.url, "--batch-size", batch_size,
                 "--concurrency", concurrency]  # fmt: skip
        assert run(tmp_path, *words, "-o", f"whole.{suffix}").returncode == 3
        sent_before = server.rows_seen
        kills, done = 0, None
        for _ in range(40):
            process = start(tmp_path, *words, "-o", out, "--resume", "--report", report)
            at = server.request_count + rng.randrange(1, 4 + 2 * concurrency)
            wait_for_request(server, at, process)
            time.sleep(rng.random() / 20)
            if process.poll() is None and kills < most:
                process.kill()
                kills += 1
            process.communicate()
            if process.returncode != -signal.SIGKILL:
                done = process.returncode
                break
        assert done == 3
        window = 4 * concurrency * size
        assert 0 <= server.rows_seen - sent_before - (count - 3) <= kills * window
    assert kills >= 3
    assert (tmp_path / out).read_bytes() == (tmp_path / f"whole.{suffix}").read_bytes()
    assert sorted(os.listdir(tmp_path)) == sorted(["in.csv", out, "report.json", f"whole.{suffix}"])
    told = json.loads(report.read_text())
    assert (told["rows_read"], told["rows_scored"], told["rows_failed"]) == (count, count - 3, 3)
    assert told["failed_rows"] == {"invalid_input": 3}
    assert 0 < told["rows_resumed"] <= count


def test_killed_before_the_first_row_is_scored_the_job_starts_afresh(tmp_path):
    """Nothing is durable then, and the next run starts afresh."""
    write_rows(tmp_path / "in.parquet", 500)
    with FaultServer(*CLASSIFIER, delay_s=0.3) as server:
        words = ["in.parquet", "--url", server.url, "-o", "out.arrow", "--batch-size", 100]
        interrupted(tmp_path, server, *words, requests=1)
        server.delay_s = 0.0
        assert run(tmp_path, *words, "--resume").returncode == 0
    assert read_arrow(tmp_path / "out.arrow")["id"].to_pylist() == [f"row {n}" for n in range(500)]


@pytest.mark.parametrize("suffix", FORMATS)
@pytest.mark.parametrize("moment", ["sealed", "exported", "linked", "unlinked", "identity removed"])
def test_killed_between_the_last_row_and_the_end_resuming_mends_it(
    tmp_path, suffix, moment, monkeypatch
):
    """A kill while the output is put in its place leaves nothing that resuming does not mend."""
    write_rows(tmp_path / "in.csv", 300, bad=(5,))
    out = tmp_path / f"out.{suffix}"

    remove = partial_folder.remove_files

    class Killed(BaseException):
        pass

    def killed(*_args, **_options):
        raise Killed

    with FaultServer(*LINEAR) as server:
        words = {"url": server.url, "batch_size": 50}
        batchscore.score(tmp_path / "in.csv", tmp_path / f"whole.{suffix}", **words)
        with monkeypatch.context() as patch:
            match moment:
                case "sealed":
                    patch.setattr("batchscore.sinks.destination.commit", killed)
                    patch.setattr("batchscore.sinks.file.FileOutput._exported", killed)
                case "exported":
                    patch.setattr("batchscore.sinks.destination.commit", killed)
                case "linked":
                    real = Path.unlink
                    patch.setattr(
                        Path, "unlink",
                        lambda path, **o: killed() if out.exists() else real(path, **o),
                    )  # fmt: skip
                case "unlinked":
                    patch.setattr(
                        "batchscore.partial.folder.remove_files",
                        lambda disk, folder, **o: (
                            killed() if out.exists() else remove(disk, folder, **o)
                        ),
                    )
                case "identity removed":
                    patch.setattr(
                        "batchscore.partial.folder.remove_files",
                        lambda disk, folder, **o: (
                            ((folder / "job.json").unlink(), killed())
                            if out.exists()
                            else remove(disk, folder, **o)
                        ),
                    )
            with pytest.raises(Killed):
                batchscore.score(tmp_path / "in.csv", out, **words)
        assert (tmp_path / f"{out.name}.partial").is_dir()
        sent = server.request_count
        report = batchscore.score(tmp_path / "in.csv", out, resume=True, **words)
        assert server.request_count == sent
    assert (report.exit_code, report.rows_scored, report.rows_failed) == (3, 299, 1)
    assert out.read_bytes() == (tmp_path / f"whole.{suffix}").read_bytes()
    assert sorted(os.listdir(tmp_path)) == sorted(["in.csv", out.name, f"whole.{suffix}"])


# What was learned.


def test_what_was_learned_from_the_first_answer_is_not_learned_anew(tmp_path):
    """Classes and media types stay those of the first answer, also where a later one shows less."""
    write_rows(tmp_path / "in.parquet", 40)
    png = "data:image/png;base64,iVBORw0KGgo="
    jpeg = "data:image/jpeg;base64,iVBORw0KGgo="

    def predict(rows):
        first = any(row["x"] < 10 for row in rows)
        probs = {"a": 0.5, "b": 0.25, "c": 0.25} if first else {"a": 0.5}
        return [{"kind": probs, "picture": png if first else jpeg} for _ in rows]

    model = Model(
        {"x": ("numeric", [1])},
        {"kind": ("categorical", [3]), "picture": ("image", [4, 4, 3])},
        predict,
    )
    with FaultServer(*model) as server:
        words = {"url": server.url, "batch_size": 10}
        batchscore.score(tmp_path / "in.parquet", tmp_path / "whole.arrow", **words)
        server.script = iter([None, faults.status(403)])
        with pytest.raises(batchscore.BatchscoreError):
            batchscore.score(tmp_path / "in.parquet", tmp_path / "out.arrow", **words)
        report = batchscore.score(
            tmp_path / "in.parquet", tmp_path / "out.arrow", resume=True, **words
        )
    assert report.rows_resumed == 10
    assert (tmp_path / "out.arrow").read_bytes() == (tmp_path / "whole.arrow").read_bytes()


# Stopped.


@pytest.mark.parametrize(("number", "code"), [(signal.SIGTERM, 143), (signal.SIGINT, 130)])
def test_a_job_stopped_by_a_signal_is_resumed(tmp_path, number, code):
    """The run ends within the second, says how to go on, and all that was written is durable."""
    write_rows(tmp_path / "in.parquet", 4000)
    with FaultServer(*LINEAR, delay_s=0.02) as server:
        words = ["in.parquet", "--url", server.url, "-o", "out.arrow", "--batch-size", 20]
        process = start(tmp_path, *words)
        wait_for(lambda: server.request_count > 40)
        sent = time.monotonic()
        process.send_signal(number)
        _, told = process.communicate()
        assert time.monotonic() - sent < 2
        assert process.returncode == code
        assert "the same command with --resume goes on" in told
        assert "Traceback" not in told
        done = run(tmp_path, *words, "--resume")
        assert done.returncode == 0
        assert "of the rows are of earlier runs" in done.stderr
    assert read_arrow(tmp_path / "out.arrow")["predicted_y"].to_pylist() == [
        2.0 * n + 1 for n in range(4000)
    ]


def limited(kind: int, value: int):
    return lambda: resource.setrlimit(kind, (value, value))


@pytest.mark.parametrize("suffix", ["arrow", "csv"])
def test_a_full_disk_ends_the_run_resumably(tmp_path, suffix):
    """No room for more: 75, one error that says how to go on, and going on gives the same file."""
    write_rows(tmp_path / "in.parquet", 3000)
    out = f"out.{suffix}"
    with FaultServer(*LINEAR) as server:
        words = ["in.parquet", "--url", server.url, "--batch-size", 100]
        assert run(tmp_path, *words, "-o", f"whole.{suffix}").returncode == 0
        room = limited(resource.RLIMIT_FSIZE, 50_000)
        full = run(tmp_path, *words, "-o", out, "-q", preexec_fn=room)
        assert full.returncode == 75
        assert full.stderr.startswith("error: cannot write 'out.")
        assert "--resume" in full.stderr
        assert full.stderr.count("\n") == 1
        assert not (tmp_path / out).exists()
        assert PartialFile(tmp_path / f"{out}.partial").exists()
        sent = server.request_count
        assert run(tmp_path, *words, "-o", out, "--resume").returncode == 0
        assert server.request_count - sent < 30
    assert (tmp_path / out).read_bytes() == (tmp_path / f"whole.{suffix}").read_bytes()


def test_no_file_handles_left_is_nobodys_fault(tmp_path):
    """Out of file handles: 75, no row is failed for it, and with more of them the job goes on."""
    write_rows(tmp_path / "in.parquet", 3000)
    with FaultServer(*LINEAR, delay_s=0.05) as server:
        words = ["in.parquet", "--url", server.url, "-o", "out.arrow", "--batch-size", 10]
        few = limited(resource.RLIMIT_NOFILE, 24)
        short = run(tmp_path, *words, "--concurrency", 64, preexec_fn=few)
        assert short.returncode == 75, short.stderr
        assert "ulimit -n" in short.stderr
        assert "Traceback" not in short.stderr
        done = run(tmp_path, *words, "--resume")
        assert done.returncode == 0, done.stderr
    assert read_arrow(tmp_path / "out.arrow")["prediction_error"].null_count == 3000


def test_work_in_progress_that_is_removed_is_noticed_while_the_run_goes_on(tmp_path):
    """A run whose folder is gone ends with 75, and not only after the last row."""
    write_rows(tmp_path / "in.parquet", 100_000)
    with FaultServer(*LINEAR, delay_s=0.02) as server:
        words = ["in.parquet", "--url", server.url, "-o", "out.arrow", "--batch-size", 20]
        process = start(tmp_path, *words)
        wait_for(lambda: server.request_count > 40)
        shutil.rmtree(tmp_path / "out.arrow.partial")
        _, told = process.communicate(timeout=20)
    assert process.returncode == 75
    assert "cannot write 'out.arrow.partial': No such file or directory" in told


def test_an_output_folder_that_is_gone_at_the_end_costs_no_request(tmp_path):
    """With the work elsewhere it is found at the end, and going on sends nothing again."""
    write_rows(tmp_path / "in.parquet", 100)
    (tmp_path / "place").mkdir()
    (tmp_path / "work").mkdir()

    def predict(rows):
        shutil.rmtree(tmp_path / "place", ignore_errors=True)
        return LINEAR.predict(rows)

    with FaultServer(LINEAR.inputs, LINEAR.outputs, predict) as server:
        words = {"url": server.url, "work_dir": tmp_path / "work"}
        out = tmp_path / "place" / "out.arrow"
        with pytest.raises(OutputError, match="--resume"):
            batchscore.score(tmp_path / "in.parquet", out, **words)
        (tmp_path / "place").mkdir()
        sent = server.request_count
        report = batchscore.score(tmp_path / "in.parquet", out, resume=True, **words)
        assert server.request_count == sent
    assert (report.exit_code, report.rows_read, report.rows_resumed) == (0, 100, 100)
    assert read_arrow(out).num_rows == 100
    assert os.listdir(tmp_path / "work") == []


def test_failed_rows_of_earlier_runs_count(tmp_path):
    """--max-failed-rows counts what failed before the interruption too."""
    write_rows(tmp_path / "in.csv", 100, bad=(1, 2, 3, 95))
    with FaultServer(*LINEAR, script=iter([None] * 3 + [faults.status(403)])) as server:
        words = {"url": server.url, "batch_size": 10, "concurrency": 1, "max_failed_rows": "3"}
        with pytest.raises(batchscore.BatchscoreError, match="403"):
            batchscore.score(tmp_path / "in.csv", tmp_path / "out.arrow", **words)
        words["resume"] = True
        with pytest.raises(batchscore.BatchscoreError, match="4 rows failed"):
            batchscore.score(tmp_path / "in.csv", tmp_path / "out.arrow", **words)
        words["max_failed_rows"] = "4"
        report = batchscore.score(tmp_path / "in.csv", tmp_path / "out.arrow", **words)
    assert (report.exit_code, report.rows_failed, report.rows_read) == (0, 4, 100)


# Finished already, or nothing there.


@pytest.mark.parametrize("suffix", FORMATS)
def test_an_output_that_this_job_finished_sends_nothing(tmp_path, suffix):
    """The run ends as the one that wrote it did, with its counts; the file is not touched."""
    write_rows(tmp_path / "in.csv", 100, bad=(7, 8))
    out = tmp_path / f"out.{suffix}"
    with FaultServer(*LINEAR) as server:
        words = {"url": server.url, "resume": True}
        first = batchscore.score(tmp_path / "in.csv", out, **words)
        assert (first.exit_code, first.rows_resumed) == (3, 0)
        written = out.stat()
        sent = server.request_count
        again = batchscore.score(tmp_path / "in.csv", out, concurrency=2, **words)
        assert server.request_count == sent
        assert (again.exit_code, again.rows_resumed, again.requests) == (3, 100, 0)
        assert (again.rows_read, again.rows_scored, again.rows_failed) == (100, 98, 2)
        assert again.failed_rows == {"invalid_input": 2}
        allowed = batchscore.score(tmp_path / "in.csv", out, max_failed_rows="2%", **words)
        assert allowed.exit_code == 0
        with pytest.raises(batchscore.BatchscoreError, match="2 rows failed"):
            batchscore.score(tmp_path / "in.csv", out, max_failed_rows="1", **words)
        server.disabled = True
        assert batchscore.score(tmp_path / "in.csv", out, **words).exit_code == 3
    assert (out.stat().st_ino, out.stat().st_mtime_ns) == (written.st_ino, written.st_mtime_ns)


@pytest.mark.parametrize("suffix", FORMATS)
def test_an_output_of_another_job_is_refused(tmp_path, suffix):
    """What differs is named; --overwrite replaces it, and so does --resume --overwrite."""
    write_rows(tmp_path / "in.parquet", 100)
    out = tmp_path / f"out.{suffix}"
    with FaultServer(*LINEAR) as server:
        words = {"url": server.url, "resume": True}
        batchscore.score(tmp_path / "in.parquet", out, batch_size=10, **words)
        whole = out.read_bytes()
        with pytest.raises(UsageError, match="--batch-size was 10, now 20; --overwrite"):
            batchscore.score(tmp_path / "in.parquet", out, batch_size=20, **words)
        write_rows(tmp_path / "in.parquet", 101)
        with pytest.raises(UsageError, match="in.parquet has another size or content"):
            batchscore.score(tmp_path / "in.parquet", out, batch_size=10, **words)
        assert out.read_bytes() == whole
        words["overwrite"] = True
        report = batchscore.score(tmp_path / "in.parquet", out, batch_size=10, **words)
        assert (report.rows_read, report.rows_resumed) == (101, 0)
        again = batchscore.score(tmp_path / "in.parquet", out, batch_size=10, **words)
        assert (again.rows_read, again.rows_resumed) == (101, 101)
    other = Model(LINEAR.inputs, {"z": ("numeric", [1])}, lambda rows: [{"z": 1.0} for _ in rows])
    with FaultServer(*other) as server:
        words = {"url": server.url, "resume": True, "batch_size": 10}
        with pytest.raises(UsageError, match="specification is another one"):
            batchscore.score(tmp_path / "in.parquet", out, **words)


@pytest.mark.parametrize("suffix", FORMATS)
def test_a_file_that_no_job_wrote_is_refused(tmp_path, suffix):
    """Nothing in it tells that this job wrote it, so it stays."""
    write_rows(tmp_path / "in.parquet", 10)
    out = tmp_path / f"out.{suffix}"
    out.write_text("mine")
    with FaultServer(*LINEAR) as server:
        with pytest.raises(UsageError, match="nothing tells that this job wrote it"):
            batchscore.score(tmp_path / "in.parquet", out, url=server.url, resume=True)
    assert out.read_text() == "mine"


@pytest.mark.parametrize("suffix", ["csv", "jsonl"])
def test_a_text_output_that_was_edited_is_not_taken_for_the_jobs(tmp_path, suffix):
    """An attribute of the file says what wrote it; content that changed since is refused."""
    write_rows(tmp_path / "in.parquet", 10)
    out = tmp_path / f"out.{suffix}"
    with FaultServer(*LINEAR) as server:
        batchscore.score(tmp_path / "in.parquet", out, url=server.url)
        with out.open("a") as file:
            file.write("\n")
        with pytest.raises(UsageError, match="nothing tells that this job wrote it"):
            batchscore.score(tmp_path / "in.parquet", out, url=server.url, resume=True)


# Refused.


def refused_after_two():
    """Two answers, then a refusal that leaves time to write them."""
    return iter([None, None, replace(faults.status(403), delay_s=1.5)])


@pytest.fixture(scope="module")
def stopped(tmp_path_factory):
    """A folder with a job that was stopped, its server, and its options."""
    folder = tmp_path_factory.mktemp("stopped")
    write_rows(folder / "in.parquet", 1000)
    write_rows(folder / "other.parquet", 1001)
    with FaultServer(*LINEAR, script=refused_after_two()) as server:
        options = {
            "inputs": "in.parquet", "url": server.url, "batch_size": 100, "concurrency": 1,
            "source_column": "from",
        }  # fmt: skip
        previous = Path.cwd()
        os.chdir(folder)
        try:
            with pytest.raises(batchscore.BatchscoreError, match="403"):
                batchscore.score(output="out.arrow", **options)
            yield folder, server, options
        finally:
            os.chdir(previous)


@pytest.mark.parametrize(
    ("changed", "words"),
    [
        ({"batch_size": 50}, "--batch-size was 100, now 50"),
        ({"batch_size": "auto"}, "--batch-size was 100, now auto"),
        ({"inputs": "other.parquet"}, r"other.parquet was in.parquet"),
        ({"inputs": ["in.parquet", "other.parquet"]}, r"1 files then, 2 now"),
        ({"map": {"x": "id"}}, "--map was not given, now x=id"),
        ({"keep": ["id"]}, "--keep was all, now id"),
        ({"drop": ["id"]}, "--drop was not given, now id"),
        ({"null": ["NA"]}, "--null was not given, now NA"),
        ({"delimiter": ";"}, "--delimiter was not given, now ;"),
        ({"encoding": "latin-1"}, "--encoding was utf-8, now latin-1"),
        ({"image_root": "pictures"}, "--image-root was not given, now pictures"),
        ({"limit": 500}, "--limit was not given, now 500"),
        ({"probs": "list"}, "--probs was struct, now list"),
        ({"prefix": "p_"}, "--prefix was predicted_, now p_"),
        ({"classes": "a,b"}, "--classes was not given, now a,b"),
        ({"source_column": None}, "--source-column was from, now not given"),
        ({"prefix": "p_", "limit": 5, "drop": "id", "null": "x"}, "; and 1 more"),
    ],
)
def test_another_job_is_refused_by_name(stopped, changed, words):
    """Each thing that makes it another job is named before anything is sent; the work stays."""
    _, server, options = stopped
    seen = server.request_count, server.spec_requests
    for overwrite in (False, True):
        with pytest.raises(UsageError, match=words):
            batchscore.score(
                output="out.arrow", resume=True, overwrite=overwrite, **{**options, **changed}
            )
    assert (server.request_count, server.spec_requests) == seen
    assert PartialFile(Path("out.arrow.partial")).exists()


def test_work_in_progress_is_never_lost_by_accident(stopped):
    """Without --resume or --overwrite it is refused, naming both."""
    _, _, options = stopped
    with pytest.raises(UsageError, match="--resume goes on with it, --overwrite starts afresh"):
        batchscore.score(output="out.arrow", **options)


def test_another_specification_is_refused(stopped):
    """A deployment with another model is told as such, and no row is sent to it."""
    _, _, options = stopped
    other = Model({"x": ("numeric", [1])}, {"z": ("numeric", [1])}, LINEAR.predict)
    with FaultServer(*other) as server:
        with pytest.raises(UsageError, match="specification is another one"):
            batchscore.score(output="out.arrow", resume=True, **{**options, "url": server.url})
        assert server.request_count == 0


def test_content_that_changed_is_refused(stopped):
    """The same name with other rows in it is another input."""
    folder, _, options = stopped
    held = (folder / "in.parquet").read_bytes()
    write_rows(folder / "in.parquet", 999)
    with pytest.raises(UsageError, match="in.parquet has another size or content"):
        batchscore.score(output="out.arrow", resume=True, **options)
    (folder / "in.parquet").write_bytes(held)


def test_what_does_not_show_in_the_output_may_change(stopped):
    """Another host, token, concurrency, retries and request size go on with the same work."""
    folder, _, options = stopped
    shutil.copytree(folder / "out.arrow.partial", folder / "moved.arrow.partial")
    batchscore.score(output="whole.arrow", **options)
    with FaultServer(*LINEAR, token="t") as other:
        moved = {
            **options, "url": other.url, "token": "t", "concurrency": 3, "max_attempts": 2,
            "max_batch_bytes": 1000,
        }  # fmt: skip
        report = batchscore.score(output="moved.arrow", resume=True, **moved)
        assert other.rows_seen == 800
    assert (report.rows_resumed, report.rows_scored) == (200, 1000)
    # Also the address in the metadata is that of the first run.
    assert (folder / "moved.arrow").read_bytes() == (folder / "whole.arrow").read_bytes()


def test_an_input_folder_may_hold_the_output(tmp_path):
    """Neither the work in progress nor the finished output is taken for input of the same job."""
    folder = tmp_path / "data"
    folder.mkdir()
    write_rows(folder / "in.parquet", 200)
    out = folder / "out.parquet"
    words = ["data", "-o", out, "--batch-size", 20, "--concurrency", 1]
    with FaultServer(*LINEAR, delay_s=0.05) as server:
        process = start(tmp_path, *words, "--url", server.url)
        wait_for((folder / "out.parquet.partial").is_dir)
        process.kill()
        process.communicate()
        done = run(tmp_path, *words, "--resume", "--url", server.url)
        assert done.returncode == 0, done.stderr
        assert pq.read_table(out)["id"].to_pylist() == [f"row {n}" for n in range(200)]
        before = server.request_count
        again = run(tmp_path, *words, "--resume", "--url", server.url)
        assert (again.returncode, server.request_count) == (0, before), again.stderr
        # What --overwrite would replace is not skipped in silence.
        refused = run(tmp_path, *words, "--overwrite", "--url", server.url)
        assert (refused.returncode, "is the input itself" in refused.stderr) == (2, True)


def test_standard_streams_cannot_be_resumed(tmp_path):
    """What cannot be read or written again is a usage error, before anything is read."""
    words = ["--url", "http://127.0.0.1:9/deployment/x/forward", "--resume"]
    done = run(tmp_path, "-", "--input-format", "csv", "-o", "o.csv", *words, input="")
    assert (done.returncode, "standard input" in done.stderr) == (2, True)
    write_rows(tmp_path / "in.parquet", 1)
    done = run(tmp_path, "in.parquet", "-o", "-", "--output-format", "csv", *words)
    assert (done.returncode, "standard output" in done.stderr) == (2, True)
    os.mkfifo(tmp_path / "pipe.csv")
    feeder = subprocess.Popen(["/bin/sh", "-c", "echo x > pipe.csv"], cwd=tmp_path)
    done = run(tmp_path, "pipe.csv", "-o", "o.csv", *words)
    feeder.wait(10)
    assert (done.returncode, "a pipe" in done.stderr) == (2, True)


def test_bad_rows_after_an_interruption_are_not_a_bad_file(tmp_path):
    """What earlier runs scored shows that the file is good, so a run of bad rows fails alone."""
    write_rows(tmp_path / "in.parquet", 60)
    with FaultServer(*LINEAR, script=refused_after_two()) as server:
        words = {"url": server.url, "batch_size": 10, "concurrency": 1}
        with pytest.raises(batchscore.BatchscoreError, match="403"):
            batchscore.score(tmp_path / "in.parquet", tmp_path / "out.arrow", **words)
        server.script = faults.refuse_rows(lambda row: row["x"] >= 20)
        report = batchscore.score(
            tmp_path / "in.parquet", tmp_path / "out.arrow", resume=True, **words
        )
    assert (report.exit_code, report.rows_scored, report.rows_failed) == (3, 20, 40)
