"""The server with the Open Inference Protocol on its wire: the same faults, tensors for rows."""

from __future__ import annotations

import json
import struct
from collections.abc import Callable, Mapping, Sequence
from typing import TYPE_CHECKING, Any, Literal

import numpy as np
import numpy.typing as npt

from faultserver.faults import Reply
from faultserver.server import FaultServer

if TYPE_CHECKING:
    from faultserver.http11 import Exchange
    from faultserver.requests import RequestInfo

Array = npt.NDArray[Any]
Declared = Mapping[str, tuple[str, Sequence[int]]]
"""Tensors by name: datatype, and shape with the rows' -1 first."""

_JSON = {"Content-Type": "application/json"}
_HEADER = "Inference-Header-Content-Length"
DTYPES = {
    "BOOL": np.dtype(np.bool_),
    **{f"INT{bits}": np.dtype(f"<i{bits // 8}") for bits in (8, 16, 32, 64)},
    **{f"UINT{bits}": np.dtype(f"<u{bits // 8}") for bits in (8, 16, 32, 64)},
    **{f"FP{bits}": np.dtype(f"<f{bits // 8}") for bits in (16, 32, 64)},
}


def _refused(status: int, text: str) -> Reply:
    return Reply(status, json.dumps({"error": text}).encode(), _JSON)


class OpenInferenceServer(FaultServer):
    """A model ``m`` behind ``/v2/models/m``.

    Args:
        inputs: what the metadata declares.
        outputs: the same; an output has the datatype that is declared, else that of its numbers.
        predict: tensors by name to tensors by name; texts are arrays of ``object`` with bytes.
        speaks: JSON only (as MLServer), binary without saying so (KServe), or listed (Triton).
        declares: whether the metadata tells the inputs and outputs.
        ignores_outputs: only the first output is given unless the others are asked for.

    Attributes:
        forms: of each request that was read, ``json`` or ``binary``.
        bodies: of each of them, the JSON.
        alter: changes the answer before it is written: the list of outputs, and their raw bytes.
    """

    def __init__(
        self,
        inputs: Declared,
        outputs: Declared,
        predict: Callable[[dict[str, Array]], dict[str, Array]],
        *,
        speaks: Literal["json", "unlisted", "listed"] = "json",
        declares: bool = True,
        ignores_outputs: bool = False,
        **options: Any,
    ) -> None:
        super().__init__({}, {}, lambda rows: rows, **options)
        self.tensors_in, self.tensors_out = inputs, outputs
        self.model = predict
        self.speaks = speaks
        self.declares = declares
        self.ignores_outputs = ignores_outputs
        self.forms: list[str] = []
        self.bodies: list[dict[str, Any]] = []
        self.alter: Callable[[list[dict[str, Any]]], None] = lambda _outputs: None
        self.server_requests = 0
        self._score_path, self._spec_path = "/v2/models/m/infer", "/v2/models/m"
        self._read: dict[int, tuple[dict[str, Any], dict[str, Array]]] = {}

    @property
    def url(self) -> str:
        """The address of the model."""
        return f"http://{self.host}:{self.port}{self._spec_path}"

    def on_body(self, exchange: Exchange) -> None:
        """The server's own addresses, and all others as ever."""
        if exchange.method == "GET" and exchange.path == "/v2":
            self.server_requests += 1
            extensions = ["binary_tensor_data"] if self.speaks == "listed" else []
            said = {"name": "test", "version": "1", "extensions": extensions}
            self._finish(exchange, Reply(200, json.dumps(said).encode(), _JSON))
        elif exchange.method == "GET" and exchange.path == "/v2/models":
            self._finish(
                exchange, Reply(200, json.dumps({"models": ["m", "other"]}).encode(), _JSON)
            )
        else:
            super().on_body(exchange)

    def _document(self) -> dict[str, Any]:
        def described(tensors: Declared) -> list[dict[str, Any]]:
            return [
                {"name": name, "datatype": datatype, "shape": list(shape)}
                for name, (datatype, shape) in tensors.items()
            ]

        return {
            "name": "m",
            "versions": None,
            "platform": "",
            "inputs": described(self.tensors_in) if self.declares else [],
            "outputs": described(self.tensors_out) if self.declares else [],
        }

    def _read_rows(self, info: RequestInfo) -> Reply | None:
        length = info.headers.get(_HEADER.lower())
        is_json = info.headers.get("content-type") == "application/json"
        if is_json != (length is None) or (length is not None and self.speaks == "json"):
            return _refused(422, "the body is not as this server takes it")
        head, raw = info.body, b""
        if length is not None:
            head, raw = info.body[: int(length)], info.body[int(length) :]
        try:
            body = json.loads(head)
            tensors = {}
            for described in body["inputs"]:
                size = described.get("parameters", {}).get("binary_data_size")
                data = None
                if size is not None:
                    data, raw = raw[:size], raw[size:]
                tensors[described["name"]] = _tensor(described, data)
        except (KeyError, ValueError, TypeError) as error:
            return _refused(400, f"{type(error).__name__}: {error}")
        if raw:
            return _refused(400, f"{len(raw)} bytes too many")
        self.forms.append("json" if length is None else "binary")
        self.bodies.append(body)
        self._read[info.index] = body, tensors
        names = list(tensors)
        info.rows = [
            dict(zip(names, row, strict=True)) for row in zip(*tensors.values(), strict=True)
        ]
        return None

    def _predict(self, info: RequestInfo) -> Reply:
        body, tensors = self._read.pop(info.index)
        try:
            said = self.model(tensors)
        except ValueError as error:
            return _refused(500, str(error))
        asked = {each["name"] for each in body.get("outputs") or ()}
        if asked:
            said = {name: array for name, array in said.items() if name in asked}
        elif self.ignores_outputs:
            said = dict(list(said.items())[:1])
        wants_binary = body.get("parameters", {}).get("binary_data_output") is True
        outputs: list[dict[str, Any]] = [
            _output(name, self.tensors_out.get(name, (None,))[0], array, info)
            for name, array in said.items()
        ]
        self.alter(outputs)
        if wants_binary and self.speaks != "json":
            return _binary_reply(body["id"], outputs)
        for output in outputs:
            output["data"] = _listed(output.pop("array"))
        document = {"id": body["id"], "model_name": "m", "outputs": outputs}
        return Reply(200, json.dumps(document).encode(), _JSON)


