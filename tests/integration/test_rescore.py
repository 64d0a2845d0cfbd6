"""Rescore: only failed rows are sent, and what comes back takes their places, or nothing does."""

import json
import os
import random
import resource
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import PIL.Image
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from faultserver import CLASSIFIER, LINEAR, FaultServer, Model, faults
from integration.conftest import read_arrow

import batchscore
from batchscore.errors import (
    InputError,
    ModelChangedError,
    OutageError,
    OutputError,
    StoppedError,
    TooManyFailuresError,
    UsageError,
)

FORMATS = ["arrow", "parquet"]
BAD = {0, 7, 8, 9, 250, 299}


def read(path: Path) -> pa.Table:
    return pq.read_table(path) if path.suffix == ".parquet" else read_arrow(path)


def batch_rows(path: Path) -> list[int]:
    """How many rows each record batch or row group has."""
    if path.suffix == ".parquet":
        metadata = pq.read_metadata(path)
        return [metadata.row_group(n).num_rows for n in range(metadata.num_row_groups)]
    with pa.OSFile(str(path)) as source, pa.ipc.open_file(source) as reader:
        return [reader.get_batch(n).num_rows for n in range(reader.num_record_batches)]


def write_numbers(path: Path, count: int = 300) -> None:
    rows = {"id": [f"row {n}" for n in range(count)], "x": list(range(count))}
    if path.suffix == ".csv":
        lines = [f"{a},{b}" for a, b in zip(*rows.values(), strict=True)]
        path.write_text("\n".join(["id,x", *lines, ""]))
    else:
        pq.write_table(pa.table(rows), path)


def refuse(bad):
    return faults.refuse_rows(lambda row: row["x"] in bad)


def failed_rows(path: Path) -> list[int]:
    reasons = read(path).column(-1).to_pylist()
    return [row for row, reason in enumerate(reasons) if reason is not None]


def environment() -> dict[str, str]:
    foreign = ("BATCHSCORE_", "COV_", "COVERAGE_")
    return {name: value for name, value in os.environ.items() if not name.startswith(foreign)}


def command(*words: object) -> list[str]:
    return [sys.executable, "-m", "batchscore", *map(str, words)]


def run(folder: Path, *words: object, **options) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        command(*words), cwd=folder, env=environment(), capture_output=True, text=True,
        timeout=60, check=False, **options,
    )  # fmt: skip


# In place.


@pytest.mark.parametrize("suffix", FORMATS)
@pytest.mark.parametrize("model", [LINEAR, CLASSIFIER], ids=["number", "classes"])
def test_only_failed_rows_are_sent_and_merged_in_place(tmp_path, suffix, model):
    """Afterwards the output is that of a job in which no row failed: values, schema, batches."""
    write_numbers(tmp_path / "in.parquet")
    out, whole = tmp_path / f"out.{suffix}", tmp_path / f"whole.{suffix}"
    with FaultServer(*model) as server:
        words = {"url": server.url, "batch_size": 40}
        batchscore.score(tmp_path / "in.parquet", whole, **words)
        server.script = refuse(BAD)
        assert batchscore.score(tmp_path / "in.parquet", out, **words).rows_failed == len(BAD)
        server.script, sent = None, server.rows_seen
        report = batchscore.rescore(out, url=server.url)
        assert server.rows_seen - sent == len(BAD)
    assert (report.exit_code, report.rows_read, report.rows_scored) == (0, 300, 300)
    assert (report.rows_resumed, report.rows_failed) == (294, 0)
    assert read(out).equals(read(whole), check_metadata=True)
    assert batch_rows(out) == batch_rows(whole)
    if suffix == "arrow":
        assert out.read_bytes() == whole.read_bytes()
    assert sorted(os.listdir(tmp_path)) == sorted(["in.parquet", out.name, whole.name])


