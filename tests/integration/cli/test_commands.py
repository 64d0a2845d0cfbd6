"""Whole commands in processes of their own: exit codes, streams, messages."""

from __future__ import annotations

import csv
import io
import json
import os
import shlex
import subprocess
import sys
from pathlib import Path
from typing import TYPE_CHECKING

import pyarrow as pa
import pyarrow.csv
import pyarrow.parquet
import pytest

from batchscore import __version__
from batchscore.serving.app import running_deployment

from .conftest import clean_environment

if TYPE_CHECKING:
    from collections.abc import Iterator

    from .conftest import Command

ROWS = (
    "bill_length_mm,bill_depth_mm,flipper_length_mm,body_mass_g,sex,island\n"
    "39.1,18.7,181,3750,male,Torgersen\n"
)


@pytest.fixture(scope="module")
def penguins() -> Iterator[str]:
    """The address of a deployment of the demo model."""
    with running_deployment("penguins") as url:
        yield url


def read_arrow(path: Path) -> pa.Table:
    """The whole of an Arrow IPC file."""
    with pa.memory_map(str(path)) as file:
        return pa.ipc.open_file(file).read_all()


def test_help_goes_to_standard_output_and_names_every_command(batchscore: Command) -> None:
    """``--help``, ``-h`` and no word at all show the commands."""
    shown = {batchscore(*words).out for words in (["--help"], ["-h"], [])}
    (text,) = shown
    for name in ("score", "rescore", "inspect", "serve", "demo", "completion"):
        assert name in text


def test_the_help_of_the_main_job_has_groups_defaults_and_units(batchscore: Command) -> None:
    """Options stand in groups, each with its default and unit; switches have their --no-."""
    done = batchscore("score", "--help")
    assert (done.code, done.err) == (0, "")
    titles = [line.split()[1] for line in done.out.splitlines() if line.startswith("╭")]
    assert titles == ["Input", "Sending", "Deployment", "Output", "Stores", "Engine", "General"]
    for text in ("default: 60s", "default: 8MiB", "default: 256MiB", "--no-overwrite", "-o"):
        assert text in done.out
    assert "--token " not in done.out


@pytest.mark.parametrize("words", [("--help",), ("score", "--help")])
def test_help_imports_nothing_heavy(words: tuple[str, ...]) -> None:
    """Asking for help loads neither Arrow nor the network, so it is quick."""
    script = f"""
import sys
from batchscore.cli import app
assert app.run({list(words)!r}) == 0
heavy = {{"pyarrow", "numpy", "aiohttp", "PIL", "asyncio", "msgspec"}} & set(sys.modules)
assert not heavy, heavy
assert {words[0]!r} == "score" or "pydantic" not in sys.modules
"""
    subprocess.run(
        [sys.executable, "-c", script],
        check=True,
        timeout=60,
        stdout=subprocess.DEVNULL,
        env=clean_environment(),
    )


def test_a_job_imports_only_what_it_needs(penguins: str, tmp_path: Path) -> None:
    """A job of numbers and text starts quickly: it loads no Pillow, no display, no server."""
    source, out = tmp_path / "in.parquet", tmp_path / "out.arrow"
    table = pa.csv.read_csv(io.BytesIO(ROWS.encode()))
    pa.parquet.write_table(table, source)
    words = ["score", str(source), "--url", penguins, "-o", str(out), "--progress", "none"]
    # PyArrow itself imports pandas, where it is installed.
    script = f"""
import sys
from batchscore.cli import app
assert app.run({words!r}) == 0
heavy = {{
    "PIL", "aiohttp.web", "onnxruntime", "polars", "pyarrow.dataset", "requests", "rich"
}} & set(sys.modules)
assert not heavy, heavy
"""
    subprocess.run(
        [sys.executable, "-c", script],
        check=True,
        timeout=60,
        env=clean_environment(),
    )
    assert read_arrow(out).num_rows == 1


def test_the_version_is_data(batchscore: Command) -> None:
    """``--version`` prints the version on standard output."""
    done = batchscore("--version")
    assert (done.code, done.out, done.err) == (0, f"{__version__}\n", "")


def test_a_usage_error_exits_2(batchscore: Command) -> None:
    """A wrong word, option, variable, key or input ends with 2 and one line, and writes nothing."""
    assert "did you mean score?" in batchscore("scor").error
    assert "--output is missing" in batchscore("score", "a.csv", "--url", "http://h/x").error
    done = batchscore("inspect", BATCHSCORE_URLL="x")
    assert "did you mean BATCHSCORE_URL?" in done.error
    assert (done.code, done.out) == (2, "")
    done = batchscore("score", "a.csv", "--url", "http://127.0.0.1:9/x", "-o", "o.arrow")
    assert "a.csv" in done.error
    assert done.code == 2


