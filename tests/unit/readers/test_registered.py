"""A registered input format in the place of a built-in one, its mistakes included."""

import sys
from pathlib import Path

import pyarrow as pa
import pytest

from batchscore.batches import RowBatch
from batchscore.errors import InputError, UsageError
from batchscore.readers import ReadOptions, open_reader

MODULE = """
import pyarrow as pa
from batchscore.extending import FormatReader, RowBatch, RowFailure, text_field

class Numbers(FormatReader):
    "A number a line."

    def read_schema(self):
        if not self.path.read_text(self.options.encoding).strip():
            raise ValueError("there is no line")
        return pa.schema([pa.field("n", pa.int64()), text_field("text")])

    def batches(self):
        for first in (0, 3):
            lines = self.path.read_text().split()[first : first + 3]
            bad = {n: RowFailure("invalid_input", "odd") for n, t in enumerate(lines) if t == "?"}
            columns = {"n": [None if t == "?" else int(t) for t in lines], "text": lines}
            yield self.batch(columns, bad)

    def batch(self, columns, bad):
        return RowBatch(pa.RecordBatch.from_pydict(columns), bad)

class Counted(Numbers):
    num_rows = 5

class Narrow(Numbers):
    def batch(self, columns, bad):
        return pa.record_batch({"n": columns["n"]})

class Lists(Numbers):
    def batch(self, columns, bad):
        return columns["n"]

class Bug(Numbers):
    def batch(self, columns, bad):
        return columns["m"]

class Wide(Numbers):
    def batch(self, columns, bad):
        return pa.record_batch({"n": ["x"] * len(columns["n"]), "text": columns["text"]})
"""


@pytest.fixture(autouse=True)
def registered(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A folder, the current one, with a package that registers the classes above."""
    monkeypatch.setattr(sys, "path", [str(tmp_path), *sys.path])
    monkeypatch.setattr(sys, "modules", dict(sys.modules))
    monkeypatch.chdir(tmp_path)
    (tmp_path / "number_formats.py").write_text(MODULE)
    names = ("Numbers", "Counted", "Narrow", "Lists", "Bug", "Wide")
    lines = [f"{name.lower()} = number_formats:{name}" for name in names]
    folder = tmp_path / "numbers-1.0.dist-info"
    folder.mkdir()
    (folder / "METADATA").write_text("Metadata-Version: 2.1\nName: numbers\nVersion: 1.0\n")
    (folder / "entry_points.txt").write_text("\n".join(["[batchscore.readers]", *lines]))
    return tmp_path


def read(*inputs: str, start_row: int = 0, columns=None, **options) -> list[RowBatch]:
    with open_reader(inputs, ReadOptions(**options)) as opened:
        return list(opened.reader.batches(start_row, columns))


def rows(batches: list[RowBatch]) -> list[dict]:
    return [row for batch in batches for row in batch.columns.to_pylist()]


def test_rows_and_failures_come_through():
    """Columns have the types of the schema; a bad row stands in its place with its reason."""
    Path("a.numbers").write_text("1 2 3 4 ?")
    batches = read("a.numbers")
    assert rows(batches)[3:] == [{"n": 4, "text": "4"}, {"n": None, "text": "?"}]
    assert [dict(batch.failures) for batch in batches][1][1].text == "odd"
    assert batches[0].columns.schema.field("n").type == pa.int64()


@pytest.mark.parametrize("name", ["numbers", "counted"])
def test_reading_goes_on_at_any_row(name):
    """From each row on come the same rows as in one go, with failures where they belong."""
    Path(f"a.{name}").write_text("1 2 3 4 ?")
    everything = rows(read(f"a.{name}"))
    for start in range(7):
        batches = read(f"a.{name}", start_row=start)
        assert rows(batches) == everything[start:]
        found = [n for b in batches for n in range(b.num_rows) if n in b.failures]
        assert len(found) == (1 if start < 5 else 0)


def test_a_registered_format_joins_others_and_has_its_source_column():
    """It is one table with a CSV file; a folder takes its suffix; --source-column works."""
    Path("folder").mkdir()
    Path("folder/a.numbers").write_text("1 2")
    Path("folder/b.csv").write_text("text,more\nx,y\n")
    found = rows(read("folder", source_column="file"))
    assert [row["text"] for row in found] == ["1", "2", "x"]
    assert [row["file"] for row in found] == ["folder/a.numbers"] * 2 + ["folder/b.csv"]
    assert rows(read("folder/a.numbers", columns=["n"])) == [{"n": 1}, {"n": 2}]


@pytest.mark.parametrize(
    ("name", "content", "words"),
    [
        ("a.numbers", "", "a.numbers: cannot be read as numbers: there is no line"),
        ("a.numbers", "1 x", "a.numbers: cannot be read as numbers: invalid literal"),
        ("a.bug", "1", "a.bug: cannot be read as bug: KeyError: 'm'"),
        ("a.narrow", "1", "a.narrow: a batch of narrow lacks the column 'text'"),
        ("a.wide", "1", "a.wide: column 'n': string cannot become int64"),
        ("a.counted", "1 2", "a.counted: counted told 5 rows, but 2 were read"),
    ],
)
def test_trouble_names_the_file(name, content, words):
    """Whatever the format's code raises or forgets is told with the file, and no row is lost."""
    Path(name).write_text(content)
    with pytest.raises(InputError) as caught:
        read(name)
    assert words in str(caught.value)


def test_what_is_no_batch_is_refused():
    """A reader that gives something else is a mistake of its package."""
    Path("a.lists").write_text("1")
    with pytest.raises(UsageError, match="'lists' of batchscore.readers.*gave a list"):
        read("a.lists")


def test_a_missing_file_and_a_compressed_one_are_no_registered_format():
    """Only the plain suffix counts: what is compressed is asked for by name."""
    Path("a.numbers.gz").write_bytes(b"")
    with pytest.raises(InputError, match=r"'\.numbers\.gz' tells no format"):
        read("a.numbers.gz")
