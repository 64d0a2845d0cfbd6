"""What a protocol is: bytes out, bytes in, no network."""

from __future__ import annotations

from dataclasses import dataclass, field
from enum import Enum
from typing import TYPE_CHECKING, Protocol, runtime_checkable

from batchscore.errors import DecodeError, MetadataError
from batchscore.protocols.untrusted import beginning, parse_json
from batchscore.schema import ModelSignature

if TYPE_CHECKING:
    from collections.abc import Collection, Mapping, Sequence

    import numpy as np
    import numpy.typing as npt
    import pyarrow as pa

    from batchscore.batches import RowBatch, RowFailure
    from batchscore.codecs import ImageFolder
    from batchscore.config import Probs
    from batchscore.errors import AttemptError


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

    Attributes:
        name: what ``inspect`` shows.
        url_ending: what the address ends in, for advice where nothing is there.
        signature: what the protocol itself knows of the deployment; needed where there is no
            ``metadata_request``. Empty: the user tells the inputs, an answer the outputs.
    """

    @property
    def name(self) -> str: ...

    @property
    def url_ending(self) -> str: ...

    @property
    def signature(self) -> ModelSignature | None: ...

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


class BaseProtocol:
    """What most protocols have in common; one of them changes what differs.

    Attributes:
        url_ending: what ``--url`` ends in, for advice; empty where that differs.
        signature: the deployment's features, where the server does not tell them.
        content_type: of requests for predictions, and asked for of their answers.
        retried: statuses below 500 after which a request is tried again; from 500 on all are.
        refused: statuses that refuse rows: a batch is halved until the bad ones stand alone. Those
            that are in neither stop the job.
        doubtful: statuses that may do that; several rows are halved, a single one is retried.
        error_keys: where a JSON object that is no prediction has the server's words.
    """

    url_ending = ""
    signature: ModelSignature | None = None
    content_type = "application/json"
    retried: Collection[int] = frozenset({408, 425, 429})
    refused: Collection[int] = frozenset({400, 413, 422})
    doubtful: Collection[int] = frozenset()
    error_keys: Sequence[str] = ("error_code", "error", "message", "detail")

    @property
    def name(self) -> str:
        """What ``inspect`` shows: the name of the class."""
        return type(self).__name__

    def metadata_request(self, _url: str) -> Request | None:
        """Nothing: the server publishes no specification."""
        return None

    def parse_metadata(self, _response: Response) -> ModelSignature:
        """To be written by a protocol with a ``metadata_request``."""
        raise MetadataError(f"the protocol {self.name} reads no specification")

    def score_request(self, url: str, body: Body) -> Request:
        """The request that scores an encoded body: a POST to the address itself."""
        headers = {"Content-Type": self.content_type, "Accept": self.content_type}
        return Request("POST", url, body, headers)

    def is_complete(self, signature: ModelSignature) -> bool:
        """Whether all classes are known, and the media types that the file's schema tells."""
        return bool(signature.outputs) and all(
            (spec.kind != "category" or spec.classes is not None)
            and (spec.kind != "image" or spec.media_type is not None)
            for spec in signature.outputs
        )

    def treatment(self, status: int) -> Treatment:
        """By ``refused``, ``doubtful`` and ``retried``."""
        if status in self.refused:
            return Treatment.ISOLATE
        if status in self.doubtful:
            return Treatment.HALVE
        is_retried = status >= 500 or status in self.retried
        return Treatment.RETRY if is_retried else Treatment.STOP

    def error_text(self, response: Response) -> str:
        """What stands at ``error_keys``, where there is something, else the body's beginning."""
        try:
            found = _words(parse_json(response.body), self.error_keys)
        except DecodeError:
            found = ""
        text = found or beginning(response.body)
        return text or f"the server answered {response.status} without a word"


def _words(document: object, keys: Sequence[str], depth: int = 4) -> str:
    """What an error of JSON says: texts at these keys, those of a list one after another."""
    if isinstance(document, str):
        return document
    if depth and isinstance(document, list):
        return "; ".join(filter(None, (_words(item, keys, depth - 1) for item in document)))
    if not (depth and isinstance(document, dict)):
        return ""
    found = (_words(document.get(key), keys, depth - 1) for key in keys)
    return ": ".join(filter(None, found))


def read_metadata(protocol: WireProtocol, response: Response | None) -> ModelSignature:
    """The deployment's signature.

    Args:
        protocol: reads it, or knows it.
        response: a 2xx answer to the protocol's ``metadata_request``, if it has one.

    Raises:
        MetadataError: there is none, or it cannot be read for whatever reason.
    """
    if response is None and protocol.signature is None:
        raise MetadataError(
            f"the protocol {protocol.name} has neither a metadata_request nor a signature"
        )
    try:
        found = protocol.signature if response is None else protocol.parse_metadata(response)
        if not isinstance(found, ModelSignature):
            raise TypeError(f"it became a {type(found).__name__}, no ModelSignature")
        return found
    except (ValueError, LookupError, TypeError, AttributeError) as error:
        raise MetadataError(
            f"this is no specification as {protocol.name} has it: {type(error).__name__}: {error}"
        ) from error


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
