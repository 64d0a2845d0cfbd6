"""CSV and TSV: every cell and every row of the file, in its place."""

from __future__ import annotations

import bz2
import csv
import gzip
import io
import random
from typing import TYPE_CHECKING, Any

import pyarrow as pa
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from batchscore.batches import RowFailure
from batchscore.errors import InputError, UsageError
from batchscore.readers import ReadOptions, open_reader
from batchscore.schema import UNTYPED_KEY

if TYPE_CHECKING:
    from pathlib import Path

relaxed = settings(
    deadline=None,
    suppress_health_check=[HealthCheck.function_scoped_fixture, HealthCheck.too_slow],
)


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
    """The path, after the text was written to it."""
    path.write_bytes(text.encode() if isinstance(text, str) else text)
    return path


CELL = st.text(
    st.one_of(
        st.sampled_from(',;\t"\r\n aN'),
        st.characters(exclude_categories=["Cs"]),
    ),
    max_size=8,
)


@relaxed
@given(
    rows=st.lists(st.lists(CELL, min_size=3, max_size=3), max_size=12),
    delimiter=st.sampled_from([",", ";", "\t", "|", "x"]),
    # With a line end of one character the csv module leaves the other one unquoted.
    style=st.sampled_from(
        [*((end, csv.QUOTE_ALL) for end in ("\n", "\r", "\r\n")), ("\r\n", csv.QUOTE_MINIMAL)]
    ),
    block=st.sampled_from([7, 64, 2**20]),
)
def test_what_python_writes_is_read_back_cell_by_cell(
    tmp_path: Path, rows: list[list[str]], delimiter: str, style: tuple[str, Any], block: int
) -> None:
    """A file written by the csv module is read back exactly, wherever blocks end."""
    text = io.StringIO(newline="")
    writer = csv.writer(text, delimiter=delimiter, lineterminator=style[0], quoting=style[1])
    writer.writerows([["a", "b", "c"], *rows])
    path = write(tmp_path / "t.csv", text.getvalue())
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("batchscore.readers.blocks.BLOCK_BYTES", block)
        assert cells(path, delimiter=delimiter) == rows


@relaxed
@given(
    text=st.text(st.sampled_from('a",\n\r b'), max_size=40), block=st.sampled_from([1, 5, 2**20])
)
def test_records_fall_apart_as_in_pyarrow_and_in_python(
    tmp_path: Path, text: str, block: int
) -> None:
    """Stray quotes, line ends of all kinds and blank lines mean what they mean elsewhere."""
    expected = [row for row in csv.reader(io.StringIO(text, newline=""), strict=False) if row]
    path = write(tmp_path / "t.csv", "h,i\n" + text)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("batchscore.readers.blocks.BLOCK_BYTES", block)
        if ends_in_quotes(text):
            with pytest.raises(InputError, match="inside a quoted cell"):
                read(path)
            return
        rows, failures = read(path)
    assert len(rows) == len(expected)
    for number, (row, cells_expected) in enumerate(zip(rows, expected, strict=True)):
        assert (number in failures) == (len(cells_expected) != 2)
        given_cells = [*cells_expected, None, None][:2]
        assert list(row.values()) == given_cells


@relaxed
@given(
    values=st.lists(st.sampled_from(["", "a", "1,2", 'q"\n\r']), max_size=12),
    quoting=st.sampled_from(["none", "all", "needed"]),
    end=st.sampled_from(["\n", "\r", "\r\n"]),
    is_ended=st.booleans(),
    block=st.sampled_from([1, 5, 2**20]),
    start=st.integers(0, 3),
)
def test_a_blank_line_of_a_single_column_is_a_row(
    tmp_path: Path,
    values: list[str],
    quoting: str,
    end: str,
    is_ended: bool,
    block: int,
    start: int,
) -> None:
    """Where a record is one field, an empty one is a blank line, and no row is lost."""
    if quoting == "none":
        values = [value for value in values if value in {"", "a"}]
    lines = ["h"]
    for value in values:
        quoted = '"' + value.replace('"', '""') + '"'
        lines.append(quoted if quoting == "all" or len(value) > 1 else value)
    # Without the last line end, a last empty value leaves no trace.
    is_ended = is_ended or lines[-1] == ""
    path = write(tmp_path / "t.csv", end.join(lines) + (end if is_ended else ""))
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("batchscore.readers.blocks.BLOCK_BYTES", block)
        rows, failures = read(path, start_row=start)
    assert failures == {}
    assert [row["h"] for row in rows] == values[start:]


