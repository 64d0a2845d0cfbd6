"""Which input columns are sent, and which are carried through."""

from __future__ import annotations

from typing import TYPE_CHECKING, Literal

from batchscore.errors import InputError, UsageError
from batchscore.nearest import nearest

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping, Sequence

    import pyarrow as pa

    from batchscore.schema import ModelSignature

_MEANT = " (did you mean {!r}?)"


def feature_columns(
    signature: ModelSignature,
    schema: pa.Schema,
    mapping: Mapping[str, str],
    *,
    is_pictures: bool,
) -> tuple[str, ...]:
    """The input column of each input feature, in the signature's order.

    Args:
        signature: the deployment's features.
        schema: the input's columns.
        mapping: the user's FEATURE=COLUMN pairs.
        is_pictures: the input is a folder of pictures, whose one column serves a lone image.

    Raises:
        UsageError: the mapping names an unknown feature.
        InputError: a feature has no column.
    """
    features = [spec.name for spec in signature.inputs]
    known = set(features)
    for feature in mapping:
        if feature not in known:
            hint = nearest(feature, features, _MEANT)
            raise UsageError(f"--map: the deployment has no input {feature!r}{hint}")
    chosen = dict(mapping)
    images = [spec.name for spec in signature.inputs if spec.kind == "image"]
    columns = dict.fromkeys(schema.names)  # the schema makes the list anew each time it is asked
    if is_pictures and len(images) == 1 and images[0] not in columns:
        chosen.setdefault(images[0], "path")
    return tuple(_column(feature, chosen.get(feature), columns) for feature in features)


def _column(feature: str, mapped: str | None, columns: Mapping[str, object]) -> str:
    name = feature if mapped is None else mapped
    if name in columns:
        return name
    names = list(columns)
    advice = nearest(name, names, _MEANT) or f"; it has {_listed(names)}"
    if mapped is not None:
        raise InputError(f"--map {feature}={name}: the input has no column {name!r}{advice}")
    raise InputError(
        f"the input has no column {name!r}, which the deployment needs{advice}; "
        f"name another with --map '{feature}=COLUMN'"
    )


def kept_columns(
    schema: pa.Schema,
    keep: Literal["all", "none"] | Sequence[str],
    drop: Sequence[str],
    source_column: str | None,
) -> tuple[str, ...]:
    """The input columns that the output carries, in input order.

    Raises:
        UsageError: a name that the input has not.
    """
    chosen: Iterable[str]
    if keep == "all":
        chosen = schema.names
    elif keep == "none":
        chosen = ()
    else:
        chosen = keep
    _check_known("--keep", chosen, schema.names)
    _check_known("--drop", drop, schema.names)
    # A source column is there only because the user asked for it.
    wanted = ({*chosen, source_column} if source_column else {*chosen}) - set(drop)
    return tuple(name for name in schema.names if name in wanted)


def _check_known(option: str, names: Iterable[str], columns: Sequence[str]) -> None:
    known = set(columns)
    for name in names:
        if name not in known:
            hint = nearest(name, columns, _MEANT)
            raise UsageError(f"{option}: the input has no column {name!r}{hint}")


def _listed(names: Sequence[str], limit: int = 8) -> str:
    shown = ", ".join(repr(name) for name in names[:limit])
    return f"{shown}, ..." if len(names) > limit else shown or "none"
