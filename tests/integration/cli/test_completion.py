"""TAB in real shells: every command, every option, every choice, and files."""

from __future__ import annotations

import re
import shutil
from importlib import import_module
from typing import TYPE_CHECKING

import pytest

from batchscore.cli.options import GeneralOptions, choices, is_switch, settable
from batchscore.cli.words import COMMANDS
from batchscore.protocols import PROTOCOLS

from .shells import Typing, offered

if TYPE_CHECKING:
    from pathlib import Path

    from .conftest import Command

SHELLS = [
    pytest.param(
        shell,
        marks=pytest.mark.skipif(not shutil.which(shell), reason=f"{shell} is not installed"),
    )
    for shell in ("bash", "zsh", "fish")
]


def options_of(name: str) -> dict[str, tuple[str, ...]]:
    """The options of a command, each with its values where they are a list."""
    command = import_module(f"batchscore.cli.{name}").COMMAND
    found = {}
    for field, info in {**settable(command.model), **GeneralOptions.model_fields}.items():
        if field == command.positional or field in getattr(command, "hidden", ()):
            continue
        option = "--" + field.replace("_", "-")
        found[option] = choices(info)
        if is_switch(info):
            found["--no-" + option.removeprefix("--")] = ()
    return found


@pytest.mark.parametrize("shell", SHELLS)
def test_a_shell_completes_every_command_option_and_choice(
    batchscore: Command, shell: str, tmp_path: Path
) -> None:
    """After a TAB stand all commands, all options of a command, and the values of an option."""
    wanted = {"batchscore ": set(COMMANDS), "batchscore completion ": {"bash", "zsh", "fish"}}
    for name in COMMANDS:
        options = options_of(name)
        wanted[f"batchscore {name} --"] = set(options)
        for option, values in options.items():
            if values:
                wanted[f"batchscore {name} --quiet {option} "] = set(values)
    wanted["batchscore score --protocol "] = {"auto", *PROTOCOLS.built_in}
    wanted["batchscore score --batch-size "] = {"auto"}
    wanted["batchscore score a.csv --keep "] = {"all", "none"}
    script = batchscore("completion", shell).out
    for line, found in zip(wanted, offered(shell, script, list(wanted), tmp_path), strict=True):
        missing = wanted[line] - found
        assert not missing, f"{line}<TAB>: {sorted(missing)} in {sorted(found)}"


@pytest.mark.parametrize("shell", SHELLS)
@pytest.mark.parametrize(
    "line", ["score ", "score --resume ", "score a.csv -o ", "bench --config ", "serve "]
)
def test_a_shell_completes_files_also_those_with_spaces(
    batchscore: Command, shell: str, line: str, tmp_path: Path
) -> None:
    """An input, an output, a config and a model are completed as files of the folder."""
    (tmp_path / "penguin rows.csv").touch()
    script = batchscore("completion", shell).out
    (tmp_path / "_batchscore").write_text(script, encoding="utf-8")
    (tmp_path / ".zshrc").write_text(
        f"PS1='> '; fpath=({tmp_path} $fpath); "
        f"autoload -Uz compinit; compinit -u -d {tmp_path}/dump"
    )
    command = {
        "bash": ["bash", "--norc", "-i"],
        "zsh": ["zsh", "-o", "no_global_rcs", "-i"],
        "fish": ["fish", "--no-config", "-i"],
    }[shell]
    told, program = tmp_path / "told", tmp_path / "batchscore"
    program.write_text(f'#!/bin/sh\nfor word; do :; done\necho "$word" > "{told}"\n')
    program.chmod(0o755)
    with Typing(command, tmp_path) as terminal:
        terminal.read_until(lambda shown: re.search("[>$#] ", shown))
        path = f"set PATH {tmp_path} $PATH" if shell == "fish" else f"PATH={tmp_path}:$PATH"
        terminal.type(f"{path}\r")
        if shell != "zsh":
            terminal.type("source _batchscore\r")
        terminal.type(f"batchscore {line}peng\t\r")
        terminal.read_until(lambda _: told.exists() and told.read_text())
    assert told.read_text().strip() == "penguin rows.csv"
