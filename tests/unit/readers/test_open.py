"""From what the user types to files: folders, globs, formats, unions, standard input."""

from __future__ import annotations

import gzip
import io
import json
import os
import sys
import threading
from pathlib import Path
from typing import Any

import polars as pl
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from batchscore.errors import InputError, OutputError, UsageError
from batchscore.readers import OpenedInput, ReadOptions, open_reader, table_reader
from batchscore.schema import UNTYPED_KEY


@pytest.fixture(autouse=True)
def _in_tmp_path(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)


def opened(*inputs: str, **options: Any) -> OpenedInput:
    """The input, opened as from the command line."""
    return open_reader(inputs, ReadOptions(**options))


def rows(*inputs: str, start_row: int = 0, **options: Any) -> list[dict[str, Any]]:
    """All rows of an input, none of which may have failed."""
    found: list[dict[str, Any]] = []
    with opened(*inputs, **options) as source:
        for batch in source.reader.batches(start_row):
            assert not batch.failures
            assert batch.columns.schema.equals(source.reader.schema, check_metadata=True)
            found += batch.columns.to_pylist()
    return found


def make(*names: str, content: bytes = b"a\n1\n") -> None:
    """Create files, and the folders they are in."""
    for name in names:
        Path(name).parent.mkdir(parents=True, exist_ok=True)
        Path(name).write_bytes(content)


def files(*inputs: str, **options: Any) -> list[str]:
    """The files behind an input, as typed."""
    with opened(*inputs, **options) as source:
        return [str(file) for file in source.files]


def refused(*inputs: str, kind: type[UsageError] = InputError, **options: Any) -> str:
    """The message with which an input is refused, at opening or reading."""
    with pytest.raises(kind) as caught:
        rows(*inputs, **options)
    return str(caught.value)


TREE = ("d/b.csv", "d/a/z.csv", "d/a-b.csv", "d/a/y/x.csv", "d/é.csv", "d/B.csv",
        "d/_no.csv", "d/.no.csv", "d/_no/x.csv", "d/.git/x.csv")  # fmt: skip


def test_a_folder_is_read_in_byte_order_of_path_without_hidden_names() -> None:
    """Below a folder every file counts but those that begin with _ or ., or are below such."""
    make(*TREE)
    expected = ["d/B.csv", "d/a-b.csv", "d/a/y/x.csv", "d/a/z.csv", "d/b.csv", "d/é.csv"]
    assert files("d") == expected
    assert files("d/") == expected
    assert files(str(Path.cwd() / "d"))[0] == str(Path.cwd() / "d/B.csv")


@pytest.mark.parametrize(
    ("pattern", "expected"),
    [
        ("d/*.csv", ["d/B.csv", "d/a-b.csv", "d/b.csv", "d/é.csv"]),
        ("d/**/*.csv",
         ["d/B.csv", "d/a-b.csv", "d/a/y/x.csv", "d/a/z.csv", "d/b.csv", "d/é.csv"]),
        ("d/**", ["d/B.csv", "d/a-b.csv", "d/a/y/x.csv", "d/a/z.csv", "d/b.csv", "d/é.csv"]),
        ("d/?", ["d/a/y/x.csv", "d/a/z.csv"]),
        ("*/[ab].csv", ["d/b.csv"]),
        ("d/_*.csv", ["d/_no.csv"]),
        ("./d/b*", ["d/b.csv"]),
    ],
)  # fmt: skip
def test_globs_find_files_in_byte_order_without_hidden_names(
    pattern: str, expected: list[str]
) -> None:
    """A glob finds files, folders that match are read as folders, each file counts once."""
    make(*TREE)
    assert files(pattern) == expected
    assert files(str(Path.cwd() / pattern)) == [str(Path.cwd() / name) for name in expected]


def test_a_file_whose_name_looks_like_a_glob_is_that_file() -> None:
    """What exists is never taken for a pattern, and what is typed counts although hidden."""
    make("a[1].csv", "a1.csv", "_b.csv")
    assert files("a[1].csv", "_b.csv") == ["a[1].csv", "_b.csv"]


@pytest.mark.parametrize("typed", ["d", "d/*", "d/**", "d/*/*", "link"])
def test_what_is_the_jobs_own_is_no_input_unless_it_is_typed(typed: str) -> None:
    """A folder or glob that holds the job's output or work in progress does not mean them."""
    make("d/a.csv", "d/b/c.csv", "d/out.csv", "d/out.csv.partial/rows.arrow")
    Path("link").symlink_to("d")
    own = (Path("d/out.csv"), Path("d/out.csv.partial"))
    found = {"d/*/*": ["b/c.csv"]}.get(typed, ["a.csv", "b/c.csv"])
    folder = "link" if typed == "link" else "d"
    assert files(typed, not_input=own) == [f"{folder}/{name}" for name in found]
    assert files("d/out.csv", not_input=own) == ["d/out.csv"]
    assert "holds no input" in refused("d/out.csv.partial", not_input=own)


