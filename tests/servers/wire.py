"""The fewest lines that speak the Open Inference protocol: what the protocols are checked against.

Written apart from the package's own, so that one error cannot hide in both.
"""

from __future__ import annotations

import base64
import json
from typing import Any, NamedTuple

import numpy as np
import pyarrow as pa
import requests
from servers.running import Sample, Server

TIMEOUT_S = 60
_NUMPY = {"FP64": "<f8", "FP32": "<f4", "INT64": "<i8", "UINT8": "u1", "FP16": "<f2"}


class Tensor(NamedTuple):
    """One tensor; ``values`` is flat: numbers, strings or bytes."""

    name: str
    datatype: str
    shape: list[int]
    values: list[Any]

    def head(self) -> dict[str, Any]:
        return {"name": self.name, "datatype": self.datatype, "shape": self.shape}

    def as_json(self) -> dict[str, Any]:
        """With its data; bytes as base64."""
        data = [base64.b64encode(each).decode() if isinstance(each, bytes) else each
                for each in self.values]  # fmt: skip
        return {**self.head(), "data": data}

    def raw(self) -> bytes:
        """As little-endian bytes."""
        if self.datatype != "BYTES":
            return np.array(self.values, _NUMPY[self.datatype]).tobytes()
        encoded = [each if isinstance(each, bytes) else each.encode() for each in self.values]
        return b"".join(len(each).to_bytes(4, "little") + each for each in encoded)


def post(server: Server, path: str, body: Any, **headers: str) -> requests.Response:
    """POST bytes as they are, or anything else as JSON."""
    if isinstance(body, bytes):
        names = {key.replace("_", "-"): value for key, value in headers.items()}
        return requests.post(server.url + path, data=body, headers=names, timeout=TIMEOUT_S)
    return requests.post(server.url + path, json=body, timeout=TIMEOUT_S)


def infer(server: Server, model: str, *inputs: Tensor, **more: Any) -> requests.Response:
    """Ask in JSON."""
    body = {"id": "7", "inputs": [each.as_json() for each in inputs], **more}
    return post(server, f"/v2/models/{model}/infer", body)


def infer_binary(server: Server, model: str, *inputs: Tensor, **headers: str) -> requests.Response:
    """Ask with the binary extension, both ways."""
    heads, raws = [], []
    for each in inputs:
        raws.append(each.raw())
        heads.append({**each.head(), "parameters": {"binary_data_size": len(raws[-1])}})
    head = {"id": "7", "inputs": heads, "parameters": {"binary_data_output": True}}
    start = json.dumps(head).encode()
    names = {
        "Inference_Header_Content_Length": str(len(start)),
        "Content_Type": "application/octet-stream",
        **headers,
    }
    return post(server, f"/v2/models/{model}/infer", start + b"".join(raws), **names)


def outputs(answer: requests.Response) -> dict[str, Tensor]:
    """The tensors of an answer in either form."""
    assert answer.status_code == 200, answer.text[-2000:]
    length = answer.headers.get("Inference-Header-Content-Length")
    body = answer.content
    said = json.loads(body[: int(length)] if length else body)
    assert said["id"] == "7"
    at = int(length or 0)
    tensors = {}
    for each in said["outputs"]:
        size = (each.get("parameters") or {}).get("binary_data_size")
        values = each["data"] if size is None else _values(each["datatype"], body[at : at + size])
        at += size or 0
        tensors[each["name"]] = Tensor(each["name"], each["datatype"], each["shape"], values)
    return tensors


def _values(datatype: str, raw: bytes) -> list[Any]:
    if datatype != "BYTES":
        return list(np.frombuffer(raw, _NUMPY[datatype]).tolist())
    values, at = [], 0
    while at < len(raw):
        end = at + 4 + int.from_bytes(raw[at : at + 4], "little")
        values.append(raw[at + 4 : end].decode())
        at = end
    return values


def inputs_of(model: str, sample: Sample, *, scalar: bool = False) -> list[Tensor]:
    """The rows of a sample as a model's tensors; ``scalar``: a scalar has the shape ``[n]``."""
    table = sample.table
    flat = [table.num_rows] if scalar else [table.num_rows, 1]
    if model == "wine_columns":
        return [Tensor(name, "FP64", flat, table[name].to_pylist()) for name in table.column_names]
    if model in {"picture", "sentiment"}:
        return [Tensor(table.column_names[0], "BYTES", flat, table[0].to_pylist())]
    if model == "digits":
        numbers = np.array(table["image"].to_pylist())
        return [Tensor("image", "FP64", list(numbers.shape), numbers.ravel().tolist())]
    return [matrix(table)]


def flat(rows: list[list[Any]]) -> list[Any]:
    """The values of all rows, one after the other."""
    return [value for row in rows for value in row]


def matrix(table: pa.Table, name: str = "x") -> Tensor:
    """All columns as one tensor."""
    numbers = np.column_stack([column.to_numpy() for column in table.columns])
    return Tensor(name, "FP64", list(numbers.shape), numbers.ravel().tolist())
