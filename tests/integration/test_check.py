"""Checks of real input against real servers, beside what scoring the same input does."""

import asyncio
import io
import json
import math
import os
import re
import shlex
import signal
import subprocess
import sys
from contextlib import contextmanager
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from faultserver import (
    LINEAR,
    FaultServer,
    InstancesServer,
    MlflowServer,
    Model,
    OpenInferenceServer,
    faults,
)
from hypothesis import given, settings
from hypothesis import strategies as st
from integration.conftest import read_arrow
from PIL import Image

import batchscore
from batchscore.checking import kinds
from batchscore.checking.report import Problem
from batchscore.errors import UnreachableError, UsageError
from batchscore.serving.app import running_deployment

INPUTS = {
    "num": ("numeric", [1]),
    "whole": ("numeric", [1]),
    "text": ("text", [1]),
    "kind": ("categorical", [1]),
    "grid": ("numeric", [2]),
}
TENSORS = {
    "num": ("FP64", [-1]),
    "whole": ("INT32", [-1]),
    "text": ("BYTES", [-1]),
    "kind": ("BYTES", [-1]),
    "grid": ("FP32", [-1, 2]),
}
SCHEMA = {
    "inputs": {
        "num": {"type": "numeric", "datatype": "float32"},
        "whole": {"type": "numeric", "datatype": "int32"},
        "text": {"type": "text"},
        "kind": {"type": "categorical"},
        "grid": {"type": "numeric", "shape": [2]},
    }
}


def ones(rows):
    """One number for each row, whatever is in it."""
    return [1.0] * len(rows)


@contextmanager
def deployment(protocol: str, folder: Path):
    """The address of a server with these inputs, and the options that it needs."""
    (folder / "schema.json").write_text(json.dumps(SCHEMA))
    told = {"schema": str(folder / "schema.json")}
    if protocol == "rows":
        model = Model(INPUTS, {"y": ("numeric", [1])}, lambda rows: [{"y": 1.0} for _ in rows])
        server, options = FaultServer(*model), {}
    elif protocol == "instances":
        server, options = InstancesServer(ones), told
    elif protocol == "mlflow":
        server, options = MlflowServer(ones), told
    else:
        outputs = {"y": ("FP64", [-1])}
        server = OpenInferenceServer(TENSORS, outputs, lambda found: {"y": 0.0 * found["num"]})
        options = {}
    with server:
        yield server, options


def scored(source: object, url: str, folder: Path, **options: object):
    """What scoring comes to: the report, and the rows (from 1) that were never sent, with why."""
    out = folder / "out.arrow"
    report = batchscore.score(source, out, url=url, overwrite=True, max_attempts=2, **options)
    errors = read_arrow(out)["prediction_error"].to_pylist()
    unsent = {
        row: error.removeprefix("invalid_input: ")
        for row, error in enumerate(errors, 1)
        if error and error.startswith("invalid_input: ")
    }
    return report, unsent


def agree(source: object, server: FaultServer, folder: Path, **options: object) -> None:
    """Assert that a check tells of an input just what scoring it comes to."""
    before = server.request_count
    found = why = outcome = ended = None
    try:
        found = batchscore.check(source, url=server.url, **options)
    except UsageError as error:
        why = str(error)
    assert server.request_count == before
    try:
        outcome = scored(source, server.url, folder, **options)
    except UsageError as error:
        ended = str(error)
    if found is None or outcome is None:
        assert ended is not None, why
        if found is None:
            assert why == ended
        else:
            # One thing ends a job; the check tells it among all others.
            assert found.exit_code == 3
            assert any(ended.startswith(each.text) for each in found.problems if not each.count)
        return
    same_rows(found, *outcome)


