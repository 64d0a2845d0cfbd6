"""Triton with the test models: ``python triton_server.py FOLDER PORT``."""

from __future__ import annotations

import os
import signal
import sys
import sysconfig
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
from models import MODELS, Served
from pytriton.decorators import batch
from pytriton.model_config import ModelConfig, Tensor
from pytriton.triton import Triton, TritonConfig, TritonLifecyclePolicy

_TYPES = {"FP64": np.float64, "FP32": np.float32, "INT64": np.int64, "UINT8": np.uint8}
_ECHOED = ("FP64", "FP32", "INT64", "UINT8", "BYTES")


def tensor(name: str, datatype: str, shape: tuple[int, ...], *, optional: bool = False) -> Tensor:
    """A tensor without the dimension of the rows; a scalar is one of one element."""
    kind = np.bytes_ if datatype == "BYTES" else _TYPES[datatype]
    return Tensor(name=name, dtype=kind, shape=shape[1:] or (1,), optional=optional)


def scorer(served: Served, folder: Path) -> Callable[..., Any]:
    """A function of batched arrays that asks the model."""
    model = served.load(folder)

    @batch
    def score(**arrays: np.ndarray) -> dict[str, np.ndarray]:
        rows: Any = next(iter(arrays.values()))
        if len(served.inputs) > 1:
            rows = np.hstack([arrays[each.name] for each in served.inputs])
        answers = {}
        for output in served.outputs:
            said = getattr(model, output.name)(rows)
            if output.datatype == "BYTES":
                said = np.char.encode(said.astype(str), "utf-8")
            answers[output.name] = said.reshape(len(rows), -1)
        return answers

    return score


@batch
def echo(**arrays: np.ndarray) -> dict[str, np.ndarray]:
    """Whatever comes in goes out."""
    return {f"{name}_out": array for name, array in arrays.items()}


def main() -> None:
    """Serve until SIGTERM."""
    folder, port = Path(sys.argv[1]), int(sys.argv[2])
    # Triton starts a process that embeds Python: this one's library, not one that the linker finds.
    libraries = [sysconfig.get_config_var("LIBDIR"), os.environ.get("LD_LIBRARY_PATH")]
    os.environ["LD_LIBRARY_PATH"] = os.pathsep.join(filter(None, libraries))
    config = TritonConfig(
        http_address="127.0.0.1", http_port=port, allow_grpc=False, allow_metrics=False
    )
    # Started with all models at hand: told of one after the other, it takes seconds for each.
    policy = TritonLifecyclePolicy(launch_triton_on_startup=False, local_model_store=True)
    signal.signal(signal.SIGTERM, lambda *_: sys.exit())  # by way of the end of ``with``
    with Triton(
        config=config, triton_lifecycle_policy=policy, workspace=folder / "workspace"
    ) as triton:
        for name, served in MODELS.items():
            triton.bind(
                model_name=name,
                infer_func=scorer(served, folder),
                inputs=[tensor(*each) for each in served.inputs],
                outputs=[tensor(*each) for each in served.outputs],
                config=ModelConfig(max_batch_size=4096),
            )
        triton.bind(
            model_name="echo",
            infer_func=echo,
            inputs=[tensor(kind.lower(), kind, (-1, -1), optional=True) for kind in _ECHOED],
            outputs=[tensor(f"{kind.lower()}_out", kind, (-1, -1)) for kind in _ECHOED],
            config=ModelConfig(max_batch_size=4096),
        )
        triton.serve()


if __name__ == "__main__":
    main()
