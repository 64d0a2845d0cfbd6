"""What a model is, and how ``serve`` finds the one it is asked for."""

from __future__ import annotations

import importlib
import importlib.util
import re
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, Protocol, cast

from batchscore.errors import UsageError
from batchscore.nearest import nearest
from batchscore.schema import FEATURE_TYPES, FeatureSpec, FeatureType, ModelSignature

if TYPE_CHECKING:
    from types import ModuleType

Row = dict[str, Any]


class Model(Protocol):
    """What can be deployed. A class or function that makes one is as good.

    It may have one attribute more, ``classes``: output -> the classes of a categorical output.
    """

    @property
    def inputs(self) -> Mapping[str, tuple[str, Sequence[int]]]:
        """Name -> (type, shape) of each input; ``()`` and ``(1,)`` are scalars."""
        ...

    @property
    def outputs(self) -> Mapping[str, tuple[str, Sequence[int]]]:
        """The same of the outputs."""
        ...

    def predict(self, rows: list[Row]) -> Sequence[Mapping[str, Any]]:
        """One answer a row, in the same order. May be called from several threads at once.

        In and out: float for numeric and binary, str for text, PIL images, float32 NumPy arrays
        of the stated shape; a categorical input is its label, a categorical output a dict
        class -> probability. Null is None.

        Raises:
            RowError: one row cannot be scored; any other exception is a fault of the model.
        """
        ...


class RowError(ValueError):
    """Raised when one row of a request cannot be scored; the deployment answers 422."""

    def __init__(self, row: int, feature: str | None, why: str) -> None:
        place = f"rows[{row}]" if feature is None else f"rows[{row}], feature {feature!r}"
        super().__init__(f"{place}: {why}")
        self.row = row
        self.feature = feature


def signature_of(model: Model) -> ModelSignature:
    """The model's features, checked.

    Raises:
        UsageError: ``predict``, ``inputs``, ``outputs`` or ``classes`` is missing or wrong.
    """
    if not callable(getattr(model, "predict", None)):
        raise UsageError(
            f"{_kind_of(model)} is no model: it has no method predict(rows); see docs/serve.md"
        )
    classes = getattr(model, "classes", None) or {}
    if not isinstance(classes, Mapping):
        raise UsageError(f"'classes' of {_kind_of(model)} is no mapping of output to classes")
    outputs = _features(model, "outputs", classes)
    unknown = set(classes) - {spec.name for spec in outputs if spec.dtype == "categorical"}
    if unknown:
        raise UsageError(f"'classes' names {min(unknown)!r}, which is no categorical output")
    return ModelSignature(_features(model, "inputs", {}), outputs)


def _kind_of(model: object) -> str:
    return f"{type(model).__module__}.{type(model).__qualname__}"


def _features(
    model: Model, which: str, classes: Mapping[str, Sequence[str]]
) -> tuple[FeatureSpec, ...]:
    table = getattr(model, which, None)
    if not isinstance(table, Mapping) or not table:
        raise UsageError(
            f"'{which}' of {_kind_of(model)} must be a mapping of name to (type, shape), "
            "like {'size': ('numeric', ())}"
        )
    return tuple(
        _feature(f"{which}[{name!r}]", name, entry, classes.get(name))
        for name, entry in table.items()
    )


