"""What models do before they classify: imported wherever a stored model is loaded.

A row's text, picture or array arrives as each server hands it over: a column of a data frame, an
array, a list. These steps make one thing of them, so that every server serves the same model.
"""

from __future__ import annotations

import io
from typing import Any

import numpy as np
from PIL import Image


def values(rows: Any) -> list[Any]:
    """The one value of each row: the first column of a data frame, or what there is."""
    if hasattr(rows, "iloc"):
        return list(rows.iloc[:, 0])
    return list(rows.ravel()) if isinstance(rows, np.ndarray) else list(rows)


def texts(rows: Any) -> list[str]:
    """One string a row."""
    return [row.decode() if isinstance(row, bytes) else row for row in values(rows)]


def flat_arrays(rows: Any) -> np.ndarray:
    """One row of 64 numbers for each array of 8x8, however nested."""
    if hasattr(rows, "iloc"):
        rows = [np.array([list(line) for line in row], np.float64) for row in rows.iloc[:, 0]]
    return np.asarray(rows, np.float64).reshape(-1, 64)


def flat_pictures(rows: Any) -> np.ndarray:
    """One row of 64 numbers, 0 to 16, for each PNG or JPEG file."""
    greys = []
    for row in values(rows):
        with Image.open(io.BytesIO(row)) as picture:
            greys.append(np.asarray(picture.convert("L").resize((8, 8)), np.float64))
    return np.reshape(greys, (-1, 64)) / 15.0
