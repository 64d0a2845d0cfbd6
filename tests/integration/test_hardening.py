"""Trouble that was found by looking for it: secrets, bounds, bystanders, ends."""

import asyncio
import json
import os
import signal
import subprocess
import sys
import threading
import time
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from faultserver import LINEAR, FaultServer, Model, faults
from integration.conftest import read_arrow
from PIL import Image

import batchscore
from batchscore.config import ScoreConfig, configured
from batchscore.errors import OutputError, RefusedError, UsageError
from batchscore.runtime import Runtime
from batchscore.sinks.file import FileOutput
from batchscore.sinks.finished import RowCounts
from batchscore.units import FailureLimit

LENGTH = {"n": ("numeric", [1])}


def write_rows(folder: Path, count: int) -> Path:
    path = folder / "in.parquet"
    pq.write_table(pa.table({"x": pa.array(range(count), pa.int64())}), path)
    return path


def test_the_query_and_user_of_an_address_stand_nowhere(tmp_path):
    """A malformed answer does not bring the address with its secrets into file or report."""

    class Malformed(threading.Thread):
        def __init__(self):
            super().__init__(daemon=True)
            import socket

            self.listener = socket.create_server(("127.0.0.1", 0))
            self.port = self.listener.getsockname()[1]

        def run(self):
            spec = json.dumps(
                {
                    "paths": {
                        "/deployment/{deploymentId}/forward": {"x-peltarion-tensorjson": True}
                    },
                    "components": {
                        "schemas": {
                            "input-row": {
                                "properties": {
                                    "x": {"x-peltarion": {"type": "numeric", "shape": [1]}}
                                }
                            },
                            "output-row-batch": {
                                "properties": {
                                    "rows": {
                                        "properties": {
                                            "y": {"x-peltarion": {"type": "numeric", "shape": [1]}}
                                        }
                                    }
                                }
                            },
                        }
                    },
                }
            ).encode()
            while True:
                try:
                    connection, _ = self.listener.accept()
                except OSError:
                    return
                with connection:
                    head = connection.recv(65536)
                    if head.startswith(b"GET"):
                        connection.sendall(
                            b"HTTP/1.1 200 OK\r\nConnection: close\r\nContent-Length: %d\r\n\r\n%s"
                            % (len(spec), spec)
                        )
                    else:
                        connection.sendall(b"this is no HTTP at all\r\n\r\n")

    server = Malformed()
    server.start()
    url = f"http://me:USERSECRET@127.0.0.1:{server.port}/deployment/1/forward?key=QUERYSECRET"
    with pytest.raises(batchscore.TemporaryError) as caught:
        batchscore.score(
            write_rows(tmp_path, 3), tmp_path / "out.arrow", url=url, token="TOKENSECRET",
            max_attempts=1, max_outage="0s", report=tmp_path / "r.json", header=["X-K: HEADSECRET"],
        )  # fmt: skip
    server.listener.close()
    texts = [str(caught.value), (tmp_path / "r.json").read_text()]
    texts += [
        path.read_bytes().decode("latin-1")
        for path in (tmp_path / "out.arrow.partial").glob("*")
        if path.is_file()
    ]
    assert not [text for text in texts if "SECRET" in text]


def test_a_server_that_echoes_the_token_does_not_get_it_into_the_file(tmp_path):
    """The server's own words are kept, the token in them is not."""

    def script(request):
        return faults.status(422, f"denied for {request.headers['authorization']}")

    with FaultServer(*LINEAR, script=script) as server:
        batchscore.score(
            write_rows(tmp_path, 3), tmp_path / "out.arrow", url=server.url, token="TOKENSECRET"
        )
    errors = read_arrow(tmp_path / "out.arrow")["prediction_error"].to_pylist()
    assert all("denied for Bearer [secret]" in error for error in errors)


def test_a_server_that_echoes_a_token_that_was_read_anew_does_not_get_it_out_either(tmp_path):
    """After a 401 the token is another one, and its words are taken out just the same."""
    tokens = iter(["FIRSTSECRET", "SECONDSECRET", "THIRDSECRET"])

    def script(request):
        return faults.status(401, f"no good: {request.headers['authorization']}")

    with FaultServer(*LINEAR, script=script) as server, pytest.raises(RefusedError) as caught:
        batchscore.score(
            write_rows(tmp_path, 3), tmp_path / "out.arrow", url=server.url,
            token=lambda: next(tokens), concurrency=1,
        )  # fmt: skip
    assert "no good: Bearer [secret]" in str(caught.value)


