"""The trained models as MLflow models: ``python mlflow_models.py FOLDER``, into FOLDER/mlflow."""

from __future__ import annotations

import base64
import json
import sys
from pathlib import Path
from typing import Any

import joblib
import mlflow
import numpy as np
import pandas as pd
from mlflow.models import ModelSignature, infer_signature
from mlflow.types import ColSpec, Schema, TensorSpec
from mlflow.types.schema import Array, DataType

# Told, as it would take seconds a model to find out; nobody installs them.
_PACKAGES = ["scikit-learn", "pillow"]
_STEPS = str(Path(__file__).with_name("steps.py"))


class Frame(mlflow.pyfunc.PythonModel):
    """Answers with a data frame: a label and how sure it is."""

    def load_context(self, context: Any) -> None:
        self._model = joblib.load(context.artifacts["model"])

    def predict(self, context: Any, model_input: pd.DataFrame, params: Any = None) -> pd.DataFrame:
        sure = self._model.predict_proba(model_input).max(axis=1)
        return pd.DataFrame({"label": self._model.predict(model_input), "confidence": sure})


class Columns(Frame):
    """Answers with a dict of arrays: an array an output."""

    def predict(self, context: Any, model_input: pd.DataFrame, params: Any = None) -> Any:
        return {
            "predict": self._model.predict(model_input),
            "predict_proba": self._model.predict_proba(model_input),
        }


def main() -> None:
    """Write one folder a model."""
    folder = Path(sys.argv[1])
    out = folder / "mlflow"
    out.mkdir()

    def frame(name: str) -> pd.DataFrame:
        return pd.DataFrame(json.loads((folder / f"{name}.json").read_text())["columns"])

    def save(name: str, trained: str, signature: ModelSignature | None, method: str) -> None:
        model = joblib.load(folder / f"{trained}.joblib")
        mlflow.sklearn.save_model(
            model, out / name, signature=signature, pyfunc_predict_fn=method, code_paths=[_STEPS],
            serialization_format="cloudpickle", pip_requirements=_PACKAGES,
        )  # fmt: skip

    wine = infer_signature(frame("wine"))
    save("wine", "wine", wine, "predict")
    save("wine_proba", "wine", wine, "predict_proba")
    artifacts = {"model": str(folder / "wine.joblib")}
    for name, model in (("wine_frame", Frame()), ("wine_dict", Columns())):
        mlflow.pyfunc.save_model(
            out / name, python_model=model, artifacts=artifacts, signature=wine,
            code_paths=[_STEPS], pip_requirements=_PACKAGES,
        )  # fmt: skip
    save("diabetes", "diabetes", infer_signature(frame("diabetes")), "predict")
    save("undeclared", "diabetes", None, "predict")
    nested = ColSpec(Array(Array(DataType.double)), "image")
    save("digits", "digits", ModelSignature(Schema([nested])), "predict")
    tensor = TensorSpec(np.dtype("float64"), (-1, 8, 8))
    save("digits_tensor", "digits", ModelSignature(Schema([tensor])), "predict")
    save("sentiment", "sentiment", infer_signature(frame("sentiment")), "predict")
    pictures = frame("picture")["picture"].map(base64.b64decode).to_frame()
    save("picture", "picture", infer_signature(pictures), "predict")


if __name__ == "__main__":
    main()
