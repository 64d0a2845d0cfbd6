"""What the specification leaves open: said by the user, learned from answers, kept for resuming."""

from __future__ import annotations

import json
from dataclasses import asdict, replace
from typing import TYPE_CHECKING, Any

from batchscore.errors import UsageError
from batchscore.schema import NAMELESS, FeatureSpec

if TYPE_CHECKING:
    from collections.abc import Mapping

    import pyarrow as pa

    from batchscore.config import Probs, ScoreConfig
    from batchscore.protocols.base import WireProtocol
    from batchscore.schema import ModelSignature


def tells_outputs(published: ModelSignature) -> bool:
    """Whether the deployment itself tells all its outputs; else they are learned as a whole."""
    return bool(published.outputs) and not any(spec.is_open for spec in published.outputs)


def with_classes(signature: ModelSignature, config: ScoreConfig) -> ModelSignature:
    """The signature with the user's classes in its categorical output.

    Where the deployment does not tell its outputs, the protocol finds the place for them.
    """
    if not (config.classes and tells_outputs(signature)):
        return signature
    classes = tuple(sorted(config.classes))
    categories = [spec for spec in signature.outputs if spec.kind == "category"]
    if len(categories) != 1:
        raise UsageError(
            f"--classes is for one categorical output; this deployment has {len(categories)}"
        )
    published = categories[0].classes
    if published is not None and published != classes:
        raise UsageError(
            f"--classes: the deployment itself says that its classes are {', '.join(published)}"
            "; leave --classes out"
        )
    outputs = tuple(
        replace(spec, classes=classes) if spec is categories[0] else spec
        for spec in signature.outputs
    )
    return replace(signature, outputs=outputs)


def without_classes(signature: ModelSignature) -> ModelSignature:
    """The signature with what only an answer can tell left empty, where it is not known.

    Where not even the outputs are known, they are taken for one number.
    """
    if not signature.outputs:
        return replace(signature, outputs=(FeatureSpec(NAMELESS, "numeric", (1,)),))
    outputs = tuple(
        replace(spec, classes=()) if spec.kind == "category" and spec.classes is None else spec
        for spec in signature.outputs
    )
    return replace(signature, outputs=outputs)


def unlearned_fields(
    protocol: WireProtocol, signature: ModelSignature, probs: Probs
) -> tuple[pa.Field, ...]:
    """The prediction columns as far as they can be told before the first answer."""
    return protocol.decoder(without_classes(signature), probs=probs).fields


def learned_outputs(
    signature: ModelSignature, *, are_published: bool = True
) -> list[dict[str, object]]:
    """What may have been learned from answers, for the output's metadata.

    Args:
        signature: as it is known by now.
        are_published: the deployment itself tells its outputs; else all of them is learned.
    """
    if not are_published:
        return [asdict(spec) for spec in signature.outputs]
    return [
        {"name": spec.name, "classes": spec.classes, "media_type": spec.media_type}
        for spec in signature.outputs
        if spec.classes is not None or spec.media_type is not None
    ]


def with_learned(
    signature: ModelSignature,
    metadata: Mapping[bytes, bytes] | None,
    *,
    no_classes_are_unknown: bool = False,
) -> ModelSignature:
    """The signature with what the first run of the job learned, from the output's metadata.

    Args:
        signature: of the deployment.
        metadata: of the output's schema.
        no_classes_are_unknown: an empty list of classes may also mean that no row was scored.
    """
    try:
        found = json.loads((metadata or {})[b"batchscore.outputs"])
        learned = {item["name"]: item for item in found}
    except (KeyError, TypeError, ValueError):
        return signature

    if not tells_outputs(signature):
        return replace(signature, outputs=tuple(map(_whole_spec, found)))

    def completed(spec: FeatureSpec) -> FeatureSpec:
        item = learned.get(spec.name, {})
        classes, media_type = item.get("classes"), item.get("media_type")
        if no_classes_are_unknown and not classes:
            classes = None
        if spec.classes is None and classes is not None:
            spec = replace(spec, classes=tuple(classes))
        return spec if spec.media_type is not None else replace(spec, media_type=media_type)

    return replace(signature, outputs=tuple(map(completed, signature.outputs)))


def _whole_spec(item: Mapping[str, Any]) -> FeatureSpec:
    classes = item["classes"]
    return FeatureSpec(
        item["name"],
        item["dtype"],
        tuple(item["shape"]),
        None if classes is None else tuple(classes),
        item["media_type"],
        item["datatype"],
    )
