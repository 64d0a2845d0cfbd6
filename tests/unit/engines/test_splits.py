"""How an input is cut: every row in one split, in order, with the columns of the whole input."""

import pickle
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from batchscore.engines.splits import MIN_CHUNKS, SPLITS_A_WORKER, cut
from batchscore.errors import UsageError
from batchscore.readers import ReadOptions, open_reader


def opened(*inputs: Path, **options):
    return open_reader([str(path) for path in inputs], ReadOptions(**options)).reader


def rows_of(reader) -> list[dict]:
    """The rows, and of those that cannot be read the reasons."""
    found = []
    for batch in reader.batches():
        for row, cells in enumerate(batch.columns.to_pylist()):
            failure = batch.failures.get(row)
            found.append({**cells, "failed": failure and str(failure)})
    return found


def travelled(splits):
    """The splits as workers get them."""
    return [pickle.loads(pickle.dumps(split)) for split in splits]


def rows_of_all(splits) -> list[dict]:
    return [row for split in travelled(splits) for row in rows_of(split)]


def parquet(path: Path, rows: int, group: int) -> Path:
    pq.write_table(pa.table({"x": range(rows)}), path, row_group_size=group)
    return path


def test_parquet_is_cut_between_row_groups_only(tmp_path):
    """A split begins where a row group does, so that no worker reads what is not its own."""
    path = parquet(tmp_path / "a.parquet", 1000, 90)
    splits = cut(opened(path), workers=2, chunk_rows=1, limit=None)
    assert len(splits) == 2 * SPLITS_A_WORKER - 2
    assert all(split.start_row % 90 == 0 for split in splits)
    assert rows_of_all(splits) == rows_of(opened(path))


def test_small_splits_are_not_worth_a_part(tmp_path):
    """However many workers wait, a split has some chunks of rows."""
    path = parquet(tmp_path / "a.parquet", 1000, 10)
    splits = cut(opened(path), workers=50, chunk_rows=20, limit=None)
    assert [split.rows for split in splits] == [20 * MIN_CHUNKS] * 6 + [40]


def test_an_arrow_file_of_one_batch_is_cut_too(tmp_path):
    """Arrow files are cut wherever it suits."""
    table = pa.table({"x": range(100)})
    with (
        pa.OSFile(str(tmp_path / "a.arrow"), "wb") as file,
        pa.ipc.new_file(file, table.schema) as writer,
    ):
        writer.write_table(table)
    reader = opened(tmp_path / "a.arrow")
    splits = cut(reader, workers=3, chunk_rows=1, limit=None)
    assert len(splits) == 12
    assert rows_of_all(splits) == rows_of(reader)


def test_files_of_every_format_keep_the_columns_of_all(tmp_path):
    """What one file lacks is null in its split too, types are those of all files together."""
    (tmp_path / "a.csv").write_text("w,only a\n1,z\n2\n3,y\n")
    (tmp_path / "b.jsonl").write_text('{"y": 1}\n{"y": 2.5, "z": [1]}\n')
    (tmp_path / "c.jsonl").write_text('{"y": 7, "z": []}\nno json\n')
    parquet(tmp_path / "d.parquet", 50, 10)
    pq.write_table(pa.table({"y": pa.array([1, 2], pa.int8())}), tmp_path / "e.parquet")
    reader = opened(tmp_path, source_column="file")
    splits = cut(reader, workers=1, chunk_rows=1, limit=None)
    assert len(splits) >= 4
    assert all(split.schema.equals(reader.schema, check_metadata=True) for split in splits)
    rows = rows_of_all(splits)
    assert rows == rows_of(reader)
    assert sum(row["failed"] is not None for row in rows) == 2


def test_columns_that_folders_tell_go_with_each_split(tmp_path):
    """Files in key=value folders are cut like others, and every split has the folders' columns."""
    for year in (2024, 2025):
        folder = tmp_path / f"year={year}"
        folder.mkdir()
        parquet(folder / "a.parquet", 100, 10)
    reader = opened(tmp_path, hive=True)
    splits = cut(reader, workers=2, chunk_rows=1, limit=None)
    assert len(splits) == 8
    rows = rows_of_all(splits)
    assert rows == rows_of(reader)
    assert (rows[0]["year"], rows[-1]["year"]) == ("2024", "2025")


def test_many_small_files_make_few_splits(tmp_path):
    """Neighbours go together until they are worth a part."""
    for number in range(60):
        parquet(tmp_path / f"{number:02}.parquet", 7, 7)
    reader = opened(tmp_path)
    splits = cut(reader, workers=2, chunk_rows=10, limit=None)
    assert len(splits) == 5
    assert rows_of_all(splits) == rows_of(reader)


def test_pictures_are_cut_like_rows(tmp_path):
    """A folder of pictures is shared out, each split with its own paths alone."""
    for number in range(100):
        (tmp_path / f"{number:02}.png").write_bytes(b"")
    reader = opened(tmp_path)
    splits = cut(reader, workers=2, chunk_rows=1, limit=None)
    assert [split.rows for split in splits] == [13] * 7 + [9]
    assert rows_of_all(splits) == rows_of(reader)


@settings(max_examples=60)
@given(
    files=st.lists(st.tuples(st.integers(0, 40), st.integers(1, 20)), min_size=1, max_size=5),
    workers=st.integers(1, 4),
    chunk_rows=st.integers(1, 4),
    limit=st.none() | st.integers(0, 120),
)
def test_no_row_is_lost_or_read_twice(tmp_path_factory, files, workers, chunk_rows, limit):
    """Whatever the files, the workers and the limit are, the splits are the input, in order."""
    folder = tmp_path_factory.mktemp("files")
    for number, (rows, group) in enumerate(files):
        parquet(folder / f"{number}.parquet", rows, group)
    reader = opened(folder)
    splits = cut(reader, workers=workers, chunk_rows=chunk_rows, limit=limit)
    assert rows_of_all(splits) == rows_of(reader)[:limit]
    assert [split.number for split in splits] == list(range(len(splits)))
    assert all(split.rows for split in splits)


def test_a_limit_within_files_of_unknown_length_is_refused(tmp_path):
    """Where it cannot be told which rows come before the limit, nobody guesses."""
    for name in ("a.csv", "b.csv"):
        (tmp_path / name).write_text("x\n1\n2\n")
    with pytest.raises(UsageError, match="--limit.*name the first file alone"):
        cut(opened(tmp_path), workers=1, chunk_rows=1, limit=3)
    one = cut(opened(tmp_path / "a.csv"), workers=1, chunk_rows=1, limit=1)
    assert [row["x"] for row in rows_of_all(one)] == ["1"]
