"""Objects that a user names: ``package.module:object`` or ``file.py:object``."""

from __future__ import annotations

import importlib
import importlib.util
import sys
from pathlib import Path
from typing import TYPE_CHECKING

from batchscore.errors import UsageError
from batchscore.nearest import nearest

if TYPE_CHECKING:
    from types import ModuleType


def load_object(text: str) -> object:
    """The object of that name; the current folder is looked in as well.

    Raises:
        UsageError: there is none, or importing its module fails.
    """
    target, _, attribute = text.rpartition(":")
    module = _load_file(Path(target)) if target.endswith(".py") else _load_module(target)
    return _attribute(module, target, attribute)


def made(found: object, text: str, method: str) -> object:
    """The instance itself, or what the class or function makes.

    Args:
        found: an instance, or what makes one without arguments.
        text: how the user knows it.
        method: what every instance has, and no function that makes one.

    Raises:
        UsageError: making one fails.
    """
    if isinstance(found, type) or (callable(found) and not hasattr(found, method)):
        try:
            return found()
        except Exception as error:
            raise UsageError(
                f"calling {text} without arguments failed: {type(error).__name__}: {error}"
                "; it has to be an object, or a class that takes none"
            ) from error
    return found


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
        raise UsageError(
            f"importing {name} failed: {type(error).__name__}: {error}; mend that module"
        ) from error


def _load_file(path: Path) -> ModuleType:
    if not path.is_file():
        raise UsageError(f"{path}: no such file; name the file that defines the object")
    _look_in(path.resolve().parent)
    name = f"batchscore_file_{path.stem}"
    spec = importlib.util.spec_from_file_location(name, path)
    if spec is None or spec.loader is None:
        raise UsageError(f"{path} cannot be imported; name a .py file")
    module = importlib.util.module_from_spec(spec)
    sys.modules[name] = module  # dataclasses and pickle look their module up there
    try:
        spec.loader.exec_module(module)
    except Exception as error:
        del sys.modules[name]
        raise UsageError(
            f"importing {path} failed: {type(error).__name__}: {error}; mend that file"
        ) from error
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
