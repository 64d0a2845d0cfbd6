"""What a deployment takes and gives: features, and the signature made of them."""

from __future__ import annotations

import hashlib
import json
from dataclasses import asdict, dataclass
from math import prod
from typing import Literal

FeatureType = Literal["numeric", "categorical", "text", "image", "numpy", "binary"]
Kind = Literal["number", "category", "text", "image", "array"]

FEATURE_TYPES: tuple[FeatureType, ...] = (
    "numeric",
    "categorical",
    "text",
    "image",
    "numpy",
    "binary",
)

NAMELESS = "prediction"
"""The name of an output that the deployment gives none."""

UNTYPED_KEY = b"batchscore:untyped"
"""Field metadata of a column whose text has no type of its own (CSV, mixed JSON Lines).

Such a string column may serve a numeric feature, a typed string column never does.
"""


@dataclass(frozen=True, slots=True)
class FeatureSpec:
    """One input or output of a deployment.

    Attributes:
        name: the feature's name.
        dtype: its type, in the words of the Deployment API.
        shape: its shape; ``()`` and ``(1,)`` are scalars. A size of -1 is not known yet: of an
            input the columns tell it, of an output the first answer.
        classes: the classes of a categorical output where they are known, sorted.
        media_type: the media type of an image output where it is known; empty where the first
            answer had no picture to tell it.
        datatype: the type of its numbers where the protocol states one, in NumPy's words
            (``float32``, ``int64``, ``bool``), or ``bytes``; else numbers are float64 and arrays
            float32.
    """

    name: str
    dtype: FeatureType
    shape: tuple[int, ...] = ()
    classes: tuple[str, ...] | None = None
    media_type: str | None = None
    datatype: str | None = None

    @property
    def kind(self) -> Kind:
        """How the feature travels: what a codec needs to know of its type and shape."""
        match self.dtype:
            case "categorical":
                return "category"
            case "text" | "image":
                return self.dtype
            case "numpy":
                return "array"
            case "numeric" | "binary":
                return "number" if len(self.shape) <= 1 and prod(self.shape) == 1 else "array"

    @property
    def is_open(self) -> bool:
        """Whether a size of its shape is not known yet."""
        return any(size < 0 for size in self.shape)

    def __str__(self) -> str:
        shape = f" {list(self.shape)}" if self.kind == "array" else ""
        return f"{self.name}: {self.dtype}{shape}"


@dataclass(frozen=True, slots=True)
class ModelSignature:
    """The inputs and outputs of a deployment, as its specification tells them.

    Attributes:
        inputs: the input features, in the specification's order; none where it does not tell.
        outputs: the output features, in the specification's order; none where it does not tell.
        tensor_json: arrays travel as ``{"shape", "data"}``; else as NumPy files in data URIs.
        binary_tensors: whether the server says that it takes tensors as raw bytes; None where the
            protocol has no such thing. It is no part of what the model is, so the fingerprint
            leaves it out.
    """

    inputs: tuple[FeatureSpec, ...]
    outputs: tuple[FeatureSpec, ...]
    tensor_json: bool = True
    binary_tensors: bool | None = None

    def fingerprint(self) -> str:
        """A short stable hash of the signature, to tell one model from another."""
        # What a protocol does not state is left out: the hashes of earlier outputs stay good.
        stated = asdict(self, dict_factory=lambda items: {
            key: value for key, value in items
            if key != "binary_tensors" and not (key == "datatype" and value is None)
        })  # fmt: skip
        canonical = json.dumps(stated, sort_keys=True, separators=(",", ":"))
        return hashlib.sha256(canonical.encode()).hexdigest()[:16]
