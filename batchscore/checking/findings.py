"""What is found in rows: counted by kind and column, the first rows of each kept as examples."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING

import pyarrow as pa

from batchscore.codecs.columns import is_bytes, is_list, is_text, plain_type, shown

if TYPE_CHECKING:
    from collections.abc import Iterable

    from batchscore.checking.kinds import Kind

MAX_EXAMPLES = 5
_MAX_VALUES = 20
_SHOWN_ITEMS = 8

Key = tuple[str, "str | None"]


@dataclass(frozen=True, slots=True)
class Example:
    """One row with trouble.

    Attributes:
        row: its place in the whole input, from 1.
        value: its cell, shortened.
        text: what is wrong, as ``prediction_error`` would say it, without the column's name.
    """

    row: int
    value: str | None
    text: str


@dataclass(slots=True)
class Finding:
    """One kind of trouble in one column.

    Attributes:
        count: cells, or rows where no column is named.
        values: some of the texts in such cells, each once.
    """

    kind: Kind
    column: str | None
    count: int = 0
    examples: list[Example] = field(default_factory=list)
    values: dict[str, None] = field(default_factory=dict)

    @property
    def key(self) -> Key:
        """What tells it from others."""
        return self.kind.name, self.column

    @property
    def is_shown(self) -> bool:
        """Whether there are examples enough."""
        return len(self.examples) == MAX_EXAMPLES

    def show(self, row: int, value: pa.Scalar | None, text: str) -> None:
        """Take a row, later than those before it, as an example where there are too few."""
        if len(self.examples) < MAX_EXAMPLES:
            self.examples.append(Example(row, shown_value(value), text))
        if value is None or not (value.is_valid and is_text(value.type)):
            return
        if len(self.values) < _MAX_VALUES:
            # Text that is no UTF-8 has told of itself already.
            self.values[value.cast(pa.large_binary()).as_py().decode(errors="replace")] = None

    def absorb(self, later: Finding) -> None:
        """Add what was found in later rows."""
        self.count += later.count
        self.examples += later.examples[: MAX_EXAMPLES - len(self.examples)]
        for value in list(later.values)[: _MAX_VALUES - len(self.values)]:
            self.values[value] = None


class Findings(dict[Key, Finding]):
    """What was found, by the kind's name and the column."""

    def of(self, kind: Kind, column: str | None) -> Finding:
        """The finding of this kind and column, made where there is none yet."""
        return self.setdefault((kind.name, column), Finding(kind, column))

    def absorb(self, later: Iterable[Finding]) -> None:
        """Add what was found in later rows."""
        for finding in later:
            self.of(finding.kind, finding.column).absorb(finding)


def shown_value(value: pa.Scalar | None) -> str | None:
    """A cell as it stands in a message; None where it is null, or no cell is meant."""
    if value is None or not value.is_valid:
        return None
    if isinstance(value, pa.ExtensionScalar):
        return shown_value(value.value)
    type_ = plain_type(value.type)
    if pa.types.is_struct(type_):
        names = [item.name for item in type_]
        path = value["path"] if "path" in names else None
        return shown_value(path if path is not None and path.is_valid else value[names[0]])
    if is_text(type_):
        return shown(value.cast(pa.large_binary()).as_py().decode(errors="replace"))
    if is_bytes(type_):
        return f"{len(value.as_py()):,} bytes"
    return shown(_items(value) if is_list(type_) else str(value.as_py())).strip("'")


def _items(value: pa.ListScalar) -> str:
    """The first items of a list, which may have millions."""
    items = value.values.slice(0, _SHOWN_ITEMS).to_pylist()
    more = ", ..." if len(value.values) > _SHOWN_ITEMS else ""
    return str(items)[:-1] + more + "]"
