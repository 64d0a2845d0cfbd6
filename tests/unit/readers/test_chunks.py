"""Chunks are cut by the data alone, whatever batches a reader yields."""

from __future__ import annotations

from itertools import zip_longest
from typing import TYPE_CHECKING, Any

import numpy as np
import pyarrow as pa
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from batchscore.batches import Chunk, RowBatch, RowFailure
from batchscore.readers import table_reader
from batchscore.readers.chunks import AUTO_BYTES, AUTO_ROWS, chunks
from batchscore.readers.measure import batch_bits

if TYPE_CHECKING:
    from collections.abc import Collection, Iterator

relaxed = settings(deadline=None, suppress_health_check=[HealthCheck.too_slow], max_examples=60)


class CutReader:
    """Rows of one table in batches that end at the given rows; odd rows of ``failed`` fail."""

    num_rows = None

    def __init__(self, table: pa.Table, ends: list[int], failed: frozenset[int]) -> None:
        self.schema = table.schema
        self._rows = table.combine_chunks().to_batches()[0] if table.num_rows else None
        self._ends = [*sorted({end for end in ends if 0 < end < table.num_rows}), table.num_rows]
        self._failed = failed

    def batches(
        self, start_row: int = 0, columns: Collection[str] | None = None
    ) -> Iterator[RowBatch]:
        start = start_row
        for end in self._ends:
            if self._rows is None or end <= start:
                continue
            rows = self._rows.slice(start, end - start)
            names = [n for n in self.schema.names if columns is None or n in columns]
            failures = {
                f - start: RowFailure("x", str(f)) for f in self._failed if start <= f < end
            }
            yield RowBatch(rows.select(names), failures)
            start = end


def cut(reader: Any, start_row: int = 0, **options: Any) -> list[Chunk]:
    """All chunks, "auto" unless told otherwise."""
    settings_ = {"batch_rows": None, "columns": None, "limit": None, **options}
    groups = chunks(reader, start_row=start_row, **settings_)
    return [chunk for group in groups for chunk in group]


def borders(found: list[Chunk]) -> list[int]:
    """Where the chunks begin."""
    return [chunk.start_row for chunk in found]


LEAVES = st.sampled_from(
    [pa.int64(), pa.bool_(), pa.float32(), pa.string(), pa.large_binary(), pa.binary(3),
     pa.null(), pa.decimal128(9, 2), pa.date32()]
)  # fmt: skip
TYPES = st.recursive(
    LEAVES,
    lambda inner: st.one_of(
        inner.map(pa.list_),
        inner.map(pa.large_list),
        inner.map(lambda t: pa.list_(t, 2)),
        inner.map(lambda t: pa.struct([("a", t), ("b", pa.int8())])),
        inner.map(lambda t: pa.map_(pa.string(), t)),
    ),
    max_leaves=4,
)


def value(rng: np.random.Generator, dtype: pa.DataType) -> Any:  # noqa: PLR0911
    """A random value of the type, null now and then."""
    if pa.types.is_null(dtype) or rng.random() < 0.2:
        return None
    if pa.types.is_map(dtype):
        return [(str(k), value(rng, dtype.item_type)) for k in range(rng.integers(3))]
    if pa.types.is_fixed_size_list(dtype):
        return [value(rng, dtype.value_type) for _ in range(2)]
    if pa.types.is_list(dtype) or pa.types.is_large_list(dtype):
        return [value(rng, dtype.value_type) for _ in range(rng.integers(4))]
    if pa.types.is_struct(dtype):
        return {child.name: value(rng, child.type) for child in dtype.fields}
    if pa.types.is_string(dtype):
        return "é" * int(rng.integers(20))
    if pa.types.is_fixed_size_binary(dtype):
        return b"abc"
    if pa.types.is_large_binary(dtype):
        return b"x" * int(rng.integers(50))
    return {pa.bool_(): True, pa.float32(): 0.5}.get(dtype, 7)


