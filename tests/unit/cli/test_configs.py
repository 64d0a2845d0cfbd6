"""The example configuration files."""

from __future__ import annotations

import re
import tomllib
from pathlib import Path

import pytest

from batchscore.cli import app
from batchscore.cli.inspect import COMMAND as INSPECT
from batchscore.cli.score import COMMAND
from batchscore.cli.sources import resolve
from batchscore.config import ScoreConfig

FOLDER = Path(__file__).parents[3] / "configs"
FILES = sorted(FOLDER.glob("*.toml"))
NEEDED = {"inputs": ["a.csv"], "output": "o.arrow", "url": "http://h/forward"}


def test_there_are_examples() -> None:
    """The folder of examples is where it should be."""
    assert {path.name for path in FILES} >= {"score.toml", "csv.toml", "flaky-server.toml"}


@pytest.mark.parametrize("path", FILES, ids=lambda path: path.name)
def test_an_example_is_a_valid_config(path: Path) -> None:
    """Each example is accepted as it stands, and sets something."""
    config, _ = resolve(COMMAND, NEEDED | {"config": str(path)}, app.known_options, {})
    assert isinstance(config, ScoreConfig)
    assert config != ScoreConfig.model_validate(NEEDED)
    # What is said for one command may stand in a file for all.
    given = {"url": NEEDED["url"], "config": str(path)}
    resolve(INSPECT, given, app.known_options, {})


@pytest.mark.parametrize("path", FILES, ids=lambda path: path.name)
def test_an_example_is_valid_with_every_line_in_use(path: Path, tmp_path: Path) -> None:
    """Keys that are commented out are valid too, once their # is taken away."""
    text = re.sub(r"^# (?=\w+ = )", "", path.read_text(encoding="utf-8"), flags=re.MULTILINE)
    content = tomllib.loads(text)
    if "token_file" in content:
        # The two are alternatives.
        text = re.sub(r"^token_command.*$", "", text, flags=re.MULTILINE)
    whole = tmp_path / path.name
    whole.write_text(text, encoding="utf-8")
    config, _ = resolve(COMMAND, NEEDED | {"config": str(whole)}, app.known_options, {})
    assert isinstance(config, ScoreConfig)