def test_whatever_a_server_echoes_no_secret_of_the_request_is_kept(tmp_path):
    """Header values and the query of the address are taken out of a server's words."""

    def script(request):
        return faults.status(403, f"{request.headers['x-k']} called with QUERYSECRET")

    with FaultServer(*LINEAR, script=script) as server, pytest.raises(RefusedError) as caught:
        batchscore.score(
            write_rows(tmp_path, 3), tmp_path / "out.arrow", url=f"{server.url}?k=QUERYSECRET",
            header=["X-K: HEADSECRET"], report=tmp_path / "r.json",
        )  # fmt: skip
    assert "[secret] called with [secret]" in str(caught.value)
    assert "SECRET" not in (tmp_path / "r.json").read_text()


def test_rows_of_very_different_size_stay_below_the_byte_bound_too(tmp_path):
    """A few huge rows among many tiny ones do not make a huge request."""
    model = Model({"t": ("text", [1])}, LENGTH, lambda rows: [{"n": len(r["t"])} for r in rows])
    texts = ["a" * 50_000] * 20 + ["b"] * 2000
    pq.write_table(pa.table({"t": texts}), tmp_path / "in.parquet")
    with FaultServer(*model) as server:
        batchscore.score(
            tmp_path / "in.parquet", tmp_path / "out.arrow", url=server.url,
            batch_size=5000, max_batch_bytes=200_000,
        )  # fmt: skip
        assert max(request.body_bytes for request in server.requests) <= 200_000
    out = read_arrow(tmp_path / "out.arrow")
    assert out["predicted_n"].to_pylist() == [float(len(text)) for text in texts]
    assert out["t"].num_chunks == 1


def test_pictures_that_grow_when_sent_are_cut_by_what_they_become(tmp_path):
    """Small files of other formats are large PNGs; requests stay below the bound."""
    rng = np.random.default_rng(0)
    (tmp_path / "pics").mkdir()
    for number in range(8):
        noise = rng.integers(0, 255, (120, 120, 3), np.uint8)
        Image.fromarray(noise).save(tmp_path / "pics" / f"{number}.webp", quality=5)
    model = Model({"picture": ("image", [1])}, LENGTH, lambda rows: [{"n": 1.0} for _ in rows])
    with FaultServer(*model) as server:
        batchscore.score(
            tmp_path / "pics", tmp_path / "out.arrow", url=server.url, max_batch_bytes="64KiB"
        )
        assert all(len(request.rows) == 1 for request in server.requests)


def test_bystanders_of_a_row_that_takes_the_server_down_are_scored(tmp_path):
    """With one row a request and several in flight, only the poison fails."""
    down = threading.Lock()
    with FaultServer(*LINEAR, delay_s=0.002) as server:

        def bounce():
            if down.acquire(blocking=False):
                server.go_away()
                time.sleep(0.3)
                server.come_back()
                down.release()

        def script(request):
            if request.rows[0]["x"] != 30:
                return None
            server._loop.call_soon(threading.Thread(target=bounce, daemon=True).start)
            return faults.reset("after")

        server.script = script
        batchscore.score(
            write_rows(tmp_path, 60), tmp_path / "out.arrow", url=server.url, batch_size=1,
            concurrency=4, max_attempts=3,
        )  # fmt: skip
    errors = read_arrow(tmp_path / "out.arrow")["prediction_error"].to_pylist()
    assert [n for n in range(60) if errors[n]] == [30]