def same_rows(found: batchscore.CheckReport, report: batchscore.RunReport, unsent) -> None:
    """Assert that the rows with problems are those that were not sent, for the same reasons."""
    assert found.is_ok == (not unsent)
    assert (found.rows, found.rows_failed) == (report.rows_read, len(unsent))
    assert found.nonfinite_as_null == report.nonfinite_as_null
    assert all(problem.count == len(problem.rows) for problem in found.problems)
    told = {
        (row.row, problem.column, row.text) for problem in found.problems for row in problem.rows
    }
    assert {row for row, _, _ in told} == set(unsent)
    assert "other" not in {problem.kind for problem in found.problems}
    for row, error in unsent.items():
        # Of each row scoring tells one thing, and the check that one, too.
        assert any(at == row and error.endswith(text) for at, _, text in told), error
    assert not report.retries
    assert found.requests == report.requests
    # How long an id of a request is, and whether it is written at all, shows only as they go.
    slack = 8 * report.requests if found.protocol == "open-inference" else 0
    assert abs(found.request_bytes - report.bytes_sent) <= slack


GOOD_NUMBERS = ["1", "2", "0.5"] * 3
NUMBERS = [
    *GOOD_NUMBERS,
    "1",
    "-2.5",
    "1e3",
    "x",
    "NA",
    "",
    " ",
    "nan",
    "-inf",
    "1,5",
    "3000000000",
    "1e400",
]
CELLS = {
    "num": st.sampled_from(NUMBERS),
    "whole": st.sampled_from(
        ["7", "8", "9", "10", "3.0", "2.5", "NA", "", "3000000000", "inf", "seven"]
    ),
    "text": st.sampled_from(["a", "", "NA", 'say "x"', "é", "two\nlines"]),
    "kind": st.sampled_from(["a", "b", "", "NA", "3"]),
    "grid": st.sampled_from(
        [*["[1, 2]"] * 6, "[1]", "[1, null]", "no.npy", "", "[[1], [2]]", "{}", "[NaN,1]"]
    ),
    "id": st.sampled_from(["1", "2", "x", ""]),
}
CSV_ROWS = st.lists(
    st.tuples(st.fixed_dictionaries(CELLS), st.sampled_from([*["even"] * 8, "short", "long"])),
    max_size=5,
)
OPTIONS = st.fixed_dictionaries(
    {},
    optional={
        "null": st.just(["NA"]),
        "type": st.just({"id": "int64"}),
        "limit": st.integers(0, 6),
        "batch_size": st.integers(1, 4),
        "max_batch_bytes": st.integers(1, 400),
        "keep": st.just("none"),
        "map": st.sampled_from([*[{"num": "whole"}] * 3, {"num": "wholly"}, {"nun": "id"}]),
        "drop": st.sampled_from(["id", "num", "id", "nothing"]),
    },
)
RENAMED = st.dictionaries(
    st.sampled_from(list(CELLS)),
    st.sampled_from(["Num", "prediction_error", "predicted_y", "grit"]),
    max_size=2,
).filter(lambda names: len(set(names.values())) == len(names))


def csv_text(rows, renamed) -> str:
    def quoted(cell: str) -> str:
        plain = not set(cell) & set('",\n')
        return cell if plain else '"' + cell.replace('"', '""') + '"'

    lines = [",".join(renamed.get(name, name) for name in CELLS)]
    for cells, form in rows:
        texts = [quoted(cells[name]) for name in CELLS]
        lines.append(",".join({"short": texts[:-1], "long": [*texts, "more"]}.get(form, texts)))
    return "\n".join(lines) + "\n"


@pytest.mark.parametrize("protocol", ["rows", "instances", "mlflow", "open-inference"])
def test_check_and_score_agree_on_any_csv(protocol, tmp_path):
    """What is a problem fails in a job, and what fails in a job is a problem, row by row."""
    with deployment(protocol, tmp_path) as (server, told):

        @settings(max_examples=40)
        @given(CSV_ROWS, OPTIONS, RENAMED)
        def agrees(rows, options, renamed):
            source = tmp_path / "in.csv"
            source.write_text(csv_text(rows, renamed))
            agree(source, server, tmp_path, **told, **options)

        agrees()


