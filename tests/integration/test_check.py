"""Checks of real input against real servers, beside what scoring the same input does."""

import io
import json
import math
from contextlib import contextmanager
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from faultserver import (
    FaultServer,
    InstancesServer,
    MlflowServer,
    Model,
    OpenInferenceServer,
)
from hypothesis import given, settings
from hypothesis import strategies as st
from integration.conftest import read_arrow
from PIL import Image

import batchscore
from batchscore.errors import UsageError

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
