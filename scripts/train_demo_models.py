"""Train the demo models and write ``batchscore/serving/data/``.

    pip install -e . scikit-learn palmerpenguins
    python scripts/train_demo_models.py

Every seed is fixed. The test rows take no part in the training; the accuracies that are printed
at the end are theirs, measured with the NumPy models that the package ships.
"""

from __future__ import annotations

import io
import json
from importlib import resources
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import pyarrow as pa
import pyarrow.csv
import pyarrow.parquet as pq
from sklearn.datasets import load_digits
from sklearn.decomposition import PCA
from sklearn.linear_model import LogisticRegression, Ridge
from sklearn.model_selection import train_test_split
from sklearn.neural_network import MLPClassifier
from sklearn.preprocessing import OneHotEncoder, StandardScaler

from batchscore.serving.demo import Digits, DigitsArray, Penguins, picture_of, pixels_of

if TYPE_CHECKING:
    from PIL import Image

SEED = 20
DATA = Path(__file__).resolve().parents[1] / "batchscore" / "serving" / "data"
CATEGORIES = ["island", "sex"]
MEASURES = ["bill_length_mm", "bill_depth_mm", "flipper_length_mm"]


def main() -> None:
    """Train, write, and tell the accuracy on the test rows."""
    DATA.mkdir(exist_ok=True)
    train_penguins()
    train_digits()
    for file in sorted(DATA.iterdir()):
        print(f"{file.stat().st_size:>8,} bytes  {file.name}")


def read_penguins() -> pa.Table:
    """The simplified table of the palmerpenguins package, with a column ``split``."""
    file = resources.files("palmerpenguins") / "data" / "penguins.csv"
    text = pa.string()
    table = pyarrow.csv.read_csv(
        pa.BufferReader(file.read_bytes()),
        convert_options=pyarrow.csv.ConvertOptions(
            null_values=["NA"],
            strings_can_be_null=True,
            column_types={
                **dict.fromkeys(["species", "island", "sex"], text),
                **dict.fromkeys(["bill_length_mm", "bill_depth_mm"], pa.float64()),
                **dict.fromkeys(["flipper_length_mm", "body_mass_g", "year"], pa.int64()),
            },
        ),
    )
    rows = np.arange(table.num_rows)
    _, test = train_test_split(
        rows, test_size=0.3, random_state=SEED, stratify=table["species"].to_pylist()
    )
    split = np.where(np.isin(rows, test), "test", "train")
    return table.append_column("split", pa.array(split.tolist()))


def fit_linear(table: pa.Table, numeric: list[str], estimator: Any, truth: list[Any]) -> Any:
    """Fit the estimator; the weights as the NumPy model reads them."""
    numbers = np.column_stack([table[name].to_numpy().astype(float) for name in numeric])
    medians = np.nanmedian(numbers, axis=0)
    scaler = StandardScaler()
    scaled = scaler.fit_transform(np.where(np.isnan(numbers), medians, numbers))
    labels = {name: table[name].to_pylist() for name in CATEGORIES}
    modes = {}
    for name, column in labels.items():
        present = [label for label in column if label is not None]
        modes[name] = max(sorted(set(present)), key=present.count)
        labels[name] = [modes[name] if label is None else label for label in column]
    encoder = OneHotEncoder(sparse_output=False)
    one_hot = encoder.fit_transform(np.column_stack(list(labels.values())))
    estimator.fit(np.hstack([scaled, one_hot]), truth)
    return {
        "numeric": numeric,
        "medians": medians.tolist(),
        "means": scaler.mean_.tolist(),
        "scales": scaler.scale_.tolist(),
        "categories": {
            name: categories.tolist()
            for name, categories in zip(CATEGORIES, encoder.categories_, strict=True)
        },
        "modes": modes,
        "coefficients": np.atleast_2d(estimator.coef_).T.tolist(),
        "intercepts": np.atleast_1d(estimator.intercept_).tolist(),
    }


