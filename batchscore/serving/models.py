"""What a model is, and how ``serve`` finds the one it is asked for."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, Protocol, cast

from batchscore.errors import UsageError
from batchscore.schema import FEATURE_TYPES, FeatureSpec, FeatureType, ModelSignature

Row = dict[str, Any]


class Model(Protocol):
    """What can be deployed. A class or function that makes one is as good.

    It may have one attribute more, ``classes``: output -> the classes of a categorical output.
    """

    @property
    def inputs(self) -> Mapping[str, tuple[str, Sequence[int]]]:
        """Name -> (type, shape) of each input; ``()`` and ``(1,)`` are scalars."""
        ...

    @property
    def outputs(self) -> Mapping[str, tuple[str, Sequence[int]]]:
        """The same of the outputs."""
        ...

    def predict(self, rows: list[Row]) -> Sequence[Mapping[str, Any]]:
        """One answer a row, in the same order. May be called from several threads at once.

        In and out: float for numeric and binary, str for text, PIL images, float32 NumPy arrays
        of the stated shape; a categorical input is its label, a categorical output a dict
        class -> probability. Null is None.

        Raises:
            RowError: one row cannot be scored; any other exception is a fault of the model.
        """
        ...


class RowError(ValueError):
    """Raised when one row of a request cannot be scored; the deployment answers 422."""

    def __init__(self, row: int, feature: str | None, why: str) -> None:
        place = f"rows[{row}]" if feature is None else f"rows[{row}], feature {feature!r}"
        super().__init__(f"{place}: {why}")
        self.row = row
        self.feature = feature


def signature_of(model: Model) -> ModelSignature:
    """The model's features, checked.

    Raises:
        UsageError: ``predict``, ``inputs``, ``outputs`` or ``classes`` is missing or wrong.
    """
    if not callable(getattr(model, "predict", None)):
        raise UsageError(
            f"{_kind_of(model)} is no model: it has no method predict(rows); see docs/serve.md"
        )
    classes = getattr(model, "classes", None) or {}
    if not isinstance(classes, Mapping):
        raise UsageError(
            f"'classes' of {_kind_of(model)} is no mapping of output to classes"
            "; write {'output': ['a', 'b']}"
        )
    outputs = _features(model, "outputs", classes)
    unknown = set(classes) - {spec.name for spec in outputs if spec.dtype == "categorical"}
    if unknown:
        raise UsageError(
            f"'classes' names {min(unknown)!r}, which is no categorical output"
            "; name one of its outputs"
        )
    return ModelSignature(_features(model, "inputs", {}), outputs)


def _kind_of(model: object) -> str:
    return f"{type(model).__module__}.{type(model).__qualname__}"


def _features(
    model: Model, which: str, classes: Mapping[str, Sequence[str]]
) -> tuple[FeatureSpec, ...]:
    table = getattr(model, which, None)
    if not isinstance(table, Mapping) or not table:
        raise UsageError(
            f"'{which}' of {_kind_of(model)} must be a mapping of name to (type, shape), "
            "like {'size': ('numeric', ())}"
        )
    return tuple(
        _feature(f"{which}[{name!r}]", name, entry, classes.get(name))
        for name, entry in table.items()
    )


def _feature(place: str, name: object, entry: object, classes: Sequence[str] | None) -> FeatureSpec:
    if not isinstance(name, str) or not name:
        raise UsageError(f"{place}: a feature's name is a string, not {name!r}")
    if not isinstance(entry, (tuple, list)) or len(entry) != 2:
        raise UsageError(f"{place} is {entry!r}; write (type, shape), like ('numeric', ())")
    dtype, shape = entry
    if dtype not in FEATURE_TYPES:
        raise UsageError(f"{place}: {dtype!r} is no type; choose from {', '.join(FEATURE_TYPES)}")
    if not isinstance(shape, (tuple, list)) or any(
        isinstance(size, bool) or not isinstance(size, int) or size < 1 for size in shape
    ):
        raise UsageError(f"{place}: {shape!r} is no shape; write whole numbers from 1, like (8, 8)")
    if dtype == "numpy" and not shape:
        shape = (1,)
    if classes is not None and (
        isinstance(classes, str) or not classes or not all(isinstance(c, str) for c in classes)
    ):
        raise UsageError(f"{place}: 'classes' must be a list of strings, not {classes!r}")
    known = tuple(sorted(set(classes))) if classes is not None else None
    return FeatureSpec(name, cast("FeatureType", dtype), tuple(shape), known)