def png(mode="RGB", size=(4, 4)) -> bytes:
    buffer = io.BytesIO()
    Image.new(mode, size).save(buffer, "PNG")
    return buffer.getvalue()


def npy(*values: float) -> bytes:
    buffer = io.BytesIO()
    np.save(buffer, np.array(values, np.float32))
    return buffer.getvalue()


def lists(value_type: pa.DataType, *sizes: int):
    values = st.lists(
        st.lists(
            st.sampled_from([1.0, 2.0, None, math.nan]),
            min_size=min(sizes),
            max_size=max(sizes),
        )
        | st.none(),
        min_size=5,
        max_size=5,
    )
    kind = pa.list_(value_type, sizes[0]) if len(sizes) == 1 else pa.list_(value_type)
    return values.map(lambda cells: pa.array(cells, kind))


def cells(*values: object, kind: pa.DataType):
    drawn = st.lists(st.sampled_from(values), min_size=5, max_size=5)
    return drawn.map(lambda found: pa.array(found, kind))


WORDS = cells("a", "b", None, "", kind=pa.string())
COLUMNS = {
    "num": cells(0.5, math.nan, None, math.inf, 1e300, kind=pa.float64())
    | cells(1, None, 2**62, kind=pa.int64())
    | cells(True, None, kind=pa.bool_())
    | WORDS,
    "whole": cells(1.0, 2.5, None, math.nan, 3e9, kind=pa.float64())
    | cells(1, 2**40, kind=pa.int64()),
    "text": WORDS | cells(1.5, math.nan, None, kind=pa.float64()) | cells(b"a", kind=pa.binary()),
    "kind": WORDS.map(lambda found: found.dictionary_encode())
    | cells(1, None, kind=pa.int32())
    | cells(b"x", kind=pa.binary()),
    "grid": lists(pa.float64(), 1, 3)
    | lists(pa.float32(), 2)
    | lists(pa.float32(), 3)
    | cells(npy(1, 2), npy(1), b"x", None, kind=pa.binary()),
}


@pytest.mark.parametrize("protocol", ["rows", "instances", "mlflow", "open-inference"])
def test_check_and_score_agree_on_any_parquet(protocol, tmp_path):
    """Types that can never serve, nulls, shapes, numbers that do not fit: as scoring has them."""
    with deployment(protocol, tmp_path) as (server, told):

        @settings(max_examples=40)
        @given(st.fixed_dictionaries(COLUMNS), st.integers(1, 5))
        def agrees(columns, batch_size):
            source = tmp_path / "in.parquet"
            pq.write_table(pa.table(columns), source)
            agree(source, server, tmp_path, batch_size=batch_size, **told)

        agrees()


# What it tells, and how.


def by_kind(report: batchscore.CheckReport) -> dict[str, list[Problem]]:
    found: dict[str, list[Problem]] = {}
    for problem in report.problems:
        found.setdefault(problem.kind, []).append(problem)
    return found


def rows_of(problem) -> list[int]:
    return [row.row for row in problem.rows]


def test_all_missing_columns_are_told_at_once_with_the_nearest_names(tmp_path):
    """Where scoring ends at the first, a check goes on: the other columns are looked at, too."""
    inputs = {name: ("numeric", [1]) for name in ("size", "weight", "age", "speed")}
    (tmp_path / "in.csv").write_text("Size,wieght,age,speeed\n1,2,x,3\n")
    with FaultServer(inputs, {"y": ("numeric", [1])}, LINEAR.predict) as server:
        found = batchscore.check(
            tmp_path / "in.csv", url=server.url, map={"size": "Size", "speed": "sped"}
        )
    missing = by_kind(found)["missing_column"]
    assert [problem.feature for problem in missing] == ["weight", "speed"]
    assert "did you mean 'wieght'?" in missing[0].text
    assert "--map speed=sped: the input has no column 'sped'" in missing[1].text
    assert "did you mean 'speeed'?" in missing[1].text
    (number,) = by_kind(found)["number"]
    assert (number.column, rows_of(number)) == ("age", [1])
    assert (found.exit_code, found.requests) == (3, None)


