"""Requests of the Open Inference Protocol: a tensor an input, in JSON or behind it."""

from __future__ import annotations

from functools import cached_property
from typing import TYPE_CHECKING, Any

import msgspec
import numpy as np

from batchscore.batches import INVALID_INPUT, RowFailure

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Mapping, Sequence

    import numpy.typing as npt

    from batchscore.batches import RowBatch
    from batchscore.protocols.base import Body
    from batchscore.protocols.tensor_bytes import Encoded
    from batchscore.protocols.tensor_inputs import TensorColumn


class EncodedTensors:
    """The rows of a batch as tensors; see ``EncodedRows``."""

    def __init__(
        self,
        inputs: Sequence[tuple[TensorColumn, Encoded]],
        outputs: Sequence[str],
        positions: npt.NDArray[np.int64],
        failures: Mapping[int, RowFailure],
        nonfinite: int,
        *,
        request_id: str,
        binary: bool,
    ) -> None:
        self._inputs = inputs
        self._outputs = outputs
        self.positions = positions
        self.failures = failures
        self.nonfinite = nonfinite
        self._id = request_id
        self._binary = binary

    @cached_property
    def _whole(self) -> Body:
        return self._body(0, len(self.positions))

    def size(self, start: int, stop: int) -> int:
        """See ``EncodedRows.size``."""
        body = self._pieces(start, stop)
        return sum(map(len, body))

    def body(self, start: int, stop: int) -> Body:
        """See ``EncodedRows.body``."""
        if stop - start == len(self.positions):
            return self._whole
        return self._body(start, stop)

    def _body(self, start: int, stop: int) -> Body:
        pieces = self._pieces(start, stop)
        return tuple(pieces) if self._binary else b"".join(pieces)

    def _pieces(self, start: int, stop: int) -> list[bytes | memoryview]:
        total = len(self.positions)
        parts = [encoded.part(start, stop, total) for _, encoded in self._inputs]
        whole = stop - start == total
        head: dict[str, Any] = {"id": self._id if whole else f"{self._id}.{start}"}
        # Asks for an answer in the binary form; servers that have none take no notice.
        head["parameters"] = {"binary_data_output": True}
        if self._outputs:
            asked = {"parameters": {"binary_data": True}}
            head["outputs"] = [{"name": name, **asked} for name in self._outputs]
        inputs = [
            self._described(column, stop - start, len(part))
            for (column, _), part in zip(self._inputs, parts, strict=True)
        ]
        if self._binary:
            head["inputs"] = inputs
            return [msgspec.json.encode(head), *parts]
        pieces: list[bytes | memoryview] = [msgspec.json.encode(head)[:-1], b',"inputs":[']
        for described, part in zip(inputs, parts, strict=True):
            pieces += [msgspec.json.encode(described)[:-1], b',"data":[', part, b"]}", b","]
        pieces[-1] = b"]}"
        return pieces

    def _described(self, column: TensorColumn, num_rows: int, size: int) -> dict[str, Any]:
        described: dict[str, Any] = {
            "name": column.name,
            "shape": [num_rows, *column.row_shape],
            "datatype": column.datatype,
        }
        parameters: dict[str, Any] = {}
        if column.content_type is not None:
            parameters["content_type"] = column.content_type
        if self._binary:
            parameters["binary_data_size"] = size
        if parameters:
            described["parameters"] = parameters
        return described


class TensorEncoder:
    """Encodes batches, a tensor an input; see ``RowEncoder``."""

    def __init__(
        self,
        inputs: Sequence[TensorColumn],
        columns: Sequence[str],
        outputs: Sequence[str],
        *,
        ids: Iterator[str],
        is_binary: Callable[[], bool],
    ) -> None:
        self._inputs = list(inputs)
        self._columns = list(columns)
        self._outputs = list(outputs)
        self._ids = ids
        self._is_binary = is_binary
        self.blocks = any(each.blocks for each in inputs)

    def encode(self, rows: RowBatch) -> EncodedTensors:
        """See ``RowEncoder.encode``."""
        binary = self._is_binary()
        failures = dict(rows.failures)
        cells = []
        for each, name in zip(self._inputs, self._columns, strict=True):
            found = each.read(rows.columns.column(name))
            cells.append(found)
            for row, text in found.failures.items():
                failures.setdefault(row, RowFailure(INVALID_INPUT, text))
        positions = np.arange(rows.num_rows)
        if failures:
            positions = np.delete(positions, list(failures))
        kept = positions if failures else None
        written = [
            each.write(found, kept, binary=binary)
            for each, found in zip(self._inputs, cells, strict=True)
        ]
        inputs = [(each, encoded) for each, (encoded, _) in zip(self._inputs, written, strict=True)]
        nonfinite = sum(count for _, count in written)
        return EncodedTensors(
            inputs, self._outputs, positions, failures, nonfinite,
            request_id=next(self._ids), binary=binary,
        )  # fmt: skip

    def wire_bytes(self, rows: RowBatch) -> int:
        """See ``RowEncoder.wire_bytes``."""
        binary = self._is_binary()
        return sum(
            each.wire_bytes(rows.columns.column(name), binary=binary)
            for each, name in zip(self._inputs, self._columns, strict=True)
        )
