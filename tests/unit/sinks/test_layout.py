"""The columns of the output."""

import numpy as np
import pyarrow as pa
import pytest

from batchscore.batches import Chunk, RowBatch, RowFailure, ScoredBatch
from batchscore.errors import UsageError
from batchscore.schema import UNTYPED_KEY
from batchscore.scoring.predictor import scatter
from batchscore.sinks.layout import OutputLayout, check_collisions, error_column

SCHEMA = pa.schema(
    [
        pa.field("id", pa.string(), nullable=False, metadata={UNTYPED_KEY: b"1"}),
        pa.field("x", pa.int64()),
    ]
)


def layout(prefix="predicted_"):
    return OutputLayout.make(
        SCHEMA, ["id"], [pa.field("y", pa.float64())], prefix=prefix, metadata={"version": "1"}
    )


def test_kept_columns_come_first_and_the_error_column_last():
    """Kept columns, predictions, prediction_error: in that order, always."""
    assert layout().schema.names == ["id", "predicted_y", "prediction_error"]
    assert layout("p_").schema.names == ["id", "p_y", "p_error"]
    assert layout().schema.metadata == {b"batchscore.version": b"1"}
    assert not layout().schema.field("id").metadata
    assert error_column("") == "error"


def test_a_failed_row_has_its_reason_and_no_prediction():
    """Where a row failed the prediction is null and the error says why; elsewhere the reverse."""
    rows = RowBatch(pa.record_batch({"id": ["a", "b"], "x": [1, 2]}))
    scored = ScoredBatch(
        Chunk(0, rows),
        (pa.array([None, 0.5]),),
        {0: RowFailure("http_422", "no\nsuch  thing")},
    )
    batch = layout().assemble(scored)
    assert batch.to_pylist() == [
        {"id": "a", "predicted_y": None, "prediction_error": "http_422: no such thing"},
        {"id": "b", "predicted_y": 0.5, "prediction_error": None},
    ]


def test_a_batch_of_failed_rows_has_null_predictions():
    """Without one scored row the prediction columns are all null."""
    rows = RowBatch(pa.record_batch({"id": ["a"], "x": [1]}))
    batch = layout().assemble(ScoredBatch(Chunk(0, rows), None, {0: RowFailure("timeout", "t")}))
    assert batch.column("predicted_y").to_pylist() == [None]


def test_an_error_is_at_most_500_characters():
    """A server's long message is cut."""
    assert len(str(RowFailure("http_500", "x" * 9999))) == 500


@pytest.mark.parametrize("column", ["predicted_y", "prediction_error"])
def test_an_input_column_with_an_output_name_is_refused(column):
    """A collision names the column and both ways out."""
    with pytest.raises(UsageError, match=column) as caught:
        check_collisions([column], ["y"], "predicted_")
    assert "--prefix" in str(caught.value)
    assert "--drop" in str(caught.value)


def test_two_outputs_of_one_name_are_refused():
    """A probs column that has the name of another output is refused."""
    with pytest.raises(UsageError, match="predicted_a_probs"):
        check_collisions([], ["a", "a_probs", "a_probs"], "predicted_")


@pytest.mark.parametrize(
    "array",
    [
        pa.array([1.5, 2.5]),
        pa.array([{"a": 1.0}, {"a": 2.0}]),
        pa.FixedShapeTensorArray.from_numpy_ndarray(np.ones((2, 3, 3), np.float32)),
    ],
)
def test_scattered_values_stand_at_their_rows(array):
    """The n-th value stands at the n-th position, all other rows are null."""
    placed = scatter(array, np.array([1, 3]), 4)
    assert placed.type == array.type
    assert placed.is_null().to_pylist() == [True, False, True, False]
    assert placed[1].as_py() == array[0].as_py()
    assert placed[3].as_py() == array[1].as_py()