def test_types_that_cannot_serve_are_told_for_every_column(tmp_path):
    """Each column of a type that never serves its feature is a problem of its own."""
    table = pa.table({"a": ["x"], "b": [[1.0]], "c": [1.5]})
    pq.write_table(table, tmp_path / "in.parquet")
    inputs = {name: ("numeric", [1]) for name in "abc"}
    with FaultServer(inputs, {"y": ("numeric", [1])}, LINEAR.predict) as server:
        found = batchscore.check(tmp_path / "in.parquet", url=server.url)
    assert [(each.kind, each.column) for each in found.problems] == [
        ("wrong_type", "a"),
        ("wrong_type", "b"),
    ]
    assert "numbers or booleans" in found.problems[0].remedy


def test_every_missing_column_of_a_pack_is_told(tmp_path):
    """A list made of columns names each of them that is not there."""
    (tmp_path / "in.csv").write_text("p1,p2,q3,q4\n1,2,3,4\n")
    inputs = {"p": ("numeric", [4])}
    with FaultServer(inputs, {"y": ("numeric", [1])}, LINEAR.predict) as server:
        found = batchscore.check(
            tmp_path / "in.csv", url=server.url, pack={"p": ["p1", "p2", "p3", "p4"]}
        )
    texts = [problem.text for problem in found.problems]
    assert len(texts) == 2
    assert "no column 'p3'" in texts[0]
    assert "no column 'p4'" in texts[1]


def test_declared_columns_that_are_missing_are_all_told(tmp_path):
    """Where the user names the features, each that the input lacks is a problem."""
    (tmp_path / "in.csv").write_text("a,b\n1,2\n")
    with InstancesServer(ones) as server:
        found = batchscore.check(tmp_path / "in.csv", url=server.url, features="a,x,bb")
    assert [problem.feature for problem in found.problems] == ["x", "bb"]
    assert "did you mean 'b'?" in found.problems[1].text


def test_the_wrong_file_for_a_wide_model_is_told_in_short(tmp_path):
    """Fifty missing columns are told, and how many more were not looked at."""
    inputs = {f"feature{n}": ("numeric", [1]) for n in range(200)}
    (tmp_path / "in.csv").write_text("a\n1\n")
    with FaultServer(inputs, {"y": ("numeric", [1])}, LINEAR.predict) as server:
        found = batchscore.check(tmp_path / "in.csv", url=server.url)
    assert len(found.problems) == 51
    assert found.problems[-1].text == "150 more inputs were not looked at"


def test_every_bad_cell_of_a_row_is_told(tmp_path):
    """Scoring tells one thing of a row; a check all of them, also beside a cell of a wrong type."""
    rows = "id,a,b\n1,x,y\nzwei,x,2\n3,1\n4,1,2\n"
    (tmp_path / "in.csv").write_text(rows)
    inputs = {name: ("numeric", [1]) for name in "ab"}
    with FaultServer(inputs, {"y": ("numeric", [1])}, LINEAR.predict) as server:
        found = batchscore.check(tmp_path / "in.csv", url=server.url, type={"id": "int64"})
    told = {(each.kind, each.column): rows_of(each) for each in found.problems}
    assert told == {
        ("number", "a"): [1, 2],
        ("number", "b"): [1],
        ("cell_type", "id"): [2],
        ("field_count", None): [3],
    }
    assert (found.rows, found.rows_failed) == (4, 3)


def test_rows_are_told_by_their_files(tmp_path):
    """Of several files each row has its file and its place there, beside that in the whole."""
    (tmp_path / "a.csv").write_text("x\n1\n2\n")
    (tmp_path / "b.csv").write_text("x\n")
    (tmp_path / "c.csv").write_text("x\n3\nfour\n")
    with FaultServer(*LINEAR) as server:
        found = batchscore.check(tmp_path, url=server.url)
    (problem,) = found.problems
    (row,) = problem.rows
    assert (row.row, row.file_row, row.value) == (4, 2, "'four'")
    assert Path(row.file).name == "c.csv"


