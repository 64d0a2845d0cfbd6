"""The inputs of a deployment that does not tell them: declared by the user.

``--features`` names columns, whose types in the file say what they are; ``--schema`` names a file
that says it, MLflow's ``MLmodel`` (https://mlflow.org/docs/latest/ml/model/signatures) or our own
JSON, ``{"inputs": {"age": {"type": "numeric"}, "grid": {"type": "numeric", "shape": [8, 8]}}}``.
"""

from __future__ import annotations

import json
from dataclasses import replace
from decimal import Decimal
from math import prod
from typing import TYPE_CHECKING, Any

import numpy as np
import pyarrow as pa

from batchscore.codecs.columns import is_bytes, is_list, is_numeric, is_text, plain_type
from batchscore.codecs.typed import MOMENT
from batchscore.errors import InputError, UsageError
from batchscore.nearest import nearest
from batchscore.schema import FEATURE_TYPES, FeatureSpec, ModelSignature

if TYPE_CHECKING:
    from collections.abc import Container, Mapping, Sequence
    from pathlib import Path

    from batchscore.config import EndpointConfig

# The types of MLflow's column signatures, as what we call them and as NumPy's numbers.
_MLFLOW_TYPES: dict[str, tuple[Any, str | None]] = {
    "boolean": ("numeric", "bool"),
    "integer": ("numeric", "int32"),
    "long": ("numeric", "int64"),
    "float": ("numeric", "float32"),
    "double": ("numeric", "float64"),
    "string": ("text", None),
    "datetime": ("text", MOMENT),
    "binary": ("image", None),
}
_LISTED = 12


def with_inputs(
    signature: ModelSignature,
    config: EndpointConfig,
    schema: pa.Schema,
    mapping: Mapping[str, str],
    *,
    is_pictures: bool,
) -> ModelSignature:
    """The signature with the inputs that the user declares, where the deployment tells of none.

    Args:
        signature: as the deployment publishes it.
        config: says what is declared.
        schema: the input's columns.
        mapping: the user's FEATURE=COLUMN pairs.
        is_pictures: the input is a folder of pictures.

    Raises:
        UsageError: nothing is declared, or what needs no declaring.
        InputError: a declared column is not there, or of no type that can be sent.
    """
    if signature.inputs:
        packs = packs_of(config, signature)
        if config.schema_file or (config.features and not packs):
            option = "--features" if config.features else "--schema"
            told = ", ".join(spec.name for spec in signature.inputs)
            raise UsageError(
                f"{option}: the deployment itself says that its inputs are {told}; leave it out "
                "(--map and --pack say which columns serve them)"
            )
        return replace(
            signature,
            inputs=tuple(
                _by_column(spec, schema, mapping, packs, is_pictures=is_pictures)
                for spec in signature.inputs
            ),
        )
    if config.schema_file is not None:
        specs = read_schema(config.schema_file, {*schema.names, *mapping, *config.pack})
        if unknown := set(config.features) - {spec.name for spec in specs}:
            raise UsageError(
                f"--features: {config.schema_file} has no input {min(unknown)!r}"
                "; name those that it has"
            )
        wanted = config.features or [spec.name for spec in specs]
        return replace(signature, inputs=tuple(spec for spec in specs if spec.name in wanted))
    if not (config.features or config.pack):
        names = schema.names
        more = ", ..." if len(names) > _LISTED else ""
        raise UsageError(
            "the deployment does not tell its inputs: say which columns to send with --features, "
            f"or give --schema; the input has {', '.join(names[:_LISTED])}{more}"
        )
    packed = {column for columns in config.pack.values() for column in columns}
    single = [name for name in config.features if name not in packed]
    inputs = [
        *(_of_column(name, mapping.get(name, name), schema, is_pictures) for name in single),
        *(FeatureSpec(name, "numeric", (len(of),)) for name, of in config.pack.items()),
    ]
    return replace(signature, inputs=tuple(inputs))


def packs_of(config: EndpointConfig, signature: ModelSignature) -> Mapping[str, tuple[str, ...]]:
    """Which columns make which inputs together: as ``--pack`` says.

    ``--features`` says it too where the deployment takes one list of as many numbers a row, so
    that the same options serve a model on whatever server it is.
    """
    if config.pack or len(config.features) < 2 or len(signature.inputs) != 1:
        return config.pack
    (spec,) = signature.inputs
    is_list = spec.kind == "array" and len(spec.shape) == 1
    if is_list and spec.shape[0] in {-1, len(config.features)}:
        return {spec.name: config.features}
    return config.pack


def by_columns(specs: Sequence[FeatureSpec], schema: pa.Schema) -> tuple[FeatureSpec, ...]:
    """Inputs with what columns of their own names say of them: text or pictures, open sizes."""
    return tuple(_by_column(spec, schema, {}, {}, is_pictures=False) for spec in specs)