@relaxed
@given(dtype=TYPES, seed=st.integers(0, 2**32), data=st.data())
def test_the_measure_of_a_row_depends_on_the_row_alone(
    dtype: pa.DataType, seed: int, data: st.DataObject
) -> None:
    """Slices, copies and joined pieces measure the same, and never more than ``nbytes``."""
    rng = np.random.default_rng(seed)
    array = pa.array([value(rng, dtype) for _ in range(30)], dtype)
    whole = batch_bits(pa.record_batch([array], ["x"]))
    start = data.draw(st.integers(0, 29))
    stop = data.draw(st.integers(start + 1, 30))
    part = pa.record_batch([array.slice(start, stop - start)], ["x"])
    assert batch_bits(part).tolist() == whole[start:stop].tolist()
    assert batch_bits(part).sum() <= part.nbytes * 8
    copied = pa.array(array.slice(start, stop - start).to_pylist(), dtype)
    assert batch_bits(pa.record_batch([copied], ["x"])).tolist() == whole[start:stop].tolist()
    sink = pa.BufferOutputStream()
    with pa.ipc.new_stream(sink, part.schema) as writer:
        writer.write_batch(part)
    written = pa.ipc.open_stream(sink.getvalue()).read_next_batch()
    assert batch_bits(written).tolist() == whole[start:stop].tolist()


def test_the_measure_counts_data_and_nothing_else() -> None:
    """Fixed widths count for nulls too; of texts and lists their lengths; of bits an eighth."""
    tensor = pa.fixed_shape_tensor(pa.float32(), [2])
    storage = pa.array([[1, 2], None, [3, 4]], tensor.storage_type)
    batch = pa.record_batch(
        {
            "n": pa.array([1, None, 3], pa.int16()),
            "b": pa.array([True, None, False]),
            "t": pa.array(["é", None, "abc"]),
            "l": pa.array([["ab"], [], None], pa.list_(pa.string())),
            "s": pa.array([{"i": 1, "t": "x"}, None, {"i": 1, "t": ""}],
                          pa.struct([("i", pa.int8()), ("t", pa.string())])),
            "e": pa.ExtensionArray.from_storage(tensor, storage),
        }
    )  # fmt: skip
    assert batch_bits(batch).tolist() == [
        16 + 1 + 16 + 16 + 8 + 8 + 64,
        16 + 1 + 0 + 0 + 8 + 0 + 64,
        16 + 1 + 24 + 0 + 8 + 0 + 64,
    ]


@relaxed
@given(
    sizes=st.lists(
        st.one_of(st.integers(0, 300), st.sampled_from([5_000, 60_000, 400_000, AUTO_BYTES + 1])),
        max_size=40,
    ),
    repeats=st.sampled_from([1, 90]),
    ends=st.lists(st.integers(0, 3600), max_size=30),
    batch_rows=st.sampled_from([None, None, 1, 7, 1000]),
    failed=st.frozensets(st.integers(0, 3600), max_size=8),
    data=st.data(),
)
def test_chunks_are_the_same_however_the_reader_cuts(
    sizes: list[int],
    repeats: int,
    ends: list[int],
    batch_rows: int | None,
    failed: frozenset[int],
    data: st.DataObject,
) -> None:
    """Borders, rows and failures are those of one big batch, also when started at a border."""
    if repeats > 1:
        sizes = [size % 6_000 for size in sizes] * repeats
    texts = pa.array(["x" * size if size % 7 else None for size in sizes], pa.string())
    table = pa.table({"n": np.arange(len(sizes)), "t": texts})
    failed = frozenset(row for row in failed if row < len(sizes))
    whole = cut(CutReader(table, [], failed), batch_rows=batch_rows)
    other = cut(CutReader(table, ends, failed), batch_rows=batch_rows)
    assert borders(other) == borders(whole)
    got = pa.Table.from_batches([c.rows.columns for c in other], table.schema)
    assert got.equals(table)
    assert [dict(c.rows.failures) for c in other] == [dict(c.rows.failures) for c in whole]
    assert sum(len(c.rows.failures) for c in whole) == len(failed)
    if whole:
        start = data.draw(st.sampled_from(borders(whole)))
        again = cut(CutReader(table, ends, failed), start, batch_rows=batch_rows)
        assert borders(again) == [border for border in borders(whole) if border >= start]
    check_rule(whole, batch_rows)