@pytest.mark.parametrize("text", ["h\n1\n\n2,3\n\n", 'h\n"1"\n\n"2",3\n\n'])
def test_blank_lines_of_a_single_column_stand_beside_ragged_records(
    tmp_path: Path, text: str
) -> None:
    """A ragged record fails in its place among blank lines."""
    rows, failures = read(write(tmp_path / "t.csv", text))
    assert [row["h"] for row in rows] == ["1", "", "2", ""]
    assert failures == {2: "invalid_input: CSV record has 2 fields, the header 1"}


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


def test_an_empty_cell_is_text_and_the_null_texts_are_null_only_unquoted(tmp_path: Path) -> None:
    """An empty cell stays "", quoted or not; unquoted cells equal to a null text are null."""
    path = write(tmp_path / "t.csv", 'a,b\n,""\nNA,"NA"\n-,x\n')
    assert cells(path) == [["", ""], ["NA", "NA"], ["-", "x"]]
    assert cells(path, null=("NA", "-")) == [["", ""], [None, "NA"], [None, "x"]]
    assert cells(write(tmp_path / "u.csv", "a\né\n"), null=("é",)) == [[None]]
    assert cells(path, null=("",)) == [[None, ""], ["NA", "NA"], ["-", "x"]]


def test_columns_are_text_without_a_type(tmp_path: Path) -> None:
    """No type is guessed: every column is a string that is marked as having none."""
    path = write(tmp_path / "t.csv", "a,b\n1,x\n")
    schema = open_reader([str(path)], ReadOptions(types={"b": "string"})).reader.schema
    assert schema.field("a").type == schema.field("b").type == pa.string()
    assert schema.field("a").metadata == {UNTYPED_KEY: b"1"}
    assert schema.field("b").metadata is None


TYPED = [
    ("int", "7", 7), ("int64", " -7 ", -7), ("uint8", "255", 255), ("float", "1e3", 1000.0),
    ("float32", "0.5", 0.5), ("bool", "true", True), ("str", "x", "x"), ("string", "", ""),
    ("date", "2024-02-29", "2024-02-29"), ("decimal(5,2)", "12.34", "12.34"),
    ("timestamp", "2024-02-29 12:30:00", "2024-02-29 12:30:00"),
    ("timestamp[s, UTC]", "2024-01-01T00:00:00Z", "2024-01-01 00:00:00+00:00"),
]  # fmt: skip


@pytest.mark.parametrize(("name", "text", "value"), TYPED)
def test_a_named_type_converts_its_column(
    tmp_path: Path, name: str, text: str, value: object
) -> None:
    """``--type COLUMN=TYPE`` turns the cells into values, and an empty cell into null."""
    path = write(tmp_path / "t.csv", f'a,b\n1,"{text}"\n2,\n3,""\n')
    got = [row[1] for row in cells(path, types={"b": name})]
    shown = got[0] if type(value) in {int, float, bool} else str(got[0])
    empty = "" if name in {"str", "string"} else None
    assert [shown, *got[1:]] == [value, empty, empty]


def test_a_cell_that_is_not_of_the_type_fails_its_row_alone(tmp_path: Path) -> None:
    """A bad cell is null and its row fails, telling column, cell and type; others are not."""
    lines = [str(n) if n % 1000 else f"bad{n}" for n in range(5000)]
    path = write(tmp_path / "t.csv", "x,y\n" + "".join(f"{line},k\n" for line in lines))
    rows, failures = read(path, types={"x": "int64"})
    assert [row["x"] for row in rows] == [n if n % 1000 else None for n in range(5000)]
    assert set(failures) == {0, 1000, 2000, 3000, 4000}
    assert failures[1000] == "invalid_input: column 'x': 'bad1000' is no int64"
    assert {row["y"] for row in rows} == {"k"}


