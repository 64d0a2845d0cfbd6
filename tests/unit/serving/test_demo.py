"""The demo models and their data."""

from __future__ import annotations

import csv
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq
import pytest
from PIL import Image

from batchscore.serving.demo import (
    DEMO_MODELS,
    Digits,
    DigitsArray,
    Penguins,
    digits_table,
    penguins_table,
    picture_of,
    write_sample_data,
)
from batchscore.serving.models import RowError, signature_of


def best(probabilities: dict[str, float]) -> str:
    """The most probable class."""
    return max(probabilities, key=probabilities.__getitem__)


def share_right(answers: list[dict], output: str, truth: list[str]) -> float:
    """The share of the answers that are the truth."""
    return float(np.mean([best(a[output]) == t for a, t in zip(answers, truth, strict=True)]))


@pytest.fixture(scope="module")
def digits() -> tuple[list[np.ndarray], list[str]]:
    """The shipped digits: pixels and labels."""
    table = digits_table()
    pixels = list(table["pixels"].combine_chunks().to_numpy_ndarray())
    return pixels, table["digit"].to_pylist()


def test_penguins_are_told_apart_that_were_not_learned():
    """More than 95 % of the held-out penguins get their species, missing values included."""
    held_out = penguins_table().filter(pc.field("split") == "test")
    rows = held_out.select(list(Penguins.inputs)).to_pylist()
    assert len(rows) == 104
    assert any(None in row.values() for row in rows)
    answers = Penguins().predict(rows)
    assert share_right(answers, "species", held_out["species"].to_pylist()) > 0.95
    errors = [
        abs(answer["expected_body_mass_g"] - row["body_mass_g"])
        for answer, row in zip(answers, rows, strict=True)
        if row["body_mass_g"] is not None
    ]
    assert np.mean(errors) < 350  # the standard deviation of the body mass is 800 g


def test_the_expected_body_mass_does_not_look_at_the_body_mass():
    """The expected body mass is the same whatever the penguin weighs."""
    row = penguins_table().select(list(Penguins.inputs)).slice(0, 1).to_pylist()[0]
    answers = Penguins().predict([row, {**row, "body_mass_g": None}, {**row, "body_mass_g": 9e3}])
    assert len({answer["expected_body_mass_g"] for answer in answers}) == 1


def test_a_penguin_of_nulls_and_new_labels_is_answered():
    """Null, NaN and unknown labels are imputed; the probabilities still make 1."""
    nothing = dict.fromkeys(Penguins.inputs)
    new = {**nothing, "island": "Atlantis", "sex": "", "bill_length_mm": float("nan")}
    answers = Penguins().predict([nothing, new])
    assert answers[0] == answers[1]
    assert sum(answers[0]["species"].values()) == pytest.approx(1)
    assert np.isfinite(answers[0]["expected_body_mass_g"])


def test_held_out_digits_are_read(digits: tuple[list[np.ndarray], list[str]]):
    """More than 90 % of the held-out digits are read, from pixels and from pictures."""
    pixels, truth = digits
    from_pixels = DigitsArray().predict([{"pixels": array} for array in pixels])
    from_pictures = Digits().predict([{"picture": picture_of(array)} for array in pixels])
    assert share_right(from_pixels, "digit", truth) > 0.9
    assert share_right(from_pictures, "digit", truth) > 0.9


@pytest.mark.parametrize("mode", ["1", "L", "LA", "P", "RGB", "RGBA", "CMYK", "I;16", "I"])
@pytest.mark.parametrize("size", [(8, 8), (28, 28), (100, 90)])
def test_pictures_of_any_size_and_mode_are_read(
    digits: tuple[list[np.ndarray], list[str]], mode: str, size: tuple[int, int]
):
    """A clear nought is a nought in every mode and size."""
    pixels, truth = digits
    nought = picture_of(pixels[truth.index("0")]).resize(size)
    if mode.startswith("I"):
        wide = np.asarray(nought).astype(np.uint16) * 257
        picture = Image.fromarray(wide if mode == "I;16" else wide.astype(np.int32))
        assert picture.mode == mode
    else:
        picture = nought.convert(mode)
    assert best(Digits().predict([{"picture": picture}])[0]["digit"]) == "0"


def test_embedding_and_reconstruction_belong_to_the_digit(
    digits: tuple[list[np.ndarray], list[str]],
):
    """The reconstruction is a picture of the digit, near to the picture of its pixels."""
    pixels, _ = digits
    for array, answer in zip(
        pixels[:20], DigitsArray().predict([{"pixels": p} for p in pixels[:20]]), strict=True
    ):
        assert answer["embedding"].shape == (16,)
        assert answer["reconstruction"].size == (32, 32)
        original = np.asarray(picture_of(array), dtype=float)
        distance = np.abs(np.asarray(answer["reconstruction"], dtype=float) - original).mean()
        assert distance < np.abs(original.mean() - original).mean() / 2


def test_a_missing_digit_is_refused_with_its_row(digits: tuple[list[np.ndarray], list[str]]):
    """A null picture or array names its row."""
    pixels, _ = digits
    with pytest.raises(RowError, match=r"rows\[1\], feature 'pixels'"):
        DigitsArray().predict([{"pixels": pixels[0]}, {"pixels": None}])
    with pytest.raises(RowError, match=r"rows\[0\], feature 'picture'"):
        Digits().predict([{"picture": None}])


@pytest.mark.parametrize("name", DEMO_MODELS)
def test_every_demo_model_publishes_its_classes(name: str):
    """Each demo model has a valid signature whose categorical outputs know their classes."""
    signature = signature_of(DEMO_MODELS[name]())
    categorical = [spec for spec in signature.outputs if spec.dtype == "categorical"]
    assert categorical
    assert all(spec.classes and (len(spec.classes),) == spec.shape for spec in categorical)


def test_the_sample_data_are_written(tmp_path: Path):
    """Parquet and CSV hold the same penguins; each picture is the one its table row names."""
    paths = write_sample_data(tmp_path / "new" / "folder")
    penguins = pq.read_table(paths.penguins_parquet)
    with paths.penguins_csv.open(encoding="utf-8", newline="") as file:
        rows = list(csv.DictReader(file))
    assert len(rows) == penguins.num_rows == 344
    for row, expected in zip(rows, penguins.to_pylist(), strict=True):
        assert row == {
            name: "" if value is None else str(value) for name, value in expected.items()
        }
    digits = pq.read_table(paths.digits_parquet)
    assert digits.schema.field("pixels").type == pa.fixed_shape_tensor(pa.float32(), (8, 8))
    files = sorted(paths.digits_folder.iterdir())
    assert [f"digits/{file.name}" for file in files] == digits["picture"].to_pylist()
    assert [file.stem[-1] for file in files] == digits["digit"].to_pylist()
    for file, png in zip(files, digits_table()["picture"].to_pylist(), strict=True):
        assert file.read_bytes() == png
    with Image.open(files[0]) as picture:
        assert (picture.format, picture.mode, picture.size) == ("PNG", "L", (32, 32))


def test_the_sample_data_are_small():
    """What the package ships for the demo stays below 300 kB."""
    folder = Path(str(digits_table.__code__.co_filename)).parent / "data"
    assert sum(file.stat().st_size for file in folder.iterdir()) < 300_000
