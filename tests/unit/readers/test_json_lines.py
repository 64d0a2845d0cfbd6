"""JSON Lines: types from all rows, never from the first ones alone."""

from __future__ import annotations

import gzip
import json
from typing import TYPE_CHECKING, Any

import pyarrow as pa
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from batchscore.errors import InputError
from batchscore.readers import ReadOptions, open_reader
from batchscore.schema import UNTYPED_KEY

if TYPE_CHECKING:
    from pathlib import Path

relaxed = settings(
    deadline=None,
    max_examples=60,
    suppress_health_check=[HealthCheck.too_slow, HealthCheck.function_scoped_fixture],
)


def read(
    *paths: Path, columns: Any = None, **options: Any
) -> tuple[pa.Schema, list[dict[str, Any]], dict[int, str]]:
    """Schema, rows and failures by row of an input."""
    opened = open_reader([str(path) for path in paths], ReadOptions(**options))
    rows: list[dict[str, Any]] = []
    failures: dict[int, str] = {}
    for batch in opened.reader.batches(0, columns):
        failures |= {len(rows) + row: str(why) for row, why in batch.failures.items()}
        rows += batch.columns.to_pylist()
    assert opened.reader.num_rows == len(rows)
    opened.close()
    return opened.reader.schema, rows, failures


def write(path: Path, *lines: object) -> Path:
    """The path, after the lines were written to it; text as it is, all else as JSON."""
    texts = [line if isinstance(line, str) else json.dumps(line) for line in lines]
    path.write_text("\n".join(texts) + "\n", encoding="utf-8")
    return path


MIXED = "mixed"
TYPES: list[tuple[list[Any], Any, list[Any]]] = [
    ([1, None, -2], pa.int64(), [1, None, -2]),
    ([1, 2.5], pa.float64(), [1.0, 2.5]),
    ([2**53, 2.5], pa.float64(), [2.0**53, 2.5]),
    ([2**53 + 1, 2.5], MIXED, [str(2**53 + 1), "2.5"]),
    ([2.5, -(2**60)], MIXED, ["2.5", str(-(2**60))]),
    ([2**63, 1], pa.uint64(), [2**63, 1]),
    ([2**63, -1], MIXED, [str(2**63), "-1"]),
    ([2**70, 1], MIXED, [str(2**70), "1"]),
    ([True, None], pa.bool_(), [True, None]),
    ([True, 1], MIXED, ["true", "1"]),
    (["2024-01-01", "x"], pa.string(), ["2024-01-01", "x"]),
    (["a", 1, None, [1], {"k": None}], MIXED, ["a", "1", None, "[1]", '{"k":null}']),
    ([None, None], pa.null(), [None, None]),
    ([[1], [], None, [2.5]], pa.list_(pa.float64()), [[1.0], [], None, [2.5]]),
    ([[1], ["a"]], MIXED, ["[1]", '["a"]']),
    ([{"b": 1}, {"a": "x"}], pa.struct({"a": pa.string(), "b": pa.int64()}),
     [{"a": None, "b": 1}, {"a": "x", "b": None}]),
    ([{"a": {"b": [1]}}, {"a": {"b": [2**63]}}],
     pa.struct({"a": pa.struct({"b": pa.list_(pa.uint64())})}),
     [{"a": {"b": [1]}}, {"a": {"b": [2**63]}}]),
    ([{"a": 1}, {"a": "x"}], MIXED, ['{"a":1}', '{"a":"x"}']),
    ([{}, {}], MIXED, ["{}", "{}"]),
    (["é€😀", 1], MIXED, ["é€😀", "1"]),
]  # fmt: skip


@pytest.mark.parametrize("distance", [0, 40_000])
@pytest.mark.parametrize(("values", "dtype", "expected"), TYPES)
def test_a_column_has_the_type_that_holds_all_its_values(
    tmp_path: Path, values: list[Any], dtype: Any, expected: list[Any], distance: int
) -> None:
    """Every value counts, also when thousands of rows lie between; nothing is rounded."""
    first, *others = values
    between = [{"pad": "x" * 40, "v": None}] * distance
    path = write(tmp_path / "t.jsonl", {"v": first}, *between, *({"v": v} for v in others))
    schema, rows, failures = read(path)
    assert failures == {}
    assert schema.field("v").type == (pa.string() if dtype == MIXED else dtype)
    assert schema.field("v").metadata == ({UNTYPED_KEY: b"1"} if dtype == MIXED else None)
    assert [row["v"] for row in (rows[0], *rows[1 + distance :])] == expected


VALUES = st.recursive(
    st.one_of(
        st.none(), st.booleans(), st.integers(-(2**70), 2**70), st.integers(-5, 5),
        st.floats(allow_nan=False), st.text(st.characters(exclude_categories=["Cs"]), max_size=4),
    ),
    lambda inner: st.one_of(
        st.lists(inner, max_size=3), st.dictionaries(st.sampled_from("ab"), inner, max_size=2)
    ),
    max_leaves=5,
)  # fmt: skip


def same(got: Any, meant: Any) -> bool:
    """Whether a value came back: ints may be floats, missing keys null."""
    if isinstance(meant, dict):
        return isinstance(got, dict) and all(
            same(got[name], meant.get(name)) for name in got.keys() | meant.keys()
        )
    if isinstance(meant, list):
        return len(got) == len(meant) and all(map(same, got, meant))
    return bool(got == meant) and isinstance(got, bool) == isinstance(meant, bool)


