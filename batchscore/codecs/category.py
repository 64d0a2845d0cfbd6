"""Categorical outputs: the most probable class, and the probability of each."""

from __future__ import annotations

from dataclasses import dataclass
from operator import itemgetter
from typing import TYPE_CHECKING, Any, Literal

import numpy as np
import pyarrow as pa

from batchscore.codecs.columns import shown
from batchscore.errors import DecodeError, ModelChangedError

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence

    from batchscore.schema import FeatureSpec

    Matrix = np.ndarray[Any, np.dtype[np.float64]]
    Mask = np.ndarray[Any, np.dtype[np.bool_]]

LABEL_PROB = pa.struct([pa.field("label", pa.string()), pa.field("prob", pa.float64())])
MAX_NAMED_CLASSES = 10


def category_output(spec: FeatureSpec, probs: Literal["struct", "list", "none"]) -> CategoryOutput:
    """The codec of a categorical output whose classes are known.

    No classes at all (no row was ever there) have the list form, as a struct without fields
    cannot be in every file format.
    """
    if spec.classes is None:
        raise ValueError(f"the classes of {spec.name!r} are not known yet")
    label = pa.field("", pa.string())
    if probs == "none":
        return CategoryOutput(spec, spec.classes, (label,))
    if probs == "list" or not spec.classes:
        return CategoryOutput(spec, spec.classes, (label, pa.field("_probs", pa.list_(LABEL_PROB))))
    struct = pa.struct([pa.field(name, pa.float64()) for name in spec.classes])
    return CategoryOutput(spec, spec.classes, (label, pa.field("_probs", struct)))


def learn_classes(spec: FeatureSpec, value: object) -> tuple[str, ...]:
    """The classes, sorted, of one value; none where the server answers with bare labels."""
    if isinstance(value, str):
        return ()
    if isinstance(value, dict) and value:
        return tuple(sorted(value))
    raise DecodeError(f"output {spec.name!r}: {shown(value)} is no mapping of class to probability")


