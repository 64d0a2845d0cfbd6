"""What happens when a command is called."""

from __future__ import annotations

import inspect
from importlib import import_module
from typing import TYPE_CHECKING, Any

from batchscore.cli.options import is_repeated, settable
from batchscore.cli.sources import resolve
from batchscore.cli.terminal import TERMINAL
from batchscore.cli.words import COMMANDS, STANDARD_STREAM

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

    from batchscore.cli.options import Command


def as_function(command: Command) -> Callable[..., int]:
    """The function that cyclopts parses for."""

    def function(*values: str, **given: object) -> int:
        explicit = {name: value for name, value in given.items() if value is not None}
        if values and command.positional:
            many = is_repeated(settable(command.model)[command.positional])
            explicit[command.positional] = list(values) if many else values[0]
        return execute(command, _restore_streams(explicit))

    function.__name__ = command.name
    function.__annotations__ = {}
    function.__signature__ = inspect.Signature(list(command.parameters()))  # type: ignore[attr-defined]
    return function


def execute(command: Command, explicit: Mapping[str, object]) -> int:
    """Collect a command's options from all sources, and call it."""
    if explicit.get("print_config"):
        from batchscore.cli.printing import print_config

        return print_config(command, explicit, known_options)
    options, general = resolve(command, explicit, known_options)
    TERMINAL.configure(general)
    return command.call(options, general)


def known_options() -> set[str]:
    """The names of the options of all commands, as in a file."""
    names: set[str] = set()
    for name in COMMANDS:
        command: Command = import_module(f"batchscore.cli.{name}").COMMAND
        names.update(command.option_names)
    return names


def _restore_streams(explicit: dict[str, Any]) -> dict[str, Any]:
    def restore(value: object) -> object:
        if isinstance(value, list):
            return [restore(item) for item in value]
        return "-" if value == STANDARD_STREAM else value

    return {name: restore(value) for name, value in explicit.items()}