def test_links_to_folders_are_followed_once() -> None:
    """A linked folder is read, and a circle of links ends."""
    make("d/a.csv", "other/b.csv")
    Path("d/link").symlink_to(Path("other").absolute())
    Path("d/circle").symlink_to(Path("d").absolute())
    assert files("d") == ["d/a.csv", "d/link/b.csv"]


MESSAGES = [
    (("no.csv",), {}, "no.csv: no such file or folder"),
    (("no*.csv",), {}, "no*.csv: no file matches"),
    (("empty",), {}, "empty: the folder holds no input; names that begin with _ or . are"),
    (("x.txt",), {}, "x.txt: the suffix '.txt' tells no format; say --input-format"),
    (("x",), {}, "x: no suffix tells the format; say --input-format"),
    (("x.parquet.gz",), {}, "x.parquet.gz: the suffix '.parquet.gz' tells no format"),
    (("folder",), {}, "folder/y.md: the suffix '.md' tells no format; say --input-format (or "),
    (("-",), {}, "-: standard input has no suffix to tell its format; say --input-format"),
    (("-", "-"), {"input_format": "csv"}, "-: standard input can be read only once"),
    (("dangling.csv",), {}, "dangling.csv: cannot be read: No such file"),
    (("empty.parquet",), {}, "empty.parquet: the file is empty (0 bytes)"),
    (("empty.arrow",), {}, "empty.arrow: the file is empty (0 bytes)"),
    (("empty.jsonl",), {}, "empty.jsonl: the input is empty (0 bytes)"),
    (("text.parquet",), {}, "text.parquet: the file is not Parquet"),
    (("text.arrow",), {}, "text.arrow: the file is no whole Arrow IPC file or stream"),
    (("text.jsonl",), {}, "text.jsonl: no line is a JSON object; JSON Lines has an object {...}"),
    (("blank.jsonl",), {}, "blank.jsonl: the file has no rows; JSON Lines has"),
    (("mixed",), {}, "the input mixes pictures (mixed/a.png) and tables (mixed/b.csv)"),
    (("s3://me:secret@b/k.csv?secret",), {}, "s3://b/k.csv: an address takes no user part"),
    (("text.csv",), {"source_column": "a"}, "the input already has a column 'a'; choose another"),
    (("a.png",), {"source_column": "path"}, "pictures already have a column 'path'"),
    ((), {}, "no input is given"),
]  # fmt: skip


@pytest.mark.parametrize(("inputs", "options", "message"), MESSAGES)
def test_input_that_cannot_be_read_is_refused_saying_what_to_do(
    inputs: tuple[str, ...], options: dict[str, Any], message: str
) -> None:
    """Each mistake has a message of its own that names the file."""
    make("x.txt", "x", "x.parquet.gz", "folder/y.md", "mixed/a.png", "mixed/b.csv", "a.png")
    make("text.parquet", "text.arrow", "text.jsonl", "text.csv")
    make("empty.parquet", "empty.arrow", "empty.jsonl", content=b"")
    make("blank.jsonl", content=b"\n \n")
    Path("empty").mkdir()
    make("empty/_SUCCESS")
    Path("dangling.csv").symlink_to("nowhere")
    assert refused(*inputs, **options).startswith(message)


def test_options_that_cannot_be_are_refused() -> None:
    """An unknown format, and types for what is no CSV, are usage errors."""
    make("a.png")
    pq.write_table(pa.table({"a": [1]}), "a.parquet")
    assert "it must be one of parquet, csv" in refused(
        "a.png", kind=UsageError, input_format="pngs"
    )
    for name in ("a.png", "a.parquet"):
        message = refused(name, kind=UsageError, types={"a": "int"})
        assert message.startswith("--type is for columns of CSV input")


def test_the_given_format_counts_more_than_the_suffix() -> None:
    """``--input-format`` reads any name, compressed or not, in that format."""
    make("a.txt", content=b"a\tb\n1\t2\n")
    make("b.dat", content=gzip.compress(b"a\tb\n3\t4\n"))
    assert rows("a.txt", "b.dat", input_format="tsv") == [
        {"a": "1", "b": "2"}, {"a": "3", "b": "4"},
    ]  # fmt: skip


