"""The Deployment API: JSON rows in, JSON rows out.

The format is described in ``docs/protocols.md``. Requests are
``{"rows": [{feature: value, ...}, ...]}``, answers ``{"rows": [{output: value, ...}, ...]}``.
"""

from __future__ import annotations

from dataclasses import dataclass, field, replace
from functools import cached_property
from operator import attrgetter
from typing import TYPE_CHECKING, Any, get_args
from urllib.parse import urljoin

import msgspec
import numpy as np
import numpy.typing as npt

from batchscore.batches import RowFailure
from batchscore.codecs import input_codec, learn, output_codec
from batchscore.errors import DecodeError, MetadataError
from batchscore.protocols.base import Request, Response, Treatment
from batchscore.protocols.untrusted import beginning, check_values, most_values, parse_json
from batchscore.schema import FeatureSpec, FeatureType, ModelSignature

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence

    import pyarrow as pa

    from batchscore.batches import RowBatch
    from batchscore.codecs import ImageFolder
    from batchscore.codecs.base import EncodedColumn, InputCodec
    from batchscore.config import Probs

_HEAD, _TAIL = b'{"rows":[', b"]}"
_JSON = {"Content-Type": "application/json", "Accept": "application/json"}
# The path of the score operation in the specification: a literal template.
_SCORE_PATH = "/deployment/{deploymentId}/forward"
_RETRIED = frozenset({408, 425, 429})
_REFUSED_ROWS = frozenset({400, 413, 422})


class RowsProtocol:
    """The ``rows`` protocol. Stateless."""

    name = "rows"

    def metadata_request(self, url: str) -> Request:
        """The request for the specification, which stands beside the score address."""
        return Request("GET", urljoin(url, "openapi.json"), headers={"Accept": _JSON["Accept"]})

    def parse_metadata(self, response: Response) -> ModelSignature:
        """Read the specification, in its new or its old style."""
        try:
            document = parse_json(response.body)
            tensor_json = document["paths"][_SCORE_PATH].get("x-peltarion-tensorjson")
            schemas = document["components"]["schemas"]
            inputs = schemas["input-row"]["properties"]
            outputs = schemas["output-row-batch"]["properties"]["rows"]["properties"]
            old_style = tensor_json is None
            signature = ModelSignature(
                inputs=tuple(_feature(name, body, old_style) for name, body in inputs.items()),
                outputs=tuple(_feature(name, body, old_style) for name, body in outputs.items()),
                tensor_json=bool(tensor_json),
            )
        except (DecodeError, KeyError, TypeError, ValueError, AttributeError) as error:
            reason = f"{error} is missing" if isinstance(error, KeyError) else str(error)
            raise MetadataError(f"this is no specification of a deployment: {reason}") from error
        if not signature.inputs or not signature.outputs:
            raise MetadataError("the specification names no inputs or no outputs")
        return signature

    def score_request(self, url: str, body: bytes) -> Request:
        """The request that scores an encoded body."""
        return Request("POST", url, body, _JSON)

    def encoder(
        self,
        signature: ModelSignature,
        columns: Sequence[pa.Field],
        folder: ImageFolder | None,
    ) -> RowsEncoder:
        """An encoder for these columns; see ``WireProtocol.encoder``."""
        codecs = [
            input_codec(spec, column, tensor_json=signature.tensor_json, folder=folder)
            for spec, column in zip(signature.inputs, columns, strict=True)
        ]
        return RowsEncoder(signature.inputs, [column.name for column in columns], codecs)

    def decoder(self, signature: ModelSignature, *, probs: Probs) -> RowsDecoder:
        """A decoder for answers of a complete signature."""
        return RowsDecoder(signature.outputs, probs)

    def is_complete(self, signature: ModelSignature) -> bool:
        """Whether all classes are known, and the media types that the file's schema tells."""
        return all(
            (spec.kind != "category" or spec.classes is not None)
            and (spec.kind != "image" or spec.media_type is not None)
            for spec in signature.outputs
        )

    def learn(self, signature: ModelSignature, response: Response, num_rows: int) -> ModelSignature:
        """Fill in classes and media types from an answer."""
        rows = _rows(response.body, num_rows, signature.outputs)
        columns = _columns(rows, signature.outputs)
        outputs = tuple(map(learn, signature.outputs, columns))
        return replace(signature, outputs=outputs)

    def treatment(self, status: int) -> Treatment:
        """See the contract's table of statuses."""
        if status in _RETRIED or status >= 500:
            return Treatment.RETRY
        return Treatment.ISOLATE if status in _REFUSED_ROWS else Treatment.STOP

    def error_text(self, response: Response) -> str:
        """``errorMessage`` (and ``errorCode``) where there is one, else the body's beginning."""
        try:
            document = parse_json(response.body)
        except DecodeError:
            return _plain_text(response)
        if isinstance(document, dict):
            words = [document.get(key) for key in ("errorCode", "errorMessage")]
            found = ": ".join(word for word in words if isinstance(word, str) and word)
            if found:
                return found
        return _plain_text(response)


