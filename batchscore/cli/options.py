"""From the fields of an options model to the options of a command.

The models (``batchscore.config`` and the small ones of the commands) are the one definition. Here
a field becomes ``--kebab-name`` with its description, its default and its unit. The command line
collects only what was given, as text; ``batchscore.cli.sources`` turns it into values.
"""

from __future__ import annotations

import inspect
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path
from types import UnionType
from typing import TYPE_CHECKING, Annotated, Any, Literal, Union, get_args, get_origin

from cyclopts import Group, Parameter
from pydantic import BaseModel, ConfigDict, Field

from batchscore.extensions import Extensions
from batchscore.option_types import Pairs
from batchscore.place_options import Many, Paths
from batchscore.units import Duration, Share, Size, share_text

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Mapping, Sequence

    from cyclopts import Token
    from pydantic.fields import FieldInfo

ENVIRONMENT_PREFIX = "BATCHSCORE_"

# What the annotated types of the options carry, to know them again in a field.
_REPEATED = tuple(get_args(kind)[1] for kind in (Many, Pairs, Paths))
_DURATION, _SIZE, _SHARE = (get_args(kind)[1] for kind in (Duration, Size, Share))
_FILES = frozenset({"inputs", "input", "output", "model"})
"""Options that are texts, as they may be addresses too, and are completed as files."""
_NAMES = {"protocol": ("auto", "instances", "mlflow", "open-inference", "rows")}
"""What is offered for options whose built-in names stand in a layer that takes long to import."""

_GROUPS = (
    "Input", "Load", "Sending", "Deployment", "Output", "Stores", "Engine", "Options", "General",
)  # fmt: skip


class OptionsModel(BaseModel):
    """Base of the options that belong to the command line alone."""

    model_config = ConfigDict(frozen=True, extra="forbid", defer_build=True)


class GeneralOptions(OptionsModel):
    """The options that every command has."""

    config: Path | None = Field(None, description="read options from this TOML file")
    print_config: bool = Field(
        False, description="print the options in force as a TOML file, and do nothing else"
    )
    quiet: bool = Field(False, description="show errors only")
    verbose: bool = Field(False, description="tell more: each retry")
    debug: bool = Field(False, description="show tracebacks and everything that is logged")
    color: bool | None = Field(None, description="colours; else on a terminal without NO_COLOR")
    progress: Literal["auto", "bar", "plain", "none"] = Field(
        "auto", description="progress display; auto: a bar on a terminal, else a line every 10 s"
    )
    log_format: Literal["text", "json"] = Field(
        "text", description="form of standard error; json: one object a line, and no bar"
    )


_GENERAL_NAMES = {"quiet": ("--quiet", "-q"), "verbose": ("--verbose", "-v")}


@dataclass(frozen=True)
class Command:
    """One command: its options and what it does.

    Attributes:
        name: as it is typed.
        model: its options.
        call: what it does with them; returns the exit code.
        positional: the field that is given without an option's name, if any.
        groups: group titles in the help, with the fields they hold; others are "Options".
        short: further names of options.
        metavars: what stands for an option's value in the help.
        several: options that take all the words up to the next option.
        hidden: options that are accepted, and left out of the help.
    """

    name: str
    model: type[BaseModel]
    call: Callable[[Any, GeneralOptions], int]
    positional: str | None = None
    groups: Mapping[str, tuple[str, ...]] = field(default_factory=dict)
    short: Mapping[str, str] = field(default_factory=dict)
    metavars: Mapping[str, str] = field(default_factory=dict)
    several: tuple[str, ...] = ()
    hidden: tuple[str, ...] = ()

    @property
    def option_names(self) -> tuple[str, ...]:
        """The fields that can be set in a file, the environment or on the command line."""
        general = [name for name in GeneralOptions.model_fields if name != "print_config"]
        return (*settable(self.model), *general)

    def parameters(self) -> Iterator[inspect.Parameter]:
        """What the command line can give, in the order of the help."""
        group_of = {name: title for title, names in self.groups.items() for name in names}
        if self.positional is not None:
            info = settable(self.model)[self.positional]
            yield self._positional(info, group_of.get(self.positional, "Options"))
        options = settable(self.model)
        # In the order of the groups: the help tells first what matters most.
        for name in dict.fromkeys([*group_of, *options]):
            if name in options and name != self.positional:
                names = (_kebab(name), *([self.short[name]] if name in self.short else []))
                group, metavar = group_of.get(name, "Options"), self.metavars.get(name)
                several, hidden = name in self.several, name in self.hidden
                yield _option(
                    name, options[name], names, group, metavar, several=several, hidden=hidden
                )
        for name, info in GeneralOptions.model_fields.items():
            option = _GENERAL_NAMES.get(name, (_kebab(name),))
            yield _option(name, info, option, "General", "FILE.toml" if name == "config" else None)

    def _positional(self, info: FieldInfo, group: str) -> inspect.Parameter:
        name = self.positional or ""
        kind = _completed_as(name, info)
        details = Parameter(
            help=_help(info),
            group=_group(group),
            metavar=self.metavars.get(name),
            show_default=False,
            show_choices=False,
            converter=_as_typed,
        )
        if is_repeated(info):
            return inspect.Parameter(
                name, inspect.Parameter.VAR_POSITIONAL, annotation=Annotated[kind, details]
            )
        return inspect.Parameter(
            name,
            inspect.Parameter.POSITIONAL_ONLY,
            default=None,
            annotation=Annotated[kind | None, details],
        )


