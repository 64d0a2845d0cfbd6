"""Parquet and Arrow files: types, projection, and files that are not whole."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np
import pyarrow as pa
import pyarrow.feather
import pyarrow.parquet as pq
import pytest

from batchscore.errors import InputError
from batchscore.readers import ReadOptions, open_reader
from batchscore.readers.columns import plain_type

if TYPE_CHECKING:
    from pathlib import Path


def read(path: Path, **options: Any) -> pa.Table:
    """All rows of a file as one table."""
    opened = open_reader([str(path)], ReadOptions())
    batches = [batch.columns for batch in opened.reader.batches(**options)]
    opened.close()
    return pa.Table.from_batches(batches, None if batches else opened.reader.schema)


def save(path: Path, table: pa.Table, **options: Any) -> Path:
    """The path, after the table was written to it in the format of its suffix."""
    if path.suffix == ".parquet":
        pq.write_table(table, path, **options)
        return path
    new = pa.ipc.new_stream if path.suffix == ".arrows" else pa.ipc.new_file
    with pa.OSFile(str(path), "wb") as sink, new(sink, table.schema, **options) as writer:
        writer.write_table(table, max_chunksize=1000)
    return path


FORMATS = ["t.parquet", "t.arrow", "t.arrows"]


def rich_table() -> pa.Table:
    """Dictionaries at several depths, tensors, bytes and times."""
    words = pa.array(["x", None, "y"] * 2000).dictionary_encode()
    tensor = pa.fixed_shape_tensor(pa.float32(), [2, 2])
    values = pa.array(np.arange(24_000, dtype=np.float32))
    storage = pa.FixedSizeListArray.from_arrays(values, 4)
    offsets = pa.array(np.arange(0, 6001), pa.int32())
    return pa.table(
        {
            "i": np.arange(6000),
            "word": words,
            "words": pa.ListArray.from_arrays(offsets, words),
            "deep": pa.StructArray.from_arrays([words, pa.array(range(6000))], ["w", "n"]),
            "tensor": pa.ExtensionArray.from_storage(tensor, storage),
            "blob": pa.array([b"\x00\xff"] * 6000),
            "when": pa.array([0] * 6000, pa.timestamp("ns", "UTC")),
        }
    ).replace_schema_metadata({"some": "thing"})


@pytest.mark.parametrize("name", FORMATS)
def test_values_are_unchanged_and_dictionaries_decoded(tmp_path: Path, name: str) -> None:
    """Every value comes back; dictionary columns, also inside others, as their value type."""
    table = rich_table()
    got = read(save(tmp_path / name, table))
    assert got.schema.field("word").type == pa.string()
    assert got.schema.field("words").type.value_type == pa.string()
    assert got.schema.field("deep").type.field("w").type == pa.string()
    assert got.schema.field("tensor").type == table.schema.field("tensor").type
    assert got.schema.metadata is None
    assert got.drop_columns("tensor").to_pylist() == table.drop_columns("tensor").to_pylist()
    assert got.column("tensor").combine_chunks().equals(table.column("tensor").combine_chunks())


@pytest.mark.parametrize("name", FORMATS)
def test_only_the_named_columns_are_read_in_the_files_order(tmp_path: Path, name: str) -> None:
    """A projection is exact, also for names with dots, and starts at any row."""
    table = pa.table({"a.b": range(5000), "a": range(5000), "c": range(5000)})
    path = save(tmp_path / name, table)
    assert read(path, columns=["c", "a"]).schema.names == ["a", "c"]
    assert read(path, columns=["a.b"], start_row=4321).to_pydict() == {
        "a.b": list(range(4321, 5000))
    }
    opened = open_reader([str(path)], ReadOptions())
    nothing = list(opened.reader.batches(10, []))
    assert sum(batch.num_rows for batch in nothing) == 4990
    assert {batch.columns.num_columns for batch in nothing} == {0}


@pytest.mark.parametrize(
    ("array", "expected"),
    [
        (pa.array(["a", "b" * 20, None], pa.string_view()), pa.string()),
        (pa.array([b"a", None], pa.binary_view()), pa.binary()),
        (pa.array([["a"], None], pa.list_view(pa.string_view())), pa.list_(pa.string())),
        (pa.array([[1], None, [2, 3]], pa.large_list_view(pa.int8())), pa.large_list(pa.int8())),
        (pa.array([["a"], None, ["b", None]], pa.list_(pa.string_view())), pa.list_(pa.string())),
        (pa.array([1, 1, 2], pa.int8()).dictionary_encode(), pa.int8()),
        (pa.RunEndEncodedArray.from_arrays([2, 3], ["x", "y"]), pa.string()),
        (pa.array([{"a": "x"}], pa.struct([("a", pa.string_view())])),
         pa.struct([("a", pa.string())])),
    ],
)  # fmt: skip
def test_types_that_other_tools_do_not_know_become_plain(
    tmp_path: Path, array: pa.Array, expected: pa.DataType
) -> None:
    """Views, dictionaries and run ends become the types that hold the same values."""
    got = read(save(tmp_path / "t.arrow", pa.table({"x": array})))
    assert got.schema.field("x").type == expected
    assert got.column("x").to_pylist() == array.to_pylist()


def test_maps_and_fixed_lists_become_plain() -> None:
    """Dictionaries are found at any depth."""
    word = pa.dictionary(pa.int8(), pa.string())
    assert plain_type(pa.map_(word, pa.list_(word, 3))) == pa.map_(
        pa.string(), pa.list_(pa.string(), 3)
    )
    assert plain_type(pa.large_list(word)) == pa.large_list(pa.string())


def test_list_views_inside_other_types_are_refused(tmp_path: Path) -> None:
    """What PyArrow cannot turn into a plain type is refused, naming file and column."""
    array = pa.array([{"a": ["x"]}], pa.struct([("a", pa.list_view(pa.string()))]))
    with pytest.raises(InputError, match=r"t.arrow: column 'x': .* write it as a list"):
        read(save(tmp_path / "t.arrow", pa.table({"x": array})))


def test_an_extension_over_a_dictionary_is_refused(tmp_path: Path) -> None:
    """What cannot be decoded without losing its meaning is refused, naming file and column."""
    dtype = pa.opaque(pa.dictionary(pa.int8(), pa.string()), "t", "v")
    array = pa.ExtensionArray.from_storage(dtype, pa.array(["a"], dtype.storage_type))
    path = save(tmp_path / "t.arrow", pa.table({"x": array}))
    with pytest.raises(InputError, match=r"t.arrow: column 'x': the type .* dictionary"):
        read(path)


@pytest.mark.parametrize("name", FORMATS)
def test_two_columns_of_one_name_are_refused(tmp_path: Path, name: str) -> None:
    """Duplicate names are refused, naming them."""
    table = pa.Table.from_arrays([pa.array([1]), pa.array([2])], names=["a", "a"])
    with pytest.raises(InputError, match=f"{name}: several columns are named 'a'; rename"):
        read(save(tmp_path / name, table))


@pytest.mark.parametrize("name", FORMATS)
@pytest.mark.parametrize("share", [0.3, 0.9, 0.999])
def test_a_file_that_was_cut_off_is_refused_by_name(
    tmp_path: Path, name: str, share: float
) -> None:
    """A truncated file ends in an error that names it, never in fewer rows."""
    path = save(tmp_path / name, rich_table().drop_columns(["tensor"]))
    data = path.read_bytes()
    path.write_bytes(data[: int(len(data) * share)])
    with pytest.raises(InputError, match=name):
        read(path)


@pytest.mark.parametrize("name", FORMATS)
def test_damage_in_the_middle_is_refused_by_name(tmp_path: Path, name: str) -> None:
    """Bytes overwritten inside a file give an error that names it, not a crash."""
    table = pa.table({"s": [f"text {n}" * 3 for n in range(20_000)]})
    options = {"write_page_checksum": True} if name == "t.parquet" else {}
    path = save(tmp_path / name, table, **options)
    data = bytearray(path.read_bytes())
    middle = len(data) // 2
    data[middle : middle + 5000] = b"\xff" * 5000
    path.write_bytes(data)
    with pytest.raises(InputError, match=name):
        read(path)


def test_old_feather_files_are_refused_saying_so(tmp_path: Path) -> None:
    """Feather version 1 has a message of its own; version 2 is Arrow IPC."""
    table = pa.table({"a": [1]})
    pyarrow.feather.write_feather(table, tmp_path / "new.feather")
    assert read(tmp_path / "new.feather").equals(table)
    (tmp_path / "old.feather").write_bytes(b"FEA1" + b"\0" * 50)
    with pytest.raises(InputError, match=r"old.feather: the file is Feather version 1"):
        read(tmp_path / "old.feather")


def test_rows_of_large_values_come_in_small_batches(tmp_path: Path) -> None:
    """Batches are a few MiB also where one row is large."""
    table = pa.table({"b": [bytes([n]) * 300_000 for n in range(100)]})
    path = save(tmp_path / "t.parquet", table, use_dictionary=False, compression="none")
    opened = open_reader([str(path)], ReadOptions())
    assert max(batch.columns.nbytes for batch in opened.reader.batches()) < 8 * 2**20


@pytest.mark.parametrize("name", FORMATS)
@pytest.mark.parametrize("as_dictionary", [True, False])
def test_large_values_that_a_file_has_once_come_in_small_batches(
    tmp_path: Path, name: str, as_dictionary: bool
) -> None:
    """Also where a dictionary makes the file small, batches are a few MiB."""
    words = pa.array(["s", "x" * 100_000, "y" * 100_000])
    order = [0] * 700 + [1, 2] * 300 + [0] * 700
    column = pa.DictionaryArray.from_arrays(pa.array(order, pa.int32()), words)
    table = pa.table(
        {"n": range(2000), "w": column if as_dictionary else column.dictionary_decode()}
    )
    path = save(tmp_path / name, table)
    batches = [b.columns for b in open_reader([str(path)], ReadOptions()).reader.batches(5)]
    assert pa.Table.from_batches(batches).column("n").to_pylist() == list(range(5, 2000))
    got = [value for b in batches for value in b.column("w").to_pylist()]
    assert got == [words[n].as_py() for n in order[5:]]
    if name == "t.parquet" or as_dictionary:
        assert max(batch.nbytes for batch in batches) < 100 * 2**20


@pytest.mark.parametrize("name", FORMATS)
def test_a_file_without_rows_has_its_columns(tmp_path: Path, name: str) -> None:
    """No rows is no error."""
    table = pa.table({"a": pa.array([], pa.int8())})
    got = read(save(tmp_path / name, table))
    assert got.num_rows == 0
    assert got.schema == table.schema
