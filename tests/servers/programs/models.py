"""The models as Open Inference servers serve them: which tensors go in, what comes out."""

from __future__ import annotations

from pathlib import Path
from typing import Any, NamedTuple

import joblib
from sklearn.datasets import load_diabetes, load_wine

WINE_COLUMNS = tuple(load_wine().feature_names)
DIABETES_COLUMNS = tuple(load_diabetes().feature_names)


class Tensor(NamedTuple):
    """A tensor's name, datatype, and shape; the first dimension, of the rows, is -1."""

    name: str
    datatype: str
    shape: tuple[int, ...]

    def declared(self) -> dict[str, Any]:
        """As the metadata of a model says it."""
        return {"name": self.name, "datatype": self.datatype, "shape": list(self.shape)}


class Served(NamedTuple):
    """One model: what it was trained as, and its tensors.

    An output is named after the method of the model that gives it.
    """

    trained: str
    inputs: tuple[Tensor, ...]
    outputs: tuple[Tensor, ...]

    def load(self, folder: Path) -> Any:
        """The trained model."""
        return joblib.load(folder / f"{self.trained}.joblib")


_WINE = (Tensor("x", "FP64", (-1, len(WINE_COLUMNS))),)
_LABEL = Tensor("predict", "BYTES", (-1,))
_PROBABILITIES = Tensor("predict_proba", "FP64", (-1, 3))
_NUMBER = Tensor("predict", "FP64", (-1,))
_DIGIT = Tensor("predict", "INT64", (-1,))

MODELS = {
    "wine": Served("wine", _WINE, (_LABEL,)),
    "wine_proba": Served("wine", _WINE, (_PROBABILITIES,)),
    "wine_both": Served("wine", _WINE, (_LABEL, _PROBABILITIES)),
    "wine_columns": Served(
        "wine", tuple(Tensor(name, "FP64", (-1,)) for name in WINE_COLUMNS), (_LABEL,)
    ),
    "diabetes": Served("diabetes", (Tensor("x", "FP64", (-1, 10)),), (_NUMBER,)),
    "digits": Served("digits", (Tensor("image", "FP64", (-1, 8, 8)),), (_DIGIT,)),
    "sentiment": Served("sentiment", (Tensor("text", "BYTES", (-1,)),), (_LABEL,)),
    "picture": Served("picture", (Tensor("picture", "BYTES", (-1,)),), (_DIGIT,)),
}