@pytest.mark.parametrize(
    ("name", "text", "why"),
    [
        ("datetime", "2024-01-02T03:04:05Z", "timestamp[us, tz=UTC] has"),
        ("timestamp[s]", "2024-01-02 03:04+02:00", "timestamp[s, tz=UTC] has"),
        ("timestamp[ms, tz=UTC]", "2024-01-02 03:04:05", "lacks the time zone"),
        ("timestamp[ms, tz=UTC]", "2024-13-02 03:04:05", "lacks the time zone"),
        ("datetime", "2024-13-02T03:04:05", "is no timestamp[us]"),
        ("date", "2024-01-02T03:04:05Z", "is no date32"),
    ],
)
def test_a_time_zone_too_many_or_too_few_is_told(
    tmp_path: Path, name: str, text: str, why: str
) -> None:
    """A zone is never dropped nor made up: the row fails, and says which type takes the cell."""
    rows, failures = read(write(tmp_path / "t.csv", f"a,b\n1,{text}\n"), types={"b": name})
    assert rows == [{"a": "1", "b": None}]
    assert why in failures[0]


@pytest.mark.parametrize("zone", ["UTC", "Europe/Berlin", "+02:00", "-03:30"])
def test_zones_by_name_and_offset_are_known(tmp_path: Path, zone: str) -> None:
    """--type takes what Arrow takes for a time zone."""
    path = write(tmp_path / "t.csv", "a\n2024-01-02T03:04:05Z\n")
    schema = open_reader([str(path)], ReadOptions(types={"a": f"timestamp[s, tz={zone}]"})).reader
    assert schema.schema.field("a").type == pa.timestamp("s", zone)


@pytest.mark.parametrize(
    ("types", "message"),
    [
        ({"prize": "int"}, "--type prize=...: the CSV input has no such column; did you mean 'pri"),
        ({"price": "flot"}, "--type price=flot: unknown type; did you mean float?"),
        ({"price": "decimal(99,1)"}, "--type price=decimal(99,1): precision"),
        ({"price": "timestamp[s, tz=Europe/Berln]"},
         "--type price=timestamp[s, tz=Europe/Berln]: 'Europe/Berln' is no time zone; did you"),
    ],
)  # fmt: skip
def test_a_wrong_type_option_is_refused_with_the_nearest_name(
    tmp_path: Path, types: dict[str, str], message: str
) -> None:
    """An unknown column or type is a usage error that names what was meant."""
    path = write(tmp_path / "t.csv", "price\n1\n")
    with pytest.raises(UsageError) as caught:
        open_reader([str(path)], ReadOptions(types=types))
    assert str(caught.value).startswith(message)


@pytest.mark.parametrize("seed", range(4))
def test_uneven_records_keep_their_place(tmp_path: Path, seed: int) -> None:
    """A record with too few or too many fields fails alone, at any place in a large file."""
    rng = random.Random(seed)
    share = [0.001, 0.05, 0.5, 1.0][seed]
    text, expected, bad = ["a,b,c"], [], {}
    for row in range(30_000):
        width = rng.choice([1, 2, 4, 9]) if rng.random() < share else 3
        plain = [f"{row}", rng.choice(["é", "q,q", 'say "hi"', "two\nlines", "x" * 90]), "z"]
        values = [*plain, "5", "6", "7", "8", "9", "10"][:width]
        quoted = ['"' + v.replace('"', '""') + '"' if set(v) & set(',"\n') else v for v in values]
        if rng.random() < 0.1:
            text.append("")
        text.append(",".join(quoted))
        expected.append([*values, None, None][:3])
        if width != 3:
            plural = "" if width == 1 else "s"
            bad[row] = f"invalid_input: CSV record has {width} field{plural}, the header 3"
    path = write(tmp_path / "t.csv", "\n".join(text))
    rows, failures = read(path)
    assert [list(row.values()) for row in rows] == expected
    assert failures == bad
    start = rng.randrange(30_000)
    rows, failures = read(path, start_row=start, columns=["b"])
    assert [row["b"] for row in rows] == [row[1] for row in expected[start:]]
    assert failures == {row - start: why for row, why in bad.items() if row >= start}


