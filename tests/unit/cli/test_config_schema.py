"""The JSON Schema by which editors complete and check config files."""

from __future__ import annotations

import json
import re
import tomllib
from importlib import import_module
from pathlib import Path
from typing import Any

import jsonschema
import pytest

from batchscore.cli.commands import known_options
from batchscore.cli.options import tables
from batchscore.cli.sources import resolve
from batchscore.cli.words import COMMANDS
from batchscore.config import ScoreConfig
from batchscore.errors import UsageError

CONFIGS = Path(__file__).parents[3] / "configs"
FILES = sorted(CONFIGS.glob("*.toml"))
SCHEMA: dict[str, Any] = json.loads((CONFIGS / "batchscore.schema.json").read_text("utf-8"))
NEEDED = {"inputs": ["a.csv"], "output": "o.arrow", "url": "http://h/forward"}
BENCH = {"inputs": ["a.csv"], "url": "http://h/forward"}


def is_accepted(name: str, text: str, tmp_path: Path) -> bool:
    """Whether a command takes a config file of this text."""
    file = tmp_path / "config.toml"
    file.write_text(text, encoding="utf-8")
    command = import_module(f"batchscore.cli.{name}").COMMAND
    given = {key: value for key, value in NEEDED.items() if key in command.option_names}
    if name == "bench":
        given = BENCH
    try:
        resolve(command, given | {"config": str(file)}, known_options, {})
    except UsageError:
        return False
    return True


def is_valid(text: str) -> bool:
    """Whether an editor finds nothing wrong with it."""
    return jsonschema.Draft7Validator(SCHEMA).is_valid(tomllib.loads(text))


def test_the_schema_is_one() -> None:
    """It follows the draft of JSON Schema that it names, which is one that editors know."""
    jsonschema.Draft7Validator.check_schema(SCHEMA)
    assert SCHEMA["$schema"] == "http://json-schema.org/draft-07/schema#"


def test_the_schema_knows_every_option_and_table() -> None:
    """Each option that a file can set is a key with a description; a token is none."""
    wanted = {*known_options(), *tables(ScoreConfig)} - {"config"}
    assert SCHEMA["properties"].keys() == wanted
    assert "token" not in wanted
    for key, value in SCHEMA["properties"].items():
        assert value["description"], key


@pytest.mark.parametrize("path", FILES, ids=lambda path: path.name)
def test_an_example_names_the_schema_and_keeps_it(path: Path) -> None:
    """Each example leads editors to the schema, and is valid by it, with every line in use too."""
    text = path.read_text("utf-8")
    assert text.startswith("#:schema ./batchscore.schema.json\n")
    whole = re.sub(r"^# (?=\w+ = )", "", text, flags=re.MULTILINE)
    for version in (text, whole):
        jsonschema.validate(tomllib.loads(version), SCHEMA)


@pytest.mark.parametrize("name", [name for name in COMMANDS if name != "completion"])
def test_every_default_of_the_schema_is_taken_by_the_commands(name: str, tmp_path: Path) -> None:
    """What an editor puts in as the default of an option is what the command takes."""
    command = import_module(f"batchscore.cli.{name}").COMMAND
    for key in command.option_names:
        if "default" in SCHEMA["properties"].get(key, {}):
            value = SCHEMA["properties"][key]["default"]
            assert is_accepted(name, f"{key} = {json.dumps(value)}", tmp_path), key


GOOD = [
    "timeout = 30", 'timeout = "1.5 m"', 'max_batch_bytes = "8MiB"', "max_batch_bytes = 1000",
    'rate_limit = "50req/s"', "max_failed_rows = 10", 'max_failed_rows = "0.5%"',
    'keep = "none"', 'keep = ["a"]', 'keep = "a,b"', "batch_size = 3", 'batch_size = "auto"',
    "batch-size = 3", "[map]\na = 'b'", "map = ['a=b']", "[pack]\nx = ['a', 'b']",
    "pack = 'x=a,b'", "[retry]\nretry = 409\nstop = ['5xx']", "report = 'a.json'",
    "report = ['a.json', 'b.html']", "input_format = 'csv'", "null = ['NA', '-']",
    "[instances]\nextra = { a = [1] }\nresponse-key = 'a.b'", "color = false", "limit = 0",
]  # fmt: skip
BAD = [
    'timeout = "5 weeks"', "timeout = []", 'max_batch_bytes = "8 boxes"', 'rate_limit = "50"',
    "rate_limit = 50", 'max_failed_rows = "many"', "batch_size = 0", "batch_sise = 3",
    "token = 't'", "config = 'c.toml'", "[retry]\nretyr = [409]", "[retry]\nretry = 'often'",
    "[instances]\nrow = 'tuple'", "probs = 'yes'", "resume = 'perhaps'", "limit = -1",
    "print_config = true",
]  # fmt: skip


@pytest.mark.parametrize("text", GOOD)
def test_what_the_command_takes_an_editor_takes(text: str, tmp_path: Path) -> None:
    """Every way to write a value that is accepted is none that an editor marks as wrong."""
    assert is_accepted("score", text, tmp_path)
    assert is_valid(text)


@pytest.mark.parametrize("text", BAD)
def test_what_the_command_refuses_an_editor_marks(text: str, tmp_path: Path) -> None:
    """A wrong key, unit, choice or type is marked while it is written."""
    assert not is_accepted("score", text, tmp_path)
    assert not is_valid(text)


def test_what_bench_takes_an_editor_takes(tmp_path: Path) -> None:
    """Keys that mean more to bench than to score are valid with its values too."""
    for text in ("concurrency = [1, 2, 4]", 'batch_size = "1,32"', "rate = 12.5", 'slo = "p99=1s"'):
        assert is_accepted("bench", text, tmp_path), text
        assert is_valid(text), text
