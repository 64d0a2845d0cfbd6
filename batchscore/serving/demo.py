"""The demo models: trained with scikit-learn, evaluated with NumPy alone, and their data.

``scripts/train_demo_models.py`` trains them and writes the files in ``data/``.
"""

from __future__ import annotations

import csv
import io
import json
from dataclasses import dataclass
from importlib import resources
from typing import TYPE_CHECKING, Any, ClassVar

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
from PIL import Image

from batchscore.serving.models import Row, RowError

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence
    from importlib.resources.abc import Traversable
    from pathlib import Path

    import numpy.typing as npt

    Floats = npt.NDArray[np.floating[Any]]
    Features = Mapping[str, tuple[str, tuple[int, ...]]]

DIGIT_SIZE = 8
PICTURE_SIZE = 32
MAX_INK = 16.0
DIGITS = tuple("0123456789")


def _data(name: str) -> Traversable:
    return resources.files("batchscore.serving") / "data" / name


def _softmax(scores: Floats) -> Floats:
    exponentials = np.exp(scores - scores.max(axis=1, keepdims=True))
    probabilities: Floats = exponentials / exponentials.sum(axis=1, keepdims=True)
    return probabilities


class _Linear:
    """A linear model over numbers and one-hot categories; what is missing or new is imputed."""

    def __init__(self, weights: Mapping[str, Any]) -> None:
        self._numeric: list[str] = weights["numeric"]
        self._medians = np.array(weights["medians"])
        self._means = np.array(weights["means"])
        self._scales = np.array(weights["scales"])
        self._categories: dict[str, list[str]] = weights["categories"]
        self._modes: dict[str, str] = weights["modes"]
        self._coefficients = np.array(weights["coefficients"])  # [features, outputs]
        self._intercepts = np.array(weights["intercepts"])

    def __call__(self, columns: Mapping[str, Sequence[Any]]) -> Floats:
        """The scores, [rows, outputs]."""
        numbers = np.array([columns[name] for name in self._numeric], dtype=np.float64).T
        numbers = np.where(np.isfinite(numbers), numbers, self._medians)
        parts = [(numbers - self._means) / self._scales]
        for name, categories in self._categories.items():
            position = {category: place for place, category in enumerate(categories)}
            mode = position[self._modes[name]]
            chosen = [position.get(label, mode) for label in columns[name]]
            parts.append(np.eye(len(categories))[chosen])
        scores: Floats = np.hstack(parts) @ self._coefficients + self._intercepts
        return scores


class Penguins:
    """The species of a penguin, and the body mass to expect from its other measures."""

    inputs: ClassVar[Features] = {
        "island": ("categorical", ()),
        "bill_length_mm": ("numeric", ()),
        "bill_depth_mm": ("numeric", ()),
        "flipper_length_mm": ("numeric", ()),
        "body_mass_g": ("numeric", ()),
        "sex": ("categorical", ()),
    }
    outputs: ClassVar[Features] = {
        "species": ("categorical", (3,)),
        "expected_body_mass_g": ("numeric", ()),
    }

    def __init__(self) -> None:
        weights = json.loads(_data("penguins.json").read_text(encoding="utf-8"))
        self.classes: dict[str, list[str]] = {"species": weights["species"]["classes"]}
        self._species = _Linear(weights["species"])
        self._body_mass = _Linear(weights["expected_body_mass_g"])

    def predict(self, rows: list[Row]) -> list[Row]:
        """The species and the expected body mass of each penguin."""
        columns = {name: [row[name] for row in rows] for name in self.inputs}
        species = self.classes["species"]
        probabilities = _softmax(self._species(columns)).tolist()
        masses = self._body_mass(columns)[:, 0].tolist()
        return [
            {"species": dict(zip(species, row, strict=True)), "expected_body_mass_g": mass}
            for row, mass in zip(probabilities, masses, strict=True)
        ]


class _DigitWeights:
    """A network of one hidden layer, and a principal component analysis, of 8 x 8 digits."""

    def __init__(self) -> None:
        with np.load(io.BytesIO(_data("digits.npz").read_bytes())) as arrays:
            self._hidden, self._hidden_bias = arrays["hidden"], arrays["hidden_bias"]
            self._output, self._output_bias = arrays["output"], arrays["output_bias"]
            self._components, self._mean = arrays["components"], arrays["mean"]

    def probabilities(self, pixels: Floats) -> list[dict[str, float]]:
        """Class -> probability of each digit; ``pixels`` is [rows, 64], ink from 0 to 16."""
        hidden = np.maximum(pixels / MAX_INK @ self._hidden + self._hidden_bias, 0)
        rows = _softmax(hidden @ self._output + self._output_bias).tolist()
        return [dict(zip(DIGITS, row, strict=True)) for row in rows]

    def embed(self, pixels: Floats) -> Floats:
        """The principal components, [rows, 16]."""
        embedding: Floats = (pixels - self._mean) @ self._components.T
        return embedding

    def reconstruct(self, embedding: Floats) -> Floats:
        """The pixels that an embedding stands for, [rows, 64]."""
        pixels: Floats = embedding @ self._components + self._mean
        return np.clip(pixels, 0, MAX_INK)


def pixels_of(picture: Image.Image) -> Floats:
    """A picture of light ink on dark ground as 64 numbers from 0 to 16."""
    if picture.mode.startswith("I"):  # 16 bits, which convert() would cut off at 255
        picture = Image.fromarray((np.asarray(picture) / 257).clip(0, 255).astype(np.uint8))
    small = picture.convert("L").resize((DIGIT_SIZE, DIGIT_SIZE), Image.Resampling.BOX)
    return np.asarray(small, dtype=np.float32).ravel() * np.float32(MAX_INK / 255)


