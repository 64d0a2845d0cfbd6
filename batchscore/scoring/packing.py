"""Several columns that make one input together: a row's numbers side by side, as one list."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from batchscore.batches import INVALID_INPUT, RowBatch, RowFailure
from batchscore.codecs.columns import is_numeric, is_text, is_untyped, plain, plain_type, shown
from batchscore.errors import InputError

if TYPE_CHECKING:
    from batchscore.protocols.base import EncodedRows, RowEncoder, WireProtocol
    from batchscore.schema import ModelSignature
    from batchscore.scoring.features import Features, Source

_NUMBER = r"^\s*[+-]?([0-9]+(\.[0-9]*)?|\.[0-9]+)([eE][+-]?[0-9]+)?\s*$"


def encoder_of(protocol: WireProtocol, signature: ModelSignature, features: Features) -> RowEncoder:
    """The protocol's encoder for rows of the input, behind the packing if there is any.

    Raises:
        InputError: a column's type can never serve its feature.
    """
    schema, sources, folder = features.columns, features.sources, features.folder
    if not any(source.is_packed for source in sources):
        fields = [schema.field(source.columns[0]) for source in sources]
        return protocol.encoder(signature, fields, folder)
    packs = [_Pack.of(source, schema) for source in sources if source.is_packed]
    packed = {pack.source.feature: pack.field for pack in packs}
    fields = [packed.get(each.feature) or schema.field(each.columns[0]) for each in sources]
    return PackedEncoder(protocol.encoder(signature, fields, folder), packs)


class _Pack:
    """The columns of one input."""

    def __init__(self, source: Source, type_: pa.DataType) -> None:
        self.source = source
        self.numbers = np.dtype(type_.to_pandas_dtype())
        self.field = pa.field(source.feature, pa.list_(type_, len(source.columns)))

    @classmethod
    def of(cls, source: Source, schema: pa.Schema) -> _Pack:
        types = []
        for name in source.columns:
            field = schema.field(name)
            type_ = pa.float64() if is_untyped(field) else plain_type(field.type)
            if not is_numeric(type_) or pa.types.is_decimal(type_):
                raise InputError(
                    f"--pack {source.feature}: column {name!r} has type {field.type}; only "
                    "numbers can be packed"
                )
            types.append(type_)
        if len(set(types)) == 1:
            return cls(source, pa.int8() if pa.types.is_boolean(types[0]) else types[0])
        is_whole = all(pa.types.is_integer(type_) or pa.types.is_boolean(type_) for type_ in types)
        return cls(source, pa.int64() if is_whole else pa.float64())

    def column(self, rows: pa.RecordBatch) -> tuple[pa.Array, dict[int, RowFailure]]:
        """The lists, and the rows in which a cell is missing or no number."""
        names = self.source.columns
        matrix = np.zeros((rows.num_rows, len(names)), self.numbers)
        failures: dict[int, RowFailure] = {}
        for position, name in enumerate(names):
            cells = plain(rows.column(name))
            numbers = _numbers(cells)
            if numbers.null_count:
                bad = numbers.is_null().to_numpy(zero_copy_only=False)
                for row in np.flatnonzero(bad).tolist():
                    failures.setdefault(row, _failure(name, cells[row].as_py()))
                numbers = pc.fill_null(numbers, 0)
            matrix[:, position] = numbers.to_numpy(zero_copy_only=False)
        flat = pa.array(matrix.ravel(), self.field.type.value_type, from_pandas=False)
        return pa.FixedSizeListArray.from_arrays(flat, len(names)), failures


def _numbers(cells: pa.Array) -> pa.Array:
    """Cells as numbers; null where one is empty or no number."""
    if pa.types.is_boolean(cells.type):
        return pc.cast(cells, pa.int8())
    if not is_text(cells.type):
        return cells
    is_number = pc.match_substring_regex(cells, _NUMBER)
    return pc.cast(pc.utf8_trim_whitespace(pc.if_else(is_number, cells, None)), pa.float64())


def _failure(name: str, cell: object) -> RowFailure:
    what = "is empty" if cell is None else f"holds {shown(cell)}, which is no number"
    return RowFailure(
        INVALID_INPUT, f"column {name!r} {what}; an input of packed columns has no nulls"
    )


class PackedEncoder:
    """Packs columns, and lets the protocol's own encoder do the rest; see ``RowEncoder``."""

    def __init__(self, encoder: RowEncoder, packs: list[_Pack]) -> None:
        self._encoder = encoder
        self._packs = packs
        self.blocks = encoder.blocks

    def encode(self, rows: RowBatch) -> EncodedRows:
        """See ``RowEncoder.encode``."""
        return self._encoder.encode(self._packed(rows))

    def wire_bytes(self, rows: RowBatch) -> int:
        """See ``RowEncoder.wire_bytes``."""
        return self._encoder.wire_bytes(self._packed(rows))

    def _packed(self, rows: RowBatch) -> RowBatch:
        batch, failures = rows.columns, dict(rows.failures)
        for pack in self._packs:
            column, failed = pack.column(rows.columns)
            failures = {**failed, **failures}
            # A column may be named as the input that it is packed into.
            if pack.field.name in batch.schema.names:
                batch = batch.drop_columns([pack.field.name])
            batch = batch.append_column(pack.field, column)
        return RowBatch(batch, failures)