def check_rule(found: list[Chunk], batch_rows: int | None) -> None:
    """Each chunk is as large as the rule allows, and no larger."""
    for this, following in zip_longest(found, found[1:]):
        rows = this.rows.num_rows
        if batch_rows is not None:
            assert rows == batch_rows or (following is None and rows < batch_rows)
            continue
        size = int(batch_bits(this.rows.columns).sum())
        assert rows <= AUTO_ROWS
        assert size <= AUTO_BYTES * 8 or rows == 1
        if following is not None and rows < AUTO_ROWS:
            assert size + int(batch_bits(following.rows.columns)[0]) > AUTO_BYTES * 8


def test_a_limit_stops_before_its_row_counted_from_the_first() -> None:
    """``limit`` is the same row wherever the run began; nothing is read beyond it."""
    table = pa.table({"n": np.arange(5000)})
    reader = CutReader(table, [700, 1500, 4000], frozenset())
    assert borders(cut(reader, limit=2500)) == [0, 1024, 2048]
    assert cut(reader, limit=2500)[-1].rows.num_rows == 452
    assert borders(cut(reader, 2048, limit=2500)) == [2048]
    assert cut(reader, 2048, limit=2048) == cut(reader, limit=0) == []
    assert sum(c.rows.num_rows for c in cut(reader, limit=10**9)) == 5000


def test_no_more_is_read_than_the_limit_needs() -> None:
    """A reader is not asked for a batch beyond the limit."""

    class Endless:
        schema = pa.schema([("n", pa.int64())])
        num_rows = None

        def batches(self, start_row: int = 0, columns: object = None) -> Iterator[RowBatch]:
            yield RowBatch(pa.record_batch([pa.array(range(100))], schema=self.schema))
            raise AssertionError("read on")

    assert sum(c.rows.num_rows for c in cut(Endless(), limit=100, batch_rows=30)) == 100


@pytest.mark.parametrize("batch_rows", [None, 300])
def test_rows_are_kept_where_no_column_is_read(batch_rows: int | None) -> None:
    """With no columns at all the rows still count."""
    table = pa.table({"n": np.arange(1000)})
    found = cut(CutReader(table, [1, 2, 3, 500], frozenset()), columns=[], batch_rows=batch_rows)
    assert sum(c.rows.num_rows for c in found) == 1000
    assert {c.rows.columns.num_columns for c in found} == {0}


def test_columns_that_are_not_read_do_not_count() -> None:
    """The 1 MiB is that of the columns asked for."""
    table = pa.table({"n": np.arange(2000), "t": ["x" * 10_000] * 2000})
    assert borders(cut(table_reader(table), columns=["n"])) == [0, 1024]
    assert len(cut(table_reader(table))) == 20


def test_tiny_batches_are_joined() -> None:
    """A reader with one row a batch gives the same full chunks."""
    table = pa.table({"n": np.arange(20_000), "t": ["some text"] * 20_000})
    found = cut(CutReader(table, list(range(20_000)), frozenset()))
    assert borders(found) == list(range(0, 20_000, 1024))


def test_tensors_are_joined() -> None:
    """An extension type stays what it is when a chunk spans batches."""
    tensor = pa.fixed_shape_tensor(pa.float32(), [2])
    array = pa.ExtensionArray.from_storage(tensor, pa.array([[1, 2]] * 50, tensor.storage_type))
    table = pa.table({"t": array})
    found = cut(CutReader(table, [3, 9, 30], frozenset()), batch_rows=20)
    assert [c.rows.num_rows for c in found] == [20, 20, 10]
    assert {c.rows.columns.schema.field("t").type for c in found} == {tensor}
