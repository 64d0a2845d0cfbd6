"""Train the models that every server serves: ``python train.py FOLDER``, by a server's Python.

For each model FOLDER gets ``NAME.joblib``, and ``NAME.json``: rows, and what the model's own
``predict`` (and ``predict_proba``) says of them, for the tests to compare with.
"""

from __future__ import annotations

import base64
import io
import json
import sys
from pathlib import Path
from typing import Any

import joblib
import numpy as np
from PIL import Image
from sklearn.datasets import load_diabetes, load_digits, load_wine
from sklearn.feature_extraction.text import TfidfVectorizer
from sklearn.linear_model import LinearRegression, LogisticRegression
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import FunctionTransformer, StandardScaler
from steps import flat_arrays, flat_pictures, texts

_PICTURES = 60
_GOOD = ("good", "lovely", "excellent", "kind", "warm", "perfect", "tasty", "quick")
_BAD = ("bad", "awful", "rude", "cold", "broken", "stale", "slow", "dirty")
_PLACES = ("the soup was {}", "a {} waiter", "what a {} room, {} indeed", "service: {}")
_ODD = (
    "",
    "naïve café: excellent ☕",
    'she said "awful"\nand left',
    "quick\tand\\or slow",
    "日本 good",
)


def train(folder: Path) -> None:
    """Write every model and what it says of its rows."""
    wine = load_wine(as_frame=True)
    labels = wine.target_names[wine.target].astype(str)
    model = make_pipeline(StandardScaler(), LogisticRegression(max_iter=1000))
    model.fit(wine.data, labels)
    store(folder, "wine", model, wine.data, wine.data.to_dict("list"))

    diabetes = load_diabetes(as_frame=True)
    model = LinearRegression().fit(diabetes.data, diabetes.target)
    store(folder, "diabetes", model, diabetes.data, diabetes.data.to_dict("list"))

    digits = load_digits()
    images, target = digits.images[::6], digits.target[::6]
    classify = LogisticRegression(max_iter=2000).fit(images.reshape(-1, 64) / 16, target)
    classify.coef_ = classify.coef_ / 16  # it was trained on 0 to 1 and is given 0 to 16
    model = make_pipeline(FunctionTransformer(flat_arrays), classify)
    store(folder, "digits", model, images, {"image": images.tolist()})

    pictures = [png(image) for image in images[:_PICTURES]]
    model = make_pipeline(FunctionTransformer(flat_pictures), classify)
    encoded = [base64.b64encode(picture).decode() for picture in pictures]
    store(folder, "picture", model, pictures, {"picture": encoded})

    said = [(place.format(*[word] * 2), kind) for kind, words in (("good", _GOOD), ("bad", _BAD))
            for word in words for place in _PLACES]  # fmt: skip
    sentences = [sentence for sentence, _ in said]
    model = make_pipeline(FunctionTransformer(texts), TfidfVectorizer(), LogisticRegression())
    model.fit(sentences, [kind for _, kind in said])
    store(folder, "sentiment", model, [*sentences, *_ODD], {"text": [*sentences, *_ODD]})


def png(image: np.ndarray) -> bytes:
    """An 8x8 array of 0 to 16 as a grey PNG that loses nothing."""
    file = io.BytesIO()
    Image.fromarray((image * 15).astype(np.uint8)).save(file, "PNG")
    return file.getvalue()


def store(folder: Path, name: str, model: Any, rows: Any, columns: dict[str, list[Any]]) -> None:
    """Write a model and its own words; JSON keeps every digit of a float."""
    joblib.dump(model, folder / f"{name}.joblib")
    said = {"columns": columns, "predict": model.predict(rows).tolist()}
    if hasattr(model, "predict_proba"):
        said["classes"] = model.classes_.tolist()
        said["predict_proba"] = model.predict_proba(rows).tolist()
    (folder / f"{name}.json").write_text(json.dumps(said))


if __name__ == "__main__":
    train(Path(sys.argv[1]))
