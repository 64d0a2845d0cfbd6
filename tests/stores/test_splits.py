"""Workers of an engine read objects of a store for themselves."""

from __future__ import annotations

import io
import pickle

import pyarrow as pa
import pyarrow.parquet as pq
from stores.conftest import Store

from batchscore.engines.splits import cut
from batchscore.readers import ReadOptions, open_reader


def rows_of(reader) -> list[dict[str, object]]:
    return [row for batch in reader.batches() for row in batch.columns.to_pylist()]


def test_splits_of_objects_travel_to_workers(store: Store):
    """Parquet is cut between row groups there too, and all rows arrive, in order."""
    sink = io.BytesIO()
    pq.write_table(pa.table({"x": range(1000)}), sink, row_group_size=100)
    store.put("in/a.parquet", sink.getvalue())
    store.put("in/b.csv", b"y\n1\n2\n")
    store.put("in/c.jsonl", b'{"z": 1}\n')
    reader = open_reader([store.uri("in/")], ReadOptions()).reader
    splits = cut(reader, workers=2, chunk_rows=1, limit=None)
    assert len(splits) == 7
    there = [pickle.loads(pickle.dumps(split)) for split in splits]
    assert [row for split in there for row in rows_of(split)] == rows_of(reader)