def test_pictures_are_opened_and_their_paths_looked_for(tmp_path):
    """Paths that lead nowhere, or outside, and pictures that do not open are told apart."""
    folder = tmp_path / "data"
    folder.mkdir()
    (folder / "good.png").write_bytes(png())
    (folder / "bad.png").write_bytes(png()[:40])
    (tmp_path / "secret.png").write_bytes(png())
    paths = ["good.png", "bad.png", "none.png", "../secret.png", "."]
    (folder / "in.csv").write_text("picture\n" + "\n".join(paths) + "\n")
    model = Model({"picture": ("image", [4, 4, 3])}, {"y": ("numeric", [1])}, LINEAR.predict)
    with FaultServer(*model) as server:
        found = batchscore.check(folder / "in.csv", url=server.url)
        whole = batchscore.check(str(folder / "*.png"), url=server.url)
    kinds = by_kind(found)
    assert rows_of(kinds["picture"][0]) == [2]
    assert rows_of(kinds["path"][0]) == [3, 4, 5]
    assert "--image-root" in kinds["path"][0].remedy
    assert (whole.rows, whole.rows_failed) == (2, 1)


def test_a_file_that_ends_amid_a_cell_is_told_with_what_stands_before(tmp_path):
    """Where the input cannot be read any further, all rows until there were checked."""
    rows = "".join(f"{n}\n" for n in range(300_000))
    (tmp_path / "in.csv").write_text(f"x\n7\nx\n{rows}" + '"9')
    with FaultServer(*LINEAR) as server:
        found = batchscore.check(tmp_path / "in.csv", url=server.url)
    number, unreadable = found.problems
    assert (number.kind, rows_of(number)) == ("number", [2])
    assert unreadable.kind == "unreadable"
    assert "inside a quoted cell of row 300,003" in unreadable.text
    assert unreadable.remedy == "close the quote"
    assert not found.is_whole
    assert 100_000 < found.rows <= 300_002


def test_all_collisions_of_output_columns_are_told(tmp_path):
    """Each column of the input that has the name of an output column is a problem."""
    (tmp_path / "in.csv").write_text("x,predicted_y,prediction_error,note\n1,2,3,4\n")
    with FaultServer(*LINEAR) as server:
        found = batchscore.check(tmp_path / "in.csv", url=server.url)
        dropped = batchscore.check(
            tmp_path / "in.csv", url=server.url, drop=["predicted_y"], prefix="p_"
        )
    assert [problem.kind for problem in found.problems] == ["name_collision"] * 2
    assert "--drop" in found.problems[0].remedy
    assert dropped.is_ok


def test_what_is_sent_as_null_is_a_note_and_no_problem(tmp_path):
    """NaN, infinities, empty cells and classes that the deployment does not list are told."""
    rows = "x,kind\n1,cat\nnan,dog\n,cow\ninf,cat\n"
    (tmp_path / "in.csv").write_text(rows)
    model = Model(
        {"x": ("numeric", [1]), "kind": ("categorical", [1])},
        {"y": ("numeric", [1])},
        LINEAR.predict,
    )
    with FaultServer(*model, classes={"kind": ["cat", "dog"]}) as server:
        found = batchscore.check(tmp_path / "in.csv", url=server.url)
    notes = {(note.kind, note.column): rows_of(note) for note in found.notes}
    assert notes == {
        ("nonfinite", "x"): [2, 4],
        ("null", "x"): [3],
        ("unlisted_class", "kind"): [3],
    }
    assert (found.exit_code, found.nonfinite_as_null) == (0, 2)


