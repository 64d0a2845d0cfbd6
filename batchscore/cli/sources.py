"""Where options come from: defaults < config file < environment < command line.

Each source gives a plain mapping. They are laid over each other, and one validation by the
options' model makes the values. What is wrong is told with the place it came from.
"""

from __future__ import annotations

import os
import tomllib
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from pydantic import BaseModel, ValidationError

from batchscore.cli.options import (
    ENVIRONMENT_PREFIX,
    GeneralOptions,
    is_repeated,
    settable,
    tables,
)
from batchscore.cli.words import CREDENTIAL_ADVICE
from batchscore.config import ScoreConfig
from batchscore.errors import UsageError
from batchscore.nearest import nearest

if TYPE_CHECKING:
    from collections.abc import Callable, Collection, Iterable, Mapping

    from pydantic_core import ErrorDetails

    from batchscore.cli.options import Command

_TOKEN_VARIABLE = "BATCHSCORE_TOKEN"  # noqa: S105 (its name, not a token)
_ALTERNATIVES = (("token_command", "token_file"),)
_UNTOLD = frozenset({"url", "header", "token_command"})
"""Options whose value may hold a secret, so that no message shows it."""


@dataclass(frozen=True)
class Given:
    """One option as a source gave it: its value, and the place to name when it is wrong."""

    value: object
    place: str


def resolve(
    command: Command,
    explicit: Mapping[str, object],
    known: Callable[[], Collection[str]],
    environment: Mapping[str, str] | None = None,
) -> tuple[BaseModel, GeneralOptions]:
    """The options of one run.

    Args:
        command: whose options they are.
        explicit: what the command line gave, by field name.
        known: names of the options of all commands: a file and the environment serve several
            commands, so what belongs to another one is no mistake.
        environment: the environment variables.

    Raises:
        UsageError: an unknown name, or values that are wrong; one line that names each place.
    """
    return validated(command, gathered(command, explicit, known, environment))


def gathered(
    command: Command,
    explicit: Mapping[str, object],
    known: Callable[[], Collection[str]],
    environment: Mapping[str, str] | None = None,
) -> dict[str, Given]:
    """What the sources give, each option from the last of them; see ``resolve``.

    Raises:
        UsageError: an unknown name.
    """
    variables = os.environ if environment is None else environment
    from_command_line = {
        name: Given(value, _option_name(command, name)) for name, value in explicit.items()
    }
    from_environment = _from_environment(command, variables, known)
    config = {**from_environment, **from_command_line}.get("config")
    from_file = _from_file(command, config, known) if config else {}
    return overlay(from_file, from_environment, from_command_line)


def overlay(*layers: Mapping[str, Given]) -> dict[str, Given]:
    """Lay sources over each other, the last on top; of two alternatives the upper one stays."""
    merged: dict[str, Given] = {}
    for layer in layers:
        for names in _ALTERNATIVES:
            if any(name in layer for name in names):
                for name in names:
                    merged.pop(name, None)
        merged.update(layer)
    return merged


def _option_name(command: Command, name: str) -> str:
    if name == command.positional:
        return command.metavars.get(name, name.upper())
    return "--" + name.replace("_", "-")


def _from_environment(
    command: Command, variables: Mapping[str, str], known: Callable[[], Collection[str]]
) -> dict[str, Given]:
    given: dict[str, Given] = {}
    for variable in sorted(variables):
        if not variable.startswith(ENVIRONMENT_PREFIX) or variable == _TOKEN_VARIABLE:
            continue
        name = variable.removeprefix(ENVIRONMENT_PREFIX).lower()
        if variable.isupper() and name in command.option_names:
            given[name] = Given(_lines(command, name, variables[variable]), variable)
        elif not (variable.isupper() and name in known()):
            names = [ENVIRONMENT_PREFIX + option.upper() for option in known()]
            names.append(_TOKEN_VARIABLE)
            hint = nearest(variable, names) or "; no command has such an option: unset it"
            raise UsageError(f"unknown variable {variable}{hint}")
    return given


def _lines(command: Command, name: str, value: str) -> object:
    """The value of a variable: where an option may be repeated, one value a line."""
    info = settable(command.model).get(name)
    if info is not None and is_repeated(info):
        return [line for line in value.splitlines() if line]
    return value