@dataclass(frozen=True)
class EncodedLines:
    """Rows as JSON lines; a run of them becomes a body by a replace of line breaks.

    JSON text holds no raw line break, so a line break always ends a row.
    """

    lines: bytes
    positions: npt.NDArray[np.int64]
    failures: Mapping[int, RowFailure] = field(default_factory=dict)
    nonfinite: int = 0

    @cached_property
    def _ends(self) -> npt.NDArray[np.int64]:
        """Where each row begins in ``lines``, and where the last ends."""
        breaks = np.flatnonzero(np.frombuffer(self.lines, np.uint8) == ord("\n"))
        return np.concatenate(([0], breaks + 1))

    def size(self, start: int, stop: int) -> int:
        """See ``EncodedRows.size``."""
        if start == 0 and stop == len(self.positions):
            return len(self.lines) - bool(self.lines) + len(_HEAD) + len(_TAIL)
        return int(self._ends[stop] - self._ends[start]) - 1 + len(_HEAD) + len(_TAIL)

    def body(self, start: int, stop: int) -> bytes:
        """See ``EncodedRows.body``."""
        if start == 0 and stop == len(self.positions):
            run = self.lines[:-1]
        else:
            run = self.lines[self._ends[start] : self._ends[stop] - 1]
        return b"".join((_HEAD, run.replace(b"\n", b","), _TAIL))


class RowsEncoder:
    """Encodes batches column by column, then writes all rows in one call of the JSON library."""

    def __init__(
        self, specs: Sequence[FeatureSpec], columns: Sequence[str], codecs: Sequence[InputCodec]
    ) -> None:
        self._columns = list(columns)
        self._codecs = list(codecs)
        self._row = _row_maker([spec.name for spec in specs])
        self._json = msgspec.json.Encoder(decimal_format="number")

    def encode(self, rows: RowBatch) -> EncodedLines:
        """See ``RowEncoder.encode``."""
        encoded = [
            codec.encode(rows.columns.column(name))
            for codec, name in zip(self._codecs, self._columns, strict=True)
        ]
        failures = _failures(rows, encoded)
        objects = list(map(self._row, *(column.values for column in encoded)))
        positions = np.arange(rows.num_rows)
        if failures:
            positions = np.delete(positions, list(failures))
            objects = [objects[position] for position in positions]
        return EncodedLines(
            lines=self._json.encode_lines(objects),
            positions=positions,
            failures=failures,
            nonfinite=sum(column.nonfinite for column in encoded),
        )

    def wire_bytes(self, rows: RowBatch) -> int:
        """See ``RowEncoder.wire_bytes``."""
        return sum(
            codec.wire_bytes(rows.columns.column(name))
            for codec, name in zip(self._codecs, self._columns, strict=True)
        )