@pytest.mark.parametrize(
    ("options", "words"),
    [
        ({"output": "-", "output_format": "csv", "work_dir": "/no/such/folder"}, "/no/such/folder"),
        ({"output": "s3://me:SECRET@bucket/out.arrow"}, "s3://bucket/out.arrow"),
        ({"rate_limit": "0req/s"}, "above 0"),
        ({"max_failed_rows": "101%"}, "more than all"),
        ({"classes": "b,b"}, "twice"),
        ({"header": ["Content-Length: 3"]}, "Content-Length"),
        ({"bath_size": 3}, "did you mean batch_size"),
        ({"token": lambda: 7}, "not a string"),
        ({"token_command": "true"}, "gives no token"),
        ({"url": "http://user:SECRET#x@host/y"}, "no address"),
        ({"url": "http://a..b/deployment/1/forward"}, "a..b"),
        ({"url": "http://host:70000/x"}, "65535"),
    ],
)
def test_usage_errors_are_told_as_such_and_without_secrets(tmp_path, options, words):
    """Exit code 2, the thing named, no secret."""
    values = {"url": "http://127.0.0.1:1/x", "output": str(tmp_path / "out.arrow"), **options}
    with pytest.raises(UsageError) as caught:
        batchscore.score(write_rows(tmp_path, 3), values.pop("output"), **values)
    assert words in str(caught.value)
    assert "SECRET" not in str(caught.value)


def test_a_share_is_exact():
    """29 failed rows of 100 are 29 %."""
    assert not FailureLimit(0.29, True).exceeded(29, 100)


def test_standard_output_that_is_full_is_temporary(tmp_path):
    """Exit code 75 when standard output cannot be written."""
    with FaultServer(*LINEAR) as server, Path("/dev/full").open("wb") as full:
        done = subprocess.run(
            [sys.executable, "-m", "batchscore", "score", str(write_rows(tmp_path, 3)), "--url",
             server.url, "-o", "-", "--output-format", "csv"],
            stdout=full, stderr=subprocess.PIPE, text=True, cwd=tmp_path, check=False,
        )  # fmt: skip
    assert done.returncode == 75
    assert "standard output" in done.stderr


@pytest.mark.parametrize("location", ["ftp://127.0.0.1/x", "http://127.0.0.1:99999/x"])
def test_a_redirect_to_what_is_no_address_stops_the_job(tmp_path, location):
    """The deployment's fault, not the user's: exit code 1."""
    with FaultServer(*LINEAR, script=faults.always(faults.redirect(location))) as server:
        with pytest.raises(RefusedError, match="redirects") as caught:
            batchscore.score(write_rows(tmp_path, 3), tmp_path / "out.arrow", url=server.url)
    assert caught.value.exit_code == 1


async def test_a_cancelled_run_leaves_nothing_behind_its_back(tmp_path):
    """After the cancellation no thread of the run touches the output any more."""
    with FaultServer(*LINEAR, delay_s=0.01) as server:
        run = asyncio.create_task(
            batchscore.score_async(
                write_rows(tmp_path, 3000), tmp_path / "out.arrow", url=server.url, batch_size=10
            )
        )
        while not (tmp_path / "out.arrow.partial" / "rows.arrow").exists():
            await asyncio.sleep(0.005)
        run.cancel()
        with pytest.raises(asyncio.CancelledError):
            await run
    before = {p.name: p.stat().st_mtime_ns for p in (tmp_path / "out.arrow.partial").iterdir()}
    await asyncio.sleep(0.2)
    after = {p.name: p.stat().st_mtime_ns for p in (tmp_path / "out.arrow.partial").iterdir()}
    assert before == after
    assert not (tmp_path / "out.arrow").exists()


def test_an_output_that_was_closed_is_not_committed(tmp_path):
    """A run that ended while its output was being finished does not make OUT appear."""
    values = {"inputs": ["x"], "output": str(tmp_path / "out.arrow"), "url": "http://h/x"}
    output = FileOutput(configured(ScoreConfig, values), Runtime())
    schema = pa.schema([("x", pa.int64())])
    output.open(schema)
    seal = output._partial.seal

    def slow_seal():
        whole = seal()
        output.close()
        return whole

    output._partial.seal = slow_seal
    with pytest.raises(OutputError):
        output.finish(RowCounts())
    assert not (tmp_path / "out.arrow").exists()


