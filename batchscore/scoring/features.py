"""Which input columns are sent, and which are carried through."""

from __future__ import annotations

from dataclasses import dataclass, replace
from math import prod
from typing import TYPE_CHECKING, Literal, Self

import pyarrow as pa

from batchscore.codecs import ImageFolder
from batchscore.codecs.stored_folder import StoredImageFolder
from batchscore.errors import InputError, UsageError
from batchscore.nearest import nearest
from batchscore.scoring.declared import packs_of
from batchscore.stores import StoreOptions, StoreURI

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping, Sequence

    from batchscore.config import ScoreConfig
    from batchscore.readers import OpenedInput
    from batchscore.schema import FeatureSpec, ModelSignature

_MEANT = " (did you mean {!r}?)"


@dataclass(frozen=True, slots=True)
class Source:
    """Where an input feature comes from.

    Attributes:
        feature: its name.
        columns: the columns of the file that serve it.
        is_packed: they are numbers, and go side by side into one list.
    """

    feature: str
    columns: tuple[str, ...]
    is_packed: bool = False


@dataclass(frozen=True, slots=True)
class Features:
    """What is sent of the rows.

    Attributes:
        sources: where each input feature comes from, in the signature's order.
        columns: what they need of the input, each once.
        folder: where the files are that cells name, where that is known.
    """

    sources: tuple[Source, ...]
    columns: pa.Schema
    folder: ImageFolder | None

    @classmethod
    def of(cls, signature: ModelSignature, opened: OpenedInput, config: ScoreConfig) -> Self:
        """What is sent of an input to a deployment; raises as ``feature_sources`` does."""
        schema = opened.reader.schema
        packs = packs_of(config, signature)
        sources = feature_sources(
            signature, schema, config.map, packs, is_pictures=opened.is_pictures
        )
        return cls.of_sources(sources, opened, config)

    @classmethod
    def of_sources(
        cls, sources: tuple[Source, ...], opened: OpenedInput, config: ScoreConfig
    ) -> Self:
        """What is sent where the columns of each input are known."""
        schema = opened.reader.schema
        # One column may serve several features.
        names = dict.fromkeys(column for source in sources for column in source.columns)
        columns = pa.schema([schema.field(name) for name in names])
        return cls(sources, columns, folder_of(opened, config))


def folder_of(opened: OpenedInput, config: ScoreConfig) -> ImageFolder | None:
    """Where the files are that cells name: what the user says, else where the input is.

    None where that is not known.
    """
    base, root = opened.image_base, opened.image_root
    if config.image_root is not None:
        place = config.image_root
        base = root = StoreURI.parse(place) if isinstance(place, str) else place
    if isinstance(root, StoreURI):
        options = StoreOptions(config.store_endpoint, config.store_region)
        return StoredImageFolder.of(root, options)
    if base is None or root is None or isinstance(base, StoreURI):
        return None
    return ImageFolder(base, root)


def feature_sources(
    signature: ModelSignature,
    schema: pa.Schema,
    mapping: Mapping[str, str],
    packs: Mapping[str, tuple[str, ...]],
    *,
    is_pictures: bool,
) -> tuple[Source, ...]:
    """The input columns of each input feature, in the signature's order.

    Args:
        signature: the deployment's features.
        schema: the input's columns.
        mapping: the user's FEATURE=COLUMN pairs.
        packs: the user's FEATURE=COLUMN,... lists.
        is_pictures: the input is a folder of pictures, whose one column serves a lone image.

    Raises:
        UsageError: an option names an unknown feature.
        InputError: a feature has no column.
    """
    _check_features("--pack", packs, signature)
    singles = tuple(spec for spec in signature.inputs if spec.name not in packs)
    columns = feature_columns(
        replace(signature, inputs=singles), schema, mapping, is_pictures=is_pictures
    )
    single = iter(columns)
    return tuple(
        _pack(spec, packs[spec.name], schema)
        if spec.name in packs
        else Source(spec.name, (next(single),))
        for spec in signature.inputs
    )


def feature_columns(
    signature: ModelSignature,
    schema: pa.Schema,
    mapping: Mapping[str, str],
    *,
    is_pictures: bool,
) -> tuple[str, ...]:
    """The one input column of each input feature; see ``feature_sources``."""
    _check_features("--map", mapping, signature)
    chosen = dict(mapping)
    images = [spec.name for spec in signature.inputs if spec.kind == "image"]
    columns = dict.fromkeys(schema.names)  # the schema makes the list anew each time it is asked
    if is_pictures and len(images) == 1 and images[0] not in columns:
        chosen.setdefault(images[0], "path")
    return tuple(_column(spec, chosen.get(spec.name), columns) for spec in signature.inputs)


def _check_features(option: str, named: Iterable[str], signature: ModelSignature) -> None:
    features = [spec.name for spec in signature.inputs]
    known = set(features)
    for feature in named:
        if feature not in known:
            hint = nearest(feature, features, _MEANT)
            raise UsageError(f"{option}: the deployment has no input {feature!r}{hint}")


def _pack(spec: FeatureSpec, names: tuple[str, ...], schema: pa.Schema) -> Source:
    option = f"--pack {spec.name}"
    _check_known(option, names, schema.names)
    if spec.name in schema.names and spec.name not in names:
        raise UsageError(f"{option}: the input has a column {spec.name!r} itself; rename it")
    if spec.kind not in {"array", "number"} or prod(spec.shape) != len(names):
        wanted = f"{prod(spec.shape)} numbers" if spec.kind in {"array", "number"} else spec.dtype
        raise UsageError(
            f"{option}: the input takes {wanted}, {len(names)} columns are given; name as many"
        )
    return Source(spec.name, names, is_packed=True)


def _column(spec: FeatureSpec, mapped: str | None, columns: Mapping[str, object]) -> str:
    feature = spec.name
    name = feature if mapped is None else mapped
    if name in columns:
        return name
    names = list(columns)
    advice = nearest(name, names, _MEANT) or f"; it has {_listed(names)}"
    if mapped is not None:
        raise InputError(f"--map {feature}={name}: the input has no column {name!r}{advice}")
    pack = f", or several that make it with --pack '{feature}=COLUMN,...'" * (spec.kind == "array")
    raise InputError(
        f"the input has no column {name!r}, which the deployment needs{advice}; "
        f"name another with --map '{feature}=COLUMN'{pack}"
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
