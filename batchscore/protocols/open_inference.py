"""The Open Inference Protocol, version 2 of the KServe API: tensors in, tensors out.

KServe, MLServer and Triton speak it (https://github.com/kserve/open-inference-protocol). Requests
are JSON until it is known that the server takes raw bytes: it says so itself, or its first answer
has the binary form, which each request in JSON asks for. No row is sent to find it out.
"""

from __future__ import annotations

import itertools
import re
import secrets
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any
from urllib.parse import urlsplit, urlunsplit

import msgspec

from batchscore.errors import DecodeError, MetadataError, UsageError
from batchscore.protocols.base import BaseProtocol, Body, Request, Response, Treatment
from batchscore.protocols.tensor_inputs import tensor_column
from batchscore.protocols.tensor_outputs import TensorDecoder, output_spec
from batchscore.protocols.tensor_rows import TensorEncoder
from batchscore.protocols.tensors import HEADER, numpy_name, read_answer
from batchscore.protocols.untrusted import beginning, parse_json
from batchscore.schema import FeatureSpec, ModelSignature

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    import pyarrow as pa

    from batchscore.codecs import ImageFolder
    from batchscore.config import EndpointConfig, Probs

# Packing numbers costs these servers more than sending them: MLServer scored half as fast.
_HEADERS = {"Accept": "application/json, application/octet-stream", "Accept-Encoding": "identity"}
_RETRIED = frozenset({408, 425, 429})
_REFUSED_ROWS = frozenset({400, 413, 422})
_NEVER = frozenset({501, 505})
_PATH = re.compile(r"(?P<root>.*?/v2)/models/(?P<name>[^/]+)(?P<version>/versions/[^/]+)?(/infer)?")
_ERROR_LINE = re.compile(r"^[A-Za-z_][\w.]*(Error|Exception|Exit|Interrupt)\b", re.MULTILINE)
_TRACEBACK = "Traceback (most recent call last)"
_LISTED = 12
_LISTS_BINARY = frozenset({"binary_tensor_data", "binary_data"})


@dataclass(frozen=True, slots=True)
class _Place:
    """What stands in an address.

    Attributes:
        root: the server: ``.../v2``, without the query.
        model: the model and its version, behind ``root``; None where the address names none.
        url: the whole address.
    """

    root: str
    model: str | None
    url: str

    @classmethod
    def of(cls, url: str) -> _Place:
        path = urlsplit(url).path.rstrip("/")
        found = _PATH.fullmatch(path)
        if found is not None:
            model = f"/models/{found['name']}{found['version'] or ''}"
            return cls(found["root"], model, url)
        root = path.removesuffix("/models")
        return cls(root if root.endswith("/v2") else f"{root}/v2", None, url)

    def at(self, path: str) -> str:
        """The address of what stands at this path, with the user's query."""
        parts = urlsplit(self.url)
        return urlunsplit((parts.scheme, parts.netloc, path, parts.query, ""))

    @property
    def specification(self) -> str:
        """Where the model, or else the server, tells of itself."""
        return self.at(self.root + (self.model or ""))


def is_model(url: str) -> bool:
    """Whether an address names a model of this protocol."""
    return _Place.of(url).model is not None