@pytest.mark.parametrize("suffix", FORMATS)
@pytest.mark.parametrize("probs", ["struct", "list", "none"])
def test_every_type_of_prediction_comes_back(tmp_path, suffix, probs):
    """Numbers, classes, texts, pictures and arrays, with renamed columns, beside kept ones of
    many types.
    """
    png = "data:image/png;base64,iVBORw0KGgo="

    def predict(rows):
        return [
            {
                "y": row["x"] / 7,
                "kind": {"b": 0.75, "a": 0.25},
                "words": f"№ {row['x']}",
                "picture": png,
                "grid": np.full((2, 3), row["x"], np.float32),
            }
            for row in rows
        ]

    model = Model(
        {"x": ("numeric", [1])},
        {
            "y": ("numeric", [1]), "kind": ("categorical", [2]), "words": ("text", [1]),
            "picture": ("image", [4, 4, 3]), "grid": ("numpy", [2, 3]),
        },
        predict,
    )  # fmt: skip
    tensor = pa.FixedShapeTensorArray.from_numpy_ndarray(np.arange(60.0).reshape(10, 2, 3))
    table = pa.table(
        {
            "x": pa.array(range(10)),
            "dict": pa.array(["a", None] * 5).dictionary_encode(),
            "nested": pa.array([[{"k": 1}], None] * 5),
            "when": pa.array(range(10), pa.timestamp("us", "UTC")),
            "tensor": tensor,
        }
    )
    pq.write_table(table, tmp_path / "in.parquet")
    out, whole = tmp_path / f"out.{suffix}", tmp_path / f"whole.{suffix}"
    with FaultServer(*model) as server:
        words = {"url": server.url, "batch_size": 4, "probs": probs, "prefix": "p_"}
        batchscore.score(tmp_path / "in.parquet", whole, **words)
        server.script = refuse({1, 2, 9})
        batchscore.score(tmp_path / "in.parquet", out, **words)
        assert failed_rows(out) == [1, 2, 9]
        server.script = None
        assert batchscore.rescore(out, url=server.url).exit_code == 0
    assert read(out).equals(read(whole), check_metadata=True)
    assert batch_rows(out) == batch_rows(whole)


@pytest.mark.parametrize("suffix", FORMATS)
def test_rows_that_fail_again_have_their_new_reason(tmp_path, suffix):
    """What is refused again stays without a prediction, says why now, and the exit code is 3."""
    write_numbers(tmp_path / "in.parquet")
    out = tmp_path / f"out.{suffix}"
    with FaultServer(*LINEAR, script=refuse(BAD)) as server:
        batchscore.score(tmp_path / "in.parquet", out, url=server.url, batch_size=50)
        before = read(out)
        server.script = faults.refuse_rows(lambda row: row["x"] in {7, 250}, code=400)
        report = batchscore.rescore(out, url=server.url)
        assert (report.exit_code, report.failed_rows) == (3, {"http_400": 2})
        after = read(out)
        assert failed_rows(out) == [7, 250]
        assert after["prediction_error"][7].as_py().startswith("http_400: ")
        assert after["predicted_y"][8].as_py() == 17.0
        good = [row for row in range(300) if row not in BAD]
        assert after.take(good).equals(before.take(good))
        assert after.schema.equals(before.schema, check_metadata=True)
        # With the failures allowed, that is a success.
        assert batchscore.rescore(out, url=server.url, max_failed_rows=2).exit_code == 0
        assert batchscore.rescore(out, url=server.url, max_failed_rows="1%").exit_code == 0
        held = out.read_bytes()
        with pytest.raises(TooManyFailuresError):
            batchscore.rescore(out, url=server.url, max_failed_rows=1)
        assert out.read_bytes() == held


def test_many_rows_that_stay_bad_are_not_a_bad_file(tmp_path):
    """What was scored before shows that the file is good, so more than 20 rows may fail again."""
    write_numbers(tmp_path / "in.parquet")
    out = tmp_path / "out.arrow"
    with FaultServer(*LINEAR, script=refuse(range(100, 160))) as server:
        batchscore.score(tmp_path / "in.parquet", out, url=server.url)
        report = batchscore.rescore(out, url=server.url)
    assert (report.exit_code, report.rows_failed) == (3, 60)


@pytest.mark.parametrize("suffix", FORMATS)
def test_with_nothing_failed_nothing_is_sent(tmp_path, suffix):
    """No request, not even for the specification; the very same file stays."""
    write_numbers(tmp_path / "in.parquet")
    out = tmp_path / f"out.{suffix}"
    with FaultServer(*LINEAR) as server:
        batchscore.score(tmp_path / "in.parquet", out, url=server.url)
        held, seen = out.stat(), (server.request_count, server.spec_requests)
        report = batchscore.rescore(out, url=server.url)
        assert (server.request_count, server.spec_requests) == seen
    assert (report.exit_code, report.rows_read, report.rows_scored) == (0, 300, 300)
    assert (out.stat().st_ino, out.stat().st_mtime_ns) == (held.st_ino, held.st_mtime_ns)
    assert not (tmp_path / f"{out.name}.partial").exists()


