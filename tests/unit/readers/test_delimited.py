"""CSV and TSV: every cell and every row of the file, in its place."""

from __future__ import annotations

import bz2
import csv
import gzip
import io
import random
from pathlib import Path
from typing import Any

import pyarrow as pa
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from batchscore.batches import RowFailure
from batchscore.errors import InputError, UsageError
from batchscore.readers import ReadOptions, open_reader
from batchscore.schema import UNTYPED_KEY

settings.register_profile(
    "readers",
    deadline=None,
    suppress_health_check=[HealthCheck.function_scoped_fixture, HealthCheck.too_slow],
)
settings.load_profile("readers")


def read(
    path: Path | str, start_row: int = 0, columns: Any = None, **options: Any
) -> tuple[list[dict[str, Any]], dict[int, str]]:
    """All rows of an input, and the failures by row."""
    opened = open_reader([str(path)], ReadOptions(**options))
    rows: list[dict[str, Any]] = []
    failures: dict[int, str] = {}
    for batch in opened.reader.batches(start_row, columns):
        failures |= {len(rows) + row: str(why) for row, why in batch.failures.items()}
        rows += batch.columns.to_pylist()
    opened.close()
    return rows, failures


def cells(path: Path | str, **options: Any) -> list[list[Any]]:
    """The cells of all rows; no row may have failed."""
    rows, failures = read(path, **options)
    assert failures == {}
    return [list(row.values()) for row in rows]


def write(path: Path, text: str | bytes) -> Path:
    path.write_bytes(text.encode() if isinstance(text, str) else text)
    return path


CELL = st.text(
    st.one_of(
        st.sampled_from(',;\t"\r\n aN'),
        st.characters(exclude_categories=["Cs"]),
    ),
    max_size=8,
)


@given(
    rows=st.lists(st.lists(CELL, min_size=3, max_size=3), max_size=12),
    delimiter=st.sampled_from([",", ";", "\t", "|", "x"]),
    line_end=st.sampled_from(["\n", "\r\n", "\r"]),
    quoting=st.sampled_from([csv.QUOTE_ALL, csv.QUOTE_MINIMAL]),
    block=st.sampled_from([7, 64, 2**20]),
)
def test_what_python_writes_is_read_back_cell_by_cell(
    tmp_path: Path, rows: list[list[str]], delimiter: str, line_end: str, quoting: int, block: int
) -> None:
    """A file written by the csv module is read back exactly, wherever blocks end."""
    text = io.StringIO(newline="")
    writer = csv.writer(text, delimiter=delimiter, lineterminator=line_end, quoting=quoting)  # type: ignore[arg-type]
    writer.writerows([["a", "b", "c"], *rows])
    path = write(tmp_path / "t.csv", text.getvalue())
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("batchscore.readers.blocks.BLOCK_BYTES", block)
        assert cells(path, delimiter=delimiter) == rows


@given(text=st.text(st.sampled_from('a",\n\r b'), max_size=40), block=st.sampled_from([1, 5, 2**20]))
def test_records_fall_apart_as_in_pyarrow_and_in_python(
    tmp_path: Path, text: str, block: int
) -> None:
    """Stray quotes, line ends of all kinds and blank lines mean what they mean elsewhere."""
    expected = [row for row in csv.reader(io.StringIO(text, newline=""), strict=False) if row]
    path = write(tmp_path / "t.csv", "h,i\n" + text)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("batchscore.readers.blocks.BLOCK_BYTES", block)
        try:
            rows, failures = read(path)
        except InputError as error:
            assert "inside a quoted cell" in str(error)
            assert ends_in_quotes(text)
            return
    assert not ends_in_quotes(text)
    assert len(rows) == len(expected)
    for number, (row, cells_expected) in enumerate(zip(rows, expected, strict=True)):
        assert (number in failures) == (len(cells_expected) != 2)
        given_cells = [*cells_expected, None, None][:2]
        assert list(row.values()) == given_cells


def ends_in_quotes(text: str) -> bool:
    """Whether CSV text ends inside quotes: then one more line end changes the last cell."""
    state = "start"
    for char in text:
        if state == "quoted":
            state = "closing" if char == '"' else "quoted"
        elif char == '"' and state in {"start", "closing"}:
            state = "quoted"
        else:
            state = "start" if char in ",\r\n" else "plain"
    return state == "quoted"
