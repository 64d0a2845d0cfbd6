"""Codecs: one feature each, between an Arrow column and JSON values.

``input_codec`` and ``output_codec`` choose the codec of a feature by its kind. To add a kind,
write a file with one of the two classes of ``base.py`` and name it here.
"""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING, Literal

from batchscore.codecs.base import EncodedColumn, InputCodec, OutputCodec
from batchscore.codecs.category import category_output, learn_classes
from batchscore.codecs.columns import shown
from batchscore.codecs.datauri import media_type_of
from batchscore.codecs.folder import ImageFolder
from batchscore.codecs.number import NumberOutput, number_input
from batchscore.codecs.tensor import tensor_input
from batchscore.codecs.tensor_output import TensorOutput
from batchscore.codecs.text import TextOutput, text_input
from batchscore.errors import DecodeError

if TYPE_CHECKING:
    from collections.abc import Sequence

    import pyarrow as pa

    from batchscore.schema import FeatureSpec

__all__ = [
    "EncodedColumn",
    "ImageFolder",
    "InputCodec",
    "OutputCodec",
    "input_codec",
    "learn",
    "output_codec",
    "prediction_fields",
]


def input_codec(
    spec: FeatureSpec, field: pa.Field, *, tensor_json: bool, folder: ImageFolder | None = None
) -> InputCodec:
    """The codec that puts this column on the wire as this feature.

    Args:
        spec: the input feature.
        field: the column: name, type, and ``UNTYPED_KEY`` in its metadata where that holds.
        tensor_json: arrays travel as ``{"shape", "data"}``.
        folder: where the files are that cells name; None where cells cannot name any.

    Raises:
        InputError: the column's type can never serve the feature.
    """
    match spec.kind:
        case "number":
            return number_input(spec, field)
        case "category" | "text":
            return text_input(spec, field)
        case "image":
            from batchscore.codecs.image import image_input  # noqa: PLC0415 (Pillow is large)

            return image_input(spec, field, folder)
        case "array":
            return tensor_input(spec, field, tensor_json=tensor_json, folder=folder)


def output_codec(
    spec: FeatureSpec, *, probs: Literal["struct", "list", "none"] = "struct"
) -> OutputCodec:
    """The codec that turns this output's values into columns.

    Args:
        spec: the output feature; its classes are set if it is categorical (see ``learn``).
        probs: the form of the class probabilities.
    """
    match spec.kind:
        case "number":
            return NumberOutput(spec)
        case "category":
            return category_output(spec, probs)
        case "text":
            return TextOutput(spec)
        case "image":
            from batchscore.codecs.image import ImageOutput  # noqa: PLC0415 (Pillow is large)

            return ImageOutput(spec)
        case "array":
            return TensorOutput(spec)


def prediction_fields(
    specs: Sequence[FeatureSpec], codecs: Sequence[OutputCodec]
) -> tuple[pa.Field, ...]:
    """The prediction columns that the codecs of these outputs fill, without the user's prefix."""
    return tuple(
        suffix.with_name(spec.name + suffix.name)
        for spec, codec in zip(specs, codecs, strict=True)
        for suffix in codec.fields
    )


def learn(spec: FeatureSpec, values: Sequence[object]) -> FeatureSpec:
    """The output with what only an answer tells: its classes, or its media type.

    The first value that is not null counts. What is known already stays. Where all are null a
    category's classes stay unknown; a picture's media type is given up, as the file can do
    without it.

    Raises:
        DecodeError: a categorical value is neither a mapping of classes nor a label.
    """
    value = next((value for value in values if value is not None), None)
    if value is None:
        unknown_image = spec.kind == "image" and spec.media_type is None
        return replace(spec, media_type="") if unknown_image else spec
    if spec.kind == "category" and spec.classes is None:
        return replace(spec, classes=learn_classes(spec, value))
    if spec.kind == "image" and spec.media_type is None:
        media_type = media_type_of(value)
        if media_type is None:
            raise DecodeError(f"output {spec.name!r} holds no picture but {shown(value)}")
        return replace(spec, media_type=media_type)
    return spec
