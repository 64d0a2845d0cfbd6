"""Rows of typed values as the body of a request, in whatever form a protocol gives them."""

from __future__ import annotations

import sys
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Literal, Protocol

import msgspec
import numpy as np
import orjson
import pyarrow as pa

from batchscore.batches import INVALID_INPUT, RowFailure
from batchscore.codecs.base import NumberColumn, TextColumn
from batchscore.codecs.typed import typed_input
from batchscore.protocols.interleave import Interleaver
from batchscore.protocols.json_values import PictureForm, json_column

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    import numpy.typing as npt

    from batchscore.batches import RowBatch
    from batchscore.codecs import ImageFolder
    from batchscore.codecs.base import WholeColumn
    from batchscore.errors import AttemptError
    from batchscore.protocols.base import Body
    from batchscore.schema import FeatureSpec


_RAWS = msgspec.json.Decoder(list[msgspec.Raw])


class BodyForm(Protocol):
    """How typed columns become a body."""

    def write(self, rows: pa.RecordBatch) -> tuple[bytes, int]:
        """The body for one row or more, and how many NaN and infinities are null in it."""
        ...

    def fall_back(self, body: Body, error: AttemptError) -> bool:
        """Whether a body was refused for its form, and others are written from now on."""
        ...


@dataclass(frozen=True, slots=True)
class JsonRows:
    """A list of rows: each an object, a list of its cells, or its one cell alone.

    Attributes:
        head, tail: what stands around the rows.
        names: of the columns.
        row: the form of a row.
        pictures: see ``json_column``.
    """

    head: bytes
    tail: bytes
    names: tuple[str, ...]
    row: Literal["object", "list", "cell"]
    pictures: PictureForm

    def write(self, rows: pa.RecordBatch) -> tuple[bytes, int]:
        """See ``BodyForm``."""
        columns = [json_column(column, self.pictures) for column in rows.columns]
        if self.row == "cell":
            text, nonfinite = _list_of(columns[0])
            return b"".join((self.head, text[1:-1], self.tail)), nonfinite
        interleaver = Interleaver(self.names, self.row)
        return interleaver.body(self.head, columns, np.arange(rows.num_rows), self.tail)

    def fall_back(self, _body: Body, _error: AttemptError) -> bool:
        """There is no other form."""
        return False


@dataclass(frozen=True, slots=True)
class JsonColumns:
    """An object with a list a column; where names are left out, the list of the one column alone.

    Attributes:
        head, tail: what stands around it.
        names: of the columns; none: there is but one.
        pictures: see ``json_column``.
    """

    head: bytes
    tail: bytes
    names: tuple[str, ...]
    pictures: PictureForm

    def write(self, rows: pa.RecordBatch) -> tuple[bytes, int]:
        """See ``BodyForm``."""
        total = 0
        lists: list[bytes] = []
        keys = [msgspec.json.encode(name) + b":" for name in self.names] or [b""]
        for key, column in zip(keys, rows.columns, strict=True):
            text, nonfinite = _list_of(json_column(column, self.pictures))
            lists.append(key + text)
            total += nonfinite
        brackets = (b"{", b"}") if self.names else (b"", b"")
        return b"".join((self.head, brackets[0], b",".join(lists), brackets[1], self.tail)), total

    def fall_back(self, _body: Body, _error: AttemptError) -> bool:
        """There is no other form."""
        return False


def _list_of(column: WholeColumn) -> tuple[bytes, int]:
    """A column as one JSON list, and how many numbers are null in it."""
    if isinstance(column, NumberColumn):
        finite = int(np.count_nonzero(np.isfinite(column.numbers)))
        text = orjson.dumps(column.numbers, option=orjson.OPT_SERIALIZE_NUMPY)
        return text, len(column.numbers) - finite - column.nulls
    length = len(column.ends if isinstance(column, TextColumn) else column.pieces)
    return Interleaver([""], "cell").body(b"[", [column], np.arange(length), b"]")