def test_the_first_rows_of_a_long_input_are_told(tmp_path):
    """However many threads judge, the examples are the first rows, and the count is of all."""
    numbers = pa.array([None if n % 7 == 0 else float(n) for n in range(50_000)])
    texts = pa.array([str(n) if n % 1000 else "bad" for n in range(50_000)])
    pq.write_table(pa.table({"x": numbers, "t": texts}), tmp_path / "in.parquet")
    inputs = {"x": ("FP64", [-1]), "t": ("BYTES", [-1])}
    with OpenInferenceServer(inputs, {"y": ("FP64", [-1])}, lambda rows: {"y": rows["x"]}) as it:
        found = batchscore.check(tmp_path / "in.parquet", url=it.url, batch_size=100)
        assert it.request_count == 0
    (problem,) = found.problems
    assert (problem.kind, problem.count) == ("empty", 7143)
    assert rows_of(problem) == [1, 8, 15, 22, 29]
    assert found.requests == 500


# The probe.


def test_without_a_probe_nothing_is_sent_and_with_it_a_few_requests(tmp_path):
    """Each row goes out once at most, and the time to expect comes from what was measured."""
    pq.write_table(pa.table({"x": range(2000)}), tmp_path / "in.parquet")
    with FaultServer(*LINEAR, delay_s=0.01) as server:
        options = {"url": server.url, "batch_size": 20}
        silent = batchscore.check(tmp_path / "in.parquet", **options)
        assert server.request_count == 0
        assert silent.probe is None
        found = batchscore.check(tmp_path / "in.parquet", probe=True, **options)
        sent = [row["x"] for request in server.requests for row in request.rows]
    assert (found.exit_code, found.requests) == (0, 100)
    assert found.probe.requests == 12
    assert sorted(sent) == list(range(240))
    assert found.probe.latency_s >= 0.01
    assert found.probe.at_once == 4
    assert found.probe.expected_s >= 2000 / found.probe.rows_per_s > 0


def test_a_rate_limit_is_part_of_the_time_to_expect(tmp_path):
    """No job is quicker than it may be."""
    pq.write_table(pa.table({"x": range(40)}), tmp_path / "in.parquet")
    with FaultServer(*LINEAR) as server:
        found = batchscore.check(
            tmp_path / "in.parquet", url=server.url, probe=True, rate_limit="100rows/s"
        )
    assert found.probe.expected_s >= 0.4
    assert found.probe.requests == 1


def test_rows_that_the_deployment_refuses_are_a_problem_of_the_probe(tmp_path):
    """Its own words are told; a request that is only too large is no problem."""
    pq.write_table(pa.table({"x": range(40)}), tmp_path / "in.parquet")
    with FaultServer(*LINEAR, script=[faults.status(422)]) as server:
        found = batchscore.check(tmp_path / "in.parquet", url=server.url, probe=True)
    (problem,) = found.problems
    assert (problem.kind, found.exit_code) == ("refused", 3)
    assert "1 of 1 requests were refused: http_422" in problem.text
    with FaultServer(*LINEAR, script=[faults.status(413)]) as server:
        found = batchscore.check(tmp_path / "in.parquet", url=server.url, probe=True)
    assert found.is_ok
    assert [note.kind for note in found.notes] == ["refused"]


def test_a_probe_learns_what_the_specification_leaves_open(tmp_path):
    """Columns that only an answer shows may collide; then that is told, too."""
    pq.write_table(pa.table({"x": [1.0], "predicted_a": [2.0]}), tmp_path / "in.parquet")
    with InstancesServer(lambda rows: [{"a": 1.0, "b": 2.0} for _ in rows]) as server:
        options = {"url": server.url, "features": "x"}
        assert batchscore.check(tmp_path / "in.parquet", **options).is_ok
        found = batchscore.check(tmp_path / "in.parquet", probe=True, **options)
    assert [problem.kind for problem in found.problems] == ["name_collision"]


def test_a_deployment_that_answers_no_rows_is_unreachable(tmp_path):
    """A probe without an answer ends as the job would: try again later."""
    pq.write_table(pa.table({"x": [1.0]}), tmp_path / "in.parquet")
    with FaultServer(*LINEAR, script=[faults.status(503)] * 9) as server:
        with pytest.raises(UnreachableError, match="answers no rows: http_503"):
            batchscore.check(tmp_path / "in.parquet", url=server.url, probe=True, max_attempts=2)