def is_repeated(info: FieldInfo) -> bool:
    """Whether an option may be given several times and its values add up."""
    return any(item in _REPEATED for item in info.metadata)


def is_switch(info: FieldInfo) -> bool:
    """Whether an option is on or off and takes no value."""
    return bool in (info.annotation, *get_args(info.annotation))


def choices(info: FieldInfo) -> tuple[str, ...]:
    """The values that an option takes, where they are a list; of an open one, what is built in."""
    if names := _open_choices(info):
        return names
    options = [item for item in _alternatives(info.annotation) if item is not type(None)]
    if len(options) == 1 and get_origin(options[0]) is Literal:
        return tuple(str(value) for value in get_args(options[0]))
    return ()


def _open_choices(info: FieldInfo) -> tuple[str, ...]:
    """The names of an option that also takes what other packages register."""
    return next((item.built_in for item in info.metadata if isinstance(item, Extensions)), ())


def _alternatives(annotation: object) -> tuple[object, ...]:
    return get_args(annotation) if get_origin(annotation) in {Union, UnionType} else (annotation,)


def settable(model: type[BaseModel]) -> dict[str, FieldInfo]:
    """The options of a model by name. A table of a file is none, nor is what is never stored."""
    return {
        info.alias or name: info for name, info in model.model_fields.items() if _is_option(info)
    }


def _is_option(info: FieldInfo) -> bool:
    is_table = isinstance(info.annotation, type) and issubclass(info.annotation, BaseModel)
    return not (is_table or info.exclude)


def tables(model: type[BaseModel]) -> dict[str, type[BaseModel]]:
    """The fields that only a config file can set, as a table."""
    return {
        name: info.annotation
        for name, info in model.model_fields.items()
        if isinstance(info.annotation, type) and issubclass(info.annotation, BaseModel)
    }


def _option(
    name: str,
    info: FieldInfo,
    names: tuple[str, ...],
    group: str,
    metavar: str | None,
    *,
    several: bool = False,
    hidden: bool = False,
) -> inspect.Parameter:
    known = _open_choices(info)
    kind = _kind(name, info)
    details = Parameter(
        name=names,
        help=_help(info),
        group=_group(group),
        choices=None if known else choices(info) or None,
        show_choices=bool(known or choices(info)),
        converter=None if is_switch(info) or choices(info) else _as_typed,
        metavar=None if is_switch(info) or (choices(info) and not known) else metavar or "TEXT",
        consume_multiple=several,
        negative=f"--no-{names[0].removeprefix('--')}" if is_switch(info) else (),
        show_default=False,
        show=not hidden,
    )
    return inspect.Parameter(
        name,
        inspect.Parameter.KEYWORD_ONLY,
        # What was not given does not come to the command, whatever its default is here.
        default=False if kind is bool else None,
        annotation=Annotated[kind, details],
    )


def _kind(name: str, info: FieldInfo) -> Any:
    """The type from which cyclopts makes how an option is parsed and completed."""
    if is_switch(info):
        return bool  # "| None" would make its completion expect a value
    kind: Any = str if choices(info) and not _open_choices(info) else _completed_as(name, info)
    return list[kind] | None if is_repeated(info) else kind | None


def _completed_as(name: str, info: FieldInfo) -> Any:
    """The type of one word: told by the help and the completion, but not enforced."""
    types = _alternatives(info.annotation)
    if name in _FILES or Path in types or any(Path in get_args(item) for item in types):
        return Path
    words = (
        _open_choices(info)
        or _NAMES.get(name)
        or tuple(value for item in types if get_origin(item) is Literal for value in get_args(item))
    )
    return Literal[words] | str if words else str


def _as_typed(_kind: Any, tokens: Sequence[Token]) -> Any:
    """What was typed, as text: the options' model makes the value."""
    values = [token.value for token in tokens]
    return values if get_origin(_kind) is list else values[0]


def _help(info: FieldInfo) -> str:
    text = info.description or ""
    default = default_text(info)
    return f"{text} [default: {default}]" if default else text


def default_text(info: FieldInfo) -> str | None:
    """An option's default as a person would write it; None where there is none to tell."""
    value = info.default
    if info.is_required() or value is None or value in ((), {}) or isinstance(value, bool):
        return None
    value = as_written(info, value)
    return ",".join(f"{item:g}" for item in value) if isinstance(value, tuple) else str(value)


def as_written(info: FieldInfo, value: Any) -> Any:
    """A value with the unit of its option, where it has one that takes nothing from it."""
    for kind, text_of in ((_DURATION, duration_text), (_SIZE, size_text), (_SHARE, share_text)):
        if kind in info.metadata and value is not None:
            text = text_of(value)
            with suppress(ValueError):  # too small, or endless
                return text if kind.func(text) == value else value
    return value


def duration_text(seconds: float) -> str:
    """``60s`` of 60.0."""
    return f"{seconds:g}s"


def size_text(size: int) -> str:
    """``8MiB`` of 8388608."""
    for factor, unit in ((2**30, "GiB"), (2**20, "MiB"), (2**10, "KiB")):
        if size >= factor and size % factor == 0:
            return f"{size // factor}{unit}"
    return f"{size}B"


def _group(title: str) -> Group:
    return Group(title, sort_key=_GROUPS.index(title))


def _kebab(name: str) -> str:
    return "--" + name.replace("_", "-")
