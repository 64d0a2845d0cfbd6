"""A protocol of rows as Python values: two small methods are all that one of your own needs."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any

import msgspec
import numpy as np

from batchscore.batches import RowFailure
from batchscore.codecs import learn, output_codec, prediction_fields
from batchscore.errors import BatchscoreError, DecodeError, EncodeError, StoppedError
from batchscore.protocols.base import BaseProtocol
from batchscore.protocols.rows import RowsProtocol, check_count, columns_of

if TYPE_CHECKING:
    from collections.abc import Sequence

    import numpy.typing as npt
    import pyarrow as pa

    from batchscore.batches import RowBatch
    from batchscore.codecs import ImageFolder
    from batchscore.config import Probs
    from batchscore.protocols.base import Response
    from batchscore.protocols.rows import RowsEncoder
    from batchscore.schema import ModelSignature

Row = Mapping[str, Any]


class PlainProtocol(BaseProtocol, ABC):
    """Base of a protocol that takes a dict a row, and gives one.

    ``encode`` and ``decode`` are needed, and either ``signature`` or the two methods
    ``metadata_request`` and ``parse_metadata``. All are pure: nothing is sent here. They may be
    called from several threads at once.

    Values going in are as in JSON: None, numbers, texts; arrays and pictures as the ``rows``
    protocol sends them. Those coming out are numbers, texts, ``{class: probability}`` or a label
    for a category, lists for an array. None is null, both ways.
    """

    @abstractmethod
    def encode(self, rows: Sequence[Row], signature: ModelSignature) -> bytes:
        """The body of a request for these rows: one value an input of the signature.

        Raises:
            ValueError: a row cannot be said in this format. Which one is found out by encoding
                each alone; it fails (``invalid_input``) with these words, the others are sent.
        """

    @abstractmethod
    def decode(self, response: Response, signature: ModelSignature) -> Sequence[Row]:
        """The predictions of a 2xx answer, a row for each row sent, in the same order.

        Raises:
            ValueError: the answer is none. The request is tried again, then its rows fail
                (``bad_response``); a ``LookupError`` or ``TypeError`` counts as well.
        """

    def encoder(
        self,
        signature: ModelSignature,
        columns: Sequence[pa.Field],
        folder: ImageFolder | None,
    ) -> _PlainEncoder:
        """See ``WireProtocol``."""
        rows = RowsProtocol().encoder(signature, columns, folder)
        return _PlainEncoder(self, signature, rows)

    def decoder(self, signature: ModelSignature, *, probs: Probs) -> _PlainDecoder:
        """See ``WireProtocol``."""
        return _PlainDecoder(self, signature, probs)

    def learn(self, signature: ModelSignature, response: Response, num_rows: int) -> ModelSignature:
        """See ``WireProtocol``."""
        columns = self.columns(response, signature, num_rows)
        return replace(signature, outputs=tuple(map(learn, signature.outputs, columns)))

    def columns(
        self, response: Response, signature: ModelSignature, num_rows: int
    ) -> list[list[object]]:
        """The values of each output in an answer.

        Raises:
            DecodeError: it is no answer for so many rows.
        """
        try:
            rows = list(self.decode(response, signature))
        except (ValueError, LookupError, TypeError, AttributeError) as error:
            kind = "" if isinstance(error, ValueError) else f"{type(error).__name__}: "
            raise DecodeError(f"the answer cannot be read: {kind}{error}") from error
        check_count(len(rows), num_rows)
        for row in rows:
            if not isinstance(row, Mapping):
                kind = type(row).__name__
                raise DecodeError(f"decode() gave a {kind} for a row, no mapping of its outputs")
        return columns_of(rows, signature.outputs)


class _PlainEncoder:
    """A ``RowEncoder``: the cells become JSON values as for the rows protocol."""

    def __init__(
        self, protocol: PlainProtocol, signature: ModelSignature, rows: RowsEncoder
    ) -> None:
        self._protocol, self._signature, self._rows = protocol, signature, rows
        self.blocks = rows.blocks

    def encode(self, rows: RowBatch) -> _PlainRows:
        """See ``RowEncoder.encode``."""
        encoded = self._rows.encode(rows)
        values: list[Row] = msgspec.json.decode(encoded.whole)["rows"]
        try:
            body = self._body(values)
            positions, failures = encoded.positions, dict(encoded.failures)
        except EncodeError:
            errors = [self._error(row) for row in values]
            failures = dict(encoded.failures) | {
                int(position): RowFailure("invalid_input", str(error))
                for position, error in zip(encoded.positions, errors, strict=True)
                if error is not None
            }
            fine = [error is None for error in errors]
            positions = encoded.positions[np.array(fine, bool)]
            values = [row for row, is_fine in zip(values, fine, strict=True) if is_fine]
            body = self._body(values)
        return _PlainRows(self._body, values, body, positions, failures, encoded.nonfinite)

    def wire_bytes(self, rows: RowBatch) -> int:
        """See ``RowEncoder.wire_bytes``: about what the JSON takes."""
        return self._rows.wire_bytes(rows)

    def _error(self, row: Row) -> EncodeError | None:
        try:
            self._body([row])
        except EncodeError as error:
            return error
        return None

    def _body(self, rows: Sequence[Row]) -> bytes:
        if not rows:
            return b""
        try:
            body = self._protocol.encode(rows, self._signature)
            if not isinstance(body, bytes):
                raise TypeError(f"encode() gave a {type(body).__name__}, not bytes")
            return body
        except BatchscoreError:
            raise
        except ValueError as error:
            raise EncodeError(str(error)) from error
        except Exception as error:
            raise StoppedError(
                f"the protocol {self._protocol.name} cannot encode rows: "
                f"{type(error).__name__}: {error}"
            ) from error


@dataclass(frozen=True)
class _PlainRows:
    """``EncodedRows`` that are encoded again where fewer of them are to be sent."""

    encode: Any
    values: Sequence[Row]
    whole: bytes
    positions: npt.NDArray[np.int64]
    failures: Mapping[int, RowFailure]
    nonfinite: int

    def size(self, start: int, stop: int) -> int:
        """See ``EncodedRows.size``."""
        return len(self.body(start, stop))

    def body(self, start: int, stop: int) -> bytes:
        """See ``EncodedRows.body``."""
        if start == 0 and stop == len(self.positions):
            return self.whole
        found: bytes = self.encode(self.values[start:stop])
        return found


class _PlainDecoder:
    """An ``AnswerDecoder``: a codec an output."""

    def __init__(self, protocol: PlainProtocol, signature: ModelSignature, probs: Probs) -> None:
        self._protocol, self._signature = protocol, signature
        self._codecs = [output_codec(spec, probs=probs) for spec in signature.outputs]
        self.fields = prediction_fields(signature.outputs, self._codecs)

    def decode(self, response: Response, num_rows: int) -> tuple[pa.Array, ...]:
        """See ``AnswerDecoder.decode``."""
        columns = self._protocol.columns(response, self._signature, num_rows)
        arrays: list[pa.Array] = []
        for codec, values in zip(self._codecs, columns, strict=True):
            arrays.extend(codec.decode(values))
        return tuple(arrays)