@pytest.mark.parametrize("suffix", FORMATS)
def test_the_output_is_still_known_as_that_of_its_job(tmp_path, suffix):
    """A score --resume sends nothing and exits as the output now says."""
    write_numbers(tmp_path / "in.csv")
    out = tmp_path / f"out.{suffix}"
    with FaultServer(*LINEAR, script=refuse({3, 5})) as server:
        words = {"url": server.url, "batch_size": 30}
        batchscore.score(tmp_path / "in.csv", out, **words)
        for bad, code in (({5}, 3), (set(), 0)):
            server.script = refuse(bad)
            assert batchscore.rescore(out, url=server.url).exit_code == code
            sent = server.request_count
            report = batchscore.score(tmp_path / "in.csv", out, resume=True, **words)
            assert server.request_count == sent
            assert (report.exit_code, report.rows_failed) == (code, len(bad))


def test_a_link_to_the_output_stays_a_link(tmp_path):
    """The file that a link leads to is replaced, with its permissions."""
    write_numbers(tmp_path / "in.parquet")
    (tmp_path / "there").mkdir()
    real, link = tmp_path / "there" / "out.arrow", tmp_path / "link.arrow"
    with FaultServer(*LINEAR, script=refuse({3})) as server:
        batchscore.score(tmp_path / "in.parquet", real, url=server.url)
        real.chmod(0o640)
        link.symlink_to(real)
        server.script = None
        assert batchscore.rescore(link, url=server.url).exit_code == 0
    assert link.is_symlink()
    assert failed_rows(real) == []
    assert real.stat().st_mode & 0o777 == 0o640


# Where no row was ever scored.


@pytest.mark.parametrize("suffix", FORMATS)
def test_an_output_without_one_scored_row_keeps_its_list_of_classes(tmp_path, suffix):
    """Its probabilities stay a list; the classes are learned now, and known from then on."""
    write_numbers(tmp_path / "in.parquet", 12)
    out = tmp_path / f"out.{suffix}"
    with FaultServer(*CLASSIFIER, script=refuse(range(12))) as server:
        batchscore.score(tmp_path / "in.parquet", out, url=server.url, batch_size=5)
        before = read(out).schema
        assert pa.types.is_list(before.field("predicted_animal_probs").type)
        server.script = refuse({0, 11})
        assert batchscore.rescore(out, url=server.url, batch_size=3).exit_code == 3
        table = read(out)
        assert table.schema.equals(before)
        assert table["predicted_animal"].to_pylist() == [
            None, *["bird", "cat", "dog"][1:], *["bird", "cat", "dog"] * 2, "bird", "cat", None,
        ]  # fmt: skip
        assert table["predicted_animal_probs"].to_pylist()[:2] == [
            None,
            [{"label": "bird", "prob": 0.25}, {"label": "cat", "prob": 0.5},
             {"label": "dog", "prob": 0.25}],
        ]  # fmt: skip
        # A class that was not there then means that the model is another one.
        server.predict = lambda rows: [{"animal": {"cow": 1.0}} for _ in rows]
        server.script = None
        with pytest.raises(ModelChangedError, match="cow"):
            batchscore.rescore(out, url=server.url)


# Where the features come from.


@pytest.mark.parametrize("suffix", FORMATS)
@pytest.mark.parametrize("source", ["csv", "parquet"])
def test_features_that_were_not_kept_come_from_the_input(tmp_path, suffix, source):
    """Without them --input is asked for, by name; with it each row gets its own prediction."""
    write_numbers(tmp_path / f"in.{source}")
    out, whole = tmp_path / f"out.{suffix}", tmp_path / f"whole.{suffix}"
    with FaultServer(*LINEAR) as server:
        words = {"url": server.url, "batch_size": 64, "limit": 290, "keep": "none"}
        batchscore.score(tmp_path / f"in.{source}", whole, **words)
        server.script = refuse(BAD)
        batchscore.score(tmp_path / f"in.{source}", out, **words)
        server.script, sent = None, server.request_count
        with pytest.raises(UsageError, match="the column 'x', .* original input with --input"):
            batchscore.rescore(out, url=server.url)
        assert server.request_count == sent
        report = batchscore.rescore(out, url=server.url, input=tmp_path / f"in.{source}")
    assert (report.exit_code, report.rows_read) == (0, 290)
    assert read(out).equals(read(whole), check_metadata=True)


def test_several_inputs_follow_one_option(tmp_path):
    """--input takes all files up to the next option, as a shell expands them."""
    for part in (1, 2, 3):
        pq.write_table(pa.table({"x": [part, part]}), tmp_path / f"{part}.parquet")
    with FaultServer(*LINEAR, script=refuse({2})) as server:
        done = run(tmp_path, "score", "1.parquet", "2.parquet", "3.parquet", "--keep", "none",
                   "--url", server.url, "-o", "out.arrow", "--map", "x=x")  # fmt: skip
        assert done.returncode == 3, done.stderr
        server.script = None
        done = run(tmp_path, "rescore", "out.arrow", "--input", "1.parquet", "2.parquet",
                   "3.parquet", "--url", server.url)  # fmt: skip
    assert done.returncode == 0, done.stderr
    assert read(tmp_path / "out.arrow")["predicted_y"].to_pylist() == [3, 3, 5, 5, 7, 7]


