"""What a protocol is: bytes out, bytes in, no network."""

from __future__ import annotations

from dataclasses import dataclass, field
from enum import Enum
from typing import TYPE_CHECKING, Protocol, runtime_checkable

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    import numpy as np
    import numpy.typing as npt
    import pyarrow as pa

    from batchscore.batches import RowBatch, RowFailure
    from batchscore.codecs import ImageFolder
    from batchscore.config import Probs
    from batchscore.errors import AttemptError
    from batchscore.schema import ModelSignature


Body = bytes | tuple[bytes | memoryview, ...]
"""The body of a request: whole, or pieces that go out one after another without being joined."""


@dataclass(frozen=True, slots=True)
class Request:
    """One HTTP request; the client adds the token and the user's headers."""

    method: str
    url: str
    body: Body = b""
    headers: Mapping[str, str] = field(default_factory=dict)

    @property
    def nbytes(self) -> int:
        """How many bytes the body has."""
        return sum(memoryview(piece).nbytes for piece in self.pieces)

    @property
    def pieces(self) -> tuple[bytes | memoryview, ...]:
        """The body's bytes, one piece after another."""
        return self.body if isinstance(self.body, tuple) else (self.body,)


@dataclass(frozen=True, slots=True)
class Response:
    """One whole HTTP answer, decompressed. Header names are in lower case."""

    status: int
    body: bytes
    headers: Mapping[str, str] = field(default_factory=dict)


class Treatment(Enum):
    """What an answer's status means for the rows of its request.

    Attributes:
        RETRY: a moment's trouble, most likely; the rows are to blame only if it does not pass.
        ISOLATE: some of the rows are bad: they are halved until those stand alone, and fail.
        HALVE: either may be. Several rows are halved at once; a single one is retried, and fails
            if that does not help. For servers that answer 500 to bad rows too.
        STOP: the same would happen to every batch; the job ends.
    """

    RETRY = "retry"
    ISOLATE = "isolate"
    HALVE = "halve"
    STOP = "stop"


class EncodedRows(Protocol):
    """The rows of a batch on the wire, of which any run can be sent.

    Attributes:
        positions: where each encoded row stands in its batch, ascending; int64 of [num_rows].
        failures: the rows of the batch that are not among them, with the reason.
        nonfinite: NaN and infinite numbers that go out as null.
    """

    @property
    def positions(self) -> npt.NDArray[np.int64]: ...

    @property
    def failures(self) -> Mapping[int, RowFailure]: ...

    @property
    def nonfinite(self) -> int: ...

    def size(self, start: int, stop: int) -> int:
        """How many bytes the body of these rows has."""
        ...

    def body(self, start: int, stop: int) -> Body:
        """The request body for these rows; that of all rows is there already."""
        ...


class RowEncoder(Protocol):
    """Encodes batches of one schema.

    Attributes:
        blocks: both methods may wait for files or unpack pictures, so they run in a worker thread
            however few bytes there are.
    """

    @property
    def blocks(self) -> bool: ...

    def encode(self, rows: RowBatch) -> EncodedRows: ...

    def wire_bytes(self, rows: RowBatch) -> int:
        """About how many bytes the rows take on the wire, told without encoding them."""
        ...


class AnswerDecoder(Protocol):
    """Decodes the answers of one deployment.

    Attributes:
        fields: the prediction columns, named without the user's prefix.
    """

    @property
    def fields(self) -> tuple[pa.Field, ...]: ...

    def decode(self, response: Response, num_rows: int) -> tuple[pa.Array, ...]:
        """The predictions of one answer, an array a field, each of ``num_rows``.

        Raises:
            DecodeError: the body is not a valid answer for so many rows.
            ModelChangedError: the answer shows another model than the signature tells.
        """
        ...


class WireProtocol(Protocol):
    """One wire format. Pure: it makes requests and reads answers, the client sends them.

    The scorer sends ``metadata_request`` and reads the signature; makes one encoder for the
    input's schema; and, as soon as the signature is complete, one decoder. Where it is not
    complete, ``learn`` completes it from the first good answer.
    """

    name: str

    def metadata_request(self, url: str) -> Request | None:
        """What to ask for the specification, or whether the deployment is there; None: nothing."""
        ...

    def parse_metadata(self, response: Response) -> ModelSignature:
        """The signature of a 2xx answer; without inputs, or outputs, where it tells of none.

        Raises:
            MetadataError: it is no specification of this protocol.
        """
        ...

    def score_request(self, url: str, body: Body) -> Request: ...

    def encoder(
        self,
        signature: ModelSignature,
        columns: Sequence[pa.Field],
        folder: ImageFolder | None,
    ) -> RowEncoder:
        """An encoder that takes the n-th input of the signature from the n-th column.

        Raises:
            InputError: a column's type can never serve its feature.
        """
        ...

    def decoder(self, signature: ModelSignature, *, probs: Probs) -> AnswerDecoder: ...

    def is_complete(self, signature: ModelSignature) -> bool:
        """Whether a decoder can be made without having seen an answer."""
        ...

    def learn(self, signature: ModelSignature, response: Response, num_rows: int) -> ModelSignature:
        """The signature completed from an answer. Raises ``DecodeError`` as ``decode`` does."""
        ...

    def treatment(self, status: int) -> Treatment:
        """What a status other than 2xx means in this protocol."""
        ...

    def error_text(self, response: Response) -> str:
        """The server's own words in an answer that is no prediction."""
        ...


@runtime_checkable
class AsksServer(Protocol):
    """What a protocol has besides, whose servers tell of themselves elsewhere than of the model.

    Asked once, after the specification. Where nobody answers, the signature stays as it is.
    """

    def server_request(self, url: str) -> Request:
        """What to ask."""
        ...

    def with_server(self, signature: ModelSignature, response: Response | None) -> ModelSignature:
        """The signature with what the server says of itself.

        Args:
            signature: as the specification told it.
            response: a 2xx answer; None where there was none.

        Raises:
            UsageError: it shows that the address is no model's.
        """
        ...


@runtime_checkable
class FallsBack(Protocol):
    """What encoded rows have besides, where a protocol knows of a form that more servers take."""

    def fall_back(self, body: Body, error: AttemptError) -> bool:
        """Whether a body was refused for its form alone, and these rows now have another.

        Then no row was looked at, and all are sent again, as ``body`` gives them from now on.
        """
        ...
