"""The settings of MLServer with the test models: ``python mlserver_settings.py FOLDER PORT PORT``.

Writes FOLDER/mlserver, for ``mlserver start``: the ports are those of HTTP and of gRPC, which
cannot be turned off.
"""

from __future__ import annotations

import json
import sys
from pathlib import Path
from typing import Any

from models import MODELS

_CONTENT = {"sentiment": "str", "picture": "base64"}


def main() -> None:
    """Write one folder a model, and the server's own settings."""
    folder, http, grpc = Path(sys.argv[1]), int(sys.argv[2]), int(sys.argv[3])
    root = folder / "mlserver"
    root.mkdir()
    server = {"host": "127.0.0.1", "http_port": http, "grpc_port": grpc, "metrics_endpoint": None}
    # Workers of their own would be forked processes; this one is enough and ends when told.
    write(root / "settings.json", {**server, "parallel_workers": 0})
    for name, served in MODELS.items():
        inputs = [tensor.declared() for tensor in served.inputs]
        for declared in inputs:
            if name in _CONTENT:
                declared["parameters"] = {"content_type": _CONTENT[name]}
        settings: dict[str, Any] = {
            "name": name,
            "implementation": "mlserver_sklearn.SKLearnModel",
            "inputs": inputs,
            "outputs": [tensor.declared() for tensor in served.outputs],
            "parameters": {"uri": str(folder / f"{served.trained}.joblib"), "version": "v1"},
        }
        if len(inputs) > 1:
            settings["parameters"]["content_type"] = "pd"
        if len(served.outputs) == 1:
            settings["parameters"]["extra"] = {"predict_fn": served.outputs[0].name}
        write(root / name / "model-settings.json", settings)
    write(root / "undeclared" / "model-settings.json", {
        "name": "undeclared", "implementation": "mlserver_sklearn.SKLearnModel",
        "parameters": {"uri": str(folder / "diabetes.joblib")},
    })  # fmt: skip
    write(root / "echo" / "model-settings.json", {
        "name": "echo", "implementation": "mlserver_echo.Echo",
    })  # fmt: skip


def write(path: Path, settings: dict[str, Any]) -> None:
    """Write settings where MLServer looks for them."""
    path.parent.mkdir(exist_ok=True)
    path.write_text(json.dumps(settings, indent=1))


if __name__ == "__main__":
    main()
