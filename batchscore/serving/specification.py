"""The specification that a deployment publishes: ``openapi.json``."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Iterable

    from batchscore.schema import FeatureSpec, ModelSignature

FORWARD_PATH = "/deployment/{deploymentId}/forward"


def specification(title: str, signature: ModelSignature, *, old_style: bool) -> dict[str, Any]:
    """The OpenAPI document of one deployment.

    Args:
        title: the deployment's name.
        signature: its features; ``tensor_json`` tells how arrays travel.
        old_style: as deployments published it before ``x-peltarion-tensorjson``.
    """
    forward: dict[str, Any] = {
        "post": {
            "operationId": "forward",
            "parameters": [
                {
                    "name": "deploymentId",
                    "in": "path",
                    "required": True,
                    "schema": {"type": "string"},
                }
            ],
            "requestBody": {"required": True, **_json_of("input-row-batch")},
            "responses": {"200": {"description": "Predictions", **_json_of("output-row-batch")}},
        }
    }
    if not old_style:
        forward["x-peltarion-tensorjson"] = signature.tensor_json
    outputs = _properties(signature.outputs, old_style=old_style)
    return {
        "openapi": "3.0.3",
        "info": {"title": title, "version": "1"},
        "paths": {FORWARD_PATH: forward},
        "components": {
            "schemas": {
                "input-row": {
                    "type": "object",
                    "properties": _properties(signature.inputs, old_style=old_style),
                },
                "input-row-batch": {
                    "type": "object",
                    "properties": {
                        "rows": {
                            "type": "array",
                            "items": {"$ref": "#/components/schemas/input-row"},
                        }
                    },
                },
                "output-row-batch": {
                    "type": "object",
                    "properties": {"rows": {"type": "array", "properties": outputs}},
                },
            }
        },
    }


def _json_of(schema: str) -> dict[str, Any]:
    reference = {"$ref": f"#/components/schemas/{schema}"}
    return {"content": {"application/json": {"schema": reference}}}


def _properties(specs: Iterable[FeatureSpec], *, old_style: bool) -> dict[str, Any]:
    properties: dict[str, Any] = {}
    for spec in specs:
        shape = [len(spec.classes)] if spec.classes else list(spec.shape) or [1]
        entry: dict[str, Any] = {"type": spec.dtype, "shape": shape}
        if spec.classes:
            entry["classes"] = list(spec.classes)
        extension = {"x-peltarion": entry}
        properties[spec.name] = {"extensions": extension} if old_style else extension
    return properties
