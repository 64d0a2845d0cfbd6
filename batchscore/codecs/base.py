"""What a codec is: one feature, between Arrow and the JSON wire."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, Protocol

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    import numpy as np
    import pyarrow as pa
    from numpy.typing import NDArray


@dataclass(frozen=True, slots=True)
class EncodedColumn:
    """One feature of a batch, ready for a JSON encoder.

    Attributes:
        values: a value a row: None, bool, int, float (NaN and infinities are written as null by
            the JSON encoder), Decimal, str, list, dict or ``msgspec.Raw`` (ready JSON text).
            At a failed row the value means nothing.
        failures: rows whose cell cannot be put on the wire, with the reason.
        nonfinite: how many NaN and infinite numbers go out as null.
    """

    values: Sequence[object]
    failures: Mapping[int, str] = field(default_factory=dict)
    nonfinite: int = 0


@dataclass(frozen=True, slots=True)
class NumberColumn:
    """One feature of a batch as numbers that a JSON encoder writes as they are.

    Attributes:
        numbers: a number a row, of type float64 (NaN and infinities mean null), int64 or uint64.
        nulls: how many of the NaN are nulls, and not numbers that go out as null.
    """

    numbers: NDArray[Any]
    nulls: int = 0


@dataclass(frozen=True, slots=True)
class TextColumn:
    """One feature of a batch as JSON text, the text of each row after that of the one before.

    Attributes:
        data: the bytes of the texts.
        ends: where the text of each row ends in them.
        opening, closing: what belongs before and behind the text of each row, a quote perhaps.
        has_spare: each text ends in one byte more, which means nothing and may be overwritten.
        failures, nonfinite: as in ``EncodedColumn``.
    """

    data: NDArray[np.uint8]
    ends: NDArray[np.int64]
    opening: bytes = b""
    closing: bytes = b""
    has_spare: bool = False
    failures: Mapping[int, str] = field(default_factory=dict)
    nonfinite: int = 0


@dataclass(frozen=True, slots=True)
class PieceColumn:
    """One feature of a batch as JSON text, for cells beside whose bytes a few objects cost nothing.

    Attributes:
        pieces: a tuple a row, which make the row's text one after another.
        failures, nonfinite: as in ``EncodedColumn``.
    """

    pieces: Sequence[tuple[bytes, ...]]
    failures: Mapping[int, str] = field(default_factory=dict)
    nonfinite: int = 0


WholeColumn = NumberColumn | TextColumn | PieceColumn


class InputCodec(Protocol):
    """Encodes one input feature. Made for one column type, so that a wrong type shows early.

    Attributes:
        blocks: both methods may wait for files, or unpack pictures.
    """

    @property
    def blocks(self) -> bool: ...

    def encode(self, column: pa.Array) -> EncodedColumn:
        """The column as JSON values. Never raises for one bad cell."""
        ...

    def encode_whole(self, column: pa.Array) -> WholeColumn | None:
        """The same without a Python object a cell; None where that is not possible."""
        ...

    def wire_bytes(self, column: pa.Array) -> int:
        """About how many bytes the column takes on the wire, told without encoding it."""
        ...


class OutputCodec(Protocol):
    """Decodes one output feature.

    Attributes:
        fields: the output columns it fills; their names are suffixes, ``""`` or ``"_probs"``.
    """

    @property
    def fields(self) -> tuple[pa.Field, ...]: ...

    def decode(self, values: Sequence[object]) -> tuple[pa.Array, ...]:
        """The values of all rows of one answer as arrays, one a field.

        Raises:
            DecodeError: a value is not what the specification promises.
            ModelChangedError: a class that the job has not known.
        """
        ...


@dataclass(frozen=True, slots=True)
class TypedColumn:
    """One feature of a batch as values of the type that the model takes.

    Attributes:
        array: a value a row; that of a failed row means nothing.
        failures: rows whose cell is no such value, with the reason.
        nonfinite: NaN and infinities that became null, as there are none among integers.
    """

    array: pa.Array
    failures: Mapping[int, str] = field(default_factory=dict)
    nonfinite: int = 0


class TypedInput(Protocol):
    """Turns cells into values. Made for one column type, so that a wrong type shows early.

    Attributes:
        blocks: ``column`` may wait for files, or unpack pictures.
    """

    @property
    def blocks(self) -> bool: ...

    def column(self, cells: pa.Array) -> TypedColumn:
        """The values of the cells. Never raises for one bad cell."""
        ...

    def wire_bytes(self, cells: pa.Array) -> int:
        """About how many bytes the cells take as JSON."""
        ...