def test_another_input_is_refused(tmp_path):
    """Rows could be given the predictions of others, so an input that differs is not taken."""
    write_numbers(tmp_path / "in.parquet")
    write_numbers(tmp_path / "other.parquet", 301)
    out = tmp_path / "out.arrow"
    with FaultServer(*LINEAR, script=refuse({3})) as server:
        batchscore.score(tmp_path / "in.parquet", out, url=server.url, keep="none")
        for other in (tmp_path / "other.parquet", [tmp_path / "in.parquet", out]):
            held, sent = out.read_bytes(), server.request_count
            with pytest.raises(UsageError, match="--input: not what .* was scored from"):
                batchscore.rescore(out, url=server.url, input=other)
            assert (out.read_bytes(), server.request_count) == (held, sent)


def test_an_input_that_was_a_pipe_is_refused(tmp_path):
    """Nothing tells whether the rows are the same; kept features need no input."""
    rows = "x\n1\n2\n3\n"
    with FaultServer(*LINEAR, script=refuse({2})) as server:
        words = ("score", "-", "--input-format", "csv", "--url", server.url)
        assert run(tmp_path, *words, "-o", "all.arrow", input=rows).returncode == 3
        assert run(tmp_path, *words, "-o", "none.arrow", "--keep", "none", input=rows).returncode
        (tmp_path / "in.csv").write_text(rows)
        server.script = None
        with pytest.raises(UsageError, match="is a pipe"):
            batchscore.rescore(tmp_path / "none.arrow", url=server.url, input=tmp_path / "in.csv")
        assert batchscore.rescore(tmp_path / "all.arrow", url=server.url).exit_code == 0
    assert read(tmp_path / "all.arrow")["predicted_y"].to_pylist() == [3, 5, 7]


def test_options_of_the_job_count_again(tmp_path):
    """Mapping, nulls, delimiter, encoding and types are those that score was told."""
    (tmp_path / "in.csv").write_bytes("größe;n\n1;a\nNA;b\n3;c\n".encode("latin-1"))
    with FaultServer(*LINEAR, script=faults.always(faults.status(422))) as server:
        words = {"url": server.url, "map": ["x=größe"], "null": "NA", "delimiter": ";",
                 "encoding": "latin-1", "prefix": "p_"}  # fmt: skip
        for keep in ("all", "none"):
            out = tmp_path / f"{keep}.parquet"
            server.script = faults.always(faults.status(422))
            batchscore.score(tmp_path / "in.csv", out, keep=keep, **words)
            server.script = None
            source = {} if keep == "all" else {"input": [str(tmp_path / "in.csv")]}
            assert batchscore.rescore(out, url=server.url, **source).exit_code == 0
            assert read(out)["p_y"].to_pylist() == [3, 1, 7]
            assert read(out).schema.names[-1] == "p_error"


@pytest.mark.parametrize("has_input", [False, True])
def test_rows_that_could_not_be_read_are_never_sent_as_if_they_could(tmp_path, has_input):
    """A ragged record or a cell that is not of its type fails again, unsent, for the old reason;
    so does a cell that is no number.
    """
    (tmp_path / "in.csv").write_text("x,n\n1,1\n2\n3,3,3\n4,?\n?,5\n6,6\n")
    out = tmp_path / "out.arrow"
    with FaultServer(*LINEAR, script=refuse({6})) as server:
        batchscore.score(tmp_path / "in.csv", out, url=server.url, type=["n=int64"])
        before = read(out)["prediction_error"].to_pylist()
        server.script, sent = None, server.rows_seen
        source = {"input": [str(tmp_path / "in.csv")]} if has_input else {}
        report = batchscore.rescore(out, url=server.url, **source)
        assert server.rows_seen - sent == 1
    assert (report.exit_code, report.failed_rows) == (3, {"invalid_input": 4})
    assert read(out)["prediction_error"].to_pylist() == [*before[:5], None]
    assert read(out)["predicted_y"].to_pylist() == [3, None, None, None, None, 13]


