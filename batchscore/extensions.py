"""What other packages add under a name: input formats, protocols and output formats.

A package registers them as entry points (``docs/extending.md``). The entry points are looked
through only for a name that is not built in, and only the one that was asked for is imported.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from batchscore.errors import UsageError
from batchscore.nearest import nearest

if TYPE_CHECKING:
    from collections.abc import Collection
    from importlib.metadata import EntryPoint

_SHOWN_METHODS = 3


@dataclass(frozen=True)
class Extensions:
    """The names of one kind: those that are built in, and those that packages register.

    Attributes:
        group: the group of entry points.
        what: one of the kind, in words.
        built_in: names that no package can take.
    """

    group: str
    what: str
    built_in: tuple[str, ...]

    def registered(self) -> tuple[str, ...]:
        """The names that installed packages add; looks through all of them."""
        names = {entry.name for entry in _entry_points(self.group)}
        return tuple(sorted(names.difference(self.built_in)))

    def is_known(self, name: str) -> bool:
        """Whether there is one of that name; nothing of it is imported."""
        return name in self.built_in or name in self.registered()

    def choice(self, name: str) -> str:
        """All names, and the one most like a wrong one: the end of an error message."""
        names = (*self.built_in, *self.registered())
        return ", ".join(names) + nearest(name, names)

    def load(self, name: str) -> tuple[object, str]:
        """What a package registered under a name, and how to speak of it in a message.

        Raises:
            UsageError: it cannot be imported, or several packages claim the name.
        """
        entries = {entry.value: entry for entry in _entry_points(self.group) if entry.name == name}
        if len(entries) != 1:
            packages = " and ".join(sorted(map(_package, entries.values()))) or "no package"
            raise UsageError(
                f"{packages} registered the {self.what} {name!r} in {self.group}; "
                "it takes exactly one: uninstall the others"
            )
        (entry,) = entries.values()
        where = f"the entry point {name!r} of {self.group} ({entry.value}, in {_package(entry)})"
        try:
            return entry.load(), where
        except Exception as error:
            raise UsageError(
                f"{where} cannot be loaded: {type(error).__name__}: {error}; "
                "mend that package or uninstall it"
            ) from error

    def check(
        self,
        found: object,
        where: str,
        methods: Collection[str],
        attributes: Collection[str] = (),
    ) -> None:
        """Refuse what is none of the kind, before it is used.

        Raises:
            UsageError: it lacks a method or an attribute.
        """
        abstract = sorted(getattr(found, "__abstractmethods__", ()))
        absent = [name for name in methods if not callable(getattr(found, name, None))]
        missing = [f"{name}()" for name in (*abstract, *absent)]
        missing += [name for name in attributes if not hasattr(found, name)]
        if missing:
            more = ", ..." if len(missing) > _SHOWN_METHODS else ""
            raise UsageError(
                f"{where} is no {self.what}: {_kind(found)} lacks "
                f"{', '.join(missing[:_SHOWN_METHODS])}{more}; docs/extending.md shows one"
            )


INPUT_FORMATS = Extensions(
    "batchscore.readers", "input format", ("parquet", "csv", "tsv", "arrow", "jsonl", "images")
)
OUTPUT_FORMATS = Extensions(
    "batchscore.sinks", "output format", ("arrow", "parquet", "csv", "jsonl")
)


def _entry_points(group: str) -> Collection[EntryPoint]:
    from importlib.metadata import entry_points  # noqa: PLC0415 (seldom needed)

    return entry_points(group=group)


def _package(entry: EntryPoint) -> str:
    return "a package" if entry.dist is None else f"{entry.dist.name} {entry.dist.version}"


def _kind(found: object) -> str:
    return (found if isinstance(found, type) else type(found)).__qualname__
