"""Servers that tell nothing of their model: the same faults, in other words on the wire.

Both take a plain function: what a row is on the wire goes in, its prediction comes out.
"""

from __future__ import annotations

import io
import json
from abc import ABC, abstractmethod
from collections.abc import Callable
from typing import TYPE_CHECKING, Any

import msgspec
import pyarrow.parquet as pq

from faultserver.faults import Reply
from faultserver.server import FaultServer

if TYPE_CHECKING:
    from faultserver.requests import RequestInfo

PARQUET = "application/vnd.apache.parquet"
_JSON = {"Content-Type": "application/json"}

Score = Callable[[list[Any]], Any]


class _UntoldServer(FaultServer, ABC):
    """A server that a subclass reads the requests of, and says the errors of its model."""

    @abstractmethod
    def read(self, info: RequestInfo) -> list[Any] | Reply:
        """The rows of a request, or why there are none."""

    @abstractmethod
    def refused(self, error: str) -> Reply:
        """What is answered to rows that the model raises for."""

    def _read_rows(self, info: RequestInfo) -> Reply | None:
        found = self.read(info)
        if isinstance(found, Reply):
            return found
        info.rows = found
        try:
            self.predict(found)
        except Exception as error:  # noqa: BLE001 - it is the model's, and goes to the client
            return self.refused(f"{type(error).__name__}: {error}")
        return None


class InstancesServer(_UntoldServer):
    """KServe's v1 and its kin.

    Args:
        predict: instances to predictions; what it raises is answered with ``bad_status``.
        path: where it scores.
        request_key, response_key: of the lists; empty: the list is all there is.
        columnar: a list a column comes, and goes.
        single: a row comes, and its prediction goes.
        bad_status: of bad rows.
    """

    def __init__(
        self,
        predict: Score,
        *,
        path: str = "/v1/models/m:predict",
        request_key: str = "instances",
        response_key: str = "predictions",
        columnar: bool = False,
        single: bool = False,
        bad_status: int = 500,
        **options: Any,
    ) -> None:
        super().__init__({}, {}, predict, **options)
        self.request_key, self.response_key = request_key, response_key
        self.columnar, self.single = columnar, single
        self.bad_status = bad_status
        self._score_path, self._spec_path = path, path.removesuffix(":predict")

    def _document(self) -> Any:
        return {"name": "m", "ready": True}

    def read(self, info: RequestInfo) -> list[Any] | Reply:
        try:
            rows = msgspec.json.decode(info.body)
            if self.request_key:
                rows = rows[self.request_key]
        except (msgspec.DecodeError, KeyError, TypeError) as error:
            return _said(400, f"no {self.request_key}: {error}")
        if self.single:
            return [rows]
        if self.columnar and isinstance(rows, dict):
            return [dict(zip(rows, row, strict=True)) for row in zip(*rows.values(), strict=True)]
        return rows

    def refused(self, error: str) -> Reply:
        return _said(self.bad_status, error)

    def _answer(self, rows: Any) -> Any:
        if self.single:
            (rows,) = rows
        elif self.columnar and isinstance(rows[0], dict):
            rows = {key: [row[key] for row in rows] for key in rows[0]}
        for key in reversed(self.response_key.split(".") if self.response_key else []):
            rows = {key: rows}
        return rows


class MlflowServer(_UntoldServer):
    """MLflow's scoring server.

    Args:
        predict: rows as dicts, or tensors, to predictions: a list, or lists by output.
        takes_parquet: else Parquet is refused, as in servers that are older.
        refuses_with: the status of that: version 2 has 415 for types that are text, and 500 for
            bodies that are none.
        is_bare: the predictions are the whole answer, as before version 2.
    """

    def __init__(
        self,
        predict: Score,
        *,
        takes_parquet: bool = True,
        refuses_with: int = 415,
        is_bare: bool = False,
        **options: Any,
    ) -> None:
        super().__init__({}, {}, predict, **options)
        self.takes_parquet, self.is_bare = takes_parquet, is_bare
        self.refuses_with = refuses_with
        self.content_types: list[str] = []
        self._score_path, self._spec_path = "/invocations", "/ping"

    def _document(self) -> Any:
        return None

    def read(self, info: RequestInfo) -> list[Any] | Reply:
        kind = info.headers.get("content-type", "")
        self.content_types.append(kind)
        if kind == PARQUET and self.takes_parquet:
            return pq.read_table(io.BytesIO(info.body)).to_pylist()
        if kind != "application/json":
            text = f"This predictor only supports the following content types. Got '{kind}'."
            return Reply(self.refuses_with, text.encode(), {"Content-Type": "text/plain"})
        document = json.loads(info.body)
        if "inputs" in document:
            inputs = document["inputs"]
            if isinstance(inputs, list):
                return inputs
            return [
                dict(zip(inputs, row, strict=True)) for row in zip(*inputs.values(), strict=True)
            ]
        frame = document["dataframe_split"]
        return [dict(zip(frame["columns"], row, strict=True)) for row in frame["data"]]

    def refused(self, error: str) -> Reply:
        trace = f"Traceback (most recent call last):\n  ...\n{error}\n"
        words = {"error_code": "BAD_REQUEST", "message": "Bad.", "stack_trace": trace}
        return Reply(400, json.dumps(words).encode(), _JSON)

    def _answer(self, rows: Any) -> Any:
        return rows if self.is_bare else {"predictions": rows}


def _said(status: int, text: str) -> Reply:
    return Reply(status, json.dumps({"error": text}).encode(), _JSON)
