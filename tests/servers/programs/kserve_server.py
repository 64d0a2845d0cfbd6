"""KServe's model server with the test models: ``python kserve_server.py FOLDER PORT``.

Its command line listens on every address; the REST server that it is made of takes another.
"""

from __future__ import annotations

import base64
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
from kserve import InferOutput, InferRequest, InferResponse, Model, ModelServer
from kserve.errors import InferenceError
from kserve.protocol.rest.server import RESTServer
from models import MODELS, Served, Tensor


class SklearnModel(Model):
    """A scikit-learn model behind both protocols, as KServe's own server of such models has it.

    The name of a lone tensor is not looked at, and whatever fails is an ``InferenceError``.
    """

    def __init__(self, name: str, served: Served, folder: Path, *, declared: bool = True) -> None:
        super().__init__(name)
        self._served = served
        self._model = served.load(folder)
        self._declared = declared
        self.ready = True

    def get_input_types(self) -> list[dict[str, Any]]:
        return [tensor.declared() for tensor in self._served.inputs] if self._declared else []

    def get_output_types(self) -> list[dict[str, Any]]:
        return [tensor.declared() for tensor in self._served.outputs] if self._declared else []

    def predict(self, payload: Any, headers: dict[str, str] | None = None) -> Any:
        try:
            if isinstance(payload, InferRequest):
                return self._infer(payload)
            return {"predictions": self._predictions(payload["instances"])}
        except Exception as error:
            raise InferenceError(str(error)) from error

    def _infer(self, request: InferRequest) -> InferResponse:
        if len(self._served.inputs) > 1:
            rows = pd.DataFrame({each.name: each.as_numpy().ravel() for each in request.inputs})
        else:
            rows = request.inputs[0].as_numpy()
        if self._served.trained == "picture":
            rows = [_picture(row) for row in rows.ravel()]
        answers = [self._answer(output, rows) for output in self._served.outputs]
        return response(self.name, request, answers)

    def _answer(self, output: Tensor, rows: Any) -> tuple[str, np.ndarray]:
        said = getattr(self._model, output.name)(rows)
        return output.name, said.astype(object) if output.datatype == "BYTES" else said

    def _predictions(self, instances: list[Any]) -> list[Any]:
        rows: Any = [_unwrapped(instance) for instance in instances]
        if isinstance(rows[0], dict):
            rows = pd.DataFrame([{k: _unwrapped(v) for k, v in row.items()} for row in rows])
        if self._served.trained == "picture":
            rows = [_picture(row) for row in (rows if isinstance(rows, list) else rows.iloc[:, 0])]
        elif isinstance(rows, list) and not isinstance(rows[0], str):
            rows = np.array(rows)
        said = [getattr(self._model, output.name)(rows).tolist() for output in self._served.outputs]
        if len(said) == 1:
            return said[0]
        names = [output.name for output in self._served.outputs]
        return [dict(zip(names, row, strict=True)) for row in zip(*said, strict=True)]


class Echo(Model):
    """Whatever comes in goes out."""

    def __init__(self, name: str) -> None:
        super().__init__(name)
        self.ready = True

    def predict(self, payload: Any, headers: dict[str, str] | None = None) -> Any:
        if not isinstance(payload, InferRequest):
            return {"predictions": payload["instances"]}
        return response(self.name, payload, [(x.name, x.as_numpy()) for x in payload.inputs])


def response(
    name: str, request: InferRequest, answers: list[tuple[str, np.ndarray]]
) -> InferResponse:
    """An answer in the form that the request asks for."""
    kinds = {"O": "BYTES", "f": "FP", "i": "INT", "u": "UINT", "b": "BOOL"}
    outputs = []
    for title, array in answers:
        bits = str(array.dtype.itemsize * 8) if array.dtype.kind in "fiu" else ""
        output = InferOutput(title, list(array.shape), kinds[array.dtype.kind] + bits)
        output.set_data_from_numpy(array, binary_data=request.use_binary_outputs)
        outputs.append(output)
    return InferResponse(
        response_id=request.id,
        model_name=name,
        infer_outputs=outputs,
        use_binary_outputs=request.use_binary_outputs,
        requested_outputs=request.request_outputs,
    )


def _unwrapped(value: Any) -> Any:
    """The bytes of ``{"b64": ...}``, anything else as it is."""
    return base64.b64decode(value["b64"]) if isinstance(value, dict) and "b64" in value else value


def _picture(value: bytes | str) -> bytes:
    return base64.b64decode(value) if isinstance(value, str) else value


def main() -> None:
    """Serve until SIGTERM."""
    folder, port = Path(sys.argv[1]), int(sys.argv[2])
    server = ModelServer(http_port=port, enable_grpc=False)
    models = [SklearnModel(name, served, folder) for name, served in MODELS.items()]
    models.append(SklearnModel("undeclared", MODELS["diabetes"], folder, declared=False))
    for model in [*models, Echo("echo")]:
        server.register_model(model)
    rest = RESTServer(
        "kserve.model_server:app", server.dataplane, server.model_repository_extension, port
    )
    rest.config.host = "127.0.0.1"
    rest.run()


if __name__ == "__main__":
    main()