@dataclass(frozen=True, slots=True)
class CategoryOutput:
    """Labels, and probabilities in the order of the classes."""

    spec: FeatureSpec
    classes: tuple[str, ...]
    fields: tuple[pa.Field, ...]

    def decode(self, values: Sequence[object]) -> tuple[pa.Array, ...]:
        """The labels (ties: the first in class order), and the probabilities where wanted."""
        matrix, known, bare = self._matrix_of_equal_rows(values), None, None
        if matrix is None:
            matrix, known, bare = self._matrix(values)
        labels = self._labels(matrix, bare)
        if len(self.fields) == 1:
            return (labels,)
        absent = np.fromiter((value is None for value in values), np.bool_, len(values))
        if pa.types.is_struct(self.fields[1].type):
            return (labels, self._structs(matrix, known, absent))
        return (labels, self._lists(matrix, known, absent))

    def of_matrix(self, matrix: Matrix) -> tuple[pa.Array, ...]:
        """The same of probabilities that came without names: rows x ``classes``, in their order."""
        absent = np.zeros(len(matrix), np.bool_)
        labels = self._labels(matrix, None)
        if len(self.fields) == 1:
            return (labels,)
        if pa.types.is_struct(self.fields[1].type):
            return (labels, self._structs(matrix, None, absent))
        return (labels, self._lists(matrix, None, absent))

    def _matrix_of_equal_rows(self, values: Sequence[object]) -> Matrix | None:
        """Rows x classes where every value has all classes and numbers only, else None."""
        width = len(self.classes)
        if width < 2 or not all(type(value) is dict and len(value) == width for value in values):
            return None
        pick: Callable[[Any], tuple[object, ...]] = itemgetter(*self.classes)
        try:
            matrix = np.array([pick(value) for value in values])
        except (KeyError, ValueError, OverflowError):
            return None
        if matrix.ndim != 2 or matrix.dtype.kind not in "fiu":
            return None
        return matrix.astype(np.float64, copy=False)

    def _matrix(self, values: Sequence[object]) -> tuple[Matrix, Mask, dict[int, str]]:
        """The same looked at value by value, with what is known, and labels that stand alone."""
        matrix = np.full((len(values), len(self.classes)), np.nan)
        known = np.zeros(matrix.shape, np.bool_)
        place = {name: column for column, name in enumerate(self.classes)}
        bare: dict[int, str] = {}
        for row, value in enumerate(values):
            if isinstance(value, str):
                if place and value not in place:
                    raise self._changed(value)
                bare[row] = value
            elif isinstance(value, dict):
                self._fill(matrix[row], known[row], place, value)
            elif value is not None:
                raise DecodeError(
                    f"output {self.spec.name!r}: {shown(value)} is no mapping of class to "
                    "probability"
                )
        return matrix, known, bare

    def _fill(
        self, row: Matrix, known: Mask, place: Mapping[str, int], value: Mapping[str, object]
    ) -> None:
        for name, prob in value.items():
            column = place.get(name)
            if column is None:
                raise self._changed(name)
            if prob is None:
                continue
            if not isinstance(prob, (int, float)) or isinstance(prob, bool):
                raise DecodeError(
                    f"output {self.spec.name!r}: {shown(prob)} is no probability of {name!r}"
                )
            row[column] = prob
            known[column] = True

    def _changed(self, name: str) -> ModelChangedError:
        listed = ", ".join(map(repr, self.classes[:MAX_NAMED_CLASSES])) or "none"
        more = len(self.classes) - MAX_NAMED_CLASSES
        return ModelChangedError(
            f"output {self.spec.name!r}: the class {shown(name)} is new, the known classes are "
            f"{listed}{f' and {more} more' if more > 0 else ''}; the model has changed, or "
            "--classes does not name all"
        )

    def _labels(self, matrix: Matrix, bare: Mapping[int, str] | None) -> pa.Array:
        if matrix.shape[1] == 0:
            return pa.array([(bare or {}).get(row) for row in range(len(matrix))], pa.string())
        unknown: Mask = np.isnan(matrix)
        best = np.where(unknown, -np.inf, matrix).argmax(axis=1).astype(np.int32)
        # Where nothing but -inf is known (scores may be logarithms), that is the greatest.
        lost: Mask = np.take_along_axis(unknown, best[:, None], 1)[:, 0]
        best[lost] = unknown[lost].argmin(axis=1)
        none: Mask = np.asarray(unknown.all(axis=1))
        if bare:
            place = {name: column for column, name in enumerate(self.classes)}
            for row, label in bare.items():
                best[row], none[row] = place[label], False
        return pa.array(self.classes, pa.string()).take(pa.array(best, mask=none))

    def _structs(self, matrix: Matrix, known: Mask | None, absent: Mask) -> pa.Array:
        columns = [
            pa.array(
                np.ascontiguousarray(matrix[:, column]),
                pa.float64(),
                mask=None if known is None else ~known[:, column],
                from_pandas=False,
            )
            for column in range(len(self.classes))
        ]
        mask = pa.array(absent) if absent.any() else None
        return pa.StructArray.from_arrays(columns, fields=list(self.fields[1].type), mask=mask)

    def _lists(self, matrix: Matrix, known: Mask | None, absent: Mask) -> pa.Array:
        rows, width = matrix.shape
        labels = pa.array(self.classes, pa.string()).take(
            pa.array(np.tile(np.arange(width, dtype=np.int32), rows))
        )
        mask = None if known is None else ~known.ravel()
        probs = pa.array(matrix.ravel(), pa.float64(), mask=mask, from_pandas=False)
        pairs = pa.StructArray.from_arrays([labels, probs], fields=list(LABEL_PROB))
        offsets = pa.array(np.arange(rows + 1, dtype=np.int32) * width)
        return pa.ListArray.from_arrays(
            offsets, pairs, type=self.fields[1].type, mask=pa.array(absent)
        )