def train_penguins() -> None:
    """The species from everything; the body mass from everything but the mass and the species."""
    table = read_penguins()
    pq.write_table(table, DATA / "penguins.parquet", compression="zstd")
    train = table.filter(pa.compute.equal(table["split"], "train"))
    classifier = LogisticRegression(C=1.0, max_iter=5000)
    species = fit_linear(
        train, [*MEASURES, "body_mass_g"], classifier, train["species"].to_pylist()
    )
    species["classes"] = classifier.classes_.tolist()
    weighed = train.filter(train["body_mass_g"].is_valid())
    mass = fit_linear(weighed, MEASURES, Ridge(1.0), weighed["body_mass_g"].to_pylist())
    weights = {"species": species, "expected_body_mass_g": mass}
    text = json.dumps(weights, indent=1)
    (DATA / "penguins.json").write_text(text + "\n", encoding="utf-8")

    test = table.filter(pa.compute.equal(table["split"], "test"))
    rows = test.select(list(Penguins.inputs)).to_pylist()
    answers = Penguins().predict(rows)
    right = [
        max(answer["species"], key=answer["species"].__getitem__) == truth
        for answer, truth in zip(answers, test["species"].to_pylist(), strict=True)
    ]
    errors = [
        answer["expected_body_mass_g"] - row["body_mass_g"]
        for answer, row in zip(answers, rows, strict=True)
        if row["body_mass_g"] is not None
    ]
    print(f"penguins: accuracy {np.mean(right):.3f} of {len(right)} test rows")
    print(f"penguins: body mass, mean absolute error {np.mean(np.abs(errors)):.0f} g")


def train_digits() -> None:
    """The digit, from pixels and from what is left of them after a picture was made of them."""
    digits = load_digits()
    pixels = digits.data.astype(np.float32)
    labels = np.array([str(label) for label in digits.target])
    train, test = train_test_split(
        np.arange(len(pixels)), test_size=360, random_state=SEED, stratify=labels
    )
    photographed = np.stack([pixels_of(picture_of(row)) for row in pixels])
    inputs = np.vstack([pixels[train], photographed[train]]) / 16
    network = MLPClassifier((64,), alpha=0.01, max_iter=1000, random_state=SEED)
    network.fit(inputs, np.tile(labels[train], 2))
    pca = PCA(16, random_state=SEED).fit(pixels[train])
    np.savez_compressed(
        DATA / "digits.npz",
        hidden=network.coefs_[0].astype(np.float32),
        hidden_bias=network.intercepts_[0].astype(np.float32),
        output=network.coefs_[1].astype(np.float32),
        output_bias=network.intercepts_[1].astype(np.float32),
        components=pca.components_.astype(np.float32),
        mean=pca.mean_.astype(np.float32),
    )
    write_digits(pixels[test], labels[test])

    pictures = [{"picture": picture_of(row)} for row in pixels[test]]
    arrays = [{"pixels": row.reshape(8, 8)} for row in pixels[test]]
    for name, answers in (
        ("digits", Digits().predict(pictures)),
        ("digits-array", DigitsArray().predict(arrays)),
    ):
        guesses = [max(a["digit"], key=a["digit"].__getitem__) for a in answers]
        right = np.mean(np.array(guesses) == labels[test])
        print(f"{name}: accuracy {right:.3f} of {len(test)} test digits")


def write_digits(pixels: np.ndarray, labels: np.ndarray) -> None:
    """The test digits as PNG pictures, pixels and labels."""
    tensors = pa.FixedShapeTensorArray.from_numpy_ndarray(
        np.ascontiguousarray(pixels.reshape(-1, 8, 8))
    )
    table = pa.table(
        {
            "picture": pa.array([png_of(picture_of(row)) for row in pixels], pa.binary()),
            "pixels": tensors,
            "digit": pa.array(labels.tolist()),
        }
    )
    pq.write_table(table, DATA / "digits.parquet", compression="zstd")


def png_of(picture: Image.Image) -> bytes:
    """The picture as a PNG file."""
    buffer = io.BytesIO()
    picture.save(buffer, format="PNG", optimize=True)
    return buffer.getvalue()


if __name__ == "__main__":
    main()
