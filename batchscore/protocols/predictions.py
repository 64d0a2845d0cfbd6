"""Answers that name neither types nor, often, outputs: what they are is learned from the first.

A row's prediction may be a number, a text, a list of numbers, or an object with an output a key
(or one level deeper, an output ``outer.inner``). What has no column of its own, as a list of texts
or lists of different lengths, is kept as its JSON text.
"""

from __future__ import annotations

from dataclasses import dataclass
from math import prod
from typing import TYPE_CHECKING, Any

import msgspec
import numpy as np
import pyarrow as pa

from batchscore.codecs import output_codec
from batchscore.codecs.category import CategoryOutput
from batchscore.codecs.columns import shown
from batchscore.codecs.tensor_values import numeric_array, shape_text
from batchscore.errors import DecodeError, UsageError
from batchscore.protocols.untrusted import beginning, most_values, parse_json
from batchscore.schema import NAMELESS, FeatureSpec

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from numpy.typing import NDArray

    from batchscore.config import Probs
    from batchscore.protocols.base import Response

JSON_TEXT = "json"
"""The datatype of text that is the JSON of what came."""

_DOUBLE = "float64"
# Until the outputs are known. Fewer rows then have fewer values: they are halved.
_MOST_VALUES = 4_000_000
_LISTED = 8


@dataclass(frozen=True, slots=True)
class Answers:
    """Where the predictions stand in an answer, and how they are read.

    Attributes:
        path: the keys that lead to them, from the outside to the inside.
        classes: the user's, in the order of the model's probabilities.
        may_be_bare: an answer that is a list is the predictions.
        is_one: an answer is the prediction of its one row, not a list of them.
    """

    path: tuple[str, ...]
    classes: tuple[str, ...] = ()
    may_be_bare: bool = False
    is_one: bool = False

    def rows(self, body: bytes, num_rows: int, most: int) -> list[Any]:
        """The prediction of each row.

        Raises:
            DecodeError: there are none, or of another number of rows.
        """
        found = parse_json(body, most)
        if not (self.may_be_bare and isinstance(found, list)):
            for key in self.path:
                if not isinstance(found, dict) or key not in found:
                    where = ".".join(self.path)
                    raise DecodeError(f"the answer has no {where!r}: {beginning(body)}")
                found = found[key]
        if self.is_one:
            found = [found]
        if isinstance(found, dict):
            found = _by_row(found, num_rows)
        if not isinstance(found, list):
            raise DecodeError(f"the predictions are no list: {beginning(body)}")
        _check_count(len(found), num_rows)
        return found

    def learn(self, response: Response, num_rows: int) -> tuple[FeatureSpec, ...]:
        """The outputs as the first answer shows them; none where all of it is null.

        Raises:
            DecodeError: it is no answer for so many rows.
            UsageError: the classes fit no output.
        """
        rows = self.rows(response.body, num_rows, _MOST_VALUES)
        known = [row for row in rows if row is not None]
        if not known:
            return ()
        if isinstance(known[0], dict) and not self._is_category(known[0]):
            specs = self._of_objects(known)
        else:
            specs = [self._spec(NAMELESS, known)]
        if self.classes and not any(spec.kind == "category" for spec in specs):
            named = ", ".join(map(str, specs[:_LISTED]))
            raise UsageError(
                f"--classes names {len(self.classes)} classes, and no prediction has as many "
                f"probabilities: the answer has {named}; leave --classes out, or name all"
            )
        return tuple(specs)

    def _of_objects(self, rows: Sequence[Any]) -> list[FeatureSpec]:
        specs: list[FeatureSpec] = []
        for key in rows[0]:
            values = [row.get(key) for row in rows if isinstance(row, dict)]
            first = next((value for value in values if value is not None), None)
            if isinstance(first, dict) and first and not self._is_category(first):
                for inner in first:
                    inside = [value.get(inner) for value in values if isinstance(value, dict)]
                    specs.append(self._spec(f"{key}.{inner}", inside))
            else:
                specs.append(self._spec(key, values))
        names = [spec.name for spec in specs]
        if not specs or len(set(names)) < len(names) or not all(map(_is_unicode, names)):
            raise DecodeError(f"a prediction is an object with the keys {shown(list(rows[0]))}")
        return specs

    def _spec(self, name: str, values: Sequence[Any]) -> FeatureSpec:
        """What the first value that is not null shows."""
        value = next((value for value in values if value is not None), None)
        if isinstance(value, (bool, int, float)):
            return FeatureSpec(name, "numeric", (1,))
        if isinstance(value, str):
            return FeatureSpec(name, "text", (1,))
        if self._is_category(value):
            return FeatureSpec(name, "categorical", (), tuple(sorted(self.classes)))
        shape = _shape(value, values) if isinstance(value, list) else None
        if shape is None:
            return FeatureSpec(name, "text", (1,), datatype=JSON_TEXT)
        return FeatureSpec(name, "numeric", shape, datatype=_DOUBLE)

    def _is_category(self, value: object) -> bool:
        """Whether it has a number for each of the classes."""
        if not self.classes:
            return False
        if isinstance(value, dict):
            return set(value) == set(self.classes)
        return (
            isinstance(value, list)
            and len(value) == len(self.classes)
            and all(isinstance(item, (int, float)) or item is None for item in value)
        )


