"""What JSON values have in common: the narrowest Arrow type that holds all of them exactly."""

from __future__ import annotations

import json
from dataclasses import dataclass, field
from functools import reduce
from itertools import chain
from typing import TYPE_CHECKING, Any, Literal

import pyarrow as pa
import pyarrow.compute as pc

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

_MAX_EXACT = 2**53
_MIN_INT64 = -(2**63)
_MAX_INT64 = 2**63 - 1
_MAX_UINT64 = 2**64 - 1


@dataclass(frozen=True, slots=True)
class Shape:
    """The kind of some JSON values; nulls fit all.

    Attributes:
        kind: ``mixed`` is what no one Arrow type holds exactly.
        low: the least integer.
        high: the greatest integer.
        item: what a list holds.
        fields: what an object holds.
    """

    kind: Literal["null", "bool", "int", "float", "string", "list", "struct", "mixed"]
    low: int = 0
    high: int = 0
    item: Shape | None = None
    fields: Mapping[str, Shape] = field(default_factory=dict)


NULL = Shape("null")
BOOL = Shape("bool")
FLOAT = Shape("float")
STRING = Shape("string")
MIXED = Shape("mixed")


def merge(one: Shape, other: Shape) -> Shape:  # noqa: PLR0911 - a table of cases
    """The shape that holds the values of both."""
    if one.kind == "null":
        return other
    if other.kind == "null":
        return one
    match one.kind, other.kind:
        case "int", "int":
            return _integers(min(one.low, other.low), max(one.high, other.high))
        case ("int", "float") | ("float", "int"):
            whole = one if one.kind == "int" else other
            exact = max(-whole.low, whole.high) <= _MAX_EXACT
            return FLOAT if exact else MIXED
        case "list", "list":
            return _list_of(merge(one.item or NULL, other.item or NULL))
        case "struct", "struct":
            names = dict.fromkeys(chain(one.fields, other.fields))
            return _struct_of(
                {n: merge(one.fields.get(n, NULL), other.fields.get(n, NULL)) for n in names}
            )
        case _ if one.kind == other.kind:
            return one
    return MIXED


def _integers(low: int, high: int) -> Shape:
    fits = high <= (_MAX_INT64 if low < 0 else _MAX_UINT64) and low >= _MIN_INT64
    return Shape("int", low, high) if fits else MIXED


def _list_of(item: Shape) -> Shape:
    return MIXED if item.kind == "mixed" else Shape("list", item=item)


def _struct_of(fields: Mapping[str, Shape]) -> Shape:
    if any(shape.kind == "mixed" for shape in fields.values()):
        return MIXED
    return Shape("struct", fields=fields)


def shape_of(value: object) -> Shape:  # noqa: PLR0911 - a table of cases
    """The shape of one JSON value."""
    match value:
        case None:
            return NULL
        case bool():
            return BOOL
        case int():
            return _integers(value, value)
        case float():
            return FLOAT
        case str():
            return STRING
        case list():
            return _list_of(reduce(merge, map(shape_of, value), NULL))
        case dict():
            return _struct_of({name: shape_of(item) for name, item in value.items()})
    raise TypeError(f"{type(value).__name__} is no JSON value")


def _shape_of_array(array: pa.Array) -> Shape:  # noqa: PLR0911 - a table of cases
    """The shape of values whose type PyArrow inferred; it refuses what is mixed."""
    types = pa.types
    if types.is_null(array.type):
        return NULL
    if types.is_boolean(array.type):
        return BOOL
    if types.is_floating(array.type):
        return FLOAT
    if types.is_string(array.type):
        return STRING
    if types.is_integer(array.type):
        bounds = pc.min_max(array).as_py()
        return NULL if bounds["min"] is None else Shape("int", bounds["min"], bounds["max"])
    if types.is_list(array.type):
        return Shape("list", item=_shape_of_array(array.flatten()))
    names = [child.name for child in array.type.fields]
    children = zip(names, array.flatten(), strict=True)
    return Shape("struct", fields={name: _shape_of_array(child) for name, child in children})


def merge_rows(known: dict[str, Shape], rows: Sequence[Mapping[str, object]]) -> dict[str, None]:
    """Widen the shapes of the columns to hold these rows.

    Returns:
        The names in the rows, in order of first appearance.
    """
    names = dict.fromkeys(chain.from_iterable(rows))
    try:
        found = dict(_shape_of_array(pa.array(rows)).fields)
    except (pa.ArrowException, OverflowError, TypeError, ValueError):
        found = {}
    for name in names:
        old = known.get(name, NULL)
        if old.kind != "mixed":
            values = [row.get(name) for row in rows]
            old = merge(old, _shape_of_values(values, found.get(name)))
        known[name] = old
    return names


def _shape_of_values(values: list[Any], inferred: Shape | None) -> Shape:
    """The shape of the values of a column; ``inferred`` is what PyArrow found, if it did."""
    if inferred is None:
        try:
            inferred = _shape_of_array(pa.array(values))
        except (pa.ArrowException, OverflowError, TypeError, ValueError):
            return reduce(merge, map(shape_of, values), NULL)
    # PyArrow takes false for 0.0 where it has seen a float before.
    if _hides_bools(values, inferred):
        return reduce(merge, map(shape_of, values), NULL)
    return inferred


def _hides_bools(values: list[Any], shape: Shape) -> bool:
    if shape.kind in {"int", "float"}:
        return bool in set(map(type, values))
    if shape.kind == "list":
        return _hides_bools(list(chain.from_iterable(v for v in values if v)), shape.item or NULL)
    return any(
        _hides_bools([value.get(name) for value in values if value], inner)
        for name, inner in shape.fields.items()
    )


def arrow_type(shape: Shape) -> pa.DataType | None:
    """The Arrow type of a column, None where only JSON text holds it exactly.

    That is so for mixed values, and for objects that are always empty: not every format has a
    struct without fields. Names in an object have no order, they are sorted.
    """
    match shape.kind:
        case "mixed":
            return None
        case "int":
            return pa.int64() if shape.high <= _MAX_INT64 else pa.uint64()
        case "list":
            item = arrow_type(shape.item or NULL)
            return None if item is None else pa.list_(item)
        case "struct":
            types = {name: arrow_type(inner) for name, inner in sorted(shape.fields.items())}
            return pa.struct(types.items()) if types and None not in types.values() else None
    simple = {"null": pa.null(), "bool": pa.bool_(), "float": pa.float64(), "string": pa.string()}
    return simple[shape.kind]


def json_text(value: object) -> str | None:
    """A value of a mixed column: a string is itself, null is null, all else is JSON text."""
    if value is None or isinstance(value, str):
        return value
    return json.dumps(value, ensure_ascii=False, separators=(",", ":"))
