"""Exporters: what is read back from the output is what was in the sealed file."""

from __future__ import annotations

import csv
import datetime as dt
import json
import math
import tracemalloc
from decimal import Decimal
from typing import TYPE_CHECKING, Any

import polars as pl
import pyarrow as pa
import pyarrow.csv as pacsv
import pyarrow.parquet as pq
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from batchscore.errors import UsageError
from batchscore.sinks import exporter, output_format_of

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence
    from pathlib import Path

NASTY = [
    *("", None, 'say "hi"', "a,b;c\td", "two\nlines\r\nand\rmore", "=1+1", "+1", "@a", "-"),
    *("\0\x01\x7f", "é😀", " x ", "null", "NaN", "'", "\ufeff", "\\", '"', "\r", "\n", ","),
]


def export(folder: Path, output_format: str, table: pa.Table, rows_a_batch: int = 3) -> Path:
    """Write the table as a sealed file and export it."""
    sealed, out = folder / "rows.arrow", folder / "export"
    with pa.ipc.new_file(str(sealed), table.schema) as writer:
        writer.write_table(table, max_chunksize=rows_a_batch)
    out.unlink(missing_ok=True)
    chosen = exporter(output_format)
    assert chosen is not None
    chosen.export(sealed, out)
    return out


def csv_rows(path: Path) -> list[list[str]]:
    """The rows as Python's own reader understands them, the header first."""
    with path.open(encoding="utf-8", newline="") as file:
        return list(csv.reader(file, strict=True))


def json_rows(path: Path) -> list[dict[str, Any]]:
    """A value a line; a line feed ends every line, the last included."""
    lines = path.read_bytes().split(b"\n")
    assert lines.pop() == b""
    return [json.loads(line, parse_constant=pytest.fail) for line in lines]