def _is_unicode(name: str) -> bool:
    try:
        name.encode()
    except UnicodeEncodeError:
        return False
    return True


def _shape(value: list[Any], values: Sequence[Any]) -> tuple[int, ...] | None:
    """The shape of nested lists of numbers; None where they are of different lengths or none."""
    if any(isinstance(other, list) and len(other) != len(value) for other in values):
        return None
    try:
        array = numeric_array(value, nulls_as_nan=True)
    except ValueError:
        return None
    return array.shape if array.size else None


def _by_row(columns: Mapping[str, Any], num_rows: int) -> list[Any]:
    """An object of a list a column as an object a row."""
    for name, values in columns.items():
        if not isinstance(values, list):
            raise DecodeError(f"the predictions {name!r} are no list but {shown(values)}")
        _check_count(len(values), num_rows)
    names = list(columns)
    return [dict(zip(names, row, strict=True)) for row in zip(*columns.values(), strict=True)]


def _check_count(found: int, wanted: int) -> None:
    if found != wanted:
        raise DecodeError(f"the answer has {found} predictions, {wanted} rows were sent")


class PredictionDecoder:
    """Decodes answers of outputs that are known by now; see ``AnswerDecoder``."""

    def __init__(self, specs: Sequence[FeatureSpec], answers: Answers, probs: Probs) -> None:
        self._specs = tuple(specs)
        self._answers = answers
        self._is_nameless = [spec.name for spec in specs] == [NAMELESS]
        self._codecs = [_codec(spec, answers.classes, probs) for spec in specs]
        self.fields = tuple(
            suffix.with_name(spec.name + suffix.name)
            for spec, codec in zip(specs, self._codecs, strict=True)
            for suffix in codec.fields
        )
        self._has_json = any(spec.datatype == JSON_TEXT for spec in specs)

    def decode(self, response: Response, num_rows: int) -> tuple[pa.Array, ...]:
        """See ``AnswerDecoder.decode``."""
        most = most_values(self._specs, num_rows)
        if self._has_json:
            most = max(most, _MOST_VALUES)
        rows = self._answers.rows(response.body, num_rows, most)
        arrays: list[pa.Array] = []
        for codec, values in zip(self._codecs, self._values(rows), strict=True):
            arrays.extend(codec.decode(values))
        return tuple(arrays)

    def _values(self, rows: list[Any]) -> list[list[Any]]:
        """The values of each output."""
        first = next((row for row in rows if row is not None), None)
        if self._is_nameless and not (isinstance(first, dict) and list(first) == [NAMELESS]):
            return [rows]
        if first is None:
            return [rows for _ in self._specs]
        if not isinstance(first, dict):
            raise DecodeError(f"a prediction is {shown(first)}, not an object as the first one")
        paths = [_path(spec.name, first) for spec in self._specs]
        keys = {path[0] for path in paths}
        for row in rows:
            if row is not None and not (isinstance(row, dict) and row.keys() == keys):
                told = ", ".join(sorted(map(str, row))) if isinstance(row, dict) else shown(row)
                wanted = ", ".join(sorted(keys))
                raise DecodeError(f"a prediction has the outputs {told}, the first one {wanted}")
        return [[_at(row, path) for row in rows] for path in paths]