def picture_of(pixels: Floats) -> Image.Image:
    """64 numbers from 0 to 16 as a picture of 32 x 32 grey pixels."""
    grey = np.rint(pixels.reshape(DIGIT_SIZE, DIGIT_SIZE) * (255 / MAX_INK)).astype(np.uint8)
    return Image.fromarray(grey).resize((PICTURE_SIZE, PICTURE_SIZE), Image.Resampling.BICUBIC)


def _stack(rows: list[Row], feature: str) -> list[Any]:
    for position, row in enumerate(rows):
        if row[feature] is None:
            raise RowError(position, feature, "null, and there is no digit to read in that")
    return [row[feature] for row in rows]


class Digits:
    """The digit in a picture of any size."""

    inputs: ClassVar[Features] = {"picture": ("image", (DIGIT_SIZE, DIGIT_SIZE, 1))}
    outputs: ClassVar[Features] = {"digit": ("categorical", (10,))}
    classes: ClassVar[Mapping[str, Sequence[str]]] = {"digit": DIGITS}

    def __init__(self) -> None:
        self._weights = _DigitWeights()

    def predict(self, rows: list[Row]) -> list[Row]:
        """The digit in each picture."""
        pixels = np.stack([pixels_of(picture) for picture in _stack(rows, "picture")])
        return [{"digit": digit} for digit in self._weights.probabilities(pixels)]


class DigitsArray:
    """The digit in an array of pixels, its embedding, and the picture made from that again."""

    inputs: ClassVar[Features] = {"pixels": ("numeric", (DIGIT_SIZE, DIGIT_SIZE))}
    outputs: ClassVar[Features] = {
        "digit": ("categorical", (10,)),
        "embedding": ("numeric", (16,)),
        "reconstruction": ("image", (PICTURE_SIZE, PICTURE_SIZE, 1)),
    }
    classes: ClassVar[Mapping[str, Sequence[str]]] = {"digit": DIGITS}

    def __init__(self) -> None:
        self._weights = _DigitWeights()

    def predict(self, rows: list[Row]) -> list[Row]:
        """The digit, embedding and reconstruction of each array."""
        pixels = np.stack(_stack(rows, "pixels")).reshape(len(rows), -1)
        embeddings = self._weights.embed(pixels)
        pictures = map(picture_of, self._weights.reconstruct(embeddings))
        digits = self._weights.probabilities(pixels)
        return [
            {"digit": digit, "embedding": embedding, "reconstruction": picture}
            for digit, embedding, picture in zip(digits, embeddings, pictures, strict=True)
        ]


DEMO_MODELS: Mapping[str, type[Penguins | Digits | DigitsArray]] = {
    "penguins": Penguins,
    "digits": Digits,
    "digits-array": DigitsArray,
}


@dataclass(frozen=True, slots=True)
class SamplePaths:
    """Where the sample data were written.

    Attributes:
        penguins_parquet: 344 penguins for the model ``penguins``; ``species`` is the truth, and
            the rows whose ``split`` is ``test`` were held out of the training.
        penguins_csv: the same as text; empty cells are missing values.
        digits_folder: 360 PNG pictures for the model ``digits``, named NUMBER-DIGIT.png, all of
            them held out of the training.
        digits_parquet: the same digits as a table: ``picture`` (path), ``pixels`` for the model
            ``digits-array``, and the truth, ``digit``.
    """

    penguins_parquet: Path
    penguins_csv: Path
    digits_folder: Path
    digits_parquet: Path


def penguins_table() -> pa.Table:
    """The Palmer penguins: 344 rows, missing values are null."""
    return pq.read_table(pa.BufferReader(_data("penguins.parquet").read_bytes()))


def digits_table() -> pa.Table:
    """The held-out digits: ``picture`` (a PNG file's bytes), ``pixels`` (8 x 8) and ``digit``."""
    return pq.read_table(pa.BufferReader(_data("digits.parquet").read_bytes()))


def write_sample_data(directory: Path) -> SamplePaths:
    """Write the data that the demo models are made for; files of the same name are replaced.

    Args:
        directory: where to; made if it is not there.

    Raises:
        OSError: the directory cannot be written to.
    """
    paths = SamplePaths(
        directory / "penguins.parquet",
        directory / "penguins.csv",
        directory / "digits",
        directory / "digits.parquet",
    )
    paths.digits_folder.mkdir(parents=True, exist_ok=True)
    paths.penguins_parquet.write_bytes(_data("penguins.parquet").read_bytes())
    penguins = penguins_table()
    with paths.penguins_csv.open("w", encoding="utf-8", newline="") as file:
        writer = csv.writer(file, lineterminator="\n")
        writer.writerow(penguins.column_names)
        writer.writerows(zip(*(column.to_pylist() for column in penguins.columns), strict=True))
    digits = digits_table()
    names = [f"{number:03}-{digit}.png" for number, digit in enumerate(digits["digit"].to_pylist())]
    for name, png in zip(names, digits["picture"].to_pylist(), strict=True):
        (paths.digits_folder / name).write_bytes(png)
    relative = pa.array([f"{paths.digits_folder.name}/{name}" for name in names])
    pq.write_table(digits.set_column(0, "picture", relative), paths.digits_parquet)
    return paths