async def test_an_interrupt_in_a_notebook_ends_the_run(tmp_path):
    """Where a loop is running already, Ctrl-C stops the job in its thread too."""
    before = signal.signal(signal.SIGINT, signal.default_int_handler)  # as in a notebook
    with FaultServer(*LINEAR, delay_s=0.05) as server:
        source = write_rows(tmp_path, 2000)

        def interrupt():
            while server.request_count < 5:
                time.sleep(0.01)
            os.kill(os.getpid(), 2)

        threading.Thread(target=interrupt, daemon=True).start()
        with pytest.raises(KeyboardInterrupt):
            batchscore.score(
                source, tmp_path / "out.arrow", url=server.url, batch_size=1, concurrency=2
            )
        sent = server.request_count
        await asyncio.sleep(0.3)
        assert server.request_count <= sent + 2
        assert sent < 500
    signal.signal(signal.SIGINT, before)


def test_own_headers_replace_ours_whatever_their_case(tmp_path):
    """A header given by the user is sent once."""
    with FaultServer(*LINEAR) as server:
        batchscore.score(
            write_rows(tmp_path, 3), tmp_path / "out.arrow", url=server.url, token="mine",
            header=["authorization: Basic abc"],
        )  # fmt: skip
        assert server.requests[0].headers["authorization"] == "Basic abc"


@pytest.mark.parametrize(
    "place", ["a dangling link", "the input itself", "a file in the way", "a pipe"]
)
def test_an_output_place_that_cannot_be_right_is_told_before_a_row_is_sent(tmp_path, place):
    """What would fail or destroy at the end is refused at the beginning."""
    source = write_rows(tmp_path, 3)
    out = tmp_path / "out.parquet"
    if place == "a dangling link":
        out.symlink_to(tmp_path / "nowhere" / "x")
    elif place == "the input itself":
        out = source
    elif place == "a pipe":
        os.mkfifo(out)
    else:
        (tmp_path / "out.parquet.partial").write_text("mine")
    before = source.read_bytes()
    with (
        FaultServer(*LINEAR) as server,
        pytest.raises(UsageError, match=r"out\.parquet|in\.parquet"),
    ):
        batchscore.score(source, out, url=server.url, overwrite=True)
    assert server.request_count == 0
    assert source.read_bytes() == before
    assert out.is_fifo() == (place == "a pipe")


def test_categories_of_polars_are_read(tmp_path):
    """Dictionaries of string views become strings, from memory and from a file."""
    import polars as pl

    frame = pl.DataFrame({"x": [1, 2], "c": pl.Series(["u", None], dtype=pl.Categorical)})
    frame.write_ipc(tmp_path / "in.arrow")
    with FaultServer(*LINEAR) as server:
        table = batchscore.score_table(frame, url=server.url)
        batchscore.score(tmp_path / "in.arrow", tmp_path / "out.arrow", url=server.url)
        with pytest.raises(UsageError, match="output"):
            batchscore.score_table(frame, url=server.url, output="x.arrow")
    for out in (table, read_arrow(tmp_path / "out.arrow")):
        assert out["c"].to_pylist() == ["u", None]
        assert out.schema.field("c").type == pa.string()


def test_a_token_command_does_not_outlive_the_run(tmp_path):
    """A command that hangs is ended with all that it started."""
    with FaultServer(*LINEAR) as server:
        process = subprocess.Popen(
            [sys.executable, "-m", "batchscore", "score", str(write_rows(tmp_path, 3)), "--url",
             server.url, "-o", str(tmp_path / "o.arrow"), "--token-command",
             f"echo $$ > {tmp_path}/pid; sleep 777; true"],
            stderr=subprocess.PIPE,
        )  # fmt: skip
        while not ((tmp_path / "pid").exists() and (tmp_path / "pid").read_text().strip()):
            time.sleep(0.02)
        pid = int((tmp_path / "pid").read_text())
        process.terminate()
        # Standard error ends only when nobody holds it any more.
        process.communicate(timeout=20)
    assert process.returncode == 143
    assert not Path(f"/proc/{pid}").exists()


def test_a_report_is_written_even_when_the_options_are_wrong(tmp_path):
    """A scheduler finds a report at every end."""
    report = tmp_path / "r.json"
    done = subprocess.run(
        [sys.executable, "-m", "batchscore", "score", "x.csv", "--url", "http://127.0.0.1:1/x",
         "-o", "o.arrow", "--report", str(report), "--batch-size", "0"],
        capture_output=True, text=True, cwd=tmp_path, check=False,
    )  # fmt: skip
    assert done.returncode == 2
    written = json.loads(report.read_text())
    assert (written["status"], written["exit_code"]) == ("usage", 2)
    assert "--batch-size" in written["message"]


