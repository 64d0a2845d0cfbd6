"""The loads of a benchmark: what they are called, and where throughput has its knee."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, NamedTuple

if TYPE_CHECKING:
    from collections.abc import Sequence

Cell = dict[str, Any]

LEAST_FOR_A_KNEE = 3


class Group(NamedTuple):
    """What cells have in common that are shown in one chart."""

    kind: str
    rows: int
    is_reused: bool


def is_open(cell: Cell) -> bool:
    """Whether requests came at a rate, whatever the answers did."""
    return bool(cell["load"]["kind"] == "open")


def amount(cell: Cell) -> float:
    """The rate, or the number of requests at once."""
    return float(cell["load"]["rate" if is_open(cell) else "concurrency"])


def load_text(cell: Cell) -> str:
    """``4 in flight``, or ``100 req/s``."""
    return f"{amount(cell):g} req/s" if is_open(cell) else f"{amount(cell):g} in flight"


def cell_text(cell: Cell) -> str:
    """The load, and how many rows a request has."""
    return f"{load_text(cell)}, {rows_text(cell['batch_size'], _is_reused(cell))}"


def group_text(group: Group) -> str:
    """``32 rows a request`` with its kind of load."""
    return f"{rows_text(group.rows, group.is_reused)} a request, {group.kind} loop"


def grouped(cells: Sequence[Cell]) -> dict[Group, list[Cell]]:
    """Cells that differ in how much load there was and in nothing else, by rising load."""
    groups: dict[Group, list[Cell]] = {}
    for cell in sorted(cells, key=amount):
        group = Group(cell["load"]["kind"], cell["batch_size"], _is_reused(cell))
        groups.setdefault(group, []).append(cell)
    return dict(sorted(groups.items()))


def _is_reused(cell: Cell) -> bool:
    return bool(cell.get("rows_reused"))


def rows_text(rows: int, is_reused: bool = False) -> str:
    """``32 rows``, ``1 row``, ``32 same rows``."""
    return f"{rows} {'same ' if is_reused else ''}{'row' if rows == 1 else 'rows'}"


@dataclass(frozen=True, slots=True)
class Knee:
    """Where more load begins to buy waiting in place of throughput.

    Attributes:
        cell: the load.
        is_inside: there were smaller and larger loads, so that it is not merely the end.
    """

    cell: Cell
    is_inside: bool


def knee(cells: Sequence[Cell]) -> Knee | None:
    """The load with the most *power*: throughput divided by mean response time (Kleinrock).

    Below it more load brings more throughput than waiting, above it more waiting. None where too
    few loads were measured well to tell.
    """
    valid = [c for c in cells if c["valid"] and (c["response_s"] or {}).get("mean")]
    if len(valid) < LEAST_FOR_A_KNEE:
        return None
    valid.sort(key=amount)
    best = max(valid, key=lambda c: c["goodput_rows_per_s"] / c["response_s"]["mean"])
    return Knee(best, best is not valid[0] and best is not valid[-1])
