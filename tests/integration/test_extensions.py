"""The package of docs/extending.md, built, installed and used as its reader would."""

import csv
import json
import os
import shutil
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pyarrow as pa
import pytest
from integration.conftest import read_arrow
from integration.test_resume import command, environment, wait_for

ROOT = Path(__file__).parents[2]
SERVER = Path(__file__).parent / "csv_server.py"

MINE = '''
from batchscore.extending import ModelSignature, PlainProtocol

class Mine(PlainProtocol):
    """No specification is published, so what is known of the model stands here."""

    content_type = "text/csv"
    signature = ModelSignature.of({"size": "numeric", "colour": "text"}, {"price": "numeric"})

    def encode(self, rows, signature):
        lines = [f"{row['size']},{row['colour']}" for row in rows]
        return "\\n".join(["size,colour", *lines, ""]).encode()

    def decode(self, response, signature):
        lines = response.body.decode().splitlines()[1:]
        return [{"price": float(line.split(",")[0])} for line in lines]

class Half:
    def encode(self, rows, signature):
        return b""
'''


@pytest.fixture(scope="module")
def installed(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with the example package, as pip builds and installs it, without a network."""
    source = tmp_path_factory.mktemp("source") / "extensions"
    shutil.copytree(ROOT / "examples" / "extensions", source)
    target = tmp_path_factory.mktemp("installed")
    done = subprocess.run(
        [sys.executable, "-m", "pip", "install", "--quiet", "--disable-pip-version-check",
         "--no-deps", "--no-build-isolation", "--no-index", "--target", target, source],
        capture_output=True, text=True, check=False,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    return target


@contextmanager
def csv_server(log: Path, *options: object) -> Iterator[str]:
    """The address of a running server."""
    words = [sys.executable, str(SERVER), str(log), *map(str, options)]
    with subprocess.Popen(words, stdout=subprocess.PIPE, text=True) as process:
        try:
            yield process.stdout.readline().strip()
        finally:
            process.terminate()


def score(folder: Path, installed: Path | None, *words: object) -> subprocess.CompletedProcess[str]:
    """Run ``batchscore score`` in a folder, with what is installed besides."""
    return subprocess.run(
        command(*words), cwd=folder, env=with_package(installed), capture_output=True, text=True,
        timeout=60, check=False,
    )  # fmt: skip


def with_package(installed: Path | None) -> dict[str, str]:
    paths = [str(installed)] if installed else []
    return environment() | {"PYTHONPATH": os.pathsep.join(paths)}


def write_records(path: Path, rows: list[tuple[object, str]]) -> None:
    blocks = [f"id: row {n}\nsize: {a}\ncolour: {b}\n" for n, (a, b) in enumerate(rows)]
    path.write_text("\n".join(blocks))


def scored_sizes(log: Path) -> list[float]:
    """The sizes that the server was sent, in order."""
    return [float(size) for line in log.read_text().splitlines() for size in line.split()[1:]]


def test_the_three_examples_work_together(tmp_path, installed):
    """Rows of the toy format go through the toy protocol into the toy output, all by suffix."""
    write_records(tmp_path / "in.records", [(1, "red"), (2.5, "a|b"), ("?", "blue")])
    with (tmp_path / "in.records").open("a") as file:
        file.write("\nid: row 3\nthis is no line\n")
    with csv_server(tmp_path / "log", "--busy", 1) as url:
        done = score(
            tmp_path, installed, "in.records", "--url", url, "--protocol", "csv-lines", "-o", "o.md"
        )
    assert done.returncode == 3, done.stderr
    header, rule, *rows = (tmp_path / "o.md").read_text().splitlines()
    assert header == (
        "| id | size | colour | predicted_price | predicted_label | prediction_error |"
    )
    assert rule == "| --- | --- | --- | --- | --- | --- |"
    assert rows[:2] == [
        "| row 0 | 1 | red | 2.0 | red! |  |",
        "| row 1 | 2.5 | a\\|b | 5.0 | a\\|b! |  |",
    ]
    assert rows[2].startswith("| row 2 | ? | blue |  |  | invalid_input: ")
    assert rows[3].startswith("| row 3 |  |  |  |  | invalid_input: no 'name: value': this is no")
    assert scored_sizes(tmp_path / "log") == [1, 2.5]


def test_the_toy_format_is_read_by_name_from_standard_input(tmp_path, installed):
    """--input-format takes a registered name, and so does --output-format."""
    write_records(tmp_path / "in", [(1, "red"), (2, "blue")])
    with csv_server(tmp_path / "log") as url, (tmp_path / "in").open() as rows:
        done = subprocess.run(
            command("-", "--input-format", "records", "--url", url, "--protocol", "csv-lines",
                    "-o", "-", "--output-format", "md", "--keep", "none", "-q"),
            cwd=tmp_path, env=with_package(installed), stdin=rows, capture_output=True, text=True,
            timeout=60, check=False,
        )  # fmt: skip
    assert done.returncode == 0, done.stderr
    assert done.stdout.splitlines()[2:] == ["| 2.0 | red! |  |", "| 4.0 | blue! |  |"]


def test_refused_rows_are_isolated_with_the_toy_protocol(tmp_path, installed):
    """Of a batch that the server refuses, only the rows at fault fail, with its words."""
    bad = {7, 40, 41}
    rows = [(n, "poison" if n in bad else "red") for n in range(64)]
    write_records(tmp_path / "in.records", rows)
    with csv_server(tmp_path / "log") as url:
        done = score(
            tmp_path, installed, "in.records", "--url", url, "--protocol", "csv-lines",
            "-o", "o.arrow",
        )  # fmt: skip
    assert done.returncode == 3, done.stderr
    found = read_arrow(tmp_path / "o.arrow").to_pydict()
    assert found["predicted_price"] == [None if n in bad else 2.0 * n for n in range(64)]
    assert [n for n, error in enumerate(found["prediction_error"]) if error] == sorted(bad)
    assert found["prediction_error"][7] == "http_422: a colour is poison"


def test_refused_rows_are_scored_again_with_the_toy_protocol(tmp_path, installed):
    """``rescore`` knows the protocol from the output, and only the failed rows are sent."""
    write_records(tmp_path / "in.records", [(1, "red"), (2, "poison"), (3, "blue")])
    words = ("in.records", "--protocol", "csv-lines", "-o", "o.arrow")
    with csv_server(tmp_path / "log") as url:
        assert score(tmp_path, installed, *words, "--url", url).returncode == 3
    with csv_server(tmp_path / "log2", "--poison", "none") as url:
        done = subprocess.run(
            [sys.executable, "-m", "batchscore", "rescore", "o.arrow", "--url", url],
            cwd=tmp_path, env=with_package(installed), capture_output=True, text=True, timeout=60,
            check=False,
        )  # fmt: skip
    assert done.returncode == 0, done.stderr
    assert read_arrow(tmp_path / "o.arrow")["predicted_price"].to_pylist() == [2.0, 4.0, 6.0]
    assert scored_sizes(tmp_path / "log2") == [2]


def test_a_row_that_the_toy_protocol_cannot_say_fails_alone(tmp_path, installed):
    """encode() refuses a row with ValueError: it fails unsent, the others are scored."""
    cells = [["size", "colour"], ["1", "red"], ["2", "two\nlines"], ["3", "blue"]]
    with (tmp_path / "in.csv").open("w", newline="") as file:
        csv.writer(file).writerows(cells)
    with csv_server(tmp_path / "log") as url:
        done = score(
            tmp_path, installed, "in.csv", "--url", url, "--protocol", "csv-lines", "-o", "o.arrow"
        )
    assert done.returncode == 3, done.stderr
    found = read_arrow(tmp_path / "o.arrow").to_pydict()
    assert found["predicted_price"] == [2.0, None, 6.0]
    assert found["prediction_error"][1].startswith("invalid_input: a line break cannot be sent")
    assert scored_sizes(tmp_path / "log") == [1, 3]


def test_several_processes_load_the_toy_protocol(tmp_path, installed):
    """With --processes 2 both send by it, and the output is that of one."""
    write_records(tmp_path / "in.records", [(n, "red") for n in range(600)])
    common = ("in.records", "--protocol", "csv-lines", "--batch-size", 10, "--concurrency", 2)
    with csv_server(tmp_path / "log") as url:
        assert score(tmp_path, installed, *common, "--url", url, "-o", "one.md").returncode == 0
    with csv_server(tmp_path / "log2", "--slow-until", 2, "--delay", 0.005) as url:
        done = score(tmp_path, installed, *common, "--url", url, "-o", "two.md", "--processes", 2)
    assert done.returncode == 0, done.stderr
    assert (tmp_path / "two.md").read_bytes() == (tmp_path / "one.md").read_bytes()
    ports = {line.split()[0] for line in (tmp_path / "log2").read_text().splitlines()}
    assert len(ports) >= 2


def test_a_killed_job_is_resumed_into_the_toy_output(tmp_path, installed):
    """After kill -9, --resume goes on, and the table is that of a run never interrupted."""
    write_records(tmp_path / "in.records", [(n, "red") for n in range(400)])
    words = ["in.records", "--protocol", "csv-lines", "--batch-size", 5, "--concurrency", 2]
    log = tmp_path / "log"
    with csv_server(log) as url:
        assert score(tmp_path, installed, *words, "--url", url, "-o", "whole.md").returncode == 0
    log.unlink()
    with csv_server(log, "--delay", 0.05) as url:
        killed = subprocess.Popen(
            command(*words, "--url", url, "-o", "o.md"), cwd=tmp_path, env=with_package(installed),
            stderr=subprocess.DEVNULL,
        )  # fmt: skip
        wait_for(lambda: log.exists() and len(scored_sizes(log)) > 150)
        killed.kill()
        killed.wait()
    sent = len(scored_sizes(log))
    assert sent < 400
    assert not (tmp_path / "o.md").exists()
    words += ["-o", "o.md", "--resume", "--report", "report.json"]
    with csv_server(log) as url:
        done = score(tmp_path, installed, *words, "--url", url)
        assert done.returncode == 0, done.stderr
        assert (tmp_path / "o.md").read_bytes() == (tmp_path / "whole.md").read_bytes()
        resumed = json.loads((tmp_path / "report.json").read_text())["rows_resumed"]
        assert resumed > 0
        assert len(scored_sizes(log)) == sent + 400 - resumed
        if not has_attributes(tmp_path / "o.md"):
            return  # what such a file system lacks is told in the README
        done = score(tmp_path, installed, *words, "--url", url)
        assert done.returncode == 0, done.stderr
        assert len(scored_sizes(log)) == sent + 400 - resumed


def has_attributes(path: Path) -> bool:
    """Whether the file system keeps what tells a finished text file again."""
    return "user.batchscore.job" in os.listxattr(path) if hasattr(os, "listxattr") else False


@pytest.mark.parametrize("name", ["mine.py:Mine", "mine:Mine", "package.inner:Mine"])
def test_a_class_beside_the_user_needs_no_package(tmp_path, name):
    """--protocol takes a class beside the user, also in processes and without a specification."""
    (tmp_path / "package").mkdir()
    for path in ("mine.py", "package/inner.py"):
        (tmp_path / path).write_text(MINE)
    (tmp_path / "in.csv").write_text("size,colour\n" + "".join(f"{n},red\n" for n in range(300)))
    with csv_server(tmp_path / "log", "--slow-until", 2, "--delay", 0.005) as url:
        done = score(
            tmp_path, None, "in.csv", "--url", url, "--protocol", name, "-o", "o.arrow",
            "--batch-size", 10, "--concurrency", 2, "--processes", 2,
        )  # fmt: skip
    assert done.returncode == 0, done.stderr
    found = read_arrow(tmp_path / "o.arrow")
    assert found["predicted_price"].to_pylist() == [2.0 * n for n in range(300)]
    ports = {line.split()[0] for line in (tmp_path / "log").read_text().splitlines()}
    assert len(ports) >= 2
    options = json.loads(found.schema.metadata[b"batchscore.options"])
    assert options["protocol"] == name


def test_nobody_there_is_found_out_without_a_specification(tmp_path):
    """A protocol without one: an address where nobody listens ends the job as any other does."""
    (tmp_path / "mine.py").write_text(MINE)
    (tmp_path / "in.csv").write_text("size,colour\n1,red\n")
    done = score(
        tmp_path, None, "in.csv", "--url", "http://127.0.0.1:9/x", "--protocol", "mine.py:Mine",
        "-o", "o.arrow",
    )  # fmt: skip
    assert done.returncode == 75
    assert "cannot reach 127.0.0.1:9" in done.stderr


def test_an_outage_is_waited_for_without_a_specification(tmp_path):
    """A protocol without one: when the server is back the job goes on, and no row is lost."""
    (tmp_path / "mine.py").write_text(MINE)
    (tmp_path / "in.csv").write_text("size,colour\n" + "".join(f"{n},red\n" for n in range(100)))
    log = tmp_path / "log"
    with csv_server(log, "--delay", 0.05) as url:
        job = subprocess.Popen(
            command("in.csv", "--url", url, "--protocol", "mine.py:Mine", "-o", "o.arrow",
                    "--batch-size", 2, "--concurrency", 2, "--max-attempts", 2),
            cwd=tmp_path, env=with_package(None), stderr=subprocess.PIPE, text=True,
        )  # fmt: skip
        wait_for(lambda: log.exists() and len(scored_sizes(log)) > 20)
    told = []
    for line in job.stderr:
        told.append(line)
        if "is away" in line:
            break
    with csv_server(log, "--port", url.split(":")[2].split("/")[0]):
        told += job.communicate(timeout=60)[1]
    assert job.returncode == 0, told
    found = read_arrow(tmp_path / "o.arrow")["predicted_price"].to_pylist()
    assert found == [2.0 * n for n in range(100)]


def test_inspect_shows_a_protocol_of_ones_own(tmp_path, installed):
    """It takes --protocol too."""
    with csv_server(tmp_path / "log") as url:
        done = subprocess.run(
            [sys.executable, "-m", "batchscore", "inspect", "--url", url, "--json",
             "--protocol", "csv-lines"],
            env=with_package(installed), cwd=tmp_path, capture_output=True, text=True, check=True,
        )  # fmt: skip
    found = json.loads(done.stdout)
    assert [spec["name"] for spec in found["inputs"]] == ["size", "colour"]
    assert [spec["name"] for spec in found["outputs"]] == ["price", "label"]


@pytest.mark.parametrize(
    ("words", "expected"),
    [
        (["--protocol", "csv-line"], ["--protocol 'csv-line'", "rows, csv-lines", "did you mean"]),
        (["--input-format", "record"], ["--input-format", "images, records", "did you mean rec"]),
        (["--output-format", "mdd"], ["--output-format", "jsonl, md", "did you mean md?"]),
        (["-o", "o.mkd"], ["o.mkd", ".jsonl, .md, or give --output-format"]),
        (["--protocol", "mine.py:Min"], ["mine.py has no object 'Min'", "did you mean 'Mine'"]),
        (["--protocol", "mine.py:Half"], ["mine.py:Half is no protocol", "encoder()"]),
        (["--protocol", "none.py:Mine"], ["none.py: no such file"]),
        (["--protocol", "nowhere:Mine"], ["no module 'nowhere'"]),
    ],
)
def test_an_unknown_name_is_told_with_those_there_are(tmp_path, installed, words, expected):
    """Registered names stand among the others, with the nearest; nothing is sent."""
    (tmp_path / "mine.py").write_text(MINE)
    (tmp_path / "in.csv").write_text("size,colour\n1,red\n")
    out = [] if "-o" in words else ["-o", "o.arrow"]
    done = score(tmp_path, installed, "in.csv", "--url", "http://127.0.0.1:9/x", *out, *words)
    assert done.returncode == 2
    assert done.stderr.count("\n") <= 2
    for text in expected:
        assert text in done.stderr


def test_only_what_is_asked_for_is_imported(tmp_path, installed):
    """Help and a job that uses built-in names import nothing of a registered package."""
    package = tmp_path / "site" / "toy_extensions"
    shutil.copytree(installed, tmp_path / "site")
    for module in ("records", "csv_lines", "markdown"):
        (package / f"{module}.py").write_text("raise RuntimeError('imported')\n")
    (tmp_path / "in.csv").write_text("size,colour\n1,red\n")
    assert score(tmp_path, tmp_path / "site", "--help").returncode == 0
    with csv_server(tmp_path / "log") as url:
        words = ("in.csv", "--url", url, "-o", "o.csv")
        done = score(tmp_path, tmp_path / "site", *words, "--protocol", "rows")
        assert "answered 404" in done.stderr
        done = score(tmp_path, tmp_path / "site", *words, "--protocol", "csv-lines")
    assert "RuntimeError: imported; mend that package" in done.stderr


def test_a_format_that_fails_loses_no_row(tmp_path, installed):
    """A registered output format that raises is named; mended, --resume writes what was scored."""
    broken = tmp_path / "site"
    shutil.copytree(installed, broken)
    module = broken / "toy_extensions" / "markdown.py"
    text = module.read_text()
    write_records(tmp_path / "in.records", [(1, "red"), (2, "blue")])
    words = ["in.records", "--protocol", "csv-lines", "-o", "o.md"]
    with csv_server(tmp_path / "log") as url:
        module.write_text(text.replace("file.write(line(schema.names))", "schema.nmaes"))
        done = score(tmp_path, broken, *words, "--url", url)
        assert done.returncode == 1
        assert "the output format 'md' failed: AttributeError" in done.stderr
        assert "--resume" in done.stderr
        module.write_text(text)
        done = score(tmp_path, broken, *words, "--url", url, "--resume")
    assert done.returncode == 0, done.stderr
    assert (tmp_path / "o.md").read_text().count("\n") == 4
    assert len(scored_sizes(tmp_path / "log")) == 2


def test_the_page_shows_the_examples_as_they_are():
    """Every file of the example package stands in docs/extending.md, word for word."""
    page = (ROOT / "docs" / "extending.md").read_text()
    folder = ROOT / "examples" / "extensions"
    for name in ("records.py", "csv_lines.py", "markdown.py"):
        text = (folder / "toy_extensions" / name).read_text()
        assert f"```python\n{text}```" in page, name
    assert f"```toml\n{(folder / 'pyproject.toml').read_text()}```" in page


def test_the_toy_output_has_every_kind_of_value(tmp_path, installed):
    """What is no text is written as Python shows it, and no value breaks a row."""
    sys.path.insert(0, str(installed))
    try:
        from toy_extensions.markdown import MarkdownWriter
    finally:
        sys.path.remove(str(installed))
    table = pa.table({"a": [[1, 2], None], "b": [{"x": 1.5}, {"x": None}], "c": ["x\ny", "|"]})
    with (tmp_path / "o.md").open("wb") as file:
        MarkdownWriter().write(table.schema, iter(table.to_batches()), file)
    assert (tmp_path / "o.md").read_text().splitlines()[2:] == [
        "| [1, 2] | {'x': 1.5} | x<br>y |",
        "|  | {'x': None} | \\| |",
    ]