@pytest.mark.parametrize("place", ["in.json", "./in.json", "link.json", "out.json", "folder.json"])
def test_a_report_never_replaces_the_input_or_the_output(tmp_path, monkeypatch, place):
    """A report in the place of data is a usage error, and not even that error is written there."""
    monkeypatch.chdir(tmp_path)
    rows = '{"x": 1}\n'
    Path("in.json").write_text(rows)
    Path("link.json").symlink_to("in.json")
    Path("folder.json").mkdir()
    with FaultServer(*LINEAR) as server, pytest.raises(UsageError, match="--report"):
        batchscore.score(
            "in.json", "out.json", url=server.url, input_format="jsonl", output_format="jsonl",
            report=[place, "r.json"],
        )  # fmt: skip
    assert Path("in.json").read_text() == rows
    assert not Path("out.json").exists()
    assert json.loads(Path("r.json").read_text())["exit_code"] == 2
    assert server.request_count == 0


def test_a_report_never_replaces_a_file_found_in_a_folder(tmp_path):
    """Files of the input that nobody named one by one are safe from reports too."""
    (tmp_path / "in").mkdir()
    source = tmp_path / "in" / "a.json"
    source.write_text('{"x": 1}\n')
    with FaultServer(*LINEAR) as server, pytest.raises(UsageError, match="--report"):
        batchscore.score(
            tmp_path / "in", tmp_path / "o.arrow", url=server.url, input_format="jsonl",
            report=source,
        )  # fmt: skip
    assert source.read_text() == '{"x": 1}\n'


def test_wrong_options_do_not_cost_a_file_that_is_no_report(tmp_path):
    """While it is not known which words name the input, only an earlier report is replaced."""
    (tmp_path / "in.json").write_text('{"x": 1}\n')
    (tmp_path / "r.json").write_text('{\n  "schema_version": 1}')
    done = subprocess.run(
        [sys.executable, "-m", "batchscore", "score", "in.json", "--bogus",
         "--report", "in.json", "--report", "r.json"],
        capture_output=True, text=True, cwd=tmp_path, check=False,
    )  # fmt: skip
    assert done.returncode == 2
    assert (tmp_path / "in.json").read_text() == '{"x": 1}\n'
    assert json.loads((tmp_path / "r.json").read_text())["status"] == "usage"


def test_standard_input_that_is_closed_is_a_usage_error(tmp_path):
    """A process without a standard input is told so, not that the program is wrong."""
    words = "score - --input-format csv -o o.csv --url http://127.0.0.1:9/x"
    done = subprocess.run(
        ["/bin/sh", "-c", f'exec "$0" -m batchscore {words} <&-', sys.executable],
        capture_output=True, text=True, cwd=tmp_path, check=False,
    )  # fmt: skip
    assert done.returncode == 2
    assert "standard input is closed" in done.stderr


def test_the_demo_does_not_touch_a_folder_of_the_users(tmp_path):
    """A folder with other files in it is refused."""
    (tmp_path / "penguins.csv").write_text("mine")
    done = subprocess.run(
        [sys.executable, "-m", "batchscore", "demo", str(tmp_path)],
        capture_output=True, text=True, check=False,
    )  # fmt: skip
    assert done.returncode == 2
    assert "another folder" in done.stderr
    assert (tmp_path / "penguins.csv").read_text() == "mine"


def test_a_reader_that_leaves_early_is_told_apart_from_a_whole_output(tmp_path):
    """Standard output that was closed is no good end: code 75, in the report too."""
    with FaultServer(*LINEAR) as server:
        source = write_rows(tmp_path, 200_000)
        read, write = os.pipe()
        os.close(read)
        done = subprocess.run(
            [sys.executable, "-m", "batchscore", "score", str(source), "--url", server.url,
             "-o", "-", "--output-format", "csv", "--report", str(tmp_path / "r.json")],
            stdout=write, stderr=subprocess.PIPE, text=True, check=False,
        )  # fmt: skip
        os.close(write)
    assert done.returncode == 75
    assert json.loads((tmp_path / "r.json").read_text())["exit_code"] == 75
