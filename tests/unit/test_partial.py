"""The partial file: whatever a crash leaves of it, resuming gives the file of an unbroken run."""

from __future__ import annotations

import errno
import os
import resource
import shutil
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING

import polars as pl
import pyarrow as pa
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from pyarrow import feather

from batchscore.errors import OutputError, UsageError
from batchscore.partial import (
    Disk,
    PartialFile,
    commit,
    output_error,
    partial_folder,
    serialize_batch,
)
from batchscore.partial.journal import LINE_BYTES, entries

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Sequence

IDENTITY = {"input": "abc", "features": ["a", "b"], "limit": None}
SCHEMA = pa.schema(
    [("number", pa.int64()), ("text", pa.string())], metadata={"endpoint": "http://host"}
)


def batch(index: int) -> pa.RecordBatch:
    """Two rows that no other batch has."""
    return pa.record_batch([[index, None], ["x" * index, "ü"]], schema=SCHEMA)


BATCHES = [batch(index) for index in range(4)]


def write(folder: Path, batches: Sequence[pa.RecordBatch], *, resume: bool = False) -> bytes:
    """Write all batches that are not there yet, of two rows each, and seal."""
    partial = PartialFile(folder, sync_interval_s=1000)
    done = partial.open(SCHEMA, IDENTITY, resume=resume)
    for item in batches[done // 2 :]:
        partial.append(item)
    path = partial.seal()
    partial.close()
    return path.read_bytes()


def resumable_rows(folder: Path) -> int:
    """How many rows a resumed run finds."""
    partial = PartialFile(folder)
    try:
        return partial.open(SCHEMA, IDENTITY, resume=True)
    finally:
        partial.close()


@pytest.fixture(scope="module")
def work() -> Iterator[Path]:
    """A folder in memory where there is one: thousands of files are synced in it."""
    shared = Path("/dev/shm")
    base = shared if os.access(shared, os.W_OK) else None
    folder = Path(os.path.realpath(_mkdtemp(base)))
    yield folder
    shutil.rmtree(folder)


def _mkdtemp(base: Path | None) -> str:
    from tempfile import mkdtemp

    return mkdtemp(prefix="batchscore-test-", dir=base)


class Interrupted:
    """What an unfinished run left on disk, and the file it would have become."""

    def __init__(self, work: Path) -> None:
        self.folder = work / "out.arrow.partial"
        self.whole = write(work / "unbroken.partial", BATCHES)
        partial = PartialFile(self.folder)
        partial.open(SCHEMA, IDENTITY)
        for item in BATCHES[:3]:
            partial.append(item)
        partial.close()
        self.rows = (self.folder / "rows.arrow").read_bytes()
        self.journal = (self.folder / "journal").read_bytes()
        self.ends = [entry.end for entry in entries(self.journal)]

    def leave(self, rows: bytes, journal: bytes) -> None:
        (self.folder / "rows.arrow").write_bytes(rows)
        (self.folder / "journal").write_bytes(journal)
        (self.folder / "job.json").write_text('{"input":"abc","features":["a","b"],"limit":null}')

    def resumed_rows(self) -> int:
        """Open, finish the job, compare with the unbroken run; how many rows were kept."""
        partial = PartialFile(self.folder, sync_interval_s=1000)
        done = partial.open(SCHEMA, IDENTITY, resume=True)
        assert done == partial.rows
        for item in BATCHES[done // 2 :]:
            partial.append(item)
        sealed = partial.seal().read_bytes()
        partial.close()
        assert sealed == self.whole
        return done


@pytest.fixture(scope="module")
def interrupted(work: Path) -> Interrupted:
    """A run of four chunks that ended after three."""
    return Interrupted(work)


def rows_before(ends: Sequence[int], position: int) -> int:
    """The rows of the chunks that end at or before a position; the first entry is the head."""
    return 2 * max(0, sum(end <= position for end in ends) - 1)


def read_all(path: Path) -> pa.Table:
    """The whole file, checked."""
    with pa.OSFile(str(path)) as source, pa.ipc.open_file(source) as reader:
        table = reader.read_all()
    table.validate(full=True)
    return table


# Resume.


def test_resuming_goes_on_after_the_last_chunk(interrupted: Interrupted) -> None:
    """A run that ended in good order is resumed with every chunk, and ends in equal bytes."""
    interrupted.leave(interrupted.rows, interrupted.journal)
    assert interrupted.resumed_rows() == 6


def test_rows_cut_at_any_byte_cost_no_whole_chunk(interrupted: Interrupted) -> None:
    """Wherever the data ends, resume keeps the whole chunks before and ends in equal bytes."""
    for length in range(len(interrupted.rows) + 1):
        interrupted.leave(interrupted.rows[:length], interrupted.journal)
        assert interrupted.resumed_rows() == rows_before(interrupted.ends, length), length


def test_a_journal_cut_at_any_byte_keeps_the_chunks_of_its_lines(interrupted: Interrupted) -> None:
    """Wherever the journal ends, resume keeps the chunks of its whole lines."""
    for length in range(len(interrupted.journal) + 1):
        interrupted.leave(interrupted.rows, interrupted.journal[:length])
        assert interrupted.resumed_rows() == 2 * max(0, length // LINE_BYTES - 1), length


def test_a_damaged_byte_of_the_rows_never_gives_a_wrong_file(interrupted: Interrupted) -> None:
    """A damaged byte anywhere in the data costs its chunk and those after, never a wrong file."""
    for position in range(len(interrupted.rows)):
        rows = bytearray(interrupted.rows)
        rows[position] ^= 0x41
        interrupted.leave(bytes(rows), interrupted.journal)
        assert interrupted.resumed_rows() == rows_before(interrupted.ends, position), position


def test_a_damaged_byte_of_the_journal_costs_its_line_and_those_after(
    interrupted: Interrupted,
) -> None:
    """A damaged byte anywhere in the journal costs its line and those after."""
    for position in range(len(interrupted.journal)):
        journal = bytearray(interrupted.journal)
        journal[position] ^= 0x01
        interrupted.leave(interrupted.rows, bytes(journal))
        assert interrupted.resumed_rows() == 2 * max(0, position // LINE_BYTES - 1), position


def test_data_that_never_reached_the_disk_is_redone(interrupted: Interrupted) -> None:
    """Where a power loss left zeros behind a good journal, the chunks of zeros are redone."""
    for kept in range(interrupted.ends[0], len(interrupted.rows), 8):
        rows = interrupted.rows[:kept] + bytes(len(interrupted.rows) - kept)
        interrupted.leave(rows, interrupted.journal)
        found = interrupted.resumed_rows()
        # A chunk may end in zeros of its own.
        assert found >= rows_before(interrupted.ends, kept)


def test_long_tails_are_cut_off(interrupted: Interrupted) -> None:
    """However much stands behind the last good chunk and line, nothing of it stays."""
    interrupted.leave(interrupted.rows + b"x" * 100_000, interrupted.journal + b"x" * 100_000)
    assert interrupted.resumed_rows() == 6
    assert len((interrupted.folder / "journal").read_bytes()) == 5 * LINE_BYTES


@settings(max_examples=150, deadline=None)
@given(data=st.data())
def test_no_mixture_of_damage_gives_a_wrong_file(
    interrupted: Interrupted, data: st.DataObject
) -> None:
    """Cuts, garbage and foreign tails in both files at once never give a wrong file."""

    def damaged(whole: bytes) -> bytes:
        cut = data.draw(st.integers(0, len(whole)))
        return whole[:cut] + data.draw(st.binary(max_size=200))

    interrupted.leave(damaged(interrupted.rows), damaged(interrupted.journal))
    interrupted.resumed_rows()


def test_a_kill_after_sealing_loses_nothing(work: Path) -> None:
    """A kill between sealing and committing loses nothing: all rows are there, bytes are equal."""
    folder = work / "sealed.partial"
    first = write(folder, BATCHES)
    partial = PartialFile(folder)
    assert partial.open(SCHEMA, IDENTITY, resume=True) == 8
    partial.close()
    assert write(folder, BATCHES, resume=True) == first


def test_a_job_resumed_many_times_gives_the_same_bytes(work: Path) -> None:
    """A job that is stopped after each chunk gives the bytes of an unbroken one."""
    folder = work / "often.partial"
    for count, item in enumerate(BATCHES):
        partial = PartialFile(folder)
        assert partial.open(SCHEMA, IDENTITY, resume=True) == 2 * count
        partial.append(item)
        partial.close()
    assert write(folder, BATCHES, resume=True) == write(work / "once.partial", BATCHES)


@pytest.mark.parametrize(
    ("schema", "identity", "resume"),
    [
        (SCHEMA, IDENTITY, False),
        (SCHEMA, {**IDENTITY, "limit": 3}, True),
        (SCHEMA.with_metadata({"endpoint": "http://other"}), IDENTITY, True),
        (pa.schema([SCHEMA.field(0)], SCHEMA.metadata), IDENTITY, True),
    ],
    ids=["not asked to", "another job", "other metadata", "other columns"],
)
def test_what_is_not_the_same_job_starts_afresh(
    work: Path, schema: pa.Schema, identity: dict[str, object], *, resume: bool
) -> None:
    """Only the same job with the same schema is resumed, and only when asked."""
    folder = work / "afresh.partial"
    write(folder, BATCHES)
    partial = PartialFile(folder)
    assert partial.open(schema, identity, resume=resume) == 0
    assert partial.identity() == identity
    assert read_all(partial.seal()).num_rows == 0
    partial.close()


@pytest.mark.parametrize("missing", ["rows.arrow", "journal", "job.json"])
def test_where_a_file_is_missing_the_job_starts_afresh(
    interrupted: Interrupted, missing: str
) -> None:
    """Where one of the three files is gone, there is nothing to resume: the job starts afresh."""
    interrupted.leave(interrupted.rows, interrupted.journal)
    (interrupted.folder / missing).unlink()
    assert PartialFile(interrupted.folder).exists() == (missing == "journal")
    assert interrupted.resumed_rows() == 0


def test_the_identity_of_what_is_there_comes_back_as_given(tmp_path: Path) -> None:
    """The identity comes back as it was given, and is None before there is one or if damaged."""
    partial = PartialFile(tmp_path / "out.arrow.partial")
    assert partial.identity() is None
    assert not partial.exists()
    partial.open(SCHEMA, IDENTITY)
    partial.close()
    assert partial.exists()
    assert PartialFile(tmp_path / "out.arrow.partial").identity() == IDENTITY
    (tmp_path / "out.arrow.partial" / "job.json").write_text("{")
    assert partial.identity() is None
    (tmp_path / "out.arrow.partial" / "job.json").write_text("[]")
    assert partial.identity() is None


# The sealed file.


def tensor(values: list[list[float] | None]) -> pa.Array:
    """A column of two by two numbers."""
    kind = pa.fixed_shape_tensor(pa.float32(), [2, 2], dim_names=["h", "w"])
    storage = pa.array(values, pa.list_(pa.float32(), 4))
    return pa.ExtensionArray.from_storage(kind, storage)


def rich_table(rows: int) -> pa.Table:
    """A table of the types that are easiest to get wrong."""
    nested = pa.list_(pa.struct({"key": pa.string(), "values": pa.large_list(pa.int8())}))
    return pa.table(
        {
            "tensor": tensor([[1.0, 2.0, 3.0, float(i)] if i % 3 else None for i in range(rows)]),
            "nested": pa.array(
                [[{"key": "a", "values": [i % 9]}] * (i % 3) for i in range(rows)], nested
            ),
            "map": pa.array([[("k", i)] for i in range(rows)], pa.map_(pa.string(), pa.int64())),
            "text": pa.array([f"ü{i}" for i in range(rows)], pa.string_view()),
            "bool": pa.array([None if i % 2 else True for i in range(rows)], pa.bool_()),
            "null": pa.nulls(rows),
        }
    ).replace_schema_metadata({"unicode": "é", "long": "x" * 10_000})


@pytest.mark.parametrize("count", [0, 1, 5000])
def test_a_sealed_file_opens_everywhere(work: Path, count: int) -> None:
    """A sealed file of 0, 1 or 5,000 batches is what PyArrow, Feather and Polars expect."""
    schema = pa.schema([("n", pa.int64()), ("s", pa.string())], metadata={"k": "v"})
    partial = PartialFile(work / "count.partial")
    partial.open(schema, {})
    for index in range(count):
        partial.append(pa.record_batch([[index] * 2, ["a", None]], schema=schema))
    path = partial.seal()
    partial.close()
    expected = [index for index in range(count) for _ in range(2)]

    with pa.memory_map(str(path)) as source, pa.ipc.open_file(source) as reader:
        assert reader.num_record_batches == count
        assert reader.schema.equals(schema, check_metadata=True)
        assert all(reader.get_batch(i).num_rows == 2 for i in range(count))
        assert reader.read_all().column("n").to_pylist() == expected
    with path.open("rb") as file, pa.ipc.open_file(file) as reader:
        assert reader.read_all().column("s").null_count == count
    with path.open("rb") as file:
        file.seek(8)
        with pa.ipc.open_stream(file) as stream:
            assert sum(1 for _ in stream) == count
    assert feather.read_table(str(path)).column("n").to_pylist() == expected
    assert pl.read_ipc(path)["n"].to_list() == expected
    assert pl.scan_ipc(path).select(pl.len()).collect().item() == 2 * count


def test_every_type_comes_back(work: Path) -> None:
    """Extension types, nested columns, views and metadata are read back as they were written."""
    table = rich_table(300)
    partial = PartialFile(work / "rich.partial")
    partial.open(table.schema, {})
    for item in table.to_batches(max_chunksize=7):
        partial.append(item)
    found = read_all(partial.seal())
    partial.close()
    assert found.equals(table, check_metadata=True)
    assert found.column("tensor").type == table.column("tensor").type


def test_the_footer_of_two_thousand_columns_is_right(work: Path) -> None:
    """The footer is right for a schema far larger than the data."""
    schema = pa.schema(
        [pa.field(f"column {i}", pa.float32(), metadata={"i": str(i)}) for i in range(2000)]
    )
    rows = pa.record_batch([pa.array([float(i)], pa.float32()) for i in range(2000)], schema=schema)
    partial = PartialFile(work / "wide.partial")
    partial.open(schema, {})
    partial.append(rows)
    partial.append(rows)
    found = read_all(partial.seal())
    partial.close()
    assert found.schema.equals(schema, check_metadata=True)
    assert found.to_batches() == [rows, rows]


@settings(max_examples=60, deadline=None)
@given(
    names=st.lists(st.text(max_size=20), min_size=1, max_size=9), counts=st.lists(st.integers(0, 9))
)
def test_the_footer_is_found_for_any_schema(
    work: Path, names: list[str], counts: list[int]
) -> None:
    """Whatever the length of schema and metadata, the list of blocks is aligned and found."""
    schema = pa.schema([(name, pa.int16()) for name in names], metadata={"m": "".join(names)})
    partial = PartialFile(work / "any.partial", sync_interval_s=1000)
    partial.open(schema, {})
    for count in counts:
        columns = [pa.array(range(count), pa.int16())] * len(names)
        partial.append(pa.record_batch(columns, schema=schema))
    path = partial.seal()
    partial.close()
    with pa.memory_map(str(path)) as source, pa.ipc.open_file(source) as reader:
        assert [reader.get_batch(i).num_rows for i in range(len(counts))] == counts
        assert reader.schema.equals(schema, check_metadata=True)
        assert reader.num_record_batches == len(counts)


@pytest.mark.parametrize(
    "kind",
    [
        pa.string(),
        pa.large_string(),
        pa.string_view(),
        pa.list_(pa.string_view()),
        pa.struct({"a": pa.string_view()}),
        pa.list_(pa.large_string()),
        pa.list_(pa.string_view(), 1),
        pa.map_(pa.string(), pa.string_view()),
    ],
    ids=str,
)
def test_slices_leave_their_parents_behind(work: Path, kind: pa.DataType) -> None:
    """Two rows cut from a large batch take the bytes of two rows."""
    texts = ["y" * 1000] * 1000
    if pa.types.is_map(kind):
        whole = pa.array([[("k", text)] for text in texts], kind)
    elif pa.types.is_list(kind) or pa.types.is_fixed_size_list(kind):
        whole = pa.array([[text] for text in texts], kind)
    elif pa.types.is_struct(kind):
        whole = pa.array([{"a": text} for text in texts], kind)
    else:
        whole = pa.array(texts, kind)
    part = pa.record_batch({"c": whole}).slice(400, 2)
    assert len(serialize_batch(part)) < 4000
    partial = PartialFile(work / "slice.partial")
    partial.open(part.schema, {})
    partial.append(part)
    assert read_all(partial.seal()).to_batches() == [part]
    partial.close()


@pytest.mark.parametrize(
    "kind",
    [
        pa.dictionary(pa.int32(), pa.string()),
        pa.list_(pa.dictionary(pa.int8(), pa.string())),
        pa.struct({"a": pa.map_(pa.string(), pa.dictionary(pa.int8(), pa.string()))}),
    ],
    ids=["column", "list", "map in struct"],
)
def test_dictionaries_are_refused(tmp_path: Path, kind: pa.DataType) -> None:
    """A dictionary anywhere in the schema is refused by column name, before any file is made."""
    partial = PartialFile(tmp_path / "out.arrow.partial")
    with pytest.raises(ValueError, match="'pets'"):
        partial.open(pa.schema([("pets", kind)]), {})
    assert list(tmp_path.iterdir()) == []


# Appending.


def test_serialized_batches_are_appended_undecoded(work: Path) -> None:
    """Bytes that a worker made give the same file as the batch itself."""
    partial = PartialFile(work / "serialized.partial")
    partial.open(SCHEMA, IDENTITY)
    for item in BATCHES:
        partial.append_serialized(serialize_batch(item), item.num_rows)
    assert partial.rows == 8
    assert partial.num_batches == 4
    assert partial.seal().read_bytes() == write(work / "plain.partial", BATCHES)
    partial.close()


@pytest.mark.parametrize(
    ("damage", "words"),
    [
        (lambda message: b"", "not an Arrow message"),
        (lambda message: b"\0" * 400, "not an Arrow message"),
        (lambda message: message[:40], "not an Arrow message"),
        (lambda message: message[:-8], "not whole"),
        (lambda message: message + bytes(8), "not whole"),
        (lambda message: SCHEMA.serialize().to_pybytes(), "not a record batch"),
        (lambda message: serialize_batch(BATCHES[0].slice(1)), "1 rows, not 2"),
    ],
    ids=["empty", "zeros", "metadata cut", "body cut", "too long", "schema", "rows"],
)
def test_bytes_that_are_no_batch_are_refused(
    work: Path, damage: Callable[[bytes], bytes], words: str
) -> None:
    """Wrong bytes from a worker raise ValueError and leave the file as it was."""
    partial = PartialFile(work / "refuse.partial")
    partial.open(SCHEMA, IDENTITY)
    with pytest.raises(ValueError, match=words):
        partial.append_serialized(damage(serialize_batch(BATCHES[0])), 2)
    for item in BATCHES:
        partial.append(item)
    assert partial.seal().read_bytes() == write(work / "refuse-not.partial", BATCHES)
    partial.close()


def test_any_bytes_are_a_batch_or_refused(work: Path) -> None:
    """No damaged message, at whatever byte, raises anything but ValueError."""
    message = serialize_batch(BATCHES[0])
    partial = PartialFile(work / "bytes.partial", sync_interval_s=1000)
    partial.open(SCHEMA, IDENTITY)
    refused = 0
    for position in range(len(message)):
        damaged = message[:position] + bytes([message[position] ^ 0xFF]) + message[position + 1 :]
        try:
            partial.append_serialized(damaged, 2)
        except ValueError:
            refused += 1
    partial.close()
    assert refused > 10


def test_a_batch_with_other_columns_is_refused(work: Path) -> None:
    """A batch with other columns than the schema raises ValueError."""
    partial = PartialFile(work / "other.partial")
    partial.open(SCHEMA, IDENTITY)
    with pytest.raises(ValueError, match="another schema"):
        partial.append(pa.record_batch({"number": [1]}))
    partial.close()


def test_calls_out_of_order_are_refused(tmp_path: Path) -> None:
    """Appending before open or after close raises ValueError; close may be called twice."""
    partial = PartialFile(tmp_path / "out.arrow.partial")
    with pytest.raises(ValueError, match="not open"):
        partial.append_serialized(serialize_batch(BATCHES[0]), 2)
    partial.open(SCHEMA, IDENTITY)
    partial.close()
    partial.close()
    with pytest.raises(ValueError, match="not open"):
        partial.append(BATCHES[0])


def test_data_is_synced_once_an_interval(tmp_path: Path) -> None:
    """Data is made durable when the interval has passed, on demand, and not in between."""
    now = [0.0]
    partial = PartialFile(tmp_path / "p", sync_interval_s=1.0, clock=lambda: now[0])
    partial.open(SCHEMA, IDENTITY)
    waiting = []
    for now[0] in (0.2, 0.9, 1.0, 1.1, 1.9, 2.5):
        partial.append(BATCHES[0])
        waiting.append(partial._unsynced)
    assert waiting == [True, True, False, True, True, False]
    partial.append(BATCHES[0])
    partial.sync()
    assert not partial._unsynced
    partial.close()


# Trouble with the disk.


@contextmanager
def limit(kind: int, value: int) -> Iterator[None]:
    """A limit of this process, as the system enforces it."""
    soft, hard = resource.getrlimit(kind)
    resource.setrlimit(kind, (value, hard))
    try:
        yield
    finally:
        resource.setrlimit(kind, (soft, hard))


def test_a_write_that_fails_is_resumed(work: Path) -> None:
    """When the disk takes no more in the middle of a chunk, what was whole is there afterwards."""
    folder = work / "full.partial"
    partial = PartialFile(folder)
    partial.open(SCHEMA, IDENTITY)
    partial.append(BATCHES[0])
    size = (folder / "rows.arrow").stat().st_size
    with limit(resource.RLIMIT_FSIZE, size + 100):
        with pytest.raises(OutputError, match=r"cannot write '.*full\.partial': File too large"):
            partial.append(BATCHES[1])
        assert (folder / "rows.arrow").stat().st_size == size + 100
    with pytest.raises(OutputError, match="File too large"):
        partial.append(BATCHES[1])
    partial.close()
    assert resumable_rows(folder) == 2
    assert write(folder, BATCHES, resume=True) == write(work / "enough.partial", BATCHES)


def test_a_seal_that_fails_is_resumed(work: Path) -> None:
    """When the footer does not fit, every chunk is there afterwards."""
    folder = work / "footer.partial"
    partial = PartialFile(folder)
    partial.open(SCHEMA, IDENTITY)
    for item in BATCHES:
        partial.append(item)
    with limit(resource.RLIMIT_FSIZE, (folder / "rows.arrow").stat().st_size + 10):
        with pytest.raises(OutputError, match="File too large"):
            partial.seal()
    partial.close()
    assert write(folder, BATCHES, resume=True) == write(work / "enough.partial", BATCHES)


@pytest.mark.parametrize("left", range(4))
def test_without_file_handles_opening_says_what_to_do(tmp_path: Path, left: int) -> None:
    """Wherever the file handles run out, opening says so and what to do, and closing is quiet."""
    partial = PartialFile(tmp_path / "out.arrow.partial")
    highest, holes = max(map(int, os.listdir("/proc/self/fd"))), [os.open("/", os.O_RDONLY)]
    while holes[-1] < highest:
        holes.append(os.open("/", os.O_RDONLY))
    try:
        with limit(resource.RLIMIT_NOFILE, holes[-1] + 1 + left):
            with pytest.raises(OutputError, match=r"Too many open files; .* \(ulimit -n\)"):
                partial.open(SCHEMA, IDENTITY)
            partial.close()
    finally:
        for handle in holes:
            os.close(handle)
    assert write(tmp_path / "out.arrow.partial", BATCHES) is not None


def test_messages_say_what_to_do() -> None:
    """Each kind of trouble names the file, the cause and the way on."""
    for code, words in (
        (errno.ENOSPC, "No space left on device; free some and run the same command with --resume"),
        (errno.EACCES, "Permission denied; allow it, or choose another place for the output"),
        (errno.EIO, "once that is mended, run the same command with --resume"),
    ):
        error = output_error(Path("x.arrow.partial"), OSError(code, os.strerror(code)))
        assert str(error).startswith("cannot write 'x.arrow.partial': ")
        assert str(error).endswith(words)


def test_a_folder_that_is_gone_is_an_output_error(tmp_path: Path) -> None:
    """Where the folder is missing, or vanishes before the end, it is an OutputError."""
    with pytest.raises(OutputError, match="No such file or directory"):
        PartialFile(tmp_path / "gone" / "out.arrow.partial").open(SCHEMA, IDENTITY)
    partial = PartialFile(tmp_path / "out.arrow.partial")
    partial.open(SCHEMA, IDENTITY)
    partial.append(BATCHES[0])
    shutil.rmtree(partial.folder)
    with pytest.raises(OutputError, match="No such file or directory"):
        partial.seal()
    partial.close()


def test_damage_before_the_seal_is_found(work: Path) -> None:
    """A file that does not read back as it was written is not handed on."""
    partial = PartialFile(work / "readback.partial")
    partial.open(SCHEMA, IDENTITY)
    size = (partial.folder / "rows.arrow").stat().st_size
    partial.append(BATCHES[0])
    with (partial.folder / "rows.arrow").open("r+b") as file:
        file.seek(size)
        file.write(bytes(8))
    with pytest.raises(OutputError, match="does not read back"):
        partial.seal()
    partial.close()


def test_rows_that_do_not_add_up_are_found(work: Path) -> None:
    """A sealed file is counted: one with other rows than were appended is not handed on."""
    partial = PartialFile(work / "count.partial")
    partial.open(SCHEMA, IDENTITY)
    partial.append(BATCHES[0])
    partial.rows += 1
    with pytest.raises(OutputError, match="does not read back"):
        partial.seal()
    partial.close()


def test_one_writer_at_a_time(tmp_path: Path) -> None:
    """A second run on the same output is refused while the first is writing, not after."""
    folder = tmp_path / "out.arrow.partial"
    first, second = PartialFile(folder), PartialFile(folder)
    first.open(SCHEMA, IDENTITY)
    first.append(BATCHES[0])
    with pytest.raises(UsageError, match="another run is writing"):
        second.open(SCHEMA, IDENTITY)
    with pytest.raises(UsageError, match="another run is writing"):
        second.discard()
    first.close()
    assert second.open(SCHEMA, IDENTITY, resume=True) == 2
    second.close()


# Committing.


def sealed(folder: Path) -> Path:
    """A sealed file in its folder."""
    write(folder, BATCHES)
    return folder / "rows.arrow"


@pytest.fixture(params=["beside", "another file system"])
def place(
    request: pytest.FixtureRequest, work: Path, tmp_path: Path
) -> Iterator[tuple[Path, Path]]:
    """The folder of work in progress and the output, on one file system or (if any) on two."""
    base = tmp_path if request.param == "beside" else work
    folder = base / "place.partial"
    yield folder, tmp_path / "out.arrow"
    shutil.rmtree(folder, ignore_errors=True)


def test_a_commit_moves_the_file_and_leaves_nothing_of_the_work(place: tuple[Path, Path]) -> None:
    """The output appears whole, and of the work in progress nothing stays."""
    folder, out = place
    path = sealed(folder)
    whole = path.read_bytes()
    commit(Disk(), path, out, overwrite=False)
    assert out.read_bytes() == whole
    assert not folder.exists()
    assert [item.name for item in out.parent.iterdir()] == ["out.arrow"]


def test_a_commit_spares_an_output_that_appeared_meanwhile(place: tuple[Path, Path]) -> None:
    """An output that appeared meanwhile stands, and so does the work in progress."""
    folder, out = place
    path = sealed(folder)
    out.write_text("precious")
    with pytest.raises(UsageError, match="appeared while the job ran"):
        commit(Disk(), path, out, overwrite=False)
    assert out.read_text() == "precious"
    assert resumable_rows(folder) == 8


def test_a_commit_overwrites_only_when_told(place: tuple[Path, Path]) -> None:
    """With overwrite the old output is replaced at once."""
    folder, out = place
    path = sealed(folder)
    whole = path.read_bytes()
    out.write_text("old")
    commit(Disk(), path, out, overwrite=True)
    assert out.read_bytes() == whole
    assert not folder.exists()


def test_a_commit_moves_an_export_as_well(tmp_path: Path) -> None:
    """Another format is moved as well, and the sealed file goes with the folder."""
    partial = PartialFile(tmp_path / "out.csv.partial")
    sealed(partial.folder)
    partial.export_path.write_text("a,b\n")
    commit(Disk(), partial.export_path, tmp_path / "out.csv", overwrite=False)
    assert [item.name for item in tmp_path.iterdir()] == ["out.csv"]


def test_a_commit_to_a_folder_that_is_gone_is_an_output_error(place: tuple[Path, Path]) -> None:
    """If the output's folder is gone, it is an OutputError that names the output."""
    folder, out = place
    path = sealed(folder)
    with pytest.raises(OutputError, match=r"gone/out\.arrow': No such file or directory"):
        commit(Disk(), path, out.parent / "gone" / "out.arrow", overwrite=False)
    assert path.exists()


def test_a_kill_while_committing_harms_nothing(tmp_path: Path) -> None:
    """A kill between the two names of the file leaves an output that resuming does not touch."""
    folder, out = tmp_path / "out.arrow.partial", tmp_path / "out.arrow"
    path = sealed(folder)
    out.hardlink_to(path)
    whole = out.read_bytes()
    partial = PartialFile(folder)
    assert partial.open(SCHEMA, IDENTITY, resume=True) == 8
    partial.append(BATCHES[0])
    partial.close()
    assert out.read_bytes() == whole


def test_discarding_spares_foreign_files(tmp_path: Path) -> None:
    """Discarding removes our files, and the folder only if nothing else is in it."""
    folder = tmp_path / "out.arrow.partial"
    PartialFile(folder).discard()
    write(folder, BATCHES)
    (folder / "notes.txt").write_text("mine")
    PartialFile(folder).discard()
    assert [item.name for item in folder.iterdir()] == ["notes.txt"]
    (folder / "notes.txt").unlink()
    write(folder, BATCHES)
    PartialFile(folder).discard()
    assert not folder.exists()


def test_the_work_stands_beside_the_output_or_where_it_is_told() -> None:
    """Work in progress is beside the output, or in the folder for it."""
    assert partial_folder(Path("a/out.csv")) == Path("a/out.csv.partial")
    assert partial_folder(Path("a/out.csv"), Path("w")) == Path("w/out.csv.partial")