@pytest.mark.parametrize("suffix", FORMATS)
def test_pictures_that_are_there_by_now_are_scored(tmp_path, monkeypatch, suffix):
    """Paths in the output are read below the folder that score was told, or that is told now."""
    monkeypatch.chdir(tmp_path)
    Path("pictures").mkdir()
    for n in (0, 2):
        PIL.Image.new("L", (2, 2), n).save(f"pictures/{n}.png")
    pq.write_table(pa.table({"p": [f"{n}.png" for n in range(3)]}), "pictures/in.parquet")
    model = Model({"p": ("image", [2, 2, 1])}, {"y": ("numeric", [1])},
                  lambda rows: [{"y": len(rows)} for _ in rows])  # fmt: skip
    told, untold = f"told.{suffix}", f"untold.{suffix}"
    with FaultServer(*model) as server:
        batchscore.score("pictures/in.parquet", told, url=server.url, image_root="pictures")
        batchscore.score("pictures/in.parquet", untold, url=server.url)
        assert failed_rows(Path(told)) == failed_rows(Path(untold)) == [1]
        shutil.copy(told, f"moved.{suffix}")
        PIL.Image.new("L", (2, 2), 1).save("pictures/1.png")
        assert batchscore.rescore(told, url=server.url).exit_code == 0
        with pytest.raises(UsageError, match="--image-root, or .* --input"):
            batchscore.rescore(untold, url=server.url)
        done = batchscore.rescore(untold, url=server.url, input="pictures/in.parquet")
        assert done.exit_code == 0
        Path("pictures").rename("elsewhere")
        done = batchscore.rescore(f"moved.{suffix}", url=server.url, image_root="elsewhere")
        assert done.exit_code == 0
    assert failed_rows(Path(told)) == failed_rows(Path(untold)) == []


def test_a_folder_of_pictures_is_its_own_input(tmp_path, monkeypatch):
    """The paths in the output are not its pictures: --input names the folder again."""
    monkeypatch.chdir(tmp_path)
    Path("digits").mkdir()
    for n in range(3):
        PIL.Image.new("L", (2, 2), n).save(f"digits/{n}.png")
    model = Model({"p": ("image", [2, 2, 1])}, {"y": ("numeric", [1])},
                  lambda rows: [{"y": 1.0} for _ in rows])  # fmt: skip
    with FaultServer(*model, script=faults.always(faults.status(422))) as server:
        batchscore.score("digits", "out.arrow", url=server.url)
        server.script = None
        with pytest.raises(UsageError, match="--input"):
            batchscore.rescore("out.arrow", url=server.url)
        assert batchscore.rescore("out.arrow", url=server.url, input="digits").exit_code == 0


# Refused.


def test_what_is_no_output_of_score_is_refused(tmp_path):
    """Each file that is no output of score with its metadata is refused, saying what to do."""
    write_numbers(tmp_path / "in.parquet")
    with FaultServer(*LINEAR, script=refuse({3})) as server:
        for out in ("o.csv", "o.jsonl", "o.parquet"):
            batchscore.score(tmp_path / "in.parquet", tmp_path / out, url=server.url)
        table = pq.read_table(tmp_path / "o.parquet")
        pq.write_table(table.drop_columns(["prediction_error"]), tmp_path / "less.parquet")
        pq.write_table(table.drop_columns(["predicted_y"]), tmp_path / "fewer.parquet")
        (tmp_path / "cut.arrow").write_bytes(b"ARROW1\0\0" + bytes(99))
        sent = server.request_count
        for out, words in {
            "o.csv": "score again", "o.jsonl": "score again", "in.parquet": "as score wrote it",
            "less.parquet": "its last column is not 'prediction_error'", "no.arrow": "no such file",
            "fewer.parquet": "not the predictions", "cut.arrow": "cannot be read",
            ".": "is no file", "no/o.arrow": "no such file",
        }.items():  # fmt: skip
            with pytest.raises(UsageError, match=words):
                batchscore.rescore(tmp_path / out, url=server.url)
        with pytest.raises(UsageError, match="local file"):
            batchscore.rescore("s3://bucket/o.arrow", url=server.url)
        assert server.request_count == sent
    assert not list(tmp_path.glob("*.partial"))


def test_another_model_is_refused(tmp_path):
    """Two models must not be mixed in one file: exit code 1, and nothing is sent."""
    write_numbers(tmp_path / "in.parquet")
    out = tmp_path / "out.arrow"
    with FaultServer(*LINEAR, script=refuse({3})) as server:
        batchscore.score(tmp_path / "in.parquet", out, url=server.url)
    held = out.read_bytes()
    other = Model({"x": ("numeric", [1])}, {"z": ("numeric", [1])}, LINEAR.predict)
    with FaultServer(*other) as server:
        done = run(tmp_path, "rescore", out, "--url", server.url, "--report", "r.json")
        assert (done.returncode, server.request_count) == (1, 0)
    assert "two models must not be mixed" in done.stderr
    assert json.loads((tmp_path / "r.json").read_text())["exit_code"] == 1
    assert out.read_bytes() == held
    assert not (tmp_path / "out.arrow.partial").exists()