def _by_column(
    spec: FeatureSpec,
    schema: pa.Schema,
    mapping: Mapping[str, str],
    packs: Mapping[str, Sequence[str]],
    *,
    is_pictures: bool,
) -> FeatureSpec:
    """An input with what its columns say of it: text or pictures, and sizes that are not known."""
    column = mapping.get(spec.name, spec.name)
    type_ = plain_type(schema.field(column).type) if column in schema.names else None
    if spec.datatype == "bytes":
        is_picture = is_pictures if type_ is None else is_bytes(type_) or pa.types.is_struct(type_)
        return replace(spec, dtype="image" if is_picture else spec.dtype)
    if not spec.is_open:
        return spec
    if spec.name in packs:
        return replace(spec, shape=_filled(spec, (len(packs[spec.name]),)))
    if type_ is None:
        return spec  # told by whoever looks for the column
    shape = (1,) if is_numeric(type_) or is_text(type_) else _shape_of(type_)
    if shape is None:
        raise InputError(
            f"column {column!r} has type {schema.field(column).type}, whose lists have no fixed "
            f"length; the input {spec.name!r} has to be of one shape, which the deployment leaves "
            "open: cast the column to fixed-size lists"
        )
    return replace(spec, shape=_filled(spec, shape))


def _filled(spec: FeatureSpec, shape: tuple[int, ...]) -> tuple[int, ...]:
    """The input's shape with its open sizes as the columns have them; theirs where they differ."""
    if len(shape) == len(spec.shape):
        return tuple(
            size if known < 0 else known for size, known in zip(shape, spec.shape, strict=True)
        )
    known = prod(size for size in spec.shape if size >= 0)
    if sum(size < 0 for size in spec.shape) == 1 and known and prod(shape) % known == 0:
        return tuple(prod(shape) // known if size < 0 else size for size in spec.shape)
    return shape


def _of_column(name: str, column: str, schema: pa.Schema, is_pictures: bool) -> FeatureSpec:
    if column not in schema.names:
        hint = nearest(column, schema.names, " (did you mean {!r}?)")
        raise InputError(f"--features: the input has no column {column!r}{hint}")
    type_ = plain_type(schema.field(column).type)
    if is_text(type_):
        return FeatureSpec(name, "image" if is_pictures else "text", (1,))
    if pa.types.is_boolean(type_):
        return FeatureSpec(name, "numeric", (1,), datatype="bool")
    if is_numeric(type_):
        return FeatureSpec(name, "numeric", (1,))
    if is_bytes(type_) or pa.types.is_struct(type_):
        return FeatureSpec(name, "image", (1,))
    shape = _shape_of(type_) or _open_shape_of(type_)
    if shape is None:
        raise InputError(
            f"--features: column {column!r} has type {schema.field(column).type}, which does not "
            "tell what to send; say its type and shape in a file for --schema"
        )
    return FeatureSpec(name, "numeric", shape)


def _shape_of(type_: pa.DataType) -> tuple[int, ...] | None:
    if isinstance(type_, pa.FixedShapeTensorType):
        return tuple(type_.shape[axis] for axis in type_.permutation or range(len(type_.shape)))
    shape: list[int] = []
    while pa.types.is_fixed_size_list(type_):
        shape.append(type_.list_size)
        type_ = plain_type(type_.value_type)
    return tuple(shape) if shape and is_numeric(type_) else None


def _open_shape_of(type_: pa.DataType) -> tuple[int, ...] | None:
    """Of lists of numbers, of any length where the type tells none."""
    shape: list[int] = []
    while is_list(type_):
        shape.append(type_.list_size if pa.types.is_fixed_size_list(type_) else -1)
        type_ = plain_type(type_.value_type)
    return tuple(shape) if shape and is_numeric(type_) else None


def read_schema(path: Path, known: Container[str] | None = None) -> tuple[FeatureSpec, ...]:
    """The inputs that a file declares.

    Args:
        path: the file.
        known: inputs that can be served; others are left out where the model can do without.

    Raises:
        UsageError: it cannot be read, or is none.
    """
    try:
        text = path.read_text(encoding="utf-8")
    except (OSError, UnicodeDecodeError) as error:
        reason = getattr(error, "strerror", None) or "it is no text"
        raise UsageError(
            f"--schema: cannot read {str(path)!r}: {reason}"
            "; name a file that is there, such as MLmodel"
        ) from None
    try:
        document = json.loads(text) if text.lstrip().startswith("{") else _yaml(text)
        if "signature" in document or "flavors" in document:
            inputs = (document.get("signature") or {}).get("inputs")
            if not inputs:
                raise ValueError("the model was logged without a signature")
            found = json.loads(inputs) if isinstance(inputs, str) else inputs
            return _mlflow_inputs(found, known)
        return tuple(_own_input(name, body) for name, body in document["inputs"].items())
    except (ValueError, KeyError, TypeError, AttributeError) as error:
        reason = f"{error} is missing" if isinstance(error, KeyError) else str(error)
        raise UsageError(
            f"--schema: {str(path)!r} is no MLmodel file and no schema of inputs: {reason}"
            "; docs/protocols.md shows both"
        ) from error


def _yaml(text: str) -> Any:
    import yaml  # noqa: PLC0415 - for this alone

    try:
        return yaml.safe_load(text)
    except yaml.YAMLError as error:
        raise ValueError(str(error).split("\n", maxsplit=1)[0]) from error


def _mlflow_inputs(
    inputs: Sequence[Mapping[str, Any]], known: Container[str] | None
) -> tuple[FeatureSpec, ...]:
    named = [(item.get("name") or str(number), item) for number, item in enumerate(inputs)]
    return tuple(
        _mlflow_input(name, item)
        for name, item in named
        if known is None or name in known or not _is_optional(item)
    )


def _is_optional(item: Mapping[str, Any]) -> bool:
    """As versions until 2.8 write it, or later ones."""
    return bool(item.get("optional")) or not item.get("required", True)


def _mlflow_input(name: str, item: Mapping[str, Any]) -> FeatureSpec:
    if item["type"] == "tensor":
        tensor = item["tensor-spec"]
        # The first dimension is that of the rows; another of -1 is of any length.
        shape = tuple(int(size) for size in tensor["shape"][1:])
        if tensor["dtype"] in {"str", "object", "bytes"}:
            return FeatureSpec(name, "text", shape or (1,))
        return FeatureSpec(name, "numpy", shape, datatype=tensor["dtype"])
    type_, shape = item["type"], ()
    while type_ == "array":
        item, shape = item["items"], (*shape, -1)
        type_ = item["type"]
    dtype, datatype = _MLFLOW_TYPES.get(type_, (None, None))
    if dtype is None or (shape and dtype != "numeric"):
        what = f"an array of {type_}" if shape else repr(type_)
        raise ValueError(f"input {name!r} has the type {what}, which is not known here")
    return FeatureSpec(name, dtype, shape or (1,), datatype=datatype)


def _own_input(name: str, body: Mapping[str, Any]) -> FeatureSpec:
    dtype = body.get("type", "numeric")
    if dtype not in FEATURE_TYPES:
        hint = nearest(str(dtype), FEATURE_TYPES, " (did you mean {!r}?)")
        raise ValueError(f"input {name!r} has the unknown type {dtype!r}{hint}")
    shape = tuple(int(size) for size in body.get("shape") or (1,))
    return FeatureSpec(name, dtype, shape, datatype=body.get("datatype"))


def inputs_of_objects(
    config: EndpointConfig, rows: Sequence[Mapping[str, Any]]
) -> tuple[FeatureSpec, ...]:
    """The inputs of a deployment that tells none, where rows are Python objects.

    Args:
        config: may name the features, or a schema of them; else they are those of the first row.
        rows: whose values show the types.

    Raises:
        UsageError: the schema cannot be read, or something is packed.
        InputError: the values of a feature do not show what it is.
    """
    if config.pack:
        raise UsageError("pack is for files; in Python, give a list in each row")
    if config.schema_file is not None:
        specs = read_schema(config.schema_file)
        return tuple(s for s in specs if not config.features or s.name in config.features)
    names = config.features or (tuple(rows[0]) if rows else ())
    if not names:
        raise InputError(
            "the deployment does not tell its inputs, and the first row has none"
            "; say them with features= or schema="
        )
    firsts = [next((row[n] for row in rows if row.get(n) is not None), None) for n in names]
    return tuple(_of_object(*pair) for pair in zip(names, firsts, strict=True))


def _of_object(name: str, value: object) -> FeatureSpec:
    if value is None:
        raise InputError(
            f"feature {name!r} is None in the first rows, which does not show its type; say it in "
            "a file for schema="
        )
    shape: tuple[int, ...] = ()
    if isinstance(value, str):
        return FeatureSpec(name, "text", (1,))
    if isinstance(value, (bool, np.bool_)):
        return FeatureSpec(name, "numeric", (1,), datatype="bool")
    if not isinstance(value, (int, float, Decimal, np.number)):
        # Pictures are images of PIL, bytes or paths; all else is as the codec of arrays has it.
        if not isinstance(value, (list, tuple, np.ndarray)):
            return FeatureSpec(name, "image", (1,))
        try:
            shape = np.shape(value)
        except ValueError:
            raise InputError(f"feature {name!r}: its lists are of different lengths") from None
    return FeatureSpec(name, "numeric", shape or (1,))
