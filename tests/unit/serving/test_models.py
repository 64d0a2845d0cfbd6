"""What is accepted as a model, and how it is found."""

from __future__ import annotations

import sys
import textwrap
from typing import TYPE_CHECKING

import pytest

from batchscore.errors import UsageError
from batchscore.schema import FeatureSpec
from batchscore.serving.load import load_model
from batchscore.serving.models import signature_of

if TYPE_CHECKING:
    from pathlib import Path

MODEL_SOURCE = """
    class Doubler:
        inputs = {"size": ("numeric", ())}
        outputs = {"double": ("numeric", (1,))}

        def predict(self, rows):
            return [{"double": 2 * row["size"]} for row in rows]

    def make():
        return Doubler()

    def needs(something):
        return Doubler()

    ready = Doubler()
    number = 3
"""


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A folder with model files, the current one; the import state is put back afterwards."""
    (tmp_path / "doubler.py").write_text(textwrap.dedent(MODEL_SOURCE))
    (tmp_path / "broken.py").write_text("import no_such_package\n")
    (tmp_path / "package").mkdir()
    (tmp_path / "package" / "__init__.py").write_text("")
    (tmp_path / "package" / "inner.py").write_text(textwrap.dedent(MODEL_SOURCE))
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(sys, "path", list(sys.path))
    monkeypatch.setattr(sys, "modules", dict(sys.modules))
    return tmp_path


@pytest.mark.parametrize("name", ["ready", "Doubler", "make"])
@pytest.mark.parametrize("place", ["doubler.py", "doubler", "package.inner", "{folder}/doubler.py"])
def test_an_object_a_class_and_a_factory_are_models(folder: Path, place: str, name: str):
    """An instance, a class and a function are found in a file and in a module."""
    identifier, model = load_model(f"{place.format(folder=folder)}:{name}")
    assert identifier == name
    assert model.predict([{"size": 2.0}]) == [{"double": 4.0}]


def test_demo_models_go_by_their_names():
    """A bare name is a demo model, and its deployment's id."""
    assert [load_model(name)[0] for name in ("penguins", "digits", "digits-array")] == [
        "penguins",
        "digits",
        "digits-array",
    ]


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("penguin", ["'penguin'", "did you mean 'penguins'?", "digits-array"]),
        ("zebra", ["'zebra'", "there are penguins, digits, digits-array", "file.py:object"]),
        ("nowhere.py:ready", ["nowhere.py", "no such file"]),
        ("nowhere.onnx", ["nowhere.onnx", "no such file"]),
        ("doubler.py", ["which object", "doubler.py:NAME"]),
        ("doubler.py:redy", ["doubler.py has no object 'redy'", "did you mean 'ready'?"]),
        ("doubler.py:number", ["int is no model", "predict"]),
        ("doubler.py:needs", ["calling doubler.py:needs without arguments failed", "TypeError"]),
        ("broken.py:x", ["importing broken.py failed", "no_such_package"]),
        ("broken:x", ["importing broken failed", "no_such_package"]),
        ("no_such_package.inner:x", ["no module 'no_such_package'"]),
        ("package.other:x", ["no module 'package.other'"]),
    ],
)
def test_each_mistake_in_a_models_name_is_told(folder: Path, text: str, words: list[str]):
    """A model that is not there is a usage error that says what is missing."""
    assert folder.is_dir()
    with pytest.raises(UsageError) as caught:
        load_model(text)
    assert all(word in str(caught.value) for word in words), str(caught.value)


class Parts:
    """A model of any inputs, outputs and classes."""

    def __init__(self, inputs: object, outputs: object, classes: object = None) -> None:
        self.inputs, self.outputs, self.classes = inputs, outputs, classes

    def predict(self, rows: list[dict]) -> list[dict]:
        return rows


NUMBER = {"x": ("numeric", ())}
LABEL = {"y": ("categorical", ())}


@pytest.mark.parametrize(
    ("model", "words"),
    [
        (Parts({}, NUMBER), ["'inputs'", "mapping"]),
        (Parts(NUMBER, None), ["'outputs'", "mapping"]),
        (Parts({"x": "numeric"}, NUMBER), ["inputs['x']", "(type, shape)"]),
        (Parts({1: ("numeric", ())}, NUMBER), ["inputs[1]", "string"]),
        (Parts({"x": ("float", ())}, NUMBER), ["inputs['x']", "'float' is no type", "numeric"]),
        (Parts({"x": ("numeric", 3)}, NUMBER), ["inputs['x']", "3 is no shape"]),
        (Parts({"x": ("numeric", (0,))}, NUMBER), ["(0,) is no shape"]),
        (Parts({"x": ("numeric", (None, 2))}, NUMBER), ["(None, 2) is no shape"]),
        (Parts({"x": ("numeric", (True,))}, NUMBER), ["(True,) is no shape"]),
        (Parts(NUMBER, LABEL, {"z": ["a"]}), ["'z'", "no categorical output"]),
        (Parts(NUMBER, NUMBER, {"x": ["a"]}), ["'x'", "no categorical output"]),
        (Parts(NUMBER, LABEL, {"y": "ab"}), ["outputs['y']", "list of strings"]),
        (Parts(NUMBER, LABEL, {"y": [1, 2]}), ["outputs['y']", "list of strings"]),
        (Parts(NUMBER, LABEL, ["a"]), ["'classes'", "no mapping"]),
    ],
)
def test_wrong_features_are_told(model: Parts, words: list[str]):
    """A model whose features are wrong is a usage error that names the feature."""
    with pytest.raises(UsageError) as caught:
        signature_of(model)
    assert all(word in str(caught.value) for word in words), str(caught.value)


def test_a_signature_is_read_off_a_model():
    """Types, shapes and classes become feature specifications, the classes sorted."""
    model = Parts({"a": ("numpy", ()), "b": ["numeric", [2, 3]]}, LABEL, {"y": ["q", "p"]})
    signature = signature_of(model)
    assert signature.inputs == (
        FeatureSpec("a", "numpy", (1,)),
        FeatureSpec("b", "numeric", (2, 3)),
    )
    assert signature.outputs == (FeatureSpec("y", "categorical", (), ("p", "q")),)
