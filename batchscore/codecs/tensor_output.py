"""Array outputs as fixed-shape tensors of float32."""

from __future__ import annotations

from dataclasses import dataclass
from math import prod
from typing import TYPE_CHECKING, Any

import numpy as np
import pyarrow as pa

from batchscore.codecs.tensor_values import flat_float32, matrix_of_equal_rows
from batchscore.errors import DecodeError

if TYPE_CHECKING:
    from collections.abc import Sequence

    from numpy.typing import NDArray

    from batchscore.schema import FeatureSpec


def tensor_array(
    matrix: NDArray[Any], absent: NDArray[np.bool_], shape: tuple[int, ...]
) -> pa.Array:
    """A fixed-shape tensor column of flat rows, of the type of their numbers; null where absent."""
    mask = pa.array(absent) if absent.any() else None
    value_type = pa.from_numpy_dtype(matrix.dtype)
    flat = pa.array(np.ascontiguousarray(matrix).ravel(), value_type, from_pandas=False)
    type_ = pa.fixed_shape_tensor(value_type, shape)
    storage = pa.FixedSizeListArray.from_arrays(flat, type=type_.storage_type, mask=mask)
    return pa.ExtensionArray.from_storage(type_, storage)


@dataclass(frozen=True, slots=True)
class TensorOutput:
    """Arrays in either wire form (told by the value), or as plain lists."""

    spec: FeatureSpec

    @property
    def shape(self) -> tuple[int, ...]:
        """The shape of each array; a scalar is an array of one value."""
        return self.spec.shape or (1,)

    @property
    def fields(self) -> tuple[pa.Field, ...]:
        """One column of tensors."""
        return (pa.field("", pa.fixed_shape_tensor(pa.float32(), self.shape)),)

    def decode(self, values: Sequence[object]) -> tuple[pa.Array, ...]:
        """One column of tensors; null where the answer says null, NaN for a null inside."""
        absent = np.fromiter((value is None for value in values), np.bool_, len(values))
        present = [value for value in values if value is not None]
        found = matrix_of_equal_rows(present, self.shape, nulls_as_nan=True)
        if found is None:
            found = self._one_by_one(present)
        matrix = np.zeros((len(values), prod(self.shape)), np.float32)
        matrix[~absent] = found
        return (tensor_array(matrix, absent, self.shape),)

    def _one_by_one(self, values: Sequence[object]) -> NDArray[np.float32]:
        matrix = np.empty((len(values), prod(self.shape)), np.float32)
        for row, value in enumerate(values):
            try:
                matrix[row] = flat_float32(value, self.shape, nulls_as_nan=True)
            except ValueError as error:
                raise DecodeError(f"output {self.spec.name!r}: {error}") from None
        return matrix