class RowsDecoder:
    """Decodes answers: one typed pass of the JSON library, then a codec a column."""

    def __init__(self, specs: Sequence[FeatureSpec], probs: Probs) -> None:
        self._specs = tuple(specs)
        self._codecs = [output_codec(spec, probs=probs) for spec in specs]
        self.fields = tuple(
            suffix.with_name(spec.name + suffix.name)
            for spec, codec in zip(specs, self._codecs, strict=True)
            for suffix in codec.fields
        )
        row = _struct([spec.name for spec in specs])
        self._json: msgspec.json.Decoder[Any] | None = None
        if row is not None:
            answer = msgspec.defstruct("Answer", [("rows", list[row])])  # type: ignore[valid-type]
            self._json = msgspec.json.Decoder(answer)
            self._getters = [attrgetter(name) for name in row.__struct_fields__]

    def decode(self, response: Response, num_rows: int) -> tuple[pa.Array, ...]:
        """See ``AnswerDecoder.decode``."""
        arrays: list[pa.Array] = []
        for codec, values in zip(self._codecs, self._values(response, num_rows), strict=True):
            arrays.extend(codec.decode(values))
        return tuple(arrays)

    def _values(self, response: Response, num_rows: int) -> list[list[object]]:
        if self._json is not None:
            check_values(response.body, most_values(self._specs, num_rows))
            try:
                rows: list[Any] = self._json.decode(response.body).rows
            except (msgspec.DecodeError, UnicodeDecodeError, RecursionError):
                pass  # bare NaN, an error inside a 200, a missing output: told apart below
            else:
                _check_count(len(rows), num_rows)
                return [list(map(getter, rows)) for getter in self._getters]
        return _columns(_rows(response.body, num_rows, self._specs), self._specs)


def _row_maker(names: Sequence[str]) -> Callable[..., object]:
    """What makes a row of its values, for the JSON encoder."""
    struct = _struct(names)
    return struct if struct is not None else lambda *values: dict(zip(names, values, strict=True))


def _struct(names: Sequence[str]) -> type[msgspec.Struct] | None:
    """A struct with these JSON keys: written and read several times as fast as a dict.

    None where a name holds a character that a struct's key cannot have (``"``, a line break).
    """
    keys = {f"f{index}": name for index, name in enumerate(names)}
    try:
        return msgspec.defstruct("Row", [(key, object) for key in keys], rename=keys, gc=False)
    except ValueError:
        return None


def _feature(name: str, body: dict[str, Any], old_style: bool) -> FeatureSpec:
    described = (body["extensions"] if old_style else body)["x-peltarion"]
    dtype, shape = described["type"], described.get("shape") or ()
    if dtype not in get_args(FeatureType):
        raise TypeError(f"feature {name!r} has the unknown type {dtype!r}")
    classes = described.get("classes")
    return FeatureSpec(
        name=name,
        dtype=dtype,
        shape=tuple(int(length) for length in shape),
        classes=None if classes is None else tuple(sorted(map(str, classes))),
    )


def _failures(rows: RowBatch, encoded: Sequence[EncodedColumn]) -> dict[int, RowFailure]:
    """The reader's failures and the codecs'; the first one found for a row stands."""
    failures = dict(rows.failures)
    for column in encoded:
        for row, text in column.failures.items():
            failures.setdefault(int(row), RowFailure("invalid_input", text))
    return failures


def _rows(body: bytes, num_rows: int, specs: Sequence[FeatureSpec]) -> list[Any]:
    document = parse_json(body, most_values(specs, num_rows))
    if not isinstance(document, dict) or not isinstance(document.get("rows"), list):
        words = document if isinstance(document, dict) else {}
        if "errorCode" in words:
            raise DecodeError(f"{words['errorCode']}: {words.get('errorMessage', '')}")
        raise DecodeError(f"the answer has no rows: {beginning(body)}")
    rows: list[Any] = document["rows"]
    _check_count(len(rows), num_rows)
    return rows


def _check_count(found: int, wanted: int) -> None:
    if found != wanted:
        raise DecodeError(f"the answer has {found} rows, {wanted} were sent")


def _columns(rows: list[Any], specs: Sequence[FeatureSpec]) -> list[list[object]]:
    columns: list[list[object]] = []
    for spec in specs:
        try:
            columns.append([row[spec.name] for row in rows])
        except (KeyError, TypeError, IndexError):
            raise DecodeError(f"a row of the answer has no output {spec.name!r}") from None
    return columns


def _plain_text(response: Response) -> str:
    return beginning(response.body) or f"the server answered {response.status} without a word"
