"""Which columns serve which inputs, and all that stands against it, not the first thing alone.

Each question is put to the code that ``score`` runs. Where that refuses the inputs as a whole, it
is asked again for each of them alone.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, NamedTuple

import pyarrow as pa

from batchscore.errors import InputError, UsageError
from batchscore.protocols import PROTOCOLS
from batchscore.scoring.declared import packs_of, with_inputs
from batchscore.scoring.features import Features, Source, feature_sources, folder_of
from batchscore.scoring.packing import encoder_of

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping, Sequence
    from typing import TypeVar

    from batchscore.config import ScoreConfig
    from batchscore.protocols.base import RowEncoder, WireProtocol
    from batchscore.readers import OpenedInput
    from batchscore.schema import FeatureSpec, ModelSignature

    T = TypeVar("T")

MAX_REFUSED = 50
"""Inputs that are told in full; who has more of them wrong has the wrong file, or model."""


class Refused(NamedTuple):
    """An input of the deployment that no column serves, and why."""

    feature: str
    error: UsageError


@dataclass(frozen=True)
class Served:
    """What can be sent of an input.

    Attributes:
        signature: the deployment's, with those inputs alone that a column serves.
        features: where they come from.
        refused: the other inputs.
        unlooked: how many more inputs were not looked at, as so many are refused.
        protocol: makes encoders.
        can_divide: it encodes each input for itself, as the built-in ones do.
        encoder: the one that ``score`` uses; where inputs are refused, one of the others, or None.
    """

    signature: ModelSignature
    features: Features
    refused: Sequence[Refused]
    unlooked: int
    protocol: WireProtocol
    can_divide: bool
    encoder: RowEncoder | None

    def part(self, start: int, stop: int) -> RowEncoder:
        """An encoder of some of the inputs alone."""
        sources = self.features.sources[start:stop]
        signature = replace(self.signature, inputs=self.signature.inputs[start:stop])
        return encoder_of(self.protocol, signature, replace(self.features, sources=sources))


def served(
    published: ModelSignature, opened: OpenedInput, config: ScoreConfig, protocol: WireProtocol
) -> Served:
    """What can be sent of an input.

    Raises:
        UsageError: an option is wrong, so that nothing can be told of the columns.
    """
    refused: list[Refused] = []
    signature = _declared(published, opened, config, refused)
    can_divide = config.protocol in PROTOCOLS.built_in
    first: UsageError | None = None
    if not refused:
        try:
            features = Features.of(signature, opened, config)
            encoder = encoder_of(protocol, signature, features)
            return Served(signature, features, (), 0, protocol, can_divide, encoder)
        except UsageError as error:
            first = error
    packs = config.pack if refused else packs_of(config, signature)
    _check_named({*config.map, *packs}, signature, refused, opened, config)
    pairs, looked = _one_by_one(signature, opened, config, packs, protocol, refused)
    if first is not None and not refused:
        raise first
    features = Features.of_sources(tuple(source for _, source in pairs), opened, config)
    signature_served = replace(signature, inputs=tuple(spec for spec, _ in pairs))
    # A protocol of the user's own may not know what to do where an input lacks.
    encoder_served = (
        encoder_of(protocol, signature_served, features) if pairs and can_divide else None
    )
    unlooked = len(signature.inputs) - looked
    return Served(
        signature_served, features, refused, unlooked, protocol, can_divide, encoder_served
    )


def _one_by_one(
    signature: ModelSignature,
    opened: OpenedInput,
    config: ScoreConfig,
    packs: Mapping[str, tuple[str, ...]],
    protocol: WireProtocol,
    refused: list[Refused],
) -> tuple[list[tuple[FeatureSpec, Source]], int]:
    """The inputs that are served, each asked for alone, and how many were looked at."""
    schema, folder = opened.reader.schema, folder_of(opened, config)
    is_lone = sum(spec.kind == "image" for spec in signature.inputs) == 1
    pairs: list[tuple[FeatureSpec, Source]] = []
    for looked, spec in enumerate(signature.inputs):
        if len(refused) >= MAX_REFUSED:
            return pairs, looked
        one = replace(signature, inputs=(spec,))
        mapped, packed = _only(config.map, spec.name), _only(packs, spec.name)
        try:
            (source,) = feature_sources(
                one, schema, mapped, packed, is_pictures=opened.is_pictures and is_lone
            )
            # Whether its type can serve shows when an encoder is made.
            columns = pa.schema([schema.field(name) for name in source.columns])
            encoder_of(protocol, one, Features((source,), columns, folder))
            pairs.append((spec, source))
        except UsageError as error:
            refused += _each_column(error, one, packs, schema)
    return pairs, len(signature.inputs)


def _declared(
    published: ModelSignature, opened: OpenedInput, config: ScoreConfig, refused: list[Refused]
) -> ModelSignature:
    """The signature with the inputs that the user declares, but for those that are refused."""
    schema, is_pictures = opened.reader.schema, opened.is_pictures
    try:
        return with_inputs(published, config, schema, config.map, is_pictures=is_pictures)
    except InputError as error:
        inputs: list[FeatureSpec] = []
        for name, alone, options in _parts(published, config):
            try:
                part = with_inputs(alone, options, schema, config.map, is_pictures=is_pictures)
                inputs += part.inputs
            except InputError as its_own:
                refused.append(Refused(name, its_own))
        if not refused:
            raise error from None
        return replace(published, inputs=tuple(inputs))


def _parts(
    published: ModelSignature, config: ScoreConfig
) -> Iterator[tuple[str, ModelSignature, ScoreConfig]]:
    """Each input alone, as the deployment tells it or the user declares it."""
    for spec in published.inputs:
        yield spec.name, replace(published, inputs=(spec,)), config
    if published.inputs:
        return
    packed = {column for columns in config.pack.values() for column in columns}
    for name in config.features:
        if name not in packed:
            yield name, published, config.model_copy(update={"features": (name,), "pack": {}})
    if config.pack:
        yield "", published, config.model_copy(update={"features": ()})


def _check_named(
    named: set[str],
    signature: ModelSignature,
    refused: Sequence[Refused],
    opened: OpenedInput,
    config: ScoreConfig,
) -> None:
    """Have ``score``'s own code refuse an option that names an input which there is not."""
    known = {spec.name for spec in signature.inputs}.union(each.feature for each in refused)
    if not named <= known:
        Features.of(signature, opened, config)


def _only(mapping: Mapping[str, T], name: str) -> dict[str, T]:
    return {name: mapping[name]} if name in mapping else {}


def _each_column(
    error: UsageError,
    one: ModelSignature,
    packs: Mapping[str, tuple[str, ...]],
    schema: pa.Schema,
) -> Iterator[Refused]:
    """The error of an input; where it is packed of columns that are not there, one for each."""
    (spec,) = one.inputs
    missing = [name for name in packs.get(spec.name, ()) if name not in schema.names]
    if not missing:
        yield Refused(spec.name, error)
    for name in missing:
        try:
            feature_sources(one, schema, {}, {spec.name: (name,)}, is_pictures=False)
        except UsageError as its_own:
            yield Refused(spec.name, its_own)
