"""``--print-config``: the options in force, as a config file with which the job is the same."""

from __future__ import annotations

import json
import logging
import re
from typing import TYPE_CHECKING, Any

from batchscore.cli.options import GeneralOptions, as_written, choices, settable, tables
from batchscore.cli.sources import Given, gathered, validated
from batchscore.cli.terminal import TERMINAL
from batchscore.endpoint import redacted
from batchscore.errors import UsageError
from batchscore.shown import shown_options
from batchscore.version import __version__

if TYPE_CHECKING:
    from collections.abc import Callable, Collection, Iterator, Mapping

    from pydantic import BaseModel

    from batchscore.cli.options import Command

_COMMENTS_AT = 40
_NOT_A_KEY = ("config", "print_config")


def print_config(
    command: Command, explicit: Mapping[str, object], known: Callable[[], Collection[str]]
) -> int:
    """Write the config file to standard output; what has to be given, and is not, stays open.

    Args:
        command: whose options they are.
        explicit: what the command line gave, by field name.
        known: names of the options of all commands.

    Raises:
        UsageError: what ``resolve`` raises; or no TOML file can hold a value.
    """
    given = gathered(command, explicit, known)
    open_ones = {
        name: Given((choices(info) or ("-",))[0], "")
        for name, info in settable(command.model).items()
        if info.is_required() and name not in given
    }
    options, general = validated(command, {**given, **open_ones})
    TERMINAL.configure(general)
    page = _Page(command, given, {**_values(options), **_values(general)})
    text = "\n".join(page.lines()) + "\n"
    if page.hidden:
        logging.getLogger("batchscore").warning(
            "not printed, as they may hold a secret: %s; they have to be given again",
            ", ".join(page.hidden),
        )
    TERMINAL.data(text)
    return 0


def _values(options: BaseModel) -> dict[str, Any]:
    values = options.model_dump(mode="json", by_alias=True)
    for name, info in settable(type(options)).items():
        values[name] = as_written(info, values[name])
    return values


class _Page:
    """The lines of the file.

    Attributes:
        hidden: keys whose values are not shown.
    """

    def __init__(
        self, command: Command, given: Mapping[str, Given], values: Mapping[str, Any]
    ) -> None:
        self._command, self._given, self._values = command, given, values
        self.hidden: list[str] = []

    def lines(self) -> Iterator[str]:
        """All of them."""
        name = self._command.name
        yield f"# The options of batchscore {name} {__version__}; behind # the defaults. The same"
        yield f"# job again: batchscore {name} --config THIS-FILE"
        own, general = settable(self._command.model), settable(GeneralOptions)
        grouped = {key for names in self._command.groups.values() for key in names}
        groups = {**self._command.groups, "Options": [key for key in own if key not in grouped]}
        for title, names in {**groups, "General": general}.items():
            keys = [key for key in names if key in {**own, **general} and key not in _NOT_A_KEY]
            if keys:
                yield f"\n# {title}"
            for key in keys:
                required = key in own and own[key].is_required()
                yield self._line(key, self._values[key], key in self._given, required=required)
        for key in tables(self._command.model):
            yield from self._table(key)

    def _table(self, name: str) -> Iterator[str]:
        given = self._given.get(name)
        is_given = given is not None
        yield f"\n[{name}]" + (f"  # from {_plain(given.place)}" if given is not None else "")
        model = tables(self._command.model)[name]
        inside = given.value if given is not None and isinstance(given.value, dict) else {}
        for key in settable(model):
            value = self._values[name][key]
            yield self._line(key, value, is_given and key in inside, table=name)

    def _line(
        self, key: str, value: Any, is_given: bool, *, required: bool = False, table: str = ""
    ) -> str:
        origin = self._given.get(key) if not table else None
        comment = f"from {_plain(origin.place)}" if origin is not None else ""
        if not is_given:
            empty = required or value is None or value in ([], {})
            text = f"# {key} =" + ("" if empty else f" {_toml(value, key)}")
            return _with(text, "has to be given" if required else "")
        if _is_hidden(key, value):
            self.hidden.append(f"{table}.{key}".lstrip("."))
            return _with(f"# {key} =", f"not printed, may hold a secret; {comment}".rstrip("; "))
        return _with(f"{key} = {_toml(value, key)}", comment)


def _is_hidden(key: str, value: Any) -> bool:
    if key == "url":
        return bool(redacted(value) != value)
    return shown_options({key: value}) != {key: value}


def _with(text: str, comment: str) -> str:
    return f"{text:{_COMMENTS_AT - 1}} # {comment}" if comment else text


def _plain(text: str) -> str:
    """As a comment can hold it."""
    return re.sub(r"[\x00-\x1f\x7f-\x9f\ud800-\udfff]", "?", text)


def _toml(value: Any, key: str) -> str:
    """A value as TOML writes it."""
    if isinstance(value, dict):
        pairs = (f"{_toml_key(name, key)} = {_toml(item, key)}" for name, item in value.items())
        return f"{{ {', '.join(pairs)} }}" if value else "{}"
    if isinstance(value, list):
        return f"[{', '.join(_toml(item, key) for item in value)}]"
    if isinstance(value, str):
        try:
            value.encode()
        except UnicodeEncodeError:
            raise UsageError(
                f"{key}: {value!r} is no Unicode text, so no config file can hold it; "
                "rename the file, or give it on the command line"
            ) from None
        return json.dumps(value, ensure_ascii=False).replace("\x7f", "\\u007f")
    return json.dumps(value) if isinstance(value, bool) else repr(value)


def _toml_key(name: str, key: str) -> str:
    return name if re.fullmatch(r"[A-Za-z0-9_-]+", name) else _toml(name, key)