# Whatever ends a run.


@pytest.fixture(scope="module")
def prepared(tmp_path_factory):
    """A folder with outputs of 3,000 rows, of which every third failed, and whole ones."""
    folder = tmp_path_factory.mktemp("prepared")
    write_numbers(folder / "in.parquet", 3000)
    with FaultServer(*CLASSIFIER) as server:
        words = {"url": server.url, "batch_size": 100}
        for suffix in FORMATS:
            server.script = None
            batchscore.score(folder / "in.parquet", folder / f"whole.{suffix}", **words)
            server.script = faults.refuse_rows(lambda row: row["x"] % 3 == 0)
            batchscore.score(folder / "in.parquet", folder / f"out.{suffix}", **words)
    return folder


@pytest.fixture(params=FORMATS)
def scored(tmp_path, prepared, request):
    """A folder of its own with one of them, its name, and a server."""
    for name in ("in.parquet", f"whole.{request.param}", f"out.{request.param}"):
        shutil.copy(prepared / name, tmp_path)
    with FaultServer(*CLASSIFIER) as server:
        yield tmp_path, f"out.{request.param}", server


def test_killed_at_any_moment_the_output_is_the_old_or_the_new_one(scored):
    """After kill -9 at random moments the next run goes on with the rows that came back before."""
    folder, name, server = scored
    out, whole = folder / name, folder / name.replace("out", "whole")
    old, rng = out.read_bytes(), random.Random(name)
    server.delay_s = lambda _: rng.random() / 20
    sent_before, kills, done = server.rows_seen, 0, None
    words = ("rescore", name, "--url", server.url, "--batch-size", 20, "--concurrency", 3)
    for _ in range(30):
        process = subprocess.Popen(
            command(*words), cwd=folder, env=environment(), text=True,
            stdout=subprocess.DEVNULL, stderr=subprocess.PIPE,
        )  # fmt: skip
        at = server.request_count + rng.randrange(2, 15)
        while server.request_count < at and process.poll() is None:
            time.sleep(0.002)
        time.sleep(rng.random() / 20)
        if process.poll() is None and kills < 6:
            process.kill()
            kills += 1
        told = process.communicate()[1]
        if process.returncode != -signal.SIGKILL:
            done = process.returncode, told
            break
        assert out.read_bytes() == old
    assert done is not None
    assert done[0] == 0, done[1]
    assert kills >= 3
    assert read(out).equals(read(whole), check_metadata=True)
    assert batch_rows(out) == batch_rows(whole)
    # What is sent twice is the window of each kill, and what was not yet durable.
    assert server.rows_seen - sent_before < 1000 * (kills + 1) / 2
    assert not (folder / f"{name}.partial").exists()


@pytest.mark.parametrize("moment", ["before the merge", "merged", "in its place"])
def test_killed_at_the_very_end_nothing_is_sent_again(scored, monkeypatch, moment):
    """The output is the old or the new one, and the next run sends nothing again."""
    folder, name, server = scored
    out, whole = folder / name, folder / name.replace("out", "whole")
    old = out.read_bytes()

    class Killed(BaseException):
        pass

    def killed(*_args, **_options):
        raise Killed

    with monkeypatch.context() as patch:
        where = {
            "before the merge": "batchscore.sinks.rescored.merge",
            "merged": "batchscore.sinks.rescored.commit",
            "in its place": "batchscore.partial.folder.remove_files",
        }[moment]
        patch.setattr(where, killed)
        with pytest.raises(Killed):
            batchscore.rescore(out, url=server.url)
    assert (folder / f"{name}.partial").is_dir()
    if moment == "in its place":
        assert read(out).equals(read(whole))
    else:
        assert out.read_bytes() == old
    sent = server.request_count
    report = batchscore.rescore(out, url=server.url)
    assert (report.exit_code, server.request_count) == (0, sent)
    assert read(out).equals(read(whole), check_metadata=True)
    assert not (folder / f"{name}.partial").exists()


def test_an_outage_loses_nothing(scored):
    """A deployment that stays away ends the run with 75; --resume goes on with what came back."""
    folder, name, server = scored
    old = (folder / name).read_bytes()
    server.script = faults.first_of(
        lambda info: faults.status(503) if info.index >= start + 3 else None
    )
    start = server.request_count
    words = {"url": server.url, "batch_size": 100, "concurrency": 1}
    with pytest.raises(OutageError):
        batchscore.rescore(folder / name, max_attempts=1, max_outage=0, **words)
    assert (folder / name).read_bytes() == old
    server.script, sent = None, server.rows_seen
    report = batchscore.rescore(folder / name, **words)
    assert report.exit_code == 0
    # Of the three answers the last may have come too late to be written.
    assert report.rows_resumed in {2100, 2200, 2300}
    assert server.rows_seen - sent == 3000 - report.rows_resumed
    assert failed_rows(folder / name) == []