def test_no_secret_is_ever_shown(batchscore: Command, tmp_path: Path) -> None:
    """Tokens, header values, and the user part and query of an address stay out of all messages."""
    (tmp_path / "t.toml").write_text('token = "s3cret"\n', encoding="utf-8")
    (tmp_path / "h.toml").write_text('header = { Key = "s3cret" }\n', encoding="utf-8")
    url = "http://me:s3cret@127.0.0.1:1/x?key=s3cret"
    for words in (
        ("inspect", "--url", url, "--header", "Key: s3cret"),
        ("inspect", "--url", "ftp://me:s3cret@h/x?s3cret", "--header", "Key: s3cret"),
        ("inspect", "--url", url, "--header", "Key s3cret", "--timeout", "x"),
        ("inspect", "--url", url, "--token=s3cret"),
        ("inspect", "--url", url, "--config", "t.toml"),
        ("inspect", "--url", url, "--config", "h.toml"),
    ):
        # With --debug all is told that can be told.
        done = batchscore(*words, "--debug", BATCHSCORE_TOKEN="s3cret-too")
        assert done.code in {1, 2, 75}
        assert "s3cret" not in done.out + done.err, words


def test_a_traceback_needs_debug(batchscore: Command) -> None:
    """``--debug`` shows where an error comes from; the error itself stays the last line."""
    done = batchscore("serve", "no-such-model", "--debug")
    assert "Traceback" in done.err
    assert "error: no demo model is called 'no-such-model'" in done.err
    assert done.code == 2


def test_a_mistake_of_our_own_is_told_in_two_lines(tmp_path: Path) -> None:
    """An unexpected exception exits 1, asks for a report, and shows its traceback on demand."""
    script = """
import sys
from batchscore.cli import app, main
def broken(arguments):
    raise ExceptionGroup("several", [ZeroDivisionError("nothing\\nto divide by")])
app._parse_and_call = broken
main()
"""
    for words, traceback in (([], False), (["--debug"], True)):
        done = subprocess.run(
            [sys.executable, "-c", script, *words],
            capture_output=True,
            text=True,
            cwd=tmp_path,
            timeout=60,
            check=False,
        )
        assert done.returncode == 1
        assert "error: internal error: ZeroDivisionError: nothing to divide by" in done.stderr
        assert ("Traceback" in done.stderr) == traceback
        assert (done.stderr.count("\n") <= 2) == (not traceback)


def test_inspect_prints_tables_or_json(batchscore: Command, penguins: str) -> None:
    """Inputs and outputs as a table for people, as JSON for programs, both on standard output."""
    table = batchscore("inspect", "--url", penguins)
    assert (table.code, table.err) == (0, "")
    assert "bill_length_mm" in table.out
    assert "Adelie" in table.out
    done = batchscore("inspect", "--json", BATCHSCORE_URL=penguins)
    content = json.loads(done.out)
    assert done.err == ""
    assert (content["protocol"], content["endpoint"]) == ("rows", penguins)
    assert content["fingerprint"] in table.out
    assert {"name": "bill_length_mm", "type": "numeric", "shape": []} in [
        {**item, "shape": []} for item in content["inputs"]
    ]
    assert content["outputs"][0]["classes"] == ["Adelie", "Chinstrap", "Gentoo"]


def test_a_reader_of_standard_output_may_leave(penguins: str) -> None:
    """A closed pipe behind standard output is no error and no noise."""
    reading, writing = os.pipe()
    os.close(reading)
    done = subprocess.run(
        [sys.executable, "-m", "batchscore", "inspect", "--url", penguins, "--json"],
        stdout=writing,
        stderr=subprocess.PIPE,
        env=clean_environment(),
        timeout=60,
        check=False,
    )
    os.close(writing)
    assert (done.returncode, done.stderr) == (0, b"")


def test_a_full_disk_behind_standard_output_is_told(penguins: str) -> None:
    """What cannot be written to standard output is an error that may pass."""
    with Path("/dev/full").open("w", encoding="utf-8") as full:
        done = subprocess.run(
            [sys.executable, "-m", "batchscore", "inspect", "--url", penguins, "--json"],
            stdout=full,
            stderr=subprocess.PIPE,
            text=True,
            env=clean_environment(),
            timeout=60,
            check=False,
        )
    assert done.returncode == 75
    assert done.stderr == "error: cannot write to standard output: No space left on device\n"


