"""Real data, really trained models, the local deployment: every value compared with the model."""

import io
import math

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from integration.conftest import read_arrow
from PIL import Image

import batchscore
from batchscore.serving.app import running_deployment
from batchscore.serving.demo import write_sample_data
from batchscore.serving.load import load_model


@pytest.fixture(scope="module")
def sample(tmp_path_factory):
    return write_sample_data(tmp_path_factory.mktemp("sample"))


def assert_class_probabilities(out: pa.Table, name: str, expected: list[dict[str, float]]) -> None:
    assert out[f"predicted_{name}"].to_pylist() == [max(sorted(p), key=p.get) for p in expected]
    for found, wanted in zip(out[f"predicted_{name}_probs"].to_pylist(), expected, strict=True):
        assert found == pytest.approx(wanted, abs=1e-9)


@pytest.mark.parametrize("source", ["parquet", "csv"])
def test_penguins_are_scored_as_the_model_itself_scores_them(tmp_path, sample, source):
    """Numbers, categories and missing values, from Parquet and from CSV."""
    _, model = load_model("penguins")
    rows = pq.read_table(sample.penguins_parquet).select(list(model.inputs)).to_pylist()
    expected = model.predict(rows)
    path = sample.penguins_parquet if source == "parquet" else sample.penguins_csv
    with running_deployment("penguins") as url:
        report = batchscore.score(path, tmp_path / "out.arrow", url=url, batch_size=50)
    out = read_arrow(tmp_path / "out.arrow")
    assert report.exit_code == 0
    assert out.num_rows == 344
    assert any(None in row.values() for row in rows)
    assert_class_probabilities(out, "species", [row["species"] for row in expected])
    for found, row in zip(out["predicted_expected_body_mass_g"].to_pylist(), expected, strict=True):
        wanted = row["expected_body_mass_g"]
        assert found == pytest.approx(wanted) if not math.isnan(wanted) else found is None
    right = np.equal(out["species"].to_pylist(), out["predicted_species"].to_pylist())
    assert right.mean() > 0.95


@pytest.mark.parametrize("source", ["a folder of pictures", "paths in a table"])
def test_digits_are_scored_as_the_model_itself_scores_them(tmp_path, sample, source):
    """Pictures from a folder, and by paths in a column of a table."""
    path = sample.digits_folder if source == "a folder of pictures" else sample.digits_parquet
    with running_deployment("digits") as url:
        batchscore.score(path, tmp_path / "out.arrow", url=url, batch_size=100)
    out = read_arrow(tmp_path / "out.arrow")
    _, model = load_model("digits")
    names = sorted(file.name for file in sample.digits_folder.iterdir())
    rows = [{"picture": Image.open(sample.digits_folder / name)} for name in names]
    assert out.num_rows == len(names) == 360
    assert_class_probabilities(out, "digit", [row["digit"] for row in model.predict(rows)])
    right = [name[-5] == found for name, found in
             zip(names, out["predicted_digit"].to_pylist(), strict=True)]  # fmt: skip
    assert sum(right) / len(right) > 0.95


@pytest.mark.parametrize("tensor_json", [True, False])
def test_arrays_are_scored_as_the_model_itself_scores_them(tmp_path, sample, tensor_json):
    """Arrays in; classes, arrays and pictures out; in both encodings of arrays."""
    with running_deployment("digits-array", tensor_json=tensor_json) as url:
        batchscore.score(sample.digits_parquet, tmp_path / "out.arrow", url=url, batch_size=64)
    out = read_arrow(tmp_path / "out.arrow")
    _, model = load_model("digits-array")
    pixels = pq.read_table(sample.digits_parquet)["pixels"].combine_chunks().to_numpy_ndarray()
    expected = model.predict([{"pixels": array} for array in pixels])
    assert_class_probabilities(out, "digit", [row["digit"] for row in expected])
    found = out["predicted_embedding"].combine_chunks().to_numpy_ndarray()
    wanted = np.array([row["embedding"] for row in expected], np.float32)
    assert np.array_equal(found, wanted)
    for data, row in zip(out["predicted_reconstruction"].to_pylist(), expected, strict=True):
        drawn = np.asarray(Image.open(io.BytesIO(data)))
        assert np.array_equal(drawn, np.asarray(row["reconstruction"]))