def test_files_of_several_formats_are_one_table() -> None:
    """Columns stand in order of first appearance, types widen, what a file lacks is null."""
    pq.write_table(pa.table({"n": pa.array([1], pa.int32()), "a": ["x"]}), "1.parquet")
    pq.write_table(pa.table({"b": [True], "n": [1.5]}), "2.parquet")
    make("3.jsonl", content=b'{"n": 2, "c": [1]}\n{"a": null}\n')
    with pa.OSFile("4.arrow", "wb") as sink, pa.ipc.new_file(sink, pa.schema([])) as writer:
        writer.write_batch(pa.record_batch([pa.array([1])], ["n"]).select([]))
    source = opened("1.parquet", "2.parquet", "3.jsonl", "4.arrow", source_column="file")
    assert source.reader.schema.equals(
        pa.schema(
            {"n": pa.float64(), "a": pa.string(), "b": pa.bool_(), "c": pa.list_(pa.int64()),
             "file": pa.string()}
        )
    )  # fmt: skip
    assert source.reader.num_rows == 5
    found = rows("1.parquet", "2.parquet", "3.jsonl", "4.arrow", source_column="file")
    assert [tuple(row.values()) for row in found] == [
        (1.0, "x", None, None, "1.parquet"),
        (1.5, None, True, None, "2.parquet"),
        (2.0, None, None, [1], "3.jsonl"),
        (None, None, None, None, "3.jsonl"),
        (None, None, None, None, "4.arrow"),
    ]


def test_types_that_do_not_unify_are_refused_naming_both_files() -> None:
    """A column that is text here and a number there is refused, with both types."""
    pq.write_table(pa.table({"n": [1], "x": ["a"]}), "1.parquet")
    pq.write_table(pa.table({"n": ["1"]}), "2.parquet")
    assert refused("1.parquet", "2.parquet").startswith(
        "2.parquet: column 'n' is string, but int64 in 1.parquet"
    )


def test_a_value_that_does_not_fit_the_common_type_is_refused() -> None:
    """An integer that float64 cannot hold is never rounded."""
    pq.write_table(pa.table({"n": [2**53 + 1]}), "1.parquet")
    pq.write_table(pa.table({"n": [0.5]}), "2.parquet")
    assert refused("1.parquet", "2.parquet").startswith(
        "1.parquet: column 'n': int64 cannot become double"
    )


def test_text_is_untyped_only_where_no_file_gives_it_a_type() -> None:
    """CSV text stays without a type beside other CSV, not beside typed strings."""
    make("1.csv", content=b"a,b\n1,2\n")
    make("2.csv", content=b"b,c\n3,4\n")
    pq.write_table(pa.table({"a": ["x"], "b": pa.nulls(1)}), "3.parquet")
    schema = opened("1.csv", "2.csv", "3.parquet").reader.schema
    untyped = [field.name for field in schema if field.metadata == {UNTYPED_KEY: b"1"}]
    assert untyped == ["b", "c"]


def test_failures_keep_their_place_in_a_union() -> None:
    """Rows that fail are counted within their batch, in every file."""
    make("1.csv", content=b"a,b\n1,2\n3\n")
    make("2.csv", content=b"b,c\n4\n5,6\n")
    with opened("1.csv", "2.csv") as source:
        batches = list(source.reader.batches())
    failed = [list(batch.failures) for batch in batches if batch.num_rows]
    assert failed == [[1], [0]]
    assert [b.columns.to_pylist() for b in batches if b.num_rows][1] == [
        {"a": None, "b": "4", "c": None}, {"a": None, "b": "5", "c": "6"},
    ]  # fmt: skip


def test_the_source_column_can_be_read_alone() -> None:
    """With no other column, each row still has its file."""
    make("1.csv", content=b"a\n1\n2\n")
    make("2.csv", content=b"b\n3\n")
    reader = opened("1.csv", "2.csv", source_column="f").reader
    found = [row for batch in reader.batches(1, ["f"]) for row in batch.columns.to_pylist()]
    assert found == [{"f": "1.csv"}, {"f": "2.csv"}]


def test_an_unfinished_pass_does_not_disturb_the_next() -> None:
    """A file is opened anew for every pass; a pass that was left is of no consequence."""
    make("1.csv", content=b"a\n" + b"".join(b"%d\n" % n for n in range(400_000)))
    reader = opened("1.csv").reader
    left = reader.batches()
    next(left)
    again = reader.batches(7)
    first = next(again).columns
    del left
    assert first.column(0)[0].as_py() == "7"
    assert first.num_rows + sum(batch.num_rows for batch in again) == 400_000 - 7