def test_score_writes_the_output_and_a_summary(
    batchscore: Command, penguins: str, tmp_path: Path
) -> None:
    """The main job: rows out, a summary on standard error, nothing on standard output."""
    (tmp_path / "in.csv").write_text(ROWS, encoding="utf-8")
    done = batchscore("score", "in.csv", "--url", penguins, "-o", "out.arrow")
    assert (done.code, done.out) == (0, "")
    assert "rows      1 read, 1 scored" in done.err
    assert "output    out.arrow" in done.err
    table = read_arrow(tmp_path / "out.arrow")
    assert table["predicted_species"].to_pylist() == ["Adelie"]
    assert table["prediction_error"].to_pylist() == [None]


def test_quiet_shows_errors_only(batchscore: Command, penguins: str, tmp_path: Path) -> None:
    """``-q`` leaves out progress and summary, but never an error."""
    (tmp_path / "in.csv").write_text(ROWS, encoding="utf-8")
    words = ("score", "in.csv", "--url", penguins, "-o", "out.arrow", "-q")
    done = batchscore(*words)
    assert (done.code, done.out, done.err) == (0, "", "")
    done = batchscore(*words)
    assert done.code == 2
    assert "--overwrite" in done.error


def test_failed_rows_exit_3_unless_they_are_allowed(
    batchscore: Command, penguins: str, tmp_path: Path
) -> None:
    """A failed row shows in the exit code and in the summary, with its code."""
    (tmp_path / "in.csv").write_text(ROWS + "x,1,2,3,male,Biscoe\n", encoding="utf-8")
    words = ("score", "in.csv", "--url", penguins, "-o", "out.arrow", "--overwrite")
    done = batchscore(*words)
    assert done.code == 3
    assert "2 read, 1 scored, 1 failed (invalid_input 1)" in done.err
    assert batchscore(*words, "--max-failed-rows", "50%").code == 0


def test_standard_input_and_output_are_hyphens(batchscore: Command, penguins: str) -> None:
    """``score - -o -`` is a filter: data in, data out, everything else on standard error."""
    words = "score - --input-format csv -o - --output-format csv --drop island --probs none"
    done = batchscore(*words.split(), "--url", penguins, stdin=ROWS)
    assert done.code == 0, done.err
    (row,) = csv.DictReader(io.StringIO(done.out))
    assert (row["bill_length_mm"], row["predicted_species"]) == ("39.1", "Adelie")
    assert "island" not in row


def test_the_bar_is_not_drawn_into_a_file(batchscore: Command, penguins: str) -> None:
    """Without a terminal the progress is plain lines, and there are no colours."""
    done = batchscore(
        *["score", "-", "--input-format", "csv", "-o", "o.csv", "--url"], penguins, stdin=ROWS
    )
    assert "1 rows, " in done.err or "1 of 1 rows, " in done.err
    assert "\x1b" not in done.err


@pytest.mark.parametrize(
    ("words", "variables", "colored"),
    [
        (["--color"], {"NO_COLOR": "1"}, True),
        ([], {}, False),
        ([], {"BATCHSCORE_COLOR": "true"}, True),
    ],
)
def test_colours_are_for_terminals_unless_ordered(
    batchscore: Command, words: list[str], variables: dict[str, str], colored: bool
) -> None:
    """``--color`` goes before NO_COLOR, and that before the terminal."""
    done = batchscore("serve", "no-such-model", *words, **variables)
    assert ("\x1b[" in done.err) == colored


def test_serve_prints_its_address_when_it_answers(batchscore: Command) -> None:
    """The first line of standard output is the full address, and it works at once."""
    with subprocess.Popen(
        [sys.executable, "-m", "batchscore", "serve", "penguins", "--port", "0"],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        env=clean_environment() | {"BATCHSCORE_TOKEN": "s3cret"},
    ) as process:
        assert process.stdout is not None
        assert process.stderr is not None
        try:
            url = process.stdout.readline().strip()
            assert url.startswith("http://127.0.0.1:")
            assert url.endswith("/deployment/penguins/forward")
            refused = batchscore("inspect", "--url", url)
            assert refused.code == 1
            assert "Traceback" not in refused.err
            assert batchscore("inspect", "--url", url, BATCHSCORE_TOKEN="s3cret").code == 0
            hint = process.stderr.readline()
            command = shlex.split(hint.split(": ", 1)[1])
            assert command[0] == "batchscore"
            assert batchscore(*command[1:], BATCHSCORE_TOKEN="s3cret").code == 0
        finally:
            process.terminate()
        rest = process.stderr.read()
        assert "s3cret" not in rest
        assert process.wait(30) == 143