# From Python, and as a command.


async def test_the_async_form_is_the_same(tmp_path):
    """The report of both is equal but for the time it took; it says what JSON says."""
    (tmp_path / "in.csv").write_text("x\n1\nq\n")
    with FaultServer(*LINEAR) as server:
        reports = [
            await batchscore.check_async(tmp_path / "in.csv", url=server.url),
            await asyncio.to_thread(batchscore.check, tmp_path / "in.csv", url=server.url),
        ]
    one, other = (report.as_dict() | {"seconds": 0} for report in reports)
    assert one == other
    assert one["schema_version"] == 1
    assert json.loads(reports[0].as_json())["problems"][0]["rows"][0]["value"] == "'q'"


def command(*words: object, **options: object) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-m", "batchscore", "check", *map(str, words)],
        capture_output=True,
        text=True,
        check=False,
        timeout=60,
        **options,
    )


def test_the_exit_code_tells_clean_problems_usage_and_unreachable(tmp_path):
    """0, 3, 2 and 75; the findings are data, and all else goes to standard error."""
    (tmp_path / "good.csv").write_text("x\n1\n")
    (tmp_path / "bad.csv").write_text("x\nNA\n")
    with FaultServer(*LINEAR) as server:
        clean = command(tmp_path / "good.csv", "--url", server.url, "-q")
        assert (clean.returncode, clean.stderr) == (0, "")
        assert "no problem: every row can be sent" in clean.stdout
        bad = command(tmp_path / "bad.csv", "--url", server.url, "-q")
        assert (bad.returncode, bad.stderr) == (3, "")
        assert "x: not a number" in bad.stdout
        assert "--null 'NA'" in bad.stdout
        as_json = command(tmp_path / "bad.csv", "--url", server.url, "--json", "-q")
        assert json.loads(as_json.stdout)["exit_code"] == as_json.returncode == 3
        logged = command(tmp_path / "bad.csv", "--url", server.url, "--log-format", "json")
        events = [json.loads(line) for line in logged.stderr.splitlines()]
        (summary,) = (event for event in events if event["event"] == "summary")
        assert summary["message"] == "1 rows read, 1 with problems"
        wrong = command(tmp_path / "good.csv", "--url", server.url, "--map", "q=x")
        assert (wrong.returncode, wrong.stdout) == (2, "")
        missing = command(tmp_path / "none.csv", "--url", server.url)
        assert (missing.returncode, missing.stdout) == (2, "")
        url = server.url
    away = command(tmp_path / "good.csv", "--url", url)
    assert (away.returncode, away.stdout) == (75, "")


def test_every_line_fits_a_terminal_of_80_columns(tmp_path):
    """The text is wrapped within the width, also where names and cells are long."""
    long = "a column whose name is as long as the whole terminal is wide, or even a bit more"
    (tmp_path / "in.csv").write_text(f"{long},y\n{'z' * 200},1\n,2\n")
    with FaultServer({long: ("numeric", [1])}, LINEAR.outputs, LINEAR.predict) as server:
        environment = {**os.environ, "COLUMNS": "80"}
        done = command(tmp_path / "in.csv", "--url", server.url, env=environment)
    assert done.returncode == 3
    assert max(map(len, done.stdout.splitlines())) <= 80