def _feature(place: str, name: object, entry: object, classes: Sequence[str] | None) -> FeatureSpec:
    if not isinstance(name, str) or not name:
        raise UsageError(f"{place}: a feature's name is a string, not {name!r}")
    if not isinstance(entry, (tuple, list)) or len(entry) != 2:
        raise UsageError(f"{place} is {entry!r}; write (type, shape), like ('numeric', ())")
    dtype, shape = entry
    if dtype not in FEATURE_TYPES:
        raise UsageError(f"{place}: {dtype!r} is no type; choose from {', '.join(FEATURE_TYPES)}")
    if not isinstance(shape, (tuple, list)) or any(
        isinstance(size, bool) or not isinstance(size, int) or size < 1 for size in shape
    ):
        raise UsageError(f"{place}: {shape!r} is no shape; write whole numbers from 1, like (8, 8)")
    if dtype == "numpy" and not shape:
        shape = (1,)
    if classes is not None and (
        isinstance(classes, str) or not classes or not all(isinstance(c, str) for c in classes)
    ):
        raise UsageError(f"{place}: 'classes' must be a list of strings, not {classes!r}")
    known = tuple(sorted(set(classes))) if classes is not None else None
    return FeatureSpec(name, cast("FeatureType", dtype), tuple(shape), known)


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
        module = _load_file(Path(target)) if target.endswith(".py") else _load_module(target)
        model = _make(_attribute(module, target, attribute), text)
    elif text.endswith(".py"):
        raise UsageError(f"say which object of {text} is the model: {text}:NAME")
    else:
        name, model = text, _load_demo(text)
    signature_of(model)
    return re.sub(r"[^A-Za-z0-9_.-]+", "-", name), model


def _load_demo(name: str) -> Model:
    from batchscore.serving.demo import DEMO_MODELS  # noqa: PLC0415  (demo imports this module)

    if name in DEMO_MODELS:
        return DEMO_MODELS[name]()
    hint = nearest(name, DEMO_MODELS, " (did you mean {!r}?)")
    raise UsageError(
        f"no demo model is called {name!r}{hint}; there are {', '.join(DEMO_MODELS)}\n"
        "a model of your own is package.module:object, file.py:object or model.onnx"
    )


def _load_onnx(path: Path) -> Model:
    if not path.is_file():
        raise UsageError(f"{path}: no such file")
    from batchscore.serving.onnx_model import OnnxModel  # noqa: PLC0415  (an extra)

    return OnnxModel(path)


def _load_module(name: str) -> ModuleType:
    # An installed command does not look in the current folder, as `python -m` does.
    _look_in(Path.cwd())
    try:
        return importlib.import_module(name)
    except ModuleNotFoundError as error:
        if error.name is not None and f"{name}.".startswith(f"{error.name}."):
            raise UsageError(f"there is no module {error.name!r}, installed or here") from error
        raise UsageError(f"importing {name} failed: {error}") from error
    except Exception as error:
        raise UsageError(f"importing {name} failed: {type(error).__name__}: {error}") from error


def _load_file(path: Path) -> ModuleType:
    if not path.is_file():
        raise UsageError(f"{path}: no such file")
    _look_in(path.resolve().parent)
    name = f"batchscore_model_{path.stem}"
    spec = importlib.util.spec_from_file_location(name, path)
    if spec is None or spec.loader is None:
        raise UsageError(f"{path} cannot be imported")
    module = importlib.util.module_from_spec(spec)
    sys.modules[name] = module  # dataclasses and pickle look their module up there
    try:
        spec.loader.exec_module(module)
    except Exception as error:
        del sys.modules[name]
        raise UsageError(f"importing {path} failed: {type(error).__name__}: {error}") from error
    return module


def _look_in(folder: Path) -> None:
    if str(folder) not in sys.path:
        sys.path.insert(0, str(folder))


def _attribute(module: ModuleType, target: str, dotted: str) -> object:
    found: object = module
    for part in dotted.split("."):
        if not hasattr(found, part):
            public = [name for name in dir(found) if name[0] != "_"]
            hint = nearest(part, public, "; did you mean {!r}?")
            raise UsageError(f"{target} has no object {dotted!r}{hint}")
        found = getattr(found, part)
    return found


def _make(found: object, text: str) -> Model:
    """The instance itself, or what the class or function makes."""
    if isinstance(found, type) or (callable(found) and not hasattr(found, "predict")):
        try:
            found = found()
        except Exception as error:
            raise UsageError(
                f"calling {text} without arguments failed: {type(error).__name__}: {error}"
            ) from error
    return cast("Model", found)
