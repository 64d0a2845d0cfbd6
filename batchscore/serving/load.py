"""How ``serve`` finds the model that it is asked for."""

from __future__ import annotations

import re
from pathlib import Path
from typing import TYPE_CHECKING, cast

from batchscore.errors import UsageError
from batchscore.importing import load_object, made
from batchscore.nearest import nearest
from batchscore.serving.models import signature_of

if TYPE_CHECKING:
    from batchscore.serving.models import Model


def load_model(text: str) -> tuple[str, Model]:
    """The model of that name: ``(deployment id, model)``.

    Args:
        text: a demo model's name, ``package.module:object``, ``file.py:object`` (an instance,
            or a class or function that makes one without arguments), or ``model.onnx``.

    Raises:
        UsageError: there is no such model, or it is none.
    """
    target, colon, attribute = text.rpartition(":")
    if text.lower().endswith(".onnx"):
        name, model = Path(text).stem, _load_onnx(Path(text))
    elif colon and target:
        name = attribute
        model = cast("Model", made(load_object(text), text, "predict"))
    elif text.endswith(".py"):
        raise UsageError(f"say which object of {text} is the model: {text}:NAME")
    else:
        name, model = text, _load_demo(text)
    signature_of(model)
    return re.sub(r"[^A-Za-z0-9_.-]+", "-", name), model


def _load_demo(name: str) -> Model:
    from batchscore.serving.demo import DEMO_MODELS  # noqa: PLC0415  (reads its data)

    if name in DEMO_MODELS:
        return DEMO_MODELS[name]()
    hint = nearest(name, DEMO_MODELS, " (did you mean {!r}?)")
    raise UsageError(
        f"no demo model is called {name!r}{hint}; there are {', '.join(DEMO_MODELS)}\n"
        "a model of your own is package.module:object, file.py:object or model.onnx"
    )


def _load_onnx(path: Path) -> Model:
    if not path.is_file():
        raise UsageError(f"{path}: no such file; name the file of the model")
    from batchscore.serving.onnx_model import OnnxModel  # noqa: PLC0415  (an extra)

    return OnnxModel(path)