def test_a_command_line_of_score_becomes_one_of_check(tmp_path):
    """All options of a job are accepted, and so is its file; its reports are left alone."""
    (tmp_path / "in.csv").write_text("x\n1\n")
    (tmp_path / "run.json").write_text('{"schema_version": 1}')
    (tmp_path / "job.toml").write_text(
        'keep = "none"\nconcurrency = 4\nreport = ["run.json"]\n[retry]\nstop = ["409"]\n'
    )
    words = "-o out.arrow --resume --overwrite --processes 2 --max-failed-rows 1% --max-outage 1m"
    words += " --work-dir . --report run.json --probs list --config job.toml"
    words += " --engine ray --workers 2 --metrics-port 1 --max-part-bytes 8MiB"
    with FaultServer(*LINEAR) as server:
        done = command("in.csv", "--url", server.url, *words.split(), cwd=tmp_path)
        for out in ("parts/", "out.csv", "s3://bucket/parts/", "s3://bucket/out.parquet"):
            also = command("in.csv", "--url", server.url, "-o", out, cwd=tmp_path)
            assert also.returncode == 0, (out, also.stderr)
        wrong = command("in.csv", "--url", server.url, "-o", "out.xyz", cwd=tmp_path)
    assert wrong.returncode == 2
    assert done.returncode == 0, done.stderr
    assert (tmp_path / "run.json").read_text() == '{"schema_version": 1}'
    assert not (tmp_path / "out.arrow").exists()


def test_a_check_can_be_interrupted(tmp_path):
    """Ctrl-C ends it at once with 130, also while it waits for a pipe."""
    with FaultServer(*LINEAR) as server:
        words = [sys.executable, "-m", "batchscore", "check", "-", "--input-format", "csv"]
        with subprocess.Popen(
            [*words, "--url", server.url, "--progress", "plain"],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
        ) as process:
            # More than the header is read with, and no end.
            process.stdin.write(b"x\n" + b"1\n" * 2**20)
            process.stdin.flush()
            while not server.spec_requests:
                assert process.poll() is None
            process.send_signal(signal.SIGINT)
            assert process.wait(timeout=30) == 130
            assert process.stdout.read() == b""
            assert b"interrupted" in process.stderr.read()


# The page.

PAGE = Path(__file__).parents[2] / "docs" / "check.md"


def page_blocks(language: str) -> list[str]:
    found = re.findall(rf"^```{language}\n(.*?)^```", PAGE.read_text(), re.DOTALL | re.MULTILINE)
    assert found
    return found


def without_times(text: str) -> str:
    """The text with the figures that differ from run to run, and the address, left out."""
    text = re.sub(r"http://127\.0\.0\.1:\d+", "http://127.0.0.1:PORT", text)
    return re.sub(r"[\d.,]+ (ms|s|rows/s)\b", r"N \1", text)


def test_the_page_shows_what_the_commands_print(tmp_path):
    """The two commands of the page, with its file, print its text, but for times."""
    (table,) = page_blocks("csv")
    (tmp_path / "penguins.csv").write_text(table)
    commands = [shlex.split(line[2:]) for line in page_blocks("console")][:2]
    with running_deployment("penguins") as url:
        for words, expected in zip(commands, page_blocks("text"), strict=True):
            assert words[:2] == ["batchscore", "check"]
            arguments = [url if word == "URL" else word for word in words[2:]]
            environment = {**os.environ, "COLUMNS": "80"}
            done = command(*arguments, "-q", cwd=tmp_path, env=environment)
            assert done.returncode == 3
            assert without_times(done.stdout) == without_times(expected)


def test_the_python_of_the_page_runs(tmp_path, capsys, monkeypatch):
    """The example tells each problem of a real file."""
    monkeypatch.chdir(tmp_path)
    pq.write_table(pa.table({"x": ["a"]}), "rows.parquet")
    (block,) = page_blocks("python")
    with FaultServer(*LINEAR, token="t") as server:
        exec(block, {"batchscore": batchscore, "url": server.url, "token": "t"})
    assert capsys.readouterr().out.startswith("x column 'x' has type string, which cannot serve")


def test_every_kind_that_can_be_told_stands_in_the_page():
    """A program that reads the JSON finds each kind explained."""
    known = [value for value in vars(kinds).values() if isinstance(value, kinds.Kind)]
    names = {kind.name for kind in (*known, *kinds.ROW_KINDS)} - {"other"}
    assert len(names) > 15
    assert all(f"`{name}`" in PAGE.read_text() for name in names)