class OpenInferenceProtocol(BaseProtocol):
    """The ``open-inference`` protocol.

    It remembers one thing: that the server has answered in the binary form.
    """

    name = "open-inference"
    url_ending = "/v2/models/NAME"

    def __init__(self, config: EndpointConfig | None = None) -> None:
        self._classes: tuple[str, ...] = config.classes if config is not None else ()
        self._has_answered_binary = False
        self._ids = map(f"{secrets.token_hex(4)}-{{}}".format, itertools.count(1))
        self._place: _Place | None = None

    def metadata_request(self, url: str) -> Request:
        """The request for the model's metadata; the server's where the address names no model."""
        self._place = _Place.of(url)
        return Request("GET", self._place.specification, headers={"Accept": "application/json"})

    def parse_metadata(self, response: Response) -> ModelSignature:
        """What the model's author declared; often there is nothing."""
        try:
            document = parse_json(response.body)
            if self._place is not None and self._place.model is None:
                # That it is a server is enough; ``with_server`` says what is missing.
                _ = document["name"], document["extensions"]
                return ModelSignature((), ())
            inputs, outputs = (
                tuple(_declared(item, f"{kind} of the model") for item in document.get(key) or ())
                for key, kind in (("inputs", "an input"), ("outputs", "an output"))
            )
            _ = document["name"]
            signature = ModelSignature(
                tuple(_input(*tensor) for tensor in inputs),
                tuple(
                    output_spec(name, datatype, shape, self._classes)
                    for name, datatype, shape, _ in outputs
                ),
            )
        except (DecodeError, KeyError, TypeError, ValueError, AttributeError) as error:
            reason = f"{error} is missing" if isinstance(error, KeyError) else str(error)
            raise MetadataError(
                f"this is no metadata of a model: {reason}"
                "; is --url that of a model, .../v2/models/NAME?"
            ) from error
        _check_names(signature)
        self._check_classes(signature)
        return signature

    def _check_classes(self, signature: ModelSignature) -> None:
        outputs = signature.outputs
        if not self._classes or not outputs or any(spec.is_open for spec in outputs):
            return
        if not any(spec.kind == "category" for spec in outputs):
            told = ", ".join(f"{spec.name} {list(spec.shape)}" for spec in outputs)
            raise UsageError(
                f"--classes names {len(self._classes)} classes, but no output has so many "
                f"probabilities a row; there are: {told}"
            )

    def server_request(self, url: str) -> Request:
        """What the server as a whole is asked: what it can do, or which models it has."""
        place = _Place.of(url)
        path = place.root if place.model else f"{place.root}/models"
        return Request("GET", place.at(path), headers={"Accept": "application/json"})

    def with_server(self, signature: ModelSignature, response: Response | None) -> ModelSignature:
        """The signature, and whether the server lists the binary extension.

        Raises:
            UsageError: the address names no model.
        """
        try:
            document = parse_json(response.body) if response is not None else {}
        except DecodeError:
            document = {}
        said = document if isinstance(document, dict) else {}
        if self._place is not None and self._place.model is None:
            listed = said.get("models")
            models = [str(name) for name in listed[:_LISTED]] if isinstance(listed, list) else []
            told = f"; it has {', '.join(models)}" if models else ""
            raise UsageError(
                "--url is that of an Open Inference server, not of a model: add "
                f"{self.url_ending}{told}"
            )
        extensions = said.get("extensions")
        lists = isinstance(extensions, list) and not _LISTS_BINARY.isdisjoint(
            item for item in extensions if isinstance(item, str)
        )
        return replace(signature, binary_tensors=lists)

    def score_request(self, url: str, body: Body) -> Request:
        """The request that scores an encoded body: in pieces it is binary, the first its JSON."""
        place = _Place.of(url)
        headers = {"Content-Type": "application/json", **_HEADERS}
        if isinstance(body, tuple):
            headers["Content-Type"] = "application/octet-stream"
            headers[HEADER] = str(memoryview(body[0]).nbytes)
        return Request("POST", place.at(f"{place.root}{place.model or ''}/infer"), body, headers)

    def encoder(
        self,
        signature: ModelSignature,
        columns: Sequence[pa.Field],
        folder: ImageFolder | None,
    ) -> TensorEncoder:
        """An encoder for these columns; see ``WireProtocol.encoder``."""
        is_raw = bool(signature.binary_tensors)
        inputs = [
            tensor_column(spec, column, folder, is_raw=is_raw)
            for spec, column in zip(signature.inputs, columns, strict=True)
        ]
        needs_binary = is_raw or any(each.needs_binary for each in inputs)
        return TensorEncoder(
            inputs,
            [column.name for column in columns],
            [spec.name for spec in signature.outputs],
            ids=self._ids,
            is_binary=lambda: needs_binary or self._has_answered_binary,
        )

    def decoder(self, signature: ModelSignature, *, probs: Probs) -> TensorDecoder:
        """A decoder for answers of a complete signature."""
        return TensorDecoder(signature.outputs, self._classes, probs, self._answered_binary)

    def is_complete(self, signature: ModelSignature) -> bool:
        """Whether the outputs are known."""
        return bool(signature.outputs) and not any(spec.is_open for spec in signature.outputs)

    def learn(self, signature: ModelSignature, response: Response, num_rows: int) -> ModelSignature:
        """The outputs of an answer, and those that were declared in their places."""
        tensors = read_answer(response, num_rows, signature.outputs)
        declared = {spec.name: spec for spec in signature.outputs}
        if lacking := declared.keys() - tensors.keys():
            raise DecodeError(f"the answer has no output {min(lacking)!r}")
        outputs = tuple(
            output_spec(name, tensors[name].datatype, tensors[name].shape[1:], self._classes)
            for name in declared or tensors
        )
        learned = replace(signature, outputs=outputs)
        _check_names(learned)
        if not outputs or any(0 in spec.shape for spec in outputs):
            raise DecodeError("the answer has no outputs, or one without values")
        self._check_classes(learned)
        return learned

    def treatment(self, status: int) -> Treatment:
        """These servers answer 500 to bad rows as well as to trouble of their own."""
        if status == 500:
            return Treatment.HALVE
        if status in _RETRIED or (status > 500 and status not in _NEVER):
            return Treatment.RETRY
        return Treatment.ISOLATE if status in _REFUSED_ROWS else Treatment.STOP

    def error_text(self, response: Response) -> str:
        """The server's words; of a traceback the lines that say what happened."""
        text = ""
        try:
            document = parse_json(response.body)
        except DecodeError:
            text = response.body.decode("utf-8", "replace")
        else:
            text = _words(document)
        if _TRACEBACK in text:
            text = _last_error(text)
        text = beginning(text.encode(), 500)
        return text or f"the server answered {response.status} without a word"

    def _answered_binary(self) -> None:
        self._has_answered_binary = True