def _from_file(
    command: Command, config: Given, known: Callable[[], Collection[str]]
) -> dict[str, Given]:
    path = Path(str(config.value))
    try:
        content = tomllib.loads(path.read_text(encoding="utf-8"))
    except (tomllib.TOMLDecodeError, UnicodeDecodeError) as error:
        raise UsageError(
            f"{config.place}: {path} is no valid TOML: {error}; mend that line"
        ) from error
    except OSError as error:
        reason = error.strerror or error
        raise UsageError(f"{config.place}: cannot read {str(path)!r}: {reason}") from error
    own = {*command.option_names, *tables(command.model)} - {"config"}
    given: dict[str, Given] = {}
    for key, value in content.items():
        name, place = key.replace("-", "_"), f"{path}:{key}"
        if name == "token":
            raise UsageError(f"{place}: {CREDENTIAL_ADVICE}")
        if name in given:
            raise UsageError(f"{place}: the key is there twice, with - and with _; take one away")
        if name in own:
            given[name] = Given(_table(value) if name in tables(command.model) else value, place)
        elif name == "config" or name not in {*known(), *tables(ScoreConfig)}:
            names = [option for option in known() if option != "config"]
            hint = nearest(name, names) or "; no command has such an option: take it out"
            raise UsageError(f"{place}: unknown key{hint}")
    return given


def _table(value: object) -> object:
    if isinstance(value, dict):
        return {str(key).replace("-", "_"): item for key, item in value.items()}
    return value


def validated(command: Command, given: Mapping[str, Given]) -> tuple[BaseModel, GeneralOptions]:
    """The options of what the sources gave.

    Raises:
        UsageError: values that are wrong or missing.
    """
    texts: list[str] = []
    made: list[BaseModel] = []
    for model in (command.model, GeneralOptions):
        names = {*settable(model), *tables(model)}
        values = {name: item.value for name, item in given.items() if name in names}
        try:
            made.append(model.model_validate(values))
        except ValidationError as error:
            # No input in the error: it ends in a traceback, and may be a secret.
            texts += _told(command, given, error.errors(include_url=False))
    if texts:
        raise UsageError("; ".join(texts))
    options, general = made
    if not isinstance(general, GeneralOptions):
        raise TypeError(general)
    return options, general


def _told(
    command: Command, given: Mapping[str, Given], errors: list[ErrorDetails]
) -> Iterable[str]:
    """One text an option, from all that was wrong with it."""
    by_name: dict[str, list[ErrorDetails]] = {}
    for error in errors:
        by_name.setdefault(str(error["loc"][0]) if error["loc"] else "", []).append(error)
    for name, of_name in by_name.items():
        if not name:
            yield "; ".join(_own_words(error) for error in of_name)
        elif of_name[0]["type"] == "missing":
            yield _missing(command, name)
        else:
            place = given[name].place
            if name in tables(command.model):
                place = ".".join([place, *(str(part) for part in of_name[0]["loc"][1:2])])
            yield f"{place}: {_reason(name, given[name].value, of_name)}"


def _missing(command: Command, name: str) -> str:
    if name == command.positional:
        return f"{_option_name(command, name)} is missing; {command.name} --help tells more"
    variable = ENVIRONMENT_PREFIX + name.upper()
    return f"{_option_name(command, name)} is missing (or {variable}, or {name} in a config file)"


def _reason(name: str, value: object, errors: list[ErrorDetails]) -> str:
    first = errors[0]
    if first["type"] == "extra_forbidden":
        return "unknown key" + nearest(str(first["loc"][-1]), ("retry", "isolate", "stop"))
    in_own_words = [error for error in errors if error["type"] == "value_error"]
    if in_own_words:
        return _own_words(in_own_words[0])
    shown = "the value" if name in _UNTOLD else repr(value)
    return f"{shown} is not {' or '.join(dict.fromkeys(_expected(error) for error in errors))}"


def _own_words(error: ErrorDetails) -> str:
    return error["msg"].removeprefix("Value error, ")


_EXPECTED = {
    "int_parsing": "a whole number",
    "int_type": "a whole number",
    "int_from_float": "a whole number",
    "float_parsing": "a number",
    "float_type": "a number",
    "bool_parsing": "true or false",
    "bool_type": "true or false",
    "greater_than_equal": "at least {ge}",
    "greater_than": "more than {gt:g}",
    "less_than_equal": "at most {le}",
    "string_type": "a text",
    "path_type": "a path",
    "tuple_type": "a list",
    "dict_type": "a list of NAME=VALUE",
    "model_type": "a table",
    "model_attributes_type": "a table",
    "too_short": "enough: there is nothing in it",
    "string_too_short": "enough: there is nothing in it",
}
"""What Pydantic's kinds of error ask for, to stand after "is not"."""


def _expected(error: ErrorDetails) -> str:
    context: dict[str, Any] = error.get("ctx") or {}
    if error["type"] == "literal_error":
        # Pydantic lists them like this: 'struct', 'list' or 'none'.
        return str(context["expected"]).replace(" or ", ", ").replace("'", "")
    known = _EXPECTED.get(error["type"], "accepted ({type})")
    return known.format(type=error["type"].replace("_", " "), **context)
