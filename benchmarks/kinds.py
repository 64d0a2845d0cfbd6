"""The tables that are scored: what the columns of each kind are, and the features they serve."""

from __future__ import annotations

import io
from typing import TYPE_CHECKING

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
from PIL import Image

if TYPE_CHECKING:
    from pathlib import Path

# Rows are as many as asked for in the first kind, and fewer where they are larger.
KINDS = {"8 floats": 1, "30 mixed": 2, "28x28 arrays": 20, "3 KB pictures": 10}


def columns(kind: str, count: int) -> dict[str, pa.Array]:
    """The input columns of a kind; the mixed ones are 20 floats, 5 integers, 5 short strings."""
    rng = np.random.default_rng(0)
    if kind == "28x28 arrays":
        grids = rng.random((count, 28, 28), np.float32)
        return {"grid": pa.FixedShapeTensorArray.from_numpy_ndarray(grids)}
    if kind == "3 KB pictures":
        pictures = pa.array([picture(rng) for _ in range(100)])
        return {"picture": pictures.take(pa.array(np.arange(count) % len(pictures)))}
    floats = 8 if kind == "8 floats" else 20
    data = {f"f{n}": pa.array(rng.normal(size=count)) for n in range(floats)}
    if kind == "30 mixed":
        data |= {f"i{n}": pa.array(rng.integers(0, 1000, count)) for n in range(5)}
        words = pa.array([f"category {n}" for n in range(17)])
        data |= {f"s{n}": words.take(pa.array(rng.integers(0, 17, count))) for n in range(5)}
    return data


def picture(rng: np.random.Generator) -> bytes:
    """A PNG of 32 x 32 pixels of noise, about 3 KB."""
    buffer = io.BytesIO()
    Image.fromarray(rng.integers(0, 256, (32, 32, 3), np.uint8)).save(buffer, "PNG")
    return buffer.getvalue()


def features(data: dict[str, pa.Array]) -> dict[str, tuple[str, list[int]]]:
    """The deployment's inputs for these columns."""
    return {name: feature(array.type) for name, array in data.items()}


def feature(type_: pa.DataType) -> tuple[str, list[int]]:
    """The feature that a column of this type serves."""
    if isinstance(type_, pa.FixedShapeTensorType):
        return "numeric", list(type_.shape)
    if pa.types.is_binary(type_):
        return "image", [32, 32, 3]
    return ("text" if pa.types.is_string(type_) else "numeric"), [1]


def write_files(table: pa.Table, folder: Path, counts: set[int]) -> dict[int, Path]:
    """Parquet files of the first rows of a table, as PyArrow writes them unasked."""
    files = {count: folder / f"{count}.parquet" for count in counts}
    for count, path in files.items():
        pq.write_table(table.slice(0, count), path)
    return files