def test_reading_starts_at_any_row_of_any_file() -> None:
    """``start_row`` counts through files of all formats."""
    for number in range(3):
        ids = range(number * 10, number * 10 + 10)
        make(f"{number}.csv", content=b"i\n" + b"".join(b"%d\n" % i for i in ids))
        make(f"{number}.jsonl", content=b"".join(b'{"i": "%d"}\n\n' % i for i in ids))
        pq.write_table(
            pa.table({"i": [str(i) for i in ids]}), f"{number}.parquet", row_group_size=3
        )
        with pa.OSFile(f"{number}.arrow", "wb") as sink:
            table = pa.table({"i": [str(i) for i in ids]})
            with pa.ipc.new_file(sink, table.schema) as writer:
                writer.write_table(table, max_chunksize=4)
    for kind in ("csv", "jsonl", "parquet", "arrow"):
        names = [f"{number}.{kind}" for number in range(3)]
        for start in range(32):
            got = [int(row["i"]) for row in rows(*names, start_row=start)]
            assert got == list(range(start, 30)), (kind, start)


def test_ten_thousand_files_need_few_handles() -> None:
    """Opening many files holds none of them open."""
    folder = Path("many")
    folder.mkdir()
    for number in range(300):
        (folder / f"{number:05}.csv").write_text(f"a\n{number}\n")
        pq.write_table(pa.table({"a": [str(number)]}), folder / f"{number:05}.parquet")
    before = handles()
    source = opened("many")
    assert handles() == before
    batches = source.reader.batches()
    next(batches)
    assert handles() <= before + 2
    assert 1 + sum(1 for _ in batches) >= 600


def handles() -> int:
    """How many files this process has open."""
    return sum(1 for _ in Path("/dev/fd").iterdir())


class Stdin:
    """Standard input that holds some bytes and cannot go back."""

    def __init__(self, content: bytes) -> None:
        self.buffer = io.BufferedReader(_OneWay(content))  # type: ignore[arg-type]


class _OneWay(io.RawIOBase):
    def __init__(self, content: bytes) -> None:
        self._content = io.BytesIO(content)

    def readable(self) -> bool:
        return True

    def readinto(self, buffer: Any) -> int:
        return self._content.readinto(memoryview(buffer)[:1000])


def packed(kind: str) -> bytes:
    """A table in some format."""
    table = pa.table({"a": [str(n) for n in range(3000)]})
    sink = io.BytesIO()
    if kind == "parquet":
        pq.write_table(table, sink)
    elif kind == "jsonl":
        sink.write("".join(json.dumps(row) + "\n" for row in table.to_pylist()).encode())
    elif kind == "csv":
        sink.write(b"a\n" + b"".join(b"%d\n" % n for n in range(3000)))
    else:
        new = pa.ipc.new_file if kind == "arrow" else pa.ipc.new_stream
        with new(sink, table.schema) as writer:
            writer.write_table(table, max_chunksize=500)
    return sink.getvalue()


