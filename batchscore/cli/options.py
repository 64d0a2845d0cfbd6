"""From the fields of an options model to the options of a command.

The models (``batchscore.config`` and the small ones of the commands) are the one definition. Here
a field becomes ``--kebab-name`` with its description, its default and its unit. The command line
collects only what was given, as text; ``batchscore.cli.sources`` turns it into values.
"""

from __future__ import annotations

import inspect
from dataclasses import dataclass, field
from pathlib import Path
from types import UnionType
from typing import TYPE_CHECKING, Annotated, Any, Literal, Union, get_args, get_origin

from cyclopts import Group, Parameter
from pydantic import BaseModel, ConfigDict, Field

from batchscore.config import Pairs
from batchscore.extensions import Extensions
from batchscore.place_options import Many, Paths
from batchscore.units import Duration, Share, Size, share_text

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Mapping

    from pydantic.fields import FieldInfo

ENVIRONMENT_PREFIX = "BATCHSCORE_"

# What the annotated types of the options carry, to know them again in a field.
_REPEATED = tuple(get_args(kind)[1] for kind in (Many, Pairs, Paths))
_DURATION, _SIZE, _SHARE = (get_args(kind)[1] for kind in (Duration, Size, Share))
_GROUPS = ("Input", "Load", "Sending", "Deployment", "Output", "Stores", "Options", "General")


class OptionsModel(BaseModel):
    """Base of the options that belong to the command line alone."""

    model_config = ConfigDict(frozen=True, extra="forbid", defer_build=True)


class GeneralOptions(OptionsModel):
    """The options that every command has."""

    config: Path | None = Field(None, description="read options from this TOML file")
    quiet: bool = Field(False, description="show errors only")
    verbose: bool = Field(False, description="tell more: each retry")
    debug: bool = Field(False, description="show tracebacks and everything that is logged")
    color: bool | None = Field(None, description="colours; else on a terminal without NO_COLOR")
    progress: Literal["auto", "bar", "plain", "none"] = Field(
        "auto", description="progress display; auto: a bar on a terminal, else a line every 10 s"
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
    """

    name: str
    model: type[BaseModel]
    call: Callable[[Any, GeneralOptions], int]
    positional: str | None = None
    groups: Mapping[str, tuple[str, ...]] = field(default_factory=dict)
    short: Mapping[str, str] = field(default_factory=dict)
    metavars: Mapping[str, str] = field(default_factory=dict)
    several: tuple[str, ...] = ()

    @property
    def option_names(self) -> tuple[str, ...]:
        """The fields that can be set in a file, the environment or on the command line."""
        return (*settable(self.model), *GeneralOptions.model_fields)

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
                several = name in self.several
                yield _option(name, options[name], names, group, metavar, several=several)
        for name, info in GeneralOptions.model_fields.items():
            option = _GENERAL_NAMES.get(name, (_kebab(name),))
            yield _option(name, info, option, "General", "FILE.toml" if name == "config" else None)

    def _positional(self, info: FieldInfo, group: str) -> inspect.Parameter:
        name = self.positional or ""
        details = Parameter(
            help=_help(info),
            group=_group(group),
            metavar=self.metavars.get(name),
            show_default=False,
        )
        if is_repeated(info):
            return inspect.Parameter(
                name, inspect.Parameter.VAR_POSITIONAL, annotation=Annotated[str, details]
            )
        return inspect.Parameter(
            name,
            inspect.Parameter.POSITIONAL_ONLY,
            default=None,
            annotation=Annotated[str | None, details],
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
) -> inspect.Parameter:
    kind: Any = bool if is_switch(info) else list[str] if is_repeated(info) else str
    if known := _open_choices(info):
        kind = Literal[known] | str  # told by the help and the completion, but not enforced
    details = Parameter(
        name=names,
        help=_help(info),
        group=_group(group),
        choices=None if known else choices(info) or None,
        metavar=None if is_switch(info) or (choices(info) and not known) else metavar or "TEXT",
        consume_multiple=several,
        negative=f"--no-{names[0].removeprefix('--')}" if is_switch(info) else (),
        show_default=False,
    )
    return inspect.Parameter(
        name,
        inspect.Parameter.KEYWORD_ONLY,
        default=None,
        annotation=Annotated[kind | None, details],
    )


def _help(info: FieldInfo) -> str:
    text = info.description or ""
    default = default_text(info)
    return f"{text} [default: {default}]" if default else text


def default_text(info: FieldInfo) -> str | None:
    """An option's default as a person would write it; None where there is none to tell."""
    value = info.default
    if info.is_required() or value is None or value in ((), {}) or isinstance(value, bool):
        return None
    if _DURATION in info.metadata:
        return f"{value:g}s"
    if _SIZE in info.metadata:
        return size_text(value)
    if _SHARE in info.metadata:
        return share_text(value)
    return ",".join(f"{item:g}" for item in value) if isinstance(value, tuple) else str(value)


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
