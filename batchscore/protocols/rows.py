"""The Deployment API: JSON rows in, JSON rows out.

The format is described in ``docs/protocols.md``. Requests are
``{"rows": [{feature: value, ...}, ...]}``, answers ``{"rows": [{output: value, ...}, ...]}``.
"""

from __future__ import annotations

from dataclasses import dataclass, field, replace
from functools import cached_property
from operator import attrgetter
from typing import TYPE_CHECKING, Any
from urllib.parse import urljoin

import msgspec
import numpy as np
import numpy.typing as npt

from batchscore.batches import INVALID_INPUT, RowFailure
from batchscore.codecs import input_codec, learn, output_codec, prediction_fields
from batchscore.codecs.base import EncodedColumn, NumberColumn, TextColumn
from batchscore.codecs.number import NumberOutput
from batchscore.errors import DecodeError, MetadataError
from batchscore.protocols.base import BaseProtocol, Request, Response
from batchscore.protocols.interleave import Interleaver
from batchscore.protocols.numbers import NumberAnswers
from batchscore.protocols.untrusted import beginning, check_values, most_values, parse_json
from batchscore.schema import FEATURE_TYPES, FeatureSpec, ModelSignature

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence

    import pyarrow as pa

    from batchscore.batches import RowBatch
    from batchscore.codecs import ImageFolder
    from batchscore.codecs.base import InputCodec, WholeColumn
    from batchscore.config import Probs

_HEAD, _TAIL = b'{"rows":[', b"]}"
_RAW_BODY = msgspec.json.Decoder(dict[str, list[msgspec.Raw]])
# Fewer rows of numbers and text are written sooner as Python objects than by array libraries.
_MIN_WHOLE_ROWS = 128
# The path of the score operation in the specification: a literal template.
_SCORE_PATH = "/deployment/{deploymentId}/forward"


class RowsProtocol(BaseProtocol):
    """The ``rows`` protocol. Stateless."""

    name = "rows"
    url_ending = "/deployment/ID/forward"
    error_keys = ("errorCode", "errorMessage")

    def metadata_request(self, url: str) -> Request:
        """The request for the specification, which stands beside the score address."""
        return Request("GET", urljoin(url, "openapi.json"), headers={"Accept": "application/json"})

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
            raise MetadataError(
                f"this is no specification of a deployment: {reason}"
                "; is --url that of a deployment, .../forward?"
            ) from error
        if not signature.inputs or not signature.outputs:
            raise MetadataError(
                "the specification names no inputs or no outputs"
                "; is --url that of a deployment, .../forward?"
            )
        return signature

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

    def learn(self, signature: ModelSignature, response: Response, num_rows: int) -> ModelSignature:
        """Fill in classes and media types from an answer."""
        rows = _rows(response.body, num_rows, signature.outputs)
        columns = columns_of(rows, signature.outputs)
        outputs = tuple(map(learn, signature.outputs, columns))
        return replace(signature, outputs=outputs)


@dataclass(frozen=True)
class EncodedBody:
    """Rows as one request body, which is taken apart only where fewer rows are to be sent."""

    whole: bytes
    positions: npt.NDArray[np.int64]
    failures: Mapping[int, RowFailure] = field(default_factory=dict)
    nonfinite: int = 0

    @cached_property
    def _rows(self) -> list[msgspec.Raw]:
        """The JSON text of each row."""
        return _RAW_BODY.decode(self.whole)["rows"]

    @cached_property
    def _ends(self) -> npt.NDArray[np.int64]:
        """How many bytes there are before each row, were they one after another."""
        lengths = [memoryview(row).nbytes for row in self._rows]
        return np.concatenate(([0], np.cumsum(lengths, dtype=np.int64)))

    def size(self, start: int, stop: int) -> int:
        """See ``EncodedRows.size``."""
        if start == 0 and stop == len(self.positions):
            return len(self.whole)
        commas = max(0, stop - start - 1)
        return int(self._ends[stop] - self._ends[start]) + commas + len(_HEAD) + len(_TAIL)

    def body(self, start: int, stop: int) -> bytes:
        """See ``EncodedRows.body``."""
        if start == 0 and stop == len(self.positions):
            return self.whole
        return b"".join((_HEAD, b",".join(map(memoryview, self._rows[start:stop])), _TAIL))


