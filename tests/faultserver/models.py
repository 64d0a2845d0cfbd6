"""Example models with predictions that a test can compute, and the specification of a model."""

from __future__ import annotations

import base64
import io
from collections.abc import Callable, Mapping, Sequence
from typing import Any, NamedTuple

import numpy as np
import numpy.typing as npt

Features = Mapping[str, tuple[str, Sequence[int]]]
Predict = Callable[[list[dict[str, Any]]], list[dict[str, Any]]]


class Model(NamedTuple):
    """What a ``FaultServer`` serves: ``FaultServer(*model)``."""

    inputs: Features
    outputs: Features
    predict: Predict


def linear_predict(rows: list[dict[str, Any]]) -> list[dict[str, Any]]:
    """``y = 2 * (sum of the numbers of a row) + 1``; null counts as 0."""
    return [
        {"y": 2 * sum(v for v in row.values() if isinstance(v, (int, float))) + 1} for row in rows
    ]


def classify_predict(rows: list[dict[str, Any]]) -> list[dict[str, Any]]:
    """``animal`` by ``x modulo 3``: the class of that rank has 0.5, the others 0.25 each."""
    animals = ("bird", "cat", "dog")
    return [
        {
            "animal": {
                name: 0.5 if rank == int(row["x"] or 0) % 3 else 0.25
                for rank, name in enumerate(animals)
            }
        }
        for row in rows
    ]


def echo_predict(rows: list[dict[str, Any]]) -> list[dict[str, Any]]:
    """Every input comes back as the output of the same name, a label with probability 1."""
    return rows


def echo(inputs: Features) -> Model:
    """A model whose outputs are its inputs; a label comes back as the one sure class."""
    labels = [name for name, (kind, _) in inputs.items() if kind == "categorical"]

    def predict(rows: list[dict[str, Any]]) -> list[dict[str, Any]]:
        return [{**row, **{name: {str(row[name]): 1.0} for name in labels}} for row in rows]

    return Model(inputs, inputs, predict if labels else echo_predict)


LINEAR = Model({"x": ("numeric", [1])}, {"y": ("numeric", [1])}, linear_predict)
CLASSIFIER = Model({"x": ("numeric", [1])}, {"animal": ("categorical", [3])}, classify_predict)


def specification(
    inputs: Features,
    outputs: Features,
    *,
    tensor_json: bool = True,
    old_style: bool = False,
    classes: Mapping[str, Sequence[str]] | None = None,
) -> dict[str, Any]:
    """The document that stands at ``openapi.json``."""

    def described(features: Features, known: Mapping[str, Sequence[str]]) -> dict[str, Any]:
        found = {}
        for name, (kind, shape) in features.items():
            body: dict[str, Any] = {"type": kind, "shape": list(shape)}
            if name in known:
                body["classes"] = list(known[name])
            feature = {"x-peltarion": body}
            found[name] = {"extensions": feature} if old_style else feature
        return found

    operation: dict[str, Any] = {"post": {"operationId": "forward"}}
    if not old_style:
        operation["x-peltarion-tensorjson"] = tensor_json
    rows = {"properties": described(outputs, classes or {})}
    return {
        "openapi": "3.0.0",
        "info": {"title": "Deployment", "version": "1"},
        "paths": {"/deployment/{deploymentId}/forward": operation},
        "components": {
            "schemas": {
                "input-row": {"properties": described(inputs, classes or {})},
                "output-row-batch": {"properties": {"rows": rows}},
            }
        },
    }


def tensor_value(array: npt.NDArray[Any]) -> dict[str, Any]:
    """An array as tensor JSON: ``{"shape", "data"}``, row-major, float32."""
    return {"shape": list(array.shape), "data": array.astype(np.float32).ravel().tolist()}


def npy_value(array: npt.NDArray[Any]) -> str:
    """An array as a data URI of a NumPy file, float32."""
    file = io.BytesIO()
    np.save(file, array.astype(np.float32))
    return "data:application/x.peltarion.npy;base64," + base64.b64encode(file.getvalue()).decode()