def test_text_that_is_not_utf8_fails_its_row_alone(tmp_path: Path) -> None:
    """Bytes that are not UTF-8 make their cell null and their row fail, also beside uneven rows."""
    path = write(tmp_path / "t.csv", b"a,b\nok,1\n\xff\xfe,2\nonly \xe9\nlast,\xc3\xa9\n")
    rows, failures = read(path)
    assert [list(row.values()) for row in rows] == [
        ["ok", "1"], [None, "2"], [None, None], ["last", "é"],
    ]  # fmt: skip
    assert failures == {
        1: "invalid_input: column 'a': the cell is not valid utf-8",
        2: "invalid_input: CSV record has 1 field, the header 2",
    }
    rows, failures = read(path, columns=["b"])
    assert set(failures) == {2}


@pytest.mark.parametrize(
    ("encoding", "name", "value"),
    [
        ("latin-1", "näme", "é"), ("cp1252", "näme", "€"), ("shift_jis", "n日me", "本"),
        ("utf-16", "näme", "本"), ("utf-16-le", "näme", "本"), ("utf-32", "näme", "😀"),
        ("utf-8-sig", "näme", "😀"),
    ],
)  # fmt: skip
def test_other_encodings_are_read(tmp_path: Path, encoding: str, name: str, value: str) -> None:
    """Any encoding that Python knows is read, with or without a byte order mark."""
    path = write(tmp_path / "t.csv", f"{name},b\n{value},2\n".encode(encoding))
    assert read(path, encoding=encoding) == ([{name: value, "b": "2"}], {})


def test_a_byte_that_cannot_be_decoded_fails_its_row_alone(tmp_path: Path) -> None:
    """In another encoding, too, one bad byte costs one row."""
    path = write(tmp_path / "t.csv", b"a,b\n1,x\n2,\x81\n3,\xe9\n")
    rows, failures = read(path, encoding="cp1252")
    assert [row["b"] for row in rows] == ["x", None, "é"]
    assert failures == {1: "invalid_input: column 'b': the cell is not valid cp1252"}


@pytest.mark.parametrize("text", ["a,b\n", "a,b", "\ufeffa,b\r\n", "\n\na,b\n\n\n"])
def test_a_header_without_rows_is_a_table_without_rows(tmp_path: Path, text: str) -> None:
    """The columns are known, there are no rows; a byte order mark is no part of a name."""
    path = write(tmp_path / "t.csv", text)
    assert open_reader([str(path)], ReadOptions()).reader.schema.names == ["a", "b"]
    assert cells(path) == []


def test_large_cells_and_nul_bytes_are_read(tmp_path: Path) -> None:
    """A cell may be much larger than a block, and hold any character."""
    big = "line one\n" * 600_000 + '"quoted"'
    path = write(tmp_path / "t.csv", 'a,b\n1,"' + big.replace('"', '""') + '"\n2,\0x\0\n')
    assert cells(path) == [["1", big], ["2", "\0x\0"]]


@pytest.mark.parametrize("suffix", ["csv", "tsv", "csv.gz", "tsv.bz2", "csv.zst", "CSV.GZ"])
def test_compressed_files_are_read(tmp_path: Path, suffix: str) -> None:
    """The compressions are undone, gzip also in several members; TSV is split at tabs."""
    mark, cell = ("\t", "x,") if "tsv" in suffix else (",", "x\t")
    text = f"a{mark}b\n" + "".join(f"{n}{mark}{cell}\n" for n in range(50))
    half = len(text) // 2
    data = text.encode()
    if suffix.lower().endswith("gz"):
        data = gzip.compress(data[:half]) + gzip.compress(data[half:])
    elif suffix.endswith("bz2"):
        data = bz2.compress(data)
    elif suffix.endswith("zst"):
        data = pa.compress(data, codec="zstd", asbytes=True)
    path = write(tmp_path / f"t.{suffix}", data)
    assert cells(path) == [[str(n), cell] for n in range(50)]