def _declared(item: Mapping[str, Any], where: str) -> tuple[str, str, tuple[int, ...], bool]:
    """Name, datatype, shape of a row, and whether its texts are to be base64."""
    name, datatype, shape = item["name"], item["datatype"], item["shape"]
    if not isinstance(name, str) or not isinstance(datatype, str):
        raise TypeError(f"{where} has no name or no datatype")
    try:
        numpy_name(datatype)
    except ValueError as error:
        raise ValueError(f"{where}, {name!r}, has {error}") from None
    sizes = tuple(int(size) for size in shape)
    # The first size is that of the rows, -1 mostly. Some authors leave it out.
    is_batch = sizes[:1] in {(-1,), (0,)} or (len(sizes) > 1 and sizes[0] == 1)
    row_shape = sizes[1:] if is_batch or sizes == (1,) else sizes
    parameters = item.get("parameters") or {}
    return name, datatype, row_shape, parameters.get("content_type") == "base64"


def _input(name: str, datatype: str, shape: tuple[int, ...], is_base64: bool) -> FeatureSpec:
    if datatype == "BYTES":
        dtype = "image" if is_base64 else "text"
        # A text that is open in its shape is one text.
        return FeatureSpec(name, dtype, tuple(map(abs, shape)), datatype="bytes")  # type: ignore[arg-type]
    return FeatureSpec(name, "numeric", shape, datatype=numpy_name(datatype))


def _check_names(signature: ModelSignature) -> None:
    for specs in (signature.inputs, signature.outputs):
        names = [spec.name for spec in specs]
        if len(set(names)) < len(names):
            raise MetadataError("the model has two inputs or two outputs of one name")


def _words(document: Any) -> str:
    """What an error's JSON says."""
    if isinstance(document, dict):
        error = document.get("error") or document.get("detail") or document.get("message")
        if isinstance(error, list):
            found = [item for item in error if isinstance(item, dict)]
            return "; ".join(
                f"{'.'.join(map(str, item.get('loc') or ()))}: {item.get('msg')}" for item in found
            )
        if isinstance(error, str):
            return error
    return msgspec.json.encode(document).decode()


def _last_error(text: str) -> str:
    """What a traceback comes to: the last line that names an exception, and those below it."""
    starts = [match.start() for match in _ERROR_LINE.finditer(text)]
    return text[starts[-1] :] if starts else text.strip().rpartition("\n")[2]
