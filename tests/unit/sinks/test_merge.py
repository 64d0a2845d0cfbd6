"""Outputs with their failed rows replaced."""

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from batchscore.partial import PartialFile
from batchscore.sinks.merge import fits, merge

SCHEMA = pa.schema(
    {"id": pa.int64(), "y": pa.float64(), "error": pa.string()}, metadata={"batchscore.x": "1"}
)


def sealed(folder, schema, *batches):
    partial = PartialFile(folder)
    partial.open(schema, {})
    for batch in batches:
        partial.append(pa.RecordBatch.from_pydict(batch, schema=schema))
    path = partial.seal()
    partial.close()
    return path


def old_output(tmp_path):
    return sealed(
        tmp_path / "old",
        SCHEMA,
        {"id": [0, 1], "y": [None, 1.0], "error": ["a: 0", None]},
        {"id": [2], "y": [2.0], "error": [None]},
        {"id": [3, 4], "y": [None, None], "error": ["a: 3", "a: 4"]},
    )


def came_back(tmp_path, *ys):
    errors = ["b: new" if y is None else None for y in ys]
    schema = SCHEMA.remove(0)
    return sealed(tmp_path / "again", schema, {"y": list(ys), "error": errors})


def test_failed_rows_are_replaced_in_their_order(tmp_path):
    """Rows that come back in one batch go to the places they have in several."""
    again = came_back(tmp_path, 0.5, None, 4.5)
    merge("arrow", old_output(tmp_path), again, tmp_path / "new.arrow", SCHEMA)
    with pa.ipc.open_file(tmp_path / "new.arrow") as reader:
        assert [reader.get_batch(n).num_rows for n in range(reader.num_record_batches)] == [2, 1, 2]
        table = reader.read_all()
    assert table.schema.equals(SCHEMA, check_metadata=True)
    assert table["y"].to_pylist() == [0.5, 1.0, 2.0, None, 4.5]
    assert table["error"].to_pylist() == [None, None, None, "b: new", None]


def test_row_groups_stay_what_they_were(tmp_path):
    """A Parquet output keeps the rows of each row group."""
    with pa.ipc.open_file(old_output(tmp_path)) as reader:
        table = reader.read_all()
    pq.write_table(table, tmp_path / "old.parquet", row_group_size=3)
    again = came_back(tmp_path, 0.5, 3.5, 4.5)
    merge("parquet", tmp_path / "old.parquet", again, tmp_path / "new.parquet", SCHEMA)
    metadata = pq.read_metadata(tmp_path / "new.parquet")
    assert [metadata.row_group(n).num_rows for n in range(2)] == [3, 2]
    assert pq.read_table(tmp_path / "new.parquet")["y"].to_pylist() == [0.5, 1.0, 2.0, 3.5, 4.5]


@pytest.mark.parametrize(("ys", "words"), [((1.0, 2.0), "fewer"), ((1.0,) * 4, "more")])
def test_a_wrong_number_of_rows_is_an_error(tmp_path, ys, words):
    """Rows are never shifted: as many come back as failed, or nothing is merged."""
    again = came_back(tmp_path, *ys)
    with pytest.raises(ValueError, match=f"{words} rows came back"):
        merge("arrow", old_output(tmp_path), again, tmp_path / "new.arrow", SCHEMA)


def test_only_class_probabilities_may_have_another_form():
    """A struct fits where there is a list, and nothing else that differs does."""
    struct, listed = pa.struct({"a": pa.float64()}), pa.list_(pa.float64())
    assert fits(struct, struct)
    assert fits(struct, listed)
    assert not fits(listed, struct)
    assert not fits(pa.float64(), pa.string())