class RowsEncoder:
    """Encodes batches column by column, then writes all rows in one call of the JSON library."""

    def __init__(
        self, specs: Sequence[FeatureSpec], columns: Sequence[str], codecs: Sequence[InputCodec]
    ) -> None:
        self._columns = list(columns)
        self._codecs = list(codecs)
        self.blocks = any(codec.blocks for codec in codecs)
        self._row = _row_maker([spec.name for spec in specs])
        self._interleaver = Interleaver([spec.name for spec in specs])
        is_large = any(spec.kind in {"array", "image"} for spec in specs)
        self._min_whole_rows = 1 if is_large else _MIN_WHOLE_ROWS
        self._json = msgspec.json.Encoder(decimal_format="number")

    def encode(self, rows: RowBatch) -> EncodedBody:
        """See ``RowEncoder.encode``."""
        write = self._whole if rows.num_rows >= self._min_whole_rows else self._values
        encoded = [
            write(codec, rows.columns.column(name))
            for codec, name in zip(self._codecs, self._columns, strict=True)
        ]
        failures = _failures(rows, encoded)
        positions = np.arange(rows.num_rows)
        if failures:
            positions = np.delete(positions, list(failures))
        whole, nonfinite = self._body(encoded, positions)
        return EncodedBody(whole, positions, failures, nonfinite)

    def _values(self, codec: InputCodec, column: pa.Array) -> EncodedColumn:
        return codec.encode(column)

    def _whole(self, codec: InputCodec, column: pa.Array) -> WholeColumn:
        whole = codec.encode_whole(column)
        if whole is not None:
            return whole
        encoded = codec.encode(column)
        # JSON text holds no raw line break, so a line break always ends a value.
        lines = np.frombuffer(self._json.encode_lines(encoded.values), np.uint8)
        return TextColumn(
            lines,
            np.flatnonzero(lines == ord("\n")) + 1,
            has_spare=True,
            failures=encoded.failures,
            nonfinite=encoded.nonfinite,
        )

    def _body(self, columns: Sequence[Any], positions: npt.NDArray[np.int64]) -> tuple[bytes, int]:
        if not len(positions):
            return _HEAD + _TAIL, 0
        if not isinstance(columns[0], EncodedColumn):
            return self._interleaver.body(_HEAD, columns, positions, _TAIL)
        objects = list(map(self._row, *(column.values for column in columns)))
        body = self._json.encode({"rows": [objects[position] for position in positions]})
        return body, sum(column.nonfinite for column in columns)

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
        self.fields = prediction_fields(specs, self._codecs)
        self._number: NumberAnswers | None = None
        if len(specs) == 1 and isinstance(self._codecs[0], NumberOutput):
            self._number = NumberAnswers(specs[0].name)
        row = _struct([spec.name for spec in specs])
        self._json: msgspec.json.Decoder[Any] | None = None
        if row is not None:
            answer = msgspec.defstruct("Answer", [("rows", list[row])])  # type: ignore[valid-type]
            self._json = msgspec.json.Decoder(answer)
            self._getters = [attrgetter(name) for name in row.__struct_fields__]

    def decode(self, response: Response, num_rows: int) -> tuple[pa.Array, ...]:
        """See ``AnswerDecoder.decode``."""
        check_values(response.body, most_values(self._specs, num_rows))
        if self._number is not None:
            numbers = self._number.decode(response.body)
            if numbers is not None and len(numbers) == num_rows:
                return self._codecs[0].decode(numbers)
        arrays: list[pa.Array] = []
        for codec, values in zip(self._codecs, self._values(response, num_rows), strict=True):
            arrays.extend(codec.decode(values))
        return tuple(arrays)

    def _values(self, response: Response, num_rows: int) -> list[list[object]]:
        if self._json is not None:
            try:
                rows: list[Any] = self._json.decode(response.body).rows
            except (msgspec.DecodeError, UnicodeDecodeError, RecursionError):
                pass  # bare NaN, an error inside a 200, a missing output: told apart below
            else:
                check_count(len(rows), num_rows)
                return [list(map(getter, rows)) for getter in self._getters]
        return columns_of(_rows(response.body, num_rows, self._specs), self._specs)


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
    if dtype not in FEATURE_TYPES:
        raise TypeError(f"feature {name!r} has the unknown type {dtype!r}")
    classes = described.get("classes")
    return FeatureSpec(
        name=name,
        dtype=dtype,
        shape=tuple(int(length) for length in shape),
        classes=None if classes is None else tuple(sorted(map(str, classes))),
    )


def _failures(
    rows: RowBatch, encoded: Sequence[EncodedColumn | WholeColumn]
) -> dict[int, RowFailure]:
    """The reader's failures and the codecs'; the first one found for a row stands."""
    failures = dict(rows.failures)
    for column in encoded:
        if isinstance(column, NumberColumn):
            continue
        for row, text in column.failures.items():
            failures.setdefault(int(row), RowFailure(INVALID_INPUT, text))
    return failures


def _rows(body: bytes, num_rows: int, specs: Sequence[FeatureSpec]) -> list[Any]:
    document = parse_json(body, most_values(specs, num_rows))
    if not isinstance(document, dict) or not isinstance(document.get("rows"), list):
        words = document if isinstance(document, dict) else {}
        if "errorCode" in words:
            raise DecodeError(f"{words['errorCode']}: {words.get('errorMessage', '')}")
        raise DecodeError(f"the answer has no rows: {beginning(body)}")
    rows: list[Any] = document["rows"]
    check_count(len(rows), num_rows)
    return rows


def check_count(found: int, wanted: int) -> None:
    """Raise ``DecodeError`` where an answer has another number of rows than were sent."""
    if found != wanted:
        raise DecodeError(f"the answer has {found} rows, {wanted} were sent")


def columns_of(rows: Sequence[Any], specs: Sequence[FeatureSpec]) -> list[list[object]]:
    """The values of each output.

    Raises:
        DecodeError: a row lacks one.
    """
    columns: list[list[object]] = []
    for spec in specs:
        try:
            columns.append([row[spec.name] for row in rows])
        except (KeyError, TypeError, IndexError):
            raise DecodeError(f"a row of the answer has no output {spec.name!r}") from None
    return columns
