"""Hive partitions: the key=value folders of an input as columns."""

from __future__ import annotations

import datetime
import logging
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from batchscore.errors import InputError, UsageError
from batchscore.job import Job
from batchscore.readers import ReadOptions, open_reader
from batchscore.readers.union import is_untyped


@pytest.fixture(autouse=True)
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)


def write(name: str, **columns: list[Any]) -> None:
    path = Path(name)
    path.parent.mkdir(parents=True, exist_ok=True)
    if path.suffix == ".csv":
        rows = zip(*columns.values(), strict=True)
        lines = [",".join(columns), *(",".join(map(str, row)) for row in rows)]
        path.write_text("\n".join(lines) + "\n")
    else:
        pq.write_table(pa.table(columns), path)


def read(*inputs: str, **options: Any) -> pa.Table:
    with open_reader(inputs, ReadOptions(**{"hive": True, **options})) as opened:
        reader = opened.reader
        batches = [batch.columns for batch in reader.batches()]
        return pa.Table.from_batches(batches, reader.schema)


def test_folders_become_columns_behind_those_of_the_file() -> None:
    """Each row has the value of its file's folders, as text, outermost key first."""
    write("t/date=2026-01-01/region=eu/a.parquet", x=[1, 2])
    write("t/date=2026-01-02/region=us/b.parquet", x=[3])
    found = read("t")
    assert found.to_pydict() == {
        "x": [1, 2, 3],
        "date": ["2026-01-01", "2026-01-01", "2026-01-02"],
        "region": ["eu", "eu", "us"],
    }
    assert found.schema.field("date").type == pa.string()


def test_a_value_may_serve_as_a_number() -> None:
    """Like text of CSV, it has no type of its own that would forbid it."""
    write("t/year=2026/a.parquet", x=[1])
    assert is_untyped(read("t").schema.field("year"))


def test_values_are_decoded_and_the_default_partition_is_null() -> None:
    """Percent signs as Hive and Spark write them; __HIVE_DEFAULT_PARTITION__ is null."""
    write("t/k=a%2Fb%20c/a.parquet", x=[1])
    write("t/k=__HIVE_DEFAULT_PARTITION__/a.parquet", x=[2])
    assert sorted(read("t")["k"].to_pylist(), key=str) == [None, "a/b c"]


def test_only_what_is_below_what_was_typed_counts() -> None:
    """A folder that was typed, and the fixed part of a glob, are not looked into."""
    write("t/date=2026-01-01/a.parquet", x=[1])
    write("t/date=2026-01-02/b.parquet", x=[2])
    assert read("t/date=2026-01-01").schema.names == ["x"]
    assert read("t/date=2026-01-01/a.parquet").schema.names == ["x"]
    assert read("t/date=*/a.parquet")["date"].to_pylist() == ["2026-01-01"]
    assert read("t/**/*.parquet")["date"].to_pylist() == ["2026-01-01", "2026-01-02"]
    assert read("./t/").schema.names == read("t").schema.names == ["x", "date"]


def test_files_that_disagree_have_none_of_them(caplog: pytest.LogCaptureFixture) -> None:
    """Where not all files have the same keys, none is a column, and a warning says so."""
    write("t/date=2026-01-01/a.parquet", x=[1])
    write("t/b.parquet", x=[2])
    with caplog.at_level(logging.WARNING, "batchscore"):
        assert read("t").schema.names == ["x"]
    assert "'date', " in caplog.text or "has none" in caplog.text


def test_no_hive_switches_them_off() -> None:
    """--no-hive reads the files alone."""
    write("t/date=2026-01-01/a.parquet", x=[1])
    assert read("t", hive=False).schema.names == ["x"]


def test_the_files_own_column_counts() -> None:
    """What is in the data stays as it is; the folder's value is for files without it."""
    write("t/date=2026-01-01/a.parquet", date=["own"], x=[1])
    write("t/date=2026-01-02/b.parquet", x=[2])
    assert read("t")["date"].to_pylist() == ["own", "2026-01-02"]


def test_type_gives_a_folders_values_a_type() -> None:
    """--type works for them as for columns of CSV, and refuses what is no such value."""
    write("t/date=2026-01-01/a.csv", x=[1])
    found = read("t", types={"date": "date", "x": "int"})
    assert found.to_pylist() == [{"x": 1, "date": datetime.date(2026, 1, 1)}]
    with pytest.raises(InputError, match="the folder date=2026-01-01 is no int64"):
        read("t", types={"date": "int"})
    write("p/date=2026-01-01/a.parquet", x=[1])
    assert read("p", types={"date": "date"}).schema.field("date").type == pa.date32()
    with pytest.raises(UsageError, match="no such column"):
        read("p", types={"dat": "date"})


def test_rows_in_the_middle_have_them_too() -> None:
    """Reading from a later row on, and only some columns, gives the same values."""
    for day in range(1, 4):
        write(f"t/day={day}/a.csv", x=list(range(10)), y=list(range(10)))
    with open_reader(["t"], ReadOptions(hive=True)) as opened:
        for columns in (None, {"day"}, {"day", "y"}):
            for start in (0, 5, 15, 29):
                batches = opened.reader.batches(start, columns)
                rows = [row for batch in batches for row in batch.columns.to_pylist()]
                assert [row["day"] for row in rows] == list("1" * 10 + "2" * 10 + "3" * 10)[start:]


def test_a_moved_partition_is_another_input() -> None:
    """--resume and rescore tell the same bytes in another folder from those before."""
    write("t/day=1/a.csv", x=[1])

    def files() -> Any:
        with open_reader(["t"], ReadOptions(hive=True)) as opened:
            config = type("Config", (), {"resume": False, "source_column": None,
                                         "output_options": lambda self: {}})()  # fmt: skip
            return Job.of(config, opened)

    before = files()
    Path("t/day=1").rename("t/day=2")
    assert files().differences(before.as_json()) == ["the input differs (t/day=2/a.csv was day=1)"]