@pytest.fixture(scope="module")
def work(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """One folder for examples that replace each other."""
    return tmp_path_factory.mktemp("exports")


def tensors() -> pa.Array:
    """Two by one numbers, a null among them."""
    kind = pa.fixed_shape_tensor(pa.float32(), [2, 1])
    return pa.ExtensionArray.from_storage(
        kind, pa.array([[1.5, 2.0], None, [math.nan, -1.0]], kind.storage_type)
    )


RICH = pa.table(
    {
        "id": pa.array([2**53 + 1, None, -(2**63)], pa.int64()),
        "big": pa.array([2**64 - 1, 0, None], pa.uint64()),
        "float": pa.array([0.1, math.nan, -math.inf]),
        "half": pa.array([0.5, None, 1.0], pa.float32()).cast(pa.float16()),
        "money": pa.array([Decimal("1234567890123456789.10"), None, Decimal("-0.01")]),
        "flag": pa.array([True, None, False]),
        "at": pa.array([1, None, -1], pa.timestamp("ns", "Europe/Stockholm")),
        "day": pa.array([dt.date(1999, 12, 31), None, dt.date(2000, 1, 1)]),
        "took": pa.array([1, None, -1], pa.duration("ms")),
        "text": pa.array(["", None, 'a "b"\nc'], pa.string_view()),
        "picture": pa.array([b"\x89PNG\r\n\x1a\n", None, b""]),
        "tensor": tensors(),
        "probs": pa.array([{"cat": 0.9, "dog": None}, None, {"cat": 0.0, "dog": 1.0}]),
        "labels": pa.array([[{"label": 'x"', "prob": 1.0}], None, []]),
        "nothing": pa.nulls(3),
    }
).replace_schema_metadata({"endpoint": "http://host", "é": "ü"})


# CSV.


def test_csv_has_one_exact_text_for_each_type(tmp_path: Path) -> None:
    """Each type has one exact form of cell; null is nothing at all, "" is quoted."""
    lines = export(tmp_path, "csv", RICH).read_text(encoding="utf-8").split("\n")
    assert lines[0] == ",".join(f'"{name}"' for name in RICH.schema.names)
    assert lines[1] == (
        "9007199254740993,18446744073709551615,0.1,0.5,1234567890123456789.10,true,"
        '"1970-01-01T01:00:00.000000001+01:00","1999-12-31","PT0.001S","",'
        '"data:image/png;base64,iVBORw0KGgo=","[[1.5],[2.0]]",'
        '"{""cat"":0.9,""dog"":null}","[{""label"":""x\\"""",""prob"":1.0}]",'
    )
    assert lines[2] == ",0,nan" + "," * 12
    assert lines[3].startswith(
        '-9223372036854775808,,-inf,1.0,-0.01,false,"1970-01-01T00:59:59.999'
    )
    assert lines[3].endswith('"-PT0.001S","a ""b""')
    assert lines[4] == (
        'c","data:application/octet-stream;base64,","[[null],[-1.0]]","{""cat"":0.0,""dog"":1.0}","[]",'
    )
    assert lines[5:] == [""]


def test_csv_without_rows_has_its_header(tmp_path: Path) -> None:
    """The header stands there with no rows as well."""
    out = export(tmp_path, "csv", RICH.slice(0, 0))
    assert csv_rows(out) == [RICH.schema.names]


def test_csv_leaves_text_unharmed(tmp_path: Path) -> None:
    """Quotes, line ends, delimiters, formulas and control characters come back, by any reader."""
    table = pa.table({"id": range(len(NASTY)), "te,xt": NASTY})
    out = export(tmp_path, "csv", table)
    rows = csv_rows(out)
    assert rows[0] == table.schema.names
    assert [row[1] for row in rows[1:]] == [text or "" for text in NASTY]
    by_arrow = pacsv.read_csv(
        out,
        parse_options=pacsv.ParseOptions(newlines_in_values=True),
        convert_options=pacsv.ConvertOptions(
            null_values=[""], strings_can_be_null=True, quoted_strings_can_be_null=False
        ),
    )
    assert by_arrow.column(1).to_pylist() == NASTY
    assert pl.read_csv(out)["te,xt"].to_list() == NASTY


@pytest.mark.parametrize("output_format", ["csv", "jsonl"])
def test_whole_floats_stay_floats(tmp_path: Path, output_format: str) -> None:
    """A reader that guesses from the first rows takes a column of floats for one."""
    table = pa.table({"age": [float(i) for i in range(2000)] + [0.75]})
    out = export(tmp_path, output_format, table, rows_a_batch=100)
    read = pl.read_csv if output_format == "csv" else pl.read_ndjson
    assert read(out)["age"].to_list() == table.column("age").to_pylist()


def test_csv_leaves_names_unharmed(tmp_path: Path) -> None:
    """Column names are quoted like text."""
    names = ['na"me', "a,b", "c\nd", "", "é"]
    table = pa.Table.from_arrays([pa.array([1])] * 5, names)
    assert csv_rows(export(tmp_path, "csv", table)) == [names, ["1"] * 5]


@settings(max_examples=100)
@given(
    rows=st.lists(
        st.tuples(
            st.none() | st.integers(-(2**63), 2**63 - 1),
            st.none() | st.floats(),
            st.none() | st.text(),
            st.none() | st.booleans(),
            st.none() | st.lists(st.none() | st.text(max_size=5), max_size=3),
        ),
        max_size=10,
    )
)
def test_csv_round_trips(work: Path, rows: Sequence[tuple[Any, ...]]) -> None:
    """Any table is read back value by value from the cells."""
    schema = pa.schema(
        {
            "int": pa.int64(),
            "float": pa.float64(),
            "text": pa.string(),
            "flag": pa.bool_(),
            "list": pa.list_(pa.string()),
        }
    )
    columns = [pa.array([row[i] for row in rows], schema.field(i).type) for i in range(5)]
    out = export(work, "csv", pa.Table.from_arrays(columns, schema=schema))
    found = csv_rows(out)[1:]
    assert len(found) == len(rows)
    for cells, (integer, number, text, flag, items) in zip(found, rows, strict=True):
        assert cells[0] == ("" if integer is None else str(integer))
        if number is None or math.isnan(number):
            assert cells[1] == ("" if number is None else "nan")
        else:
            assert float(cells[1]) == number
        assert cells[2] == (text or "")
        assert cells[3] == {None: "", True: "true", False: "false"}[flag]
        assert (json.loads(cells[4]) if cells[4] else None) == items


# JSON Lines.


def test_jsonl_says_every_value_exactly_and_nulls_too(tmp_path: Path) -> None:
    """Each row is an object with every column, numbers exact, nulls said."""
    rows = json_rows(export(tmp_path, "jsonl", RICH))
    assert [list(row) for row in rows] == [RICH.schema.names] * 3
    assert rows[0] == {
        "id": 2**53 + 1,
        "big": 2**64 - 1,
        "float": 0.1,
        "half": 0.5,
        "money": 1234567890123456789.10,
        "flag": True,
        "at": "1970-01-01T01:00:00.000000001+01:00",
        "day": "1999-12-31",
        "took": "PT0.001S",
        "text": "",
        "picture": "data:image/png;base64,iVBORw0KGgo=",
        "tensor": [[1.5], [2.0]],
        "probs": {"cat": 0.9, "dog": None},
        "labels": [{"label": 'x"', "prob": 1.0}],
        "nothing": None,
    }
    assert {name for name, value in rows[1].items() if value is not None} == {"big"}
    assert rows[2]["tensor"] == [[None], [-1.0]]
    assert rows[2]["text"] == 'a "b"\nc'
    assert b'"money":1234567890123456789.10,' in (tmp_path / "export").read_bytes()


def test_jsonl_without_rows_is_empty(tmp_path: Path) -> None:
    """No rows are no lines."""
    assert export(tmp_path, "jsonl", RICH.slice(0, 0)).read_bytes() == b""


def test_jsonl_is_read_by_polars(tmp_path: Path) -> None:
    """Polars reads the lines, nested columns too."""
    table = RICH.select(["id", "text", "probs"])
    found = pl.read_ndjson(export(tmp_path, "jsonl", table))
    assert found.to_dicts() == table.to_pylist()


@settings(max_examples=100)
@given(
    names=st.lists(st.text(max_size=5), unique=True, min_size=1, max_size=4),
    rows=st.lists(
        st.none() | st.text() | st.dictionaries(st.text(max_size=3), st.text(), max_size=2),
        max_size=9,
    ),
)
def test_jsonl_round_trips(work: Path, names: list[str], rows: list[Any]) -> None:
    """Any text, key and column name comes back."""
    words = [row if isinstance(row, str) else None for row in rows]
    maps = [list(row.items()) if isinstance(row, dict) else None for row in rows]
    pair = [pa.array(words, pa.string()), pa.array(maps, pa.map_(pa.string(), pa.string()))]
    columns = [pair[i % 2] for i in range(len(names))]
    found = json_rows(export(work, "jsonl", pa.Table.from_arrays(columns, names)))
    as_maps = [row if isinstance(row, dict) else None for row in rows]
    expected = [words if i % 2 == 0 else as_maps for i in range(len(names))]
    assert [[row[name] for row in found] for name in names] == expected


# Parquet.


def test_parquet_round_trips(tmp_path: Path) -> None:
    """Types, extension types, values and metadata are those of the sealed file."""
    table = RICH.set_column(9, "text", RICH.column("text").cast(pa.string()))
    out = export(tmp_path, "parquet", table)
    found = pq.read_table(out)
    assert found.schema.equals(table.schema)  # but for the name that Parquet has for list items
    assert found.schema.metadata == table.schema.metadata
    assert found.drop(["float", "tensor"]).equals(table.drop(["float", "tensor"]))
    assert str(found.column("float")) == str(table.column("float"))
    assert found.column("tensor").type == table.column("tensor").type
    assert str(found.column("tensor")) == str(table.column("tensor"))
    assert pl.read_parquet(out, columns=["id", "probs"]).to_dicts() == (
        table.select(["id", "probs"]).to_pylist()
    )


@pytest.mark.parametrize(
    ("rows_a_batch", "expected"),
    [
        (1024, [131_072, 131_072, 37_856]),
        (1000, [132_000, 132_000, 36_000]),
        (300_000, [131_072, 131_072, 37_856]),
    ],
)
def test_parquet_gathers_batches(tmp_path: Path, rows_a_batch: int, expected: list[int]) -> None:
    """Batches are gathered into row groups of about 128k rows, compressed with zstd."""
    table = pa.table({"n": pa.array(range(300_000), pa.int32())})
    metadata = pq.read_metadata(export(tmp_path, "parquet", table, rows_a_batch))
    groups = [metadata.row_group(i) for i in range(metadata.num_row_groups)]
    assert [group.num_rows for group in groups] == expected
    assert {group.column(0).compression for group in groups} == {"ZSTD"}
    assert pq.read_table(tmp_path / "export").equals(table)


def test_parquet_bounds_row_groups_of_large_rows(tmp_path: Path) -> None:
    """Large rows end a row group at 64 MiB."""
    table = pa.table({"b": [bytes(33 * 2**20)] * 3})
    metadata = pq.read_metadata(export(tmp_path, "parquet", table, rows_a_batch=1))
    groups = [metadata.row_group(i).num_rows for i in range(metadata.num_row_groups)]
    assert groups == [2, 1]


def test_parquet_without_rows_has_its_schema(tmp_path: Path) -> None:
    """With no rows the columns and the metadata are there."""
    table = RICH.slice(0, 0)
    found = pq.read_table(export(tmp_path, "parquet", table))
    assert found.num_rows == 0
    assert found.schema.metadata == table.schema.metadata


def test_parquet_refuses_what_it_has_no_type_for_early(tmp_path: Path) -> None:
    """A type that Parquet does not have is found from the schema, and named with its column."""
    schema = pa.schema([("fine", pa.int8()), ("hollow", pa.struct([]))])
    with pytest.raises(UsageError, match="'hollow'"):
        exporter("parquet").check_schema(schema)
    for output_format in ("csv", "jsonl"):
        exporter(output_format).check_schema(schema)
    exporter("parquet").check_schema(RICH.schema)


# All of them.


@pytest.mark.parametrize("output_format", ["csv", "jsonl", "parquet"])
def test_exports_are_repeatable(tmp_path: Path, output_format: str) -> None:
    """Equal sealed files give equal outputs."""
    first = export(tmp_path, output_format, RICH).read_bytes()
    assert export(tmp_path, output_format, RICH).read_bytes() == first


@pytest.fixture
def arrow_memory() -> Iterator[pa.MemoryPool]:
    """What PyArrow allocates from now on, the most at once included."""
    usual = pa.default_memory_pool()
    counted = pa.proxy_memory_pool(usual)
    pa.set_memory_pool(counted)
    yield counted
    pa.set_memory_pool(usual)


@pytest.mark.parametrize("output_format", ["csv", "jsonl"])
def test_an_export_holds_only_some_batches_in_memory(
    tmp_path: Path, arrow_memory: pa.MemoryPool, output_format: str
) -> None:
    """A file of 48 MB is exported with no more of it in memory at once than some batches."""
    batch = pa.record_batch({"text": ["a\n" * 500] * 1000, "bytes": [bytes(200)] * 1000})
    sealed = tmp_path / "rows.arrow"
    with pa.ipc.new_file(str(sealed), batch.schema) as writer:
        for _ in range(40):
            writer.write_batch(batch)
    chosen = exporter(output_format)
    assert chosen is not None
    idle = arrow_memory.bytes_allocated()
    tracemalloc.start()
    chosen.export(sealed, tmp_path / "export")
    python_peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert arrow_memory.max_memory() - idle + python_peak < 20e6 < sealed.stat().st_size


# Choosing the format.


@pytest.mark.parametrize(
    ("out", "given", "expected"),
    [
        ("a/b.arrow", None, "arrow"),
        ("b.IPC", None, "arrow"),
        ("b.feather", None, "arrow"),
        ("b.parquet", None, "parquet"),
        ("b.pq", None, "parquet"),
        ("b.csv", None, "csv"),
        ("b.jsonl", None, "jsonl"),
        ("s3://bucket/b.ndjson", None, "jsonl"),
        ("b.csv", "parquet", "parquet"),
        ("b", "csv", "csv"),
        ("-", None, "arrow"),
        ("-", "jsonl", "jsonl"),
    ],
)
def test_the_format_of_an_output_is_told_by_option_or_suffix(
    out: str, given: str | None, expected: str
) -> None:
    """The suffix tells the format, an option overrules it, standard output is Arrow."""
    assert output_format_of(out, given) == expected
    assert (exporter(expected) is None) == (expected == "arrow")


@pytest.mark.parametrize("out", ["b", "b.xlsx", "b.csv.gz", ".csv", "folder.csv/b"])
def test_an_unknown_suffix_names_the_option(out: str) -> None:
    """A suffix that tells nothing is a usage error that names the option."""
    with pytest.raises(UsageError, match="--output-format"):
        output_format_of(out, None)


def test_an_unknown_format_lists_those_that_are() -> None:
    """A format that is not there is a usage error that lists those that are."""
    with pytest.raises(UsageError, match="arrow, parquet, csv, jsonl"):
        output_format_of("b.csv", "xlsx")
    with pytest.raises(ValueError, match="xlsx"):
        exporter("xlsx")