def test_one_column_may_have_no_name(tmp_path: Path) -> None:
    """The index that pandas writes first, under an empty name, is a column like any other."""
    path = write(tmp_path / "t.csv", ",a\n0,x\n1,y\n")
    assert read(path) == ([{"": "0", "a": "x"}, {"": "1", "a": "y"}], {})


BROKEN: list[tuple[bytes, str]] = [
    (b"", "is empty (0 bytes)"),
    (b"\n\n", "the file has no header"),
    (b"\xef\xbb\xbf", "the file has no header"),
    (b"a,b,a,c,c\n1,2,3,4,5\n", "several columns are named 'a', 'c'; rename them"),
    (b"a,,\n1,2,3\n", "several columns are named ''; rename them"),
    (b"a,\xff\n1,2\n", "the header is not valid utf-8; say --encoding"),
    (b'a,"b\n1,2\n', "the file ends inside a quoted cell of the header"),
    (b'a,b\n1,2\n3,"x\n5,6\n', "ends inside a quoted cell of row 2 (counted from 1"),
    (b'a,b\n1,2\n3,x"y\n5,"6\n', "ends inside a quoted cell of row 3 (counted from 1"),
    (b"PAR1 and more", "the file is a Parquet file, not csv"),
    (b"PK\x03\x04rest", "the file is a ZIP or Excel file, not csv"),
    (gzip.compress(b"a\n1\n", mtime=0), "the file is gzip; rename it to"),
    ("a,b\n".encode("utf-16"), "the file is UTF-16; say --encoding utf-16"),
]


@pytest.mark.parametrize(("content", "message"), BROKEN)
def test_a_file_that_cannot_be_csv_is_refused_by_name(
    tmp_path: Path, content: bytes, message: str
) -> None:
    """What is wrong with the whole file is told with its name."""
    path = write(tmp_path / "broken.csv", content)
    with pytest.raises(InputError) as caught:
        read(path)
    assert str(caught.value).startswith(str(path))
    assert message in str(caught.value)


@pytest.mark.parametrize("suffix", ["gz", "bz2", "zst"])
def test_a_damaged_compressed_file_is_refused_by_name(tmp_path: Path, suffix: str) -> None:
    """A compressed file that was cut off or is none is an error that names it."""
    data = "a,b\n" + "".join(f"{random.Random(n).random()},y\n" for n in range(50_000))
    packed = {
        "gz": gzip.compress(data.encode()),
        "bz2": bz2.compress(data.encode()),
        "zst": pa.compress(data.encode(), codec="zstd", asbytes=True),
    }[suffix]
    path = write(tmp_path / f"t.csv.{suffix}", packed[: len(packed) // 2])
    with pytest.raises(InputError, match=f"t.csv.{suffix}: cannot be read"):
        read(path)
    path.write_text("a,b\n1,2\n")
    with pytest.raises(InputError, match="the file is not"):
        read(path)


def test_a_record_without_end_is_refused_before_it_fills_memory(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A quote left open early in a large file ends the reading at the record limit."""
    monkeypatch.setattr("batchscore.readers.blocks.MAX_RECORD_BYTES", 2**21)
    path = write(tmp_path / "t.csv", 'a,b\n1,"' + "x,y\n" * 2**20)
    with pytest.raises(InputError, match="longer than 2 MiB; is a quote left open"):
        read(path)


def test_the_first_failure_of_a_row_is_the_one_told(tmp_path: Path) -> None:
    """An uneven record with a bad cell tells of the record."""
    path = write(tmp_path / "t.csv", "a,b\nx\n1,y\n")
    _, failures = read(path, types={"a": "int"})
    assert failures == {0: str(RowFailure("invalid_input", "CSV record has 1 field, the header 2"))}