def test_faults_on_the_way_change_nothing(scored):
    """Resets, wrong counts, web pages and 429 are retried; every row gets its own prediction."""
    folder, name, server = scored
    server.script = faults.mixed_faults(seed=7, share=0.3)
    report = batchscore.rescore(folder / name, url=server.url, batch_size=30, max_attempts=20)
    assert report.exit_code == 0
    assert read(folder / name).equals(read(folder / name.replace("out", "whole")))


@pytest.mark.parametrize(("number", "code"), [(signal.SIGTERM, 143), (signal.SIGINT, 130)])
def test_a_signal_leaves_the_output_as_it_was(scored, number, code):
    """The output stands as it was, and --resume goes on."""
    folder, name, server = scored
    old = (folder / name).read_bytes()
    server.delay_s = 0.05
    words = ("rescore", name, "--url", server.url, "--batch-size", 20, "--concurrency", 2)
    process = subprocess.Popen(
        command(*words), cwd=folder, env=environment(), text=True, stderr=subprocess.PIPE
    )
    start = server.request_count
    while server.request_count < start + 6 and process.poll() is None:
        time.sleep(0.002)
    process.send_signal(number)
    told = process.communicate()[1]
    assert process.returncode == code
    assert "the same command with --resume goes on" in told
    assert (folder / name).read_bytes() == old
    server.delay_s = 0.0
    assert run(folder, *words, "--resume").returncode == 0
    assert failed_rows(folder / name) == []


def test_a_full_disk_leaves_the_output_as_it_was(scored):
    """No room for the new file: 75, one line, and with room the next run sends nothing again."""
    folder, name, server = scored
    old = (folder / name).read_bytes()
    room = len(old) // 2
    limit = lambda: resource.setrlimit(resource.RLIMIT_FSIZE, (room, room))  # noqa: E731
    done = run(folder, "rescore", name, "--url", server.url, "-q", preexec_fn=limit)
    assert done.returncode == 75, done.stderr
    assert "--resume" in done.stderr
    assert done.stderr.count("\n") == 1
    assert (folder / name).read_bytes() == old
    assert run(folder, "rescore", name, "--url", server.url).returncode == 0
    assert failed_rows(folder / name) == []


def test_only_one_run_works_on_an_output(scored):
    """A second rescore, or a score that would replace the output, is refused meanwhile."""
    folder, name, server = scored
    server.delay_s = 0.2
    process = subprocess.Popen(
        command("rescore", name, "--url", server.url, "--batch-size", 50, "--concurrency", 1),
        cwd=folder, env=environment(), stderr=subprocess.DEVNULL,
    )  # fmt: skip
    start = server.request_count
    while server.request_count == start and process.poll() is None:
        time.sleep(0.002)
    with pytest.raises(UsageError, match="another run is writing"):
        batchscore.rescore(folder / name, url=server.url)
    with pytest.raises(UsageError, match="another run is writing"):
        batchscore.score(folder / "in.parquet", folder / name, url=server.url, overwrite=True)
    server.delay_s = 0.0
    assert process.wait(30) == 0
    assert failed_rows(folder / name) == []


def test_an_output_that_changes_meanwhile_is_not_replaced(scored):
    """What another program put in its place stays; the run ends with 75."""
    folder, name, server = scored
    out, whole = folder / name, folder / name.replace("out", "whole")

    def predict(rows):
        if out.stat().st_ino != whole.stat().st_ino:
            out.unlink()
            out.hardlink_to(whole)
        return CLASSIFIER.predict(rows)

    server.predict = predict
    with pytest.raises(OutputError, match="was changed meanwhile"):
        batchscore.rescore(out, url=server.url)
    assert out.samefile(whole)
    assert batchscore.rescore(out, url=server.url).exit_code == 0
    assert not (folder / f"{name}.partial").exists()


# What is in progress belongs to one of the two commands.


def test_score_does_not_take_the_work_of_rescore_for_its_own(scored):
    """With a rescore interrupted, score --resume finds OUT finished, and leaves that work alone."""
    folder, name, server = scored
    start = server.request_count
    server.script = lambda info: faults.status(403) if info.index >= start + 3 else None
    words = {"url": server.url, "batch_size": 100}
    with pytest.raises(StoppedError):
        batchscore.rescore(folder / name, concurrency=1, **words)
    server.script = None
    sent = server.rows_seen
    report = batchscore.score(folder / "in.parquet", folder / name, resume=True, **words)
    assert (report.exit_code, report.rows_failed, server.rows_seen) == (3, 1000, sent)
    report = batchscore.rescore(folder / name, **words)
    assert (report.exit_code, server.rows_seen - sent) == (0, 3000 - report.rows_resumed)
    assert report.rows_resumed > 2000