def _tensor(described: dict[str, Any], data: bytes | None) -> Array:
    """The array that a request describes."""
    shape, datatype = described["shape"], described["datatype"]
    if datatype == "BYTES":
        texts = _texts(data) if data is not None else [text.encode() for text in described["data"]]
        array = np.empty(len(texts), object)
        array[:] = texts
    elif data is not None:
        array = np.frombuffer(data, DTYPES[datatype])
    elif datatype == "FP16":
        raise ValueError("no FP16 in JSON")
    elif datatype.startswith("FP"):
        array = np.array(described["data"], DTYPES[datatype])
    else:
        array = np.array(described["data"])
        if array.dtype.kind not in ("b" if datatype == "BOOL" else "iu"):
            raise ValueError(f"{array.dtype} for {datatype}")
        array = np.array(described["data"], DTYPES[datatype])
    return array.reshape(shape)


def _texts(data: bytes) -> list[bytes]:
    texts = []
    while data:
        (length,) = struct.unpack_from("<I", data)
        texts.append(data[4 : 4 + length])
        data = data[4 + length :]
    return texts


def _output(name: str, datatype: str | None, array: Array, info: RequestInfo) -> dict[str, Any]:
    if info.fault is not None and info.fault.name == "wrong_row_count":
        array = array[:-1]
    if datatype is None:
        datatype = next((key for key, dtype in DTYPES.items() if dtype == array.dtype), "BYTES")
    if datatype != "BYTES":
        array = array.astype(DTYPES[datatype])
    return {"name": name, "datatype": datatype, "shape": list(array.shape), "array": array}


def _listed(array: Any) -> Any:
    if not isinstance(array, np.ndarray):
        return array
    flat = array.ravel().tolist()
    return [item.decode() if isinstance(item, bytes) else item for item in flat]


def _binary_reply(request_id: str, outputs: list[dict[str, Any]]) -> Reply:
    raw = b""
    for output in outputs:
        array = output.pop("array")
        if isinstance(array, bytes):
            data = array
        elif output["datatype"] == "BYTES":
            data = b"".join(struct.pack("<I", len(text)) + text for text in array.ravel())
        else:
            data = array.tobytes()
        output["parameters"] = {"binary_data_size": len(data)}
        raw += data
    head = json.dumps({"id": request_id, "model_name": "m", "outputs": outputs}).encode()
    # As KServe sends it, without a content type.
    return Reply(200, head + raw, {_HEADER: str(len(head))})