@pytest.mark.parametrize("kind", ["csv", "jsonl", "parquet", "arrow", "stream", "gzip"])
def test_standard_input_is_read_in_every_format(kind: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """``-`` needs no way back; what has to be stored is deleted at the end."""
    content = gzip.compress(packed("csv")) if kind == "gzip" else packed(kind)
    monkeypatch.setattr(sys, "stdin", Stdin(content))
    input_format = {"stream": "arrow", "gzip": "csv"}.get(kind, kind)
    source = opened("-", input_format=input_format, work_dir=Path("work"), source_column="f")
    stored = list(Path("work").glob("*")) if Path("work").exists() else []
    assert len(stored) == (0 if input_format == "csv" else 1)
    found = [row for batch in source.reader.batches(10) for row in batch.columns.to_pylist()]
    assert found == [{"a": str(n), "f": "-"} for n in range(10, 3000)]
    assert source.files == ("-",)
    assert source.image_root == source.image_base == Path.cwd()
    source.close()
    assert not any(path.exists() for path in stored)
    assert not sys.stdin.buffer.closed


@pytest.mark.parametrize("kind", ["csv", "jsonl", "parquet", "arrow"])
def test_standard_input_with_nothing_in_it_is_refused(
    kind: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """No bytes at all are an error in every format, and nothing stays behind."""
    monkeypatch.setattr(sys, "stdin", Stdin(b""))
    assert refused("-", input_format=kind, work_dir=Path("work")).startswith("-: the ")
    assert not list(Path().glob("work/*"))


def test_standard_input_that_cannot_be_stored_is_an_output_error(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """A work folder that cannot be made is told, with the option to say."""
    make("file")
    monkeypatch.setattr(sys, "stdin", Stdin(packed("jsonl")))
    with pytest.raises(OutputError, match=r"-: cannot be stored: .*say --work-dir"):
        opened("-", input_format="jsonl", work_dir=Path("file/work"))


@pytest.mark.parametrize("kind", ["csv", "parquet"])
def test_a_named_pipe_is_read_once_like_standard_input(kind: str) -> None:
    """A FIFO works in formats of one pass and of two."""
    os.mkfifo("pipe")
    writer = threading.Thread(target=lambda: Path("pipe").write_bytes(packed(kind)))
    writer.start()
    found = rows("pipe", input_format=kind, work_dir=Path())
    writer.join()
    assert found == [{"a": str(n)} for n in range(3000)]


def test_one_way_input_is_read_only_once(monkeypatch: pytest.MonkeyPatch) -> None:
    """A second pass over standard input is refused rather than empty."""
    monkeypatch.setattr(sys, "stdin", Stdin(packed("csv")))
    source = opened("-", input_format="csv")
    assert sum(batch.num_rows for batch in source.reader.batches()) == 3000
    with pytest.raises(InputError, match="-: this input can be read only once"):
        list(source.reader.batches())


def test_a_folder_of_pictures_is_a_table_of_paths() -> None:
    """Pictures are rows with the path as typed; the folder is the root."""
    make("pics/b.PNG", "pics/a/x.jpeg", "pics/.thumbs/t.png", content=b"")
    with opened("pics", source_column="from") as source:
        assert source.is_pictures
        assert source.image_root == Path.cwd() / "pics"
        assert source.image_base == Path.cwd()
        assert source.reader.num_rows == 2
        assert source.reader.schema.names == ["path", "from"]
    assert rows("pics") == [{"path": "pics/a/x.jpeg"}, {"path": "pics/b.PNG"}]
    assert rows("pics", start_row=1) == [{"path": "pics/b.PNG"}]


@pytest.mark.parametrize(
    ("inputs", "root"),
    [
        (("pics/*/*.png",), "pics"), (("**/*.png",), "."), (("pics/a/x.png",), "pics/a"),
        (("pics/a", "pics/b"), "pics"), (("pics/a/*",), "pics/a"),
    ],
)  # fmt: skip
def test_the_root_of_pictures_is_the_folder_that_was_typed(
    inputs: tuple[str, ...], root: str
) -> None:
    """Of a glob it is the part without wildcards, of several inputs what they share."""
    make("pics/a/x.png", "pics/b/y.png", content=b"")
    assert opened(*inputs).image_root == Path.cwd() / root


def test_the_root_of_tables_is_the_folder_of_the_first() -> None:
    """Paths in a table are relative to where the table is."""
    make("d/e/a.csv", "d/b.csv")
    for inputs in (("d/e/a.csv", "d/b.csv"), ("d/**/a*",)):
        source = opened(*inputs)
        assert not source.is_pictures
        assert source.image_root == source.image_base == Path.cwd() / "d/e"


@pytest.mark.parametrize("maker", ["pyarrow", "polars", "reader", "chunked"])
def test_tables_in_memory_are_read(maker: str) -> None:
    """Whatever exports an Arrow stream is streamed, with plain types."""
    table = pa.table({"n": range(100_000), "s": pa.array(["x", None] * 50_000).dictionary_encode()})
    data: Any = {
        "pyarrow": lambda: table,
        "polars": lambda: pl.DataFrame({"n": range(100_000), "s": ["x", None] * 50_000}),
        "reader": table.to_reader,
        "chunked": lambda: pa.concat_tables([table.slice(0, 7), table.slice(7)]),
    }[maker]()
    reader = table_reader(data)
    assert reader.num_rows == (None if maker == "reader" else 100_000)
    assert reader.schema.field("s").type in {pa.string(), pa.large_string()}
    batches = [batch.columns for batch in reader.batches(5, ["s", "n"])]
    got = pa.Table.from_batches(batches, reader.schema)
    assert got.column("n").to_pylist() == list(range(5, 100_000))
    assert got.column("s").to_pylist() == (["x", None] * 50_000)[5:]


def test_what_is_no_table_is_refused() -> None:
    """A list of rows is a usage error that says what to make of it."""
    with pytest.raises(UsageError, match="list does not export an Arrow stream"):
        table_reader([{"a": 1}])