def test_no_resume_sends_all_failed_rows_again(scored):
    """--no-resume throws away what an interrupted rescore left."""
    folder, name, server = scored
    start = server.request_count
    server.script = lambda info: faults.status(403) if info.index >= start + 3 else None
    words = {"url": server.url, "batch_size": 100, "concurrency": 1}
    with pytest.raises(StoppedError):
        batchscore.rescore(folder / name, **words)
    server.script, sent = None, server.rows_seen
    assert batchscore.rescore(folder / name, resume=False, **words).exit_code == 0
    assert server.rows_seen - sent == 1000


def test_rescore_does_not_touch_the_work_of_score(scored):
    """Work of a score that is to replace the output is not thrown away: it is named."""
    folder, name, server = scored
    start = server.request_count
    server.script = lambda info: faults.status(403) if info.index >= start + 3 else None
    words = {"url": server.url, "batch_size": 100}
    with pytest.raises(StoppedError):
        batchscore.score(
            folder / "in.parquet", folder / name, overwrite=True, concurrency=1, **words
        )
    server.script = None
    with pytest.raises(UsageError, match="holds the work of score"):
        batchscore.rescore(folder / name, url=server.url)
    report = batchscore.score(
        folder / "in.parquet", folder / name, overwrite=True, resume=True, **words
    )
    assert report.rows_resumed > 0


def test_the_work_may_be_elsewhere(scored):
    """--work-dir holds the work in progress, and is empty afterwards."""
    folder, name, server = scored
    (folder / "work").mkdir()
    with pytest.raises(UsageError, match="--work-dir"):
        batchscore.rescore(folder / name, url=server.url, work_dir=folder / "nowhere")
    report = batchscore.rescore(folder / name, url=server.url, work_dir=folder / "work")
    assert report.exit_code == 0
    assert os.listdir(folder / "work") == []


def test_more_rows_than_the_output_are_noticed_at_the_end(tmp_path):
    """An input that grew unnoticed by samples of it ends the run before the output is touched."""
    write_numbers(tmp_path / "in.csv", 100)
    out = tmp_path / "out.arrow"
    with FaultServer(*LINEAR, script=refuse({3})) as server:
        batchscore.score(tmp_path / "in.csv", out, url=server.url, keep="none")
        server.script = None
        held = out.read_bytes()
        with pytest.MonkeyPatch.context() as patch:
            patch.setattr("batchscore.rescorer._check_same_input", lambda *_: None)
            for count, words in ((101, "more rows"), (99, "fewer rows")):
                write_numbers(tmp_path / "in.csv", count)
                with pytest.raises(InputError, match=words):
                    batchscore.rescore(out, url=server.url, input=tmp_path / "in.csv")
    assert out.read_bytes() == held


@pytest.mark.parametrize("suffix", FORMATS)
def test_memory_does_not_grow_with_the_output(tmp_path, suffix):
    """An output is read, and written anew, a piece at a time: far less than all of it is held."""
    # One text in every row: little to store, much to hold.
    blob = pa.array(["b" * 150_000]).take(pa.array([0] * 3500))
    pq.write_table(pa.table({"x": range(3500), "blob": blob}), tmp_path / "in.parquet")
    out = tmp_path / f"out.{suffix}"
    total_bytes = 3500 * 150_000
    program = """
import re, sys, batchscore
# Not the ru_maxrss of getrusage, which is that of the parent where the parent is larger.
peak = lambda: int(re.search(r"VmHWM:\\s+(\\d+)", open("/proc/self/status").read())[1]) * 1024
batchscore.rescore; import batchscore.api
before = peak()
report = batchscore.rescore(sys.argv[1], url=sys.argv[2])
print(report.exit_code, peak() - before)
"""
    with FaultServer(*LINEAR, script=refuse({5, 1200, 2499})) as server:
        batchscore.score(tmp_path / "in.parquet", out, url=server.url, keep=["x", "blob"])
        server.script = None
        done = subprocess.run(
            [sys.executable, "-c", program, str(out), server.url],
            capture_output=True, text=True, check=True, env=environment(),
        )  # fmt: skip
    exit_code, grown = map(int, done.stdout.split())
    assert exit_code == 0
    assert failed_rows(out) == []
    assert grown > 0
    assert grown < 0.7 * total_bytes
