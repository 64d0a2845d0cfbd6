"""Inputs as columns of the very types that a model takes."""

from __future__ import annotations

import pyarrow as pa
import pytest

from batchscore.codecs.typed import typed_input
from batchscore.schema import UNTYPED_KEY, FeatureSpec


def column(cells: pa.Array, datatype: str | None, *, untyped: bool = False):
    """The cells as a number of that datatype."""
    metadata = {UNTYPED_KEY: b"1"} if untyped else None
    field = pa.field("x", cells.type, metadata=metadata)
    return typed_input(FeatureSpec("x", "numeric", (1,), datatype=datatype), field, None).column(
        cells
    )


@pytest.mark.parametrize(
    ("cells", "datatype", "expected", "failed"),
    [
        ([1.5, 1e300, None, float("inf")], "float32", [1.5, None, None, float("inf")], {1}),
        ([1.0, 70000.0], "float16", [1.0, None], {1}),
        ([1.0, 2.5, -1.0, 300.0], "uint8", [1, None, None, None], {1, 2, 3}),
        ([0, 1, 2], "bool", [False, True, None], {2}),
        ([2**53 + 1], "int64", [2**53 + 1], set()),
        ([True, None], "float64", [1.0, None], set()),
    ],
)
def test_a_number_that_the_type_has_not_fails_its_row(cells, datatype, expected, failed):
    """Nothing is rounded, cut off or made infinite on the way."""
    found = column(pa.array(cells), datatype)
    assert set(found.failures) == failed
    kept = [value for row, value in enumerate(found.array.to_pylist()) if row not in failed]
    assert kept == [value for row, value in enumerate(expected) if row not in failed]
    assert all("x" in text for text in found.failures.values())


@pytest.mark.parametrize(
    ("cells", "datatype", "expected", "failed"),
    [
        (["3.0", "12345678901234567", "3.5", ""], "int64", [3, 12345678901234567, 0, None], {2}),
        (["true", "0", "maybe"], "bool", [True, False, None], {2}),
        (["1e39", "2"], "float32", [None, 2.0], {0}),
    ],
)
def test_text_of_csv_becomes_the_declared_type(cells, datatype, expected, failed):
    """Every digit of integers stays; what is no such number fails its row."""
    found = column(pa.array(cells), datatype, untyped=True)
    assert set(found.failures) == failed
    for row, value in enumerate(expected):
        if row not in failed:
            assert found.array[row].as_py() == value