def _path(name: str, row: Mapping[str, Any]) -> tuple[str, ...]:
    """The keys of an output: one, or two where it stands in an object of its own."""
    if name in row:
        return (name,)
    for outer in row:
        if name.startswith(f"{outer}."):
            return outer, name[len(outer) + 1 :]
    raise DecodeError(f"a prediction has no output {name!r}, as the first one had")


def _at(row: Any, path: tuple[str, ...]) -> Any:
    for key in path:
        if row is None:
            return None
        if not isinstance(row, dict) or key not in row:
            name = ".".join(path)
            raise DecodeError(f"a prediction has no output {name!r}, as the first one had")
        row = row[key]
    return row


def _codec(spec: FeatureSpec, classes: tuple[str, ...], probs: Probs) -> Any:
    if spec.datatype == JSON_TEXT:
        return _JsonTexts()
    if spec.kind == "array":
        return _Doubles(spec)
    codec = output_codec(spec, probs=probs)
    return _Probabilities(codec, classes) if isinstance(codec, CategoryOutput) else codec


@dataclass(frozen=True, slots=True)
class _Probabilities:
    """A list of probabilities in the order of the user's classes, or a mapping of them."""

    codec: CategoryOutput
    classes: tuple[str, ...]

    @property
    def fields(self) -> tuple[pa.Field, ...]:
        return self.codec.fields

    def decode(self, values: Sequence[Any]) -> tuple[pa.Array, ...]:
        return self.codec.decode([self._mapping(value) for value in values])

    def _mapping(self, value: Any) -> Any:
        if isinstance(value, list):
            if len(value) != len(self.classes):
                raise DecodeError(
                    f"output {self.codec.spec.name!r}: a row has {len(value)} probabilities, "
                    f"there are {len(self.classes)} classes"
                )
            return dict(zip(self.classes, value, strict=True))
        return value


@dataclass(frozen=True, slots=True)
class _JsonTexts:
    """Whatever comes, as its JSON text."""

    fields: tuple[pa.Field, ...] = (pa.field("", pa.string()),)

    def decode(self, values: Sequence[Any]) -> tuple[pa.Array, ...]:
        encode = msgspec.json.encode
        try:
            texts = [None if value is None else encode(value).decode() for value in values]
        except UnicodeEncodeError:
            raise DecodeError("a text in a prediction is not valid Unicode") from None
        return (pa.array(texts, pa.string()),)


@dataclass(frozen=True, slots=True)
class _Doubles:
    """Nested lists of one shape as tensors of float64, which the numbers of JSON are."""

    spec: FeatureSpec

    @property
    def fields(self) -> tuple[pa.Field, ...]:
        return (pa.field("", pa.fixed_shape_tensor(pa.float64(), self.spec.shape)),)

    def decode(self, values: Sequence[Any]) -> tuple[pa.Array, ...]:
        """One column of tensors; null where the answer says null, NaN for a null inside."""
        shape = self.spec.shape
        absent = np.fromiter((value is None for value in values), np.bool_, len(values))
        matrix = np.zeros((len(values), prod(shape)))
        present = [value for value in values if value is not None]
        try:
            array = numeric_array(present, nulls_as_nan=True)
        except ValueError:
            array = np.zeros(0)
        if array.shape != (len(present), *shape):
            array = np.array([self._one(value) for value in present], np.float64)
        matrix[~absent] = array.reshape(len(present), prod(shape))
        flat = pa.array(matrix.ravel(), from_pandas=False)
        type_ = pa.fixed_shape_tensor(pa.float64(), shape)
        mask = pa.array(absent) if absent.any() else None
        storage = pa.FixedSizeListArray.from_arrays(flat, type=type_.storage_type, mask=mask)
        return (pa.ExtensionArray.from_storage(type_, storage),)

    def _one(self, value: Any) -> NDArray[Any]:
        try:
            array = numeric_array(value, nulls_as_nan=True)
        except ValueError as error:
            raise DecodeError(f"output {self.spec.name!r}: {error}") from None
        if array.shape != self.spec.shape:
            raise DecodeError(
                f"output {self.spec.name!r}: its shape is {shape_text(array.shape)}, "
                f"not {shape_text(self.spec.shape)} as the first one's"
            )
        return array
