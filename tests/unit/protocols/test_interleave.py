"""Rows written without a Python object a cell are the rows that objects would have given."""

import json
from decimal import Decimal
from io import BytesIO

import numpy as np
import pyarrow as pa
import pytest
from hypothesis import given
from hypothesis import strategies as st
from PIL import Image

from batchscore.batches import RowBatch, RowFailure
from batchscore.protocols import interleave
from batchscore.protocols import rows as rows_module
from batchscore.protocols.rows import RowsProtocol
from batchscore.schema import FeatureSpec, ModelSignature

PNG, GIF = (BytesIO() for _ in range(2))
Image.new("RGB", (3, 2)).save(PNG, "PNG")
Image.new("P", (3, 2)).save(GIF, "GIF")
PICTURES = [PNG.getvalue(), GIF.getvalue(), PNG.getvalue()[:-1], b""]
PAIRS = st.lists(st.floats(width=32), min_size=2, max_size=2)
TEXT = st.text(st.characters(exclude_categories=["Cs"]), max_size=6)
KINDS = {
    "f64": (pa.float64(), "numeric", st.floats()),
    "f32": (pa.float32(), "numeric", st.floats(width=32)),
    "f16": (pa.float16(), "numeric", st.floats(width=16).map(np.float16)),
    "i64": (pa.int64(), "numeric", st.integers(-(2**63), 2**63 - 1)),
    "i8": (pa.int8(), "numeric", st.integers(-128, 127)),
    "u64": (pa.uint64(), "numeric", st.integers(0, 2**64 - 1)),
    "bool": (pa.bool_(), "numeric", st.booleans()),
    "decimal": (pa.decimal128(20, 3), "numeric", st.decimals(-999, 999, places=3)),
    "null": (pa.null(), "numeric", st.none()),
    "text": (pa.string(), "text", TEXT),
    "plain": (pa.large_string(), "categorical", st.text("abc ,é}", max_size=4)),
    "number as text": (pa.int64(), "text", st.integers(0, 99)),
    "grid": (pa.list_(pa.float32(), 2), "grid", PAIRS),
    "picture": (pa.binary(), "image", st.sampled_from(PICTURES)),
}  # fmt: skip


@st.composite
def batches(draw) -> tuple[list[FeatureSpec], RowBatch]:
    """Columns of any kinds, sliced, with or without nulls, and rows that could not be read."""
    size = draw(st.integers(1, 12))
    start = draw(st.integers(0, size - 1))
    names = draw(st.lists(TEXT.filter(bool), min_size=1, max_size=6, unique=True))
    specs, columns = [], []
    for name in names:
        type_, dtype, values = KINDS[draw(st.sampled_from(sorted(KINDS)))]
        cells = st.none() | values if draw(st.booleans()) else values
        column = pa.array(draw(st.lists(cells, min_size=size, max_size=size)), type_)
        columns.append(column[start:])
        is_grid = dtype == "grid"
        specs.append(FeatureSpec(name, "numeric" if is_grid else dtype, (2,) if is_grid else (1,)))
    failed = draw(st.sets(st.integers(0, size - start - 1), max_size=3))
    failures = {row: RowFailure("invalid_input", "ragged") for row in failed}
    table = pa.record_batch(columns, [f"column {n}" for n in range(len(names))])
    return specs, RowBatch(table, failures)


def encoded(specs, rows, monkeypatch, *, whole):
    """The rows encoded in one of the two ways."""
    monkeypatch.setattr(rows_module, "_MIN_WHOLE_ROWS", 1 if whole else 10**9)
    signature = ModelSignature(tuple(specs), (FeatureSpec("y", "numeric"),), tensor_json=True)
    encoder = RowsProtocol().encoder(signature, list(rows.columns.schema), None)
    return encoder.encode(rows)


def as_float32(value):
    """Rows with their arrays as the float32 that the protocol sends."""
    if isinstance(value, dict) and value.keys() == {"shape", "data"}:
        return [None if item is None else float(np.float32(item)) for item in value["data"]]
    return value


@given(batches(), st.sampled_from([0, interleave._LARGE_CELL_BYTES]))
def test_whatever_the_columns_are_all_ways_send_the_same_rows(given_batch, large_bytes):
    """Nothing of the rows depends on how many they are, nor on how large their cells."""
    specs, rows = given_batch
    with pytest.MonkeyPatch.context() as monkeypatch:
        monkeypatch.setattr(interleave, "_LARGE_CELL_BYTES", large_bytes)
        few = encoded(specs, rows, monkeypatch, whole=False)
        many = encoded(specs, rows, monkeypatch, whole=True)
    assert many.positions.tolist() == few.positions.tolist()
    assert many.failures == few.failures
    count = len(few.positions)
    for start, stop in {(0, count), (0, count // 2), (count // 2, count)}:
        bodies = [each.body(start, stop) for each in (few, many)]
        assert [each.size(start, stop) for each in (few, many)] == list(map(len, bodies))
        found = [json.loads(body, parse_int=Decimal, parse_float=Decimal) for body in bodies]
        sent = [[list(row.items()) for row in each["rows"]] for each in found]
        for row_few, row_many in zip(*sent, strict=True):
            assert [(key, as_float32(value)) for key, value in row_few] == [
                (key, as_float32(value)) for key, value in row_many
            ]
    if count == rows.num_rows:
        assert many.nonfinite == few.nonfinite


def test_a_large_batch_is_written_as_compactly_as_a_small_one():
    """Golden body of more rows than are written as objects."""
    count = rows_module._MIN_WHOLE_ROWS + 1
    columns = pa.record_batch(
        {
            "x": pa.array(np.full(count, 0.1)),
            "word": pa.array(["a,b"] * count),
            "grid": pa.array([[1.5, 0.1]] * count, pa.list_(pa.float32(), 2)),
            "n": pa.array([2**63 - 1] * count),
        }
    )
    specs = (
        FeatureSpec("x", "numeric"),
        FeatureSpec('w"ord', "text"),
        FeatureSpec("grid", "numeric", (2,)),
        FeatureSpec("n", "numeric"),
    )
    signature = ModelSignature(specs, (FeatureSpec("y", "numeric"),), tensor_json=True)
    encoder = RowsProtocol().encoder(signature, list(columns.schema), None)
    row = '{"x":0.1,"w\\"ord":"a,b","grid":{"shape":[2],"data":[1.5,0.1]},"n":9223372036854775807}'
    body = encoder.encode(RowBatch(columns)).body(0, count).decode()
    assert body == '{"rows":[' + ",".join([row] * count) + "]}"
