"""``--print-config``: what is printed is the same job again."""

from __future__ import annotations

import logging
import os
import tomllib
from importlib import import_module
from typing import TYPE_CHECKING, Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from batchscore.cli.commands import known_options
from batchscore.cli.options import as_written, settable, tables
from batchscore.cli.printing import print_config
from batchscore.cli.sources import resolve
from batchscore.config import ScoreConfig
from batchscore.errors import UsageError
from batchscore.shown import shown_options

if TYPE_CHECKING:
    from pathlib import Path

NEEDED = {"inputs": ["a.csv"], "output": "o.arrow", "url": "http://h/forward"}
WHOLE = {
    "score": NEEDED,
    "rescore": {"output": "o.arrow", "url": "http://h/forward"},
    "inspect": {"url": "http://h/forward"},
    "bench": {"inputs": ["a.csv"], "url": "http://h/forward"},
    "serve": {},
    "demo": {},
}
SECRETS = {
    "url": "https://user:SECRET@h/forward?key=SECRET",
    "header": ["X-Key: SECRET"],
    "token_command": "echo SECRET",
}


def printed(name: str, explicit: dict[str, object], capsys: Any) -> str:
    """What the command prints."""
    command = import_module(f"batchscore.cli.{name}").COMMAND
    assert print_config(command, {**explicit, "print_config": True}, known_options) == 0
    return str(capsys.readouterr().out)


def again(name: str, text: str, folder: Path) -> Any:
    """The options that a printed file gives, alone."""
    file = folder / "printed.toml"
    file.write_text(text, encoding="utf-8")
    command = import_module(f"batchscore.cli.{name}").COMMAND
    return resolve(command, {"config": str(file)}, known_options, {})[0]


@pytest.fixture(autouse=True)
def no_variables(monkeypatch: pytest.MonkeyPatch) -> None:
    """No option comes from whoever runs the tests, and the log stays as it was."""
    for name in os.environ:
        if name.startswith("BATCHSCORE_"):
            monkeypatch.delenv(name)
    logger = logging.getLogger("batchscore")
    for name in ("handlers", "propagate", "level"):
        monkeypatch.setattr(logger, name, getattr(logger, name))
    monkeypatch.setattr(logging, "lastResort", logging.lastResort)


@pytest.mark.parametrize("name", WHOLE)
def test_a_printed_config_has_every_option_and_is_the_same_job(
    name: str, tmp_path: Path, capsys: Any
) -> None:
    """Each option of a command stands there, in force or as a comment, and gives itself again."""
    command = import_module(f"batchscore.cli.{name}").COMMAND
    text = printed(name, WHOLE[name], capsys)
    for key in {*settable(command.model), "quiet", "progress"}:
        assert f"\n{key} = " in text or f"\n# {key} =" in text, key
    for key in tables(command.model):
        assert f"\n[{key}]" in text
    assert "print_config" not in text
    assert again(name, text, tmp_path) == resolve(command, WHOLE[name], known_options, {})[0]


SETTINGS = [
    {"batch_size": "7", "timeout": "250ms", "max_batch_bytes": "1000", "concurrency": "auto"},
    {"map": ["a b=c", 'q"=\\'], "type": ["id=int64"], "null": ["NA", "", "\t"]},
    {"delimiter": "tab", "encoding": "latin-1", "limit": "0", "keep": "none"},
    {"keep": "a,b", "drop": "c", "classes": "x,y", "features": ["a", "b,c"], "pack": ["t=a,b"]},
    {"rate_limit": "0.5rows/s", "max_failed_rows": "12345678"},
    {"rate_limit": "1234567.25req/s", "max_failed_rows": "0.0625%", "max_outage": "0"},
    {"resume": True, "overwrite": True, "probs": "list", "report": ["a.json", "b.html"]},
    {"timeout": "0.0000001", "max_response_bytes": "3GiB", "prefix": "ö\x7f\n"},
]


@pytest.mark.parametrize("settings", SETTINGS, ids=",".join)
def test_what_was_set_is_set_again(
    settings: dict[str, object], tmp_path: Path, capsys: Any
) -> None:
    """Whatever was given, with odd characters, small units and large numbers, comes back."""
    command = import_module("batchscore.cli.score").COMMAND
    text = printed("score", NEEDED | settings, capsys)
    for key in settings:
        assert f"\n{key} = " in text
        assert f"# from --{key.replace('_', '-')}\n" in text
    assert (
        again("score", text, tmp_path) == resolve(command, NEEDED | settings, known_options, {})[0]
    )


