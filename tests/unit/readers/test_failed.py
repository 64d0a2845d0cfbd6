"""The failed rows of an output, read again."""

import pyarrow as pa
import pytest

from batchscore.errors import InputError
from batchscore.readers import table_reader
from batchscore.readers.failed import FailedRows
from batchscore.schema import UNTYPED_KEY

REASONS = [
    "http_422: no", None, "timeout: t", None, "invalid_input: CSV record has 1 field",
    "invalid_input: column 'x': '?' is no number", "invalid_input: column 'x': gone",
]  # fmt: skip


def output():
    xs = ["0", "1", "2", "3", "4", "?", None]
    return table_reader(pa.table({"x": xs, "id": list(range(7)), "error": REASONS}))


def ids(reader, start_row=0, columns=None):
    return [
        row
        for batch in reader.batches(start_row, columns)
        for row in batch.columns["id"].to_pylist()
    ]


def test_only_failed_rows_are_read_in_their_order():
    """From the first, or from any later one on."""
    assert ids(FailedRows(output(), "error")) == [0, 2, 4, 5, 6]
    for start in range(6):
        assert ids(FailedRows(output(), "error"), start) == [0, 2, 4, 5, 6][start:]


def test_what_could_not_be_read_fails_as_it_did():
    """Of an output, rows whose reason names no cell that is there keep the reason."""
    (batch,) = FailedRows(output(), "error").batches(columns={"x"})
    assert {row: str(why) for row, why in batch.failures.items()} == {2: REASONS[4], 4: REASONS[6]}


def test_text_without_a_type_is_told_again():
    """The columns that the output names so are marked for the codecs."""
    schema = FailedRows(output(), "error", untyped=["x"]).schema
    assert schema.field("x").metadata == {UNTYPED_KEY: b"1"}
    assert not schema.field("id").metadata


@pytest.mark.parametrize(("count", "words"), [(6, "fewer"), (8, "more")])
def test_a_source_must_have_as_many_rows(count, words):
    """An input with other rows is an error, and no row is taken for another."""
    source = table_reader(pa.table({"id": list(range(count))}))
    with pytest.raises(InputError, match=f"{words} rows than the output"):
        ids(FailedRows(output(), "error", source=source), columns={"id"})


def test_a_limited_source_may_have_more_rows():
    """What score was told to leave out is left out again."""
    source = table_reader(pa.table({"id": list(range(10, 20)), "z": [0] * 10}))
    reader = FailedRows(output(), "error", source=source, also={"z"}, limit=7)
    assert ids(reader, columns={"id"}) == [10, 12, 14, 15, 16]
    assert {name for b in reader.batches(columns={"id"}) for name in b.columns.schema.names} == {
        "id"
    }