def test_serve_refuses_the_world_without_a_token(batchscore: Command) -> None:
    """Another host than loopback needs BATCHSCORE_TOKEN."""
    done = batchscore("serve", "penguins", "--host", "0.0.0.0", "--port", "0")
    assert done.code == 2
    assert "BATCHSCORE_TOKEN" in done.error


def test_the_demo_works_twice_and_its_last_line_works(batchscore: Command, tmp_path: Path) -> None:
    """The demo scores its samples, again over its own files, and ends in a command to paste."""
    for _ in range(2):
        # A token of the user's own has nothing to do with it.
        done = batchscore("demo", BATCHSCORE_TOKEN="s3cret")
        assert (done.code, done.err) == (0, "")
    folder = tmp_path / "batchscore-demo"
    for name, rows in (
        ("penguins-scored", 344),
        ("penguins-from-csv-scored", 344),
        ("digits-scored", 360),
    ):
        table = read_arrow(folder / f"{name}.arrow")
        assert table.num_rows == rows
        assert table["prediction_error"].null_count == rows
    assert done.out.count("is right in") == 3
    last = done.out.splitlines()[-1]
    pasted = subprocess.run(
        ["bash", "-c", last],
        capture_output=True,
        text=True,
        cwd=tmp_path,
        env=clean_environment(),
        timeout=60,
        check=False,
    )
    assert "344 read, 344 scored" in pasted.stderr, pasted.stderr
    assert read_arrow(folder / "again.arrow").num_rows == 344


def test_a_demo_that_cannot_write_says_where(batchscore: Command, tmp_path: Path) -> None:
    """A file in the place of the folder is a usage error that names it."""
    (tmp_path / "taken").touch()
    done = batchscore("demo", "taken")
    assert done.code == 2
    assert "'taken'" in done.error


@pytest.mark.parametrize("shell", ["bash", "zsh", "fish"])
def test_the_completion_script_knows_commands_and_options(
    batchscore: Command, shell: str, tmp_path: Path
) -> None:
    """The script of each shell completes the commands, options and choices."""
    done = batchscore("completion", shell)
    assert (done.code, done.err) == (0, "")
    for word in ("score", "inspect", "batch-size", "struct"):
        assert word in done.out
    if shell == "bash":
        script = tmp_path / "completion"
        script.write_text(done.out, encoding="utf-8")
        subprocess.run(["bash", "-n", script], check=True, timeout=60)


def test_a_closed_standard_error_changes_nothing(tmp_path: Path) -> None:
    """A command whose standard error is closed still has its exit code, and clean output."""
    command = shlex.join([sys.executable, "-m", "batchscore", "scor"])
    done = subprocess.run(
        ["bash", "-c", f"{command} 2>&-"],
        capture_output=True,
        cwd=tmp_path,
        env=clean_environment(),
        timeout=60,
        check=False,
    )
    assert (done.returncode, done.stdout, done.stderr) == (2, b"", b"")


def test_bench_prints_a_table_and_its_exit_code_tells_of_objectives(
    batchscore: Command, penguins: str, tmp_path: Path
) -> None:
    """The table goes to standard output, the progress to standard error, a miss is exit code 3."""
    (tmp_path / "rows.csv").write_text(ROWS + ROWS.splitlines()[1] + "\n")
    done = batchscore(
        "bench", "rows.csv", "--url", penguins, "--rate", "10,20", "--arrivals", "constant",
        "--batch-size", "1", "--duration", "1s", "--warmup", "0s", "--max-duration", "1s",
        "--max-client-share", "100000%", "--max-drift", "1000%", "--slo", "throughput=1req/s",
        "--slo", "throughput=900000req/s",
    )  # fmt: skip
    assert done.code == 3, done.err
    assert "error: missed: throughput=900000req/s" in done.err
    assert [
        line.split()[:3] for line in done.out.splitlines() if "req/s  " in line and line[0] in "12"
    ] == [
        ["10", "req/s", "1"],
        ["20", "req/s", "1"],
    ]
    assert "kept  throughput=1req/s" in done.out