@relaxed
@given(rows=st.lists(st.dictionaries(st.sampled_from("xyz"), VALUES), min_size=1, max_size=8),
       block=st.sampled_from([1, 30, 2**20]))  # fmt: skip
def test_whatever_json_there_is_comes_back(
    tmp_path: Path, rows: list[dict[str, Any]], block: int
) -> None:
    """Values are the same again, as themselves or as JSON text in a mixed column."""
    path = write(tmp_path / "t.jsonl", *rows)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("batchscore.readers.blocks.BLOCK_BYTES", block)
        schema, got, failures = read(path)
    whole_schema, whole, _ = read(path)
    assert schema.equals(whole_schema, check_metadata=True)
    assert got == whole
    assert failures == {}
    assert schema.names == list(dict.fromkeys(name for row in rows for name in row))
    for name in schema.names:
        mixed = schema.field(name).metadata is not None
        for got_row, row in zip(got, rows, strict=True):
            value, meant = got_row[name], row.get(name)
            if mixed and value is not None and not isinstance(meant, str):
                value = json.loads(value)
                assert value == meant
            assert same(value, meant)


def test_lines_that_are_no_object_fail_alone(tmp_path: Path) -> None:
    """Broken lines and other JSON fail in their place; blank lines are no rows."""
    path = write(
        tmp_path / "t.jsonl",
        '{"a": 1}', "", '{"a": ', "[1]", "  ", '"text"', "3", "null", "true",
        '{"a": 2} {"a": 3}', '{"a": "\\ud800"}', '{"a": 4}',
    )  # fmt: skip
    path.write_bytes(path.read_bytes() + b'{"a": "\xff"}\n' + b'{"a":' * 100_000 + b"\n")
    schema, rows, failures = read(path)
    assert schema == pa.schema({"a": pa.int64()})
    assert [row["a"] for row in rows] == [1, *[None] * 8, 4, None, None]
    assert list(failures) == [1, 2, 3, 4, 5, 6, 7, 8, 10, 11]
    texts = [
        failures[row].removeprefix("invalid_input: line is no JSON object: ") for row in failures
    ]
    assert texts[1:6] == ["it is an array", "it is a string", "it is a number", "it is null",
                          "it is true or false"]  # fmt: skip
    assert texts[7:] == [
        "a string has half of a surrogate pair", "it is not valid UTF-8", "it is nested too deep",
    ]  # fmt: skip
    assert "column" in texts[0]
    assert "Extra data" in texts[6]


def test_what_python_writes_beyond_json_is_read(tmp_path: Path) -> None:
    """NaN, infinities and numbers out of range are floats."""
    path = write(tmp_path / "t.jsonl", '{"a": NaN}', '{"a": -Infinity}', '{"a": 1e999}', '{"a": 1}')
    schema, rows, failures = read(path)
    assert failures == {}
    assert schema.field("a").type == pa.float64()
    assert [str(row["a"]) for row in rows] == ["nan", "-inf", "inf", "1.0"]


def test_several_files_have_the_types_of_all(tmp_path: Path) -> None:
    """A column that is a number in one file and text in the next is mixed in both."""
    one = write(tmp_path / "1.jsonl", {"a": 1, "b": 1})
    two = write(tmp_path / "2.ndjson", {"c": True, "a": "x", "b": 2.5})
    schema, rows, _ = read(one, two)
    assert schema.names == ["a", "b", "c"]
    assert rows == [{"a": "1", "b": 1.0, "c": None}, {"a": "x", "b": 2.5, "c": True}]


def test_compressed_and_encoded_files_are_read(tmp_path: Path) -> None:
    """Compression, other encodings and a byte order mark are undone."""
    path = tmp_path / "t.jsonl.gz"
    path.write_bytes(gzip.compress('{"é": "ü"}\r\n{"é": "ß"}'.encode("utf-16")))
    _, rows, _ = read(path, encoding="utf-16")
    assert rows == [{"é": "ü"}, {"é": "ß"}]
    path = tmp_path / "t.jsonl"
    path.write_bytes(b'\xef\xbb\xbf{"a": 1}')
    assert read(path)[1] == [{"a": 1}]


def test_only_the_named_columns_are_made(tmp_path: Path) -> None:
    """A projection keeps the order of first appearance."""
    path = write(tmp_path / "t.jsonl", {"a": 1, "b": "x", "c": [1]}, {"b": 2})
    _, rows, _ = read(path, columns=["c", "b"])
    assert rows == [{"b": "x", "c": [1]}, {"b": "2", "c": None}]
    assert read(path, columns=[])[1] == [{}, {}]


def test_a_file_that_changes_between_the_passes_is_refused(tmp_path: Path) -> None:
    """Values of another type in the second pass are an error that names the file."""
    path = write(tmp_path / "t.jsonl", {"a": 1})
    opened = open_reader([str(path)], ReadOptions())
    write(path, {"a": "x"})
    with pytest.raises(InputError, match=r"t.jsonl: the values are not those of the first pass"):
        list(opened.reader.batches())