class TypedEncoder:
    """Encodes batches column by column; see ``RowEncoder``.

    Args:
        specs: the inputs.
        columns: the column of each.
        folder: where the files are that cells name.
        form: how the values become a body.
        is_single: a body holds one row.

    Raises:
        InputError: a column's type can never serve its feature.
    """

    def __init__(
        self,
        specs: Sequence[FeatureSpec],
        columns: Sequence[pa.Field],
        folder: ImageFolder | None,
        form: BodyForm,
        *,
        is_single: bool = False,
    ) -> None:
        self._inputs = [
            typed_input(spec, column, folder) for spec, column in zip(specs, columns, strict=True)
        ]
        self._names = [spec.name for spec in specs]
        self._columns = [column.name for column in columns]
        self._form = form
        self._rows = SingleRows if is_single else TypedRows
        self.blocks = any(each.blocks for each in self._inputs)

    def encode(self, rows: RowBatch) -> TypedRows | SingleRows:
        """See ``RowEncoder.encode``."""
        typed = [
            each.column(rows.columns.column(name))
            for each, name in zip(self._inputs, self._columns, strict=True)
        ]
        failures = dict(rows.failures)
        for column in typed:
            for row, text in column.failures.items():
                failures.setdefault(row, RowFailure(INVALID_INPUT, text))
        values = pa.RecordBatch.from_arrays([column.array for column in typed], self._names)
        positions = np.arange(rows.num_rows)
        if failures:
            positions = np.delete(positions, list(failures))
            values = values.take(pa.array(positions))
        return self._rows(
            self._form, values, positions, failures, sum(column.nonfinite for column in typed)
        )

    def wire_bytes(self, rows: RowBatch) -> int:
        """See ``RowEncoder.wire_bytes``."""
        return sum(
            each.wire_bytes(rows.columns.column(name))
            for each, name in zip(self._inputs, self._columns, strict=True)
        )


class TypedRows:
    """``EncodedRows`` that are written again where fewer of them, or another form, are wanted."""

    def __init__(
        self,
        form: BodyForm,
        values: pa.RecordBatch,
        positions: npt.NDArray[np.int64],
        failures: Mapping[int, RowFailure],
        nonfinite: int,
    ) -> None:
        self._form = form
        self._values = values
        self.positions = positions
        self.failures = failures
        self._nonfinite = nonfinite
        self._write()

    def _write(self) -> None:
        """Write all rows, in the form of now."""
        self.nonfinite = self._nonfinite
        self._bodies: dict[tuple[int, int], bytes] = {}
        count = len(self.positions)
        if count:
            whole, found = self._form.write(self._values)
            self.nonfinite += found
            self._bodies[0, count] = whole

    def size(self, start: int, stop: int) -> int:
        """See ``EncodedRows.size``."""
        return len(self.body(start, stop))

    def body(self, start: int, stop: int) -> bytes:
        """See ``EncodedRows.body``. That of all rows is kept, and the last one of fewer."""
        run = start, stop
        if run not in self._bodies:
            whole = 0, len(self.positions)
            self._bodies = {key: body for key, body in self._bodies.items() if key == whole}
            self._bodies[run], _ = self._form.write(self._values.slice(start, stop - start))
        return self._bodies[run]

    def fall_back(self, body: Body, error: AttemptError) -> bool:
        """See ``FallsBack``."""
        if not self._form.fall_back(body, error):
            return False
        self._write()
        return True


class SingleRows:
    """``EncodedRows`` of which a request holds but one, as JSON."""

    def __init__(
        self,
        form: BodyForm,
        values: pa.RecordBatch,
        positions: npt.NDArray[np.int64],
        failures: Mapping[int, RowFailure],
        nonfinite: int,
    ) -> None:
        self.positions = positions
        self.failures = failures
        self.nonfinite = nonfinite
        self._bodies: list[bytes] = []
        if len(positions):
            assert isinstance(form, JsonRows)  # noqa: S101 - the only form of one row
            text, found = replace(form, head=b"[", tail=b"]").write(values)
            self.nonfinite += found
            rows = _RAWS.decode(text)
            self._bodies = [b"".join((form.head, memoryview(row), form.tail)) for row in rows]

    def size(self, start: int, stop: int) -> int:
        """See ``EncodedRows.size``. More rows than one are larger than any limit."""
        return len(self._bodies[start]) if stop - start == 1 else sys.maxsize

    def body(self, start: int, stop: int) -> bytes:
        """See ``EncodedRows.body``."""
        if stop - start != 1:
            raise ValueError(f"a request holds one row, not {stop - start}")
        return self._bodies[start]
