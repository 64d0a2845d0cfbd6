"""MLflow's scoring server: Parquet or JSON to ``/invocations``, ``{"predictions": ...}`` back.

https://mlflow.org/docs/latest/ml/deployment/deploy-model-locally. Parquet is sent until a server
says that it does not know the content type; then no row was looked at, and all go as JSON. Servers
before version 3 that do not know it either say so, or fail at once with a 500.
"""

from __future__ import annotations

from typing import TYPE_CHECKING
from urllib.parse import urljoin, urlsplit

import msgspec
import pyarrow as pa
import pyarrow.compute as pc

from batchscore.errors import DecodeError, HTTPStatusError
from batchscore.protocols.base import Request, Response
from batchscore.protocols.predictions import Answers, PredictionDecoder
from batchscore.protocols.typed_rows import JsonColumns, JsonRows, TypedEncoder
from batchscore.protocols.untold import UntoldProtocol
from batchscore.protocols.untrusted import parse_json

if TYPE_CHECKING:
    from collections.abc import Sequence

    from batchscore.codecs import ImageFolder
    from batchscore.config import EndpointConfig, Probs
    from batchscore.errors import AttemptError
    from batchscore.protocols.base import Body
    from batchscore.schema import FeatureSpec, ModelSignature

_PARQUET = "application/vnd.apache.parquet"
_PARQUET_START = b"PAR1"
# The name that a lone tensor without one has in ``--schema``.
_NAMELESS_TENSOR = "0"
_QUOTED_DATA = "Failed to predict data"


class MlflowProtocol(UntoldProtocol):
    """The ``mlflow`` protocol. It remembers that a server does not take Parquet."""

    name = "mlflow"
    url_ending = "/invocations"
    refused = frozenset({400, 413, 415, 422})

    def __init__(self, config: EndpointConfig | None) -> None:
        classes = () if config is None else config.classes
        super().__init__(Answers(("predictions",), classes, may_be_bare=True))
        self._parquet = _Parquet()

    def metadata_request(self, url: str) -> Request | None:
        """Whether the model is loaded. Databricks has no such place."""
        path = urlsplit(url).path
        if not path.rstrip("/").endswith("/invocations") or "/serving-endpoints/" in path:
            return None
        return Request("GET", urljoin(url.rstrip("/"), "ping"))

    def score_request(self, url: str, body: Body) -> Request:
        """The request that scores an encoded body, of which the first bytes tell what it is."""
        request = super().score_request(url, body)
        if not _is_parquet(body):
            return request
        return Request("POST", url, body, {**request.headers, "Content-Type": _PARQUET})

    def encoder(
        self,
        signature: ModelSignature,
        columns: Sequence[pa.Field],
        folder: ImageFolder | None,
    ) -> TypedEncoder:
        """An encoder for these columns; see ``WireProtocol.encoder``."""
        specs = signature.inputs
        names = tuple(spec.name for spec in specs)
        form: JsonColumns | _Frame
        if any(spec.dtype == "numpy" for spec in specs):
            keys = () if names == (_NAMELESS_TENSOR,) else names
            form = JsonColumns(b'{"inputs":', b"}", keys, "base64")
        else:
            form = _Frame(self._parquet, names)
        return TypedEncoder(specs, columns, folder, form)

    def decoder(self, signature: ModelSignature, *, probs: Probs) -> PredictionDecoder:
        """A decoder for answers of a complete signature."""
        return _Decoder(signature.outputs, self._answers, probs, self._parquet)

    def error_text(self, response: Response) -> str:
        """The server's words, without the rows that it repeats before them."""
        text = super().error_text(response)
        if _QUOTED_DATA in text:
            _, _, reason = text.rpartition("\nError: ")
            return reason or text
        try:
            document = parse_json(response.body)
        except DecodeError:
            return text
        trace = document.get("stack_trace") if isinstance(document, dict) else None
        last = trace.strip().rpartition("\n")[2] if isinstance(trace, str) else ""
        return f"{text}: {last}" if last and last not in text else text


class _Parquet:
    """Whether the server takes it, as far as is known; shared by all rows of a job.

    Attributes:
        is_taken: None until it was answered or refused.
    """

    is_taken: bool | None = None

    def refused(self, error: AttemptError) -> bool:
        """Whether an error of a Parquet body says that it is not taken; then none is sent again."""
        if not (_is_about_content_type(error) or (self.is_taken is not True and _is_500(error))):
            return False
        self.is_taken = False
        return True

    def answered(self) -> None:
        """There was an answer; from now on a 500 is about rows."""
        if self.is_taken is None:
            self.is_taken = True


class _Decoder(PredictionDecoder):
    """Tells that there was an answer."""

    def __init__(
        self, specs: Sequence[FeatureSpec], answers: Answers, probs: Probs, parquet: _Parquet
    ) -> None:
        super().__init__(specs, answers, probs)
        self._parquet = parquet

    def decode(self, response: Response, num_rows: int) -> tuple[pa.Array, ...]:
        """See ``AnswerDecoder.decode``."""
        found = super().decode(response, num_rows)
        self._parquet.answered()
        return found


class _Frame:
    """A data frame: Parquet, or JSON in pandas' ``split`` form."""

    def __init__(self, parquet: _Parquet, names: tuple[str, ...]) -> None:
        self._parquet = parquet
        columns = msgspec.json.encode(names)
        head = b'{"dataframe_split":{"columns":' + columns + b',"data":['
        self._json = JsonRows(head, b"]}}", names, "list", "base64")

    def write(self, rows: pa.RecordBatch) -> tuple[bytes, int]:
        """See ``BodyForm``. In Parquet there is NaN, so none becomes null."""
        if self._parquet.is_taken is False:
            return self._json.write(rows)
        import pyarrow.parquet as pq  # noqa: PLC0415 (for this alone)

        columns = [_as_pandas_reads(column) for column in rows.columns]
        table = pa.Table.from_arrays(columns, names=rows.schema.names)
        sink = pa.BufferOutputStream()
        # Written and read once: what a file gains by statistics and dictionaries costs more here.
        pq.write_table(
            table,
            sink,
            compression="none",
            use_dictionary=False,
            write_statistics=False,
            store_schema=False,
        )
        return sink.getvalue().to_pybytes(), 0

    def fall_back(self, body: Body, error: AttemptError) -> bool:
        """See ``FallsBack``: where Parquet is not known, JSON is."""
        return _is_parquet(body) and self._parquet.refused(error)


def _as_pandas_reads(column: pa.Array) -> pa.Array:
    """The column in a type of which pandas makes plain numbers."""
    if pa.types.is_decimal(column.type):
        return pc.cast(column, pa.float64())
    if pa.types.is_float16(column.type):  # which older readers of Parquet do not know
        return pc.cast(column, pa.float32())
    return column


def _is_parquet(body: Body) -> bool:
    return isinstance(body, bytes) and body.startswith(_PARQUET_START)


def _is_500(error: AttemptError) -> bool:
    return isinstance(error, HTTPStatusError) and error.status == 500


def _is_about_content_type(error: AttemptError) -> bool:
    if not isinstance(error, HTTPStatusError):
        return False
    words = str(error).lower().replace("-", " ")
    return error.status == 415 or (
        error.status in {400, 406} and "content type" in words and "support" in words
    )