@given(st.dictionaries(st.text(min_size=1), st.text(min_size=1)), st.lists(st.text()))
def test_every_text_comes_back_from_a_printed_config(
    tmp_path_factory: pytest.TempPathFactory, columns: dict[str, str], nulls: list[str]
) -> None:
    """Names of columns and texts of nulls may hold any character that Unicode has."""
    from contextlib import redirect_stdout
    from io import StringIO

    command = import_module("batchscore.cli.score").COMMAND
    explicit = {**NEEDED, "map": columns, "null": nulls, "print_config": True}
    with redirect_stdout(StringIO()) as out:
        print_config(command, explicit, known_options)
    content = tomllib.loads(out.getvalue())
    assert content["map"] == columns
    assert content["null"] == nulls


def test_tables_and_the_file_that_an_option_came_from_are_kept(tmp_path: Path, capsys: Any) -> None:
    """A config of a config and a variable is the same, and tells where each came from."""
    first = tmp_path / "first.toml"
    first.write_text(
        'protocol = "instances"\n[retry]\nstop = [409]\n[instances]\nresponse-key = "a.b"\n'
    )
    text = printed("score", NEEDED | {"config": str(first)}, capsys)
    assert f"# from {first}:protocol\n" in text
    config = again("score", text, tmp_path)
    assert config.retry.stop == ("409",)
    assert config.instances.response_key == "a.b"
    assert config.protocol == "instances"


def test_a_variable_is_named_where_an_option_came_from_it(
    monkeypatch: pytest.MonkeyPatch, capsys: Any
) -> None:
    """What stands in the environment is told with the name of its variable."""
    monkeypatch.setenv("BATCHSCORE_LIMIT", "3")
    assert "limit = 3                               # from BATCHSCORE_LIMIT\n" in printed(
        "score", NEEDED, capsys
    )


def test_no_secret_is_printed_and_each_is_told_to_be_missing(
    tmp_path: Path, capsys: Any, caplog: pytest.LogCaptureFixture
) -> None:
    """Whatever may be a secret is left out, with a comment in its place and a warning."""
    file = tmp_path / "config.toml"
    file.write_text('protocol = "instances"\n[instances]\nextra = { key = "SECRET" }\n')
    command = import_module("batchscore.cli.score").COMMAND
    print_config(command, {**NEEDED, **SECRETS, "config": str(file)}, known_options)
    told = capsys.readouterr()
    assert "SECRET" not in told.out + told.err + caplog.text
    assert "url, token_command, header, instances.extra" in told.err
    assert {"url", "header", "token_command"}.isdisjoint(tomllib.loads(told.out))


def test_what_is_missing_stays_open_in_a_printed_config(capsys: Any) -> None:
    """Without any option the file is a form: what has to be given stands there as a comment."""
    text = printed("score", {}, capsys)
    assert text.count("# has to be given") == 3
    assert tomllib.loads(text).keys() == {"retry", "instances"}


def test_a_wrong_option_is_refused_and_nothing_printed(capsys: Any) -> None:
    """A config that would be refused is not printed."""
    with pytest.raises(UsageError, match="--batch-size"):
        printed("score", NEEDED | {"batch_size": "0"}, capsys)
    with pytest.raises(UsageError, match="no Unicode text"):
        printed("score", NEEDED | {"inputs": ["a\udcff.csv"]}, capsys)
    assert capsys.readouterr().out == ""


@pytest.mark.parametrize(
    ("name", "value", "text"),
    [("timeout", 60.0, "60s"), ("timeout", 1e-7, 1e-7), ("timeout", float("inf"), float("inf")),
     ("max_batch_bytes", 8 * 2**20, "8MiB"), ("max_attempts", 5, 5)],
)  # fmt: skip
def test_a_value_has_its_unit_where_that_takes_nothing_from_it(
    name: str, value: object, text: object
) -> None:
    """A duration or a size is written as people do, unless that would change it."""
    assert as_written(settable(ScoreConfig)[name], value) == text


def test_a_feature_may_be_called_like_an_option_that_is_hidden(tmp_path: Path, capsys: Any) -> None:
    """Columns named url or token_command are shown: only options of that name hold secrets."""
    columns = {"url": "link", "token_command": "a", "header": "b"}
    text = printed("score", NEEDED | {"map": columns}, capsys)
    assert again("score", text, tmp_path).map == columns
    assert shown_options({"map": columns, "header": ["X: y"]}) == {"map": columns, "header": ["X"]}
