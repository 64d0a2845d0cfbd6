"""How a name finds what a package registered, and what is said where that is wrong."""

import sys
from pathlib import Path

import pytest

from batchscore.config import ScoreConfig, configured
from batchscore.errors import UsageError
from batchscore.extensions import INPUT_FORMATS, OUTPUT_FORMATS
from batchscore.protocols import PROTOCOLS, protocol
from batchscore.readers import ReadOptions, open_reader
from batchscore.sinks import exporter

MODULE = """
from batchscore.extending import FormatReader, FormatWriter, PlainProtocol

text = "nothing of the kind"

class NoMethods:
    pass

class HalfReader(FormatReader):
    def read_schema(self):
        return None

class NoSchema(HalfReader):
    def batches(self):
        return iter(())

class HalfProtocol(PlainProtocol):
    def encode(self, rows, signature):
        return b""

class NoAttributes:
    def encoder(self): ...
    decoder = learn = is_complete = metadata_request = parse_metadata = encoder
    score_request = treatment = error_text = encoder

class HalfWriter(FormatWriter):
    pass

def needs(something):
    return something

def gives_none(*_):
    return None
"""


@pytest.fixture
def register(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    """A function that registers entry points as a package of that name, with a module ``wrong``."""
    monkeypatch.setattr(sys, "path", [str(tmp_path), *sys.path])
    monkeypatch.setattr(sys, "modules", dict(sys.modules))
    monkeypatch.chdir(tmp_path)
    (tmp_path / "wrong.py").write_text(MODULE)
    (tmp_path / "broken.py").write_text("import no_such_package\n")
    (tmp_path / "in.odd").write_text("x\n")

    def write(group: str, value: str, name: str = "odd", package: str = "toys") -> None:
        folder = tmp_path / f"{package}-1.0.dist-info"
        folder.mkdir()
        (folder / "METADATA").write_text(f"Metadata-Version: 2.1\nName: {package}\nVersion: 1.0\n")
        (folder / "entry_points.txt").write_text(f"[{group}]\n{name} = {value}\n")

    return write


def open_input() -> None:
    open_reader(["in.odd"], ReadOptions())


KINDS = {
    "batchscore.readers": open_input,
    "batchscore.protocols": lambda: protocol("odd"),
    "batchscore.sinks": lambda: exporter("odd"),
}


@pytest.mark.parametrize("group", KINDS)
@pytest.mark.parametrize(
    ("value", "words"),
    [
        ("no_such_module:Thing", ["cannot be loaded", "No module named 'no_such_module'", "mend"]),
        ("wrong:Nothing", ["cannot be loaded", "Nothing", "mend"]),
        ("broken:Thing", ["cannot be loaded", "no_such_package"]),
        ("not an object", ["cannot be loaded"]),
        ("wrong:text", ["str lacks", "docs/extending.md"]),
        ("wrong:NoMethods", ["NoMethods lacks", "docs/extending.md"]),
        ("wrong:gives_none", ["NoneType lacks", "docs/extending.md"]),
    ],
)
def test_a_wrong_entry_point_is_told(register, group, value, words):
    """Its name, its group, its package and what is wrong with it, in one or two lines."""
    register(group, value)
    with pytest.raises(UsageError) as caught:
        KINDS[group]()
    text = str(caught.value)
    assert text.startswith(f"the entry point 'odd' of {group} ({value}, in toys 1.0) ")
    assert all(word in text for word in words), text
    assert "\n" not in text


@pytest.mark.parametrize(
    ("group", "value", "lacking"),
    [
        ("batchscore.readers", "wrong:HalfReader", "HalfReader lacks batches();"),
        ("batchscore.readers", "wrong:NoSchema", "read_schema() gave a NoneType"),
        ("batchscore.protocols", "wrong:HalfProtocol", "HalfProtocol lacks decode();"),
        ("batchscore.protocols", "wrong:NoAttributes", "lacks name, url_ending, signature;"),
        ("batchscore.protocols", "wrong:needs", "without arguments failed: TypeError"),
        ("batchscore.sinks", "wrong:HalfWriter", "HalfWriter lacks write();"),
        ("batchscore.sinks", "wrong:needs", "without arguments failed: TypeError"),
    ],
)
def test_a_missing_method_is_named(register, group, value, lacking):
    """What a class forgot to write is known before anything is sent."""
    register(group, value)
    with pytest.raises(UsageError) as caught:
        KINDS[group]()
    assert lacking in str(caught.value)


@pytest.mark.parametrize("group", KINDS)
def test_two_packages_with_one_name_are_refused(register, group):
    """Which of them counts is never left to chance; both are named."""
    register(group, "wrong:A")
    register(group, "wrong:B", package="others")
    with pytest.raises(UsageError, match=r"others 1\.0 and toys 1\.0 .* 'odd'"):
        KINDS[group]()


def test_a_built_in_name_cannot_be_taken(register):
    """A package that registers one is not asked."""
    register("batchscore.protocols", "broken:Thing", name="rows")
    assert protocol("rows").name == "rows"
    assert "rows" not in PROTOCOLS.registered()


def test_registered_names_are_options(register):
    """The options know a registered name without importing it, and list it for a wrong one."""
    register("batchscore.readers", "broken:Thing")
    required = {"inputs": "in.odd", "output": "o.csv", "url": "http://h/x"}
    assert configured(ScoreConfig, required | {"input_format": "odd"}).input_format == "odd"
    with pytest.raises(UsageError, match="'od' is not one of parquet.* odd; did you mean odd"):
        configured(ScoreConfig, required | {"input_format": "od"})
    assert INPUT_FORMATS.is_known("odd")
    assert not OUTPUT_FORMATS.is_known("odd")
