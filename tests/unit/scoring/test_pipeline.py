"""The ordered bounded map."""

import asyncio
import random

import pyarrow as pa
import pytest

from batchscore.batches import Chunk, RowBatch
from batchscore.scoring.pipeline import Window, gather, ordered_map, watching


def chunk(start: int, rows: int = 10) -> Chunk:
    return Chunk(start, RowBatch(pa.record_batch({"x": pa.array(range(rows), pa.int64())})))


async def source(count: int, read: list[int] | None = None):
    for number in range(count):
        if read is not None:
            read.append(number)
        yield chunk(number)


async def test_results_come_in_the_order_of_the_input_whatever_finishes_first():
    """Chunks that are scored out of order are written in order."""
    rng = random.Random(1)
    written: list[int] = []

    async def score(part: Chunk) -> int:
        await asyncio.sleep(rng.random() / 200)
        return part.start_row

    async def write(results: list[int]) -> None:
        written.extend(results)

    await ordered_map(source(100), score, write, Window(max_rows=200, max_bytes=10**9))
    assert written == list(range(100))


async def test_results_that_are_ready_are_written_at_one_go():
    """While one result is written others get ready, and go out together, in order."""
    writes: list[list[int]] = []

    async def score(part: Chunk) -> int:
        return part.start_row

    async def write(results: list[int]) -> None:
        writes.append(results)
        await asyncio.sleep(0.005)

    await ordered_map(source(100), score, write, Window(max_rows=200, max_bytes=10**9))
    assert [result for results in writes for result in results] == list(range(100))
    assert len(writes) < 20


@pytest.mark.parametrize(
    "window", [Window(max_rows=50, max_bytes=10**9), Window(max_rows=10**9, max_bytes=400)]
)
async def test_one_hung_chunk_at_the_head_does_not_let_memory_grow(window):
    """While the first chunk hangs, no more is read than the window holds (and one beyond)."""
    read: list[int] = []
    head = asyncio.Event()

    async def score(part: Chunk) -> int:
        if part.start_row == 0:
            await head.wait()
        return part.start_row

    written: list[int] = []

    async def write(results: list[int]) -> None:
        written.extend(results)

    job = asyncio.create_task(ordered_map(source(1000, read), score, write, window))
    await asyncio.sleep(0.05)
    assert not written
    assert len(read) == 6  # five chunks of ten rows (80 bytes) inside, one waiting at the door
    head.set()
    await job
    assert written == list(range(1000))


async def test_large_predictions_count_in_the_window_too():
    """Once predictions have shown their size, fewer chunks are let in."""
    read: list[int] = []
    window = Window(max_rows=10**9, max_bytes=10_000)
    window.expect(rows=10, result_bytes=4_000)
    head = asyncio.Event()

    async def score(part: Chunk) -> int:
        await head.wait()
        return part.start_row

    async def write(results: list[int]) -> None:
        pass

    job = asyncio.create_task(ordered_map(source(20, read), score, write, window))
    await asyncio.sleep(0.05)
    assert len(read) == 3  # two chunks of 4,080 bytes inside, one waiting at the door
    head.set()
    await job
    assert len(read) == 20


async def test_a_chunk_larger_than_the_window_is_let_in_alone():
    """A chunk over the bounds does not stop the job."""
    written: list[int] = []

    async def score(part: Chunk) -> int:
        return part.start_row

    async def write(results: list[int]) -> None:
        written.extend(results)

    await ordered_map(source(5), score, write, Window(max_rows=1, max_bytes=1))
    assert written == [0, 1, 2, 3, 4]


async def test_one_at_a_time_means_that_each_is_written_before_the_next_begins():
    """While classes are being learned, chunks go through alone."""
    events: list[str] = []

    async def score(part: Chunk) -> int:
        events.append(f"score {part.start_row}")
        await asyncio.sleep(0)
        return part.start_row

    async def write(results: list[int]) -> None:
        events.extend(f"write {result}" for result in results)

    window = Window(max_rows=1000, max_bytes=10**9, one_at_a_time=True)
    await ordered_map(source(3), score, write, window)
    assert events == [f"{verb} {n}" for n in range(3) for verb in ("score", "write")]


@pytest.mark.parametrize("place", ["read", "score", "write"])
async def test_an_error_anywhere_comes_out_as_itself_and_leaves_no_task(place):
    """The first error ends the map; it is not wrapped, and nothing runs on."""

    async def broken_source():
        for number in range(100):
            if place == "read" and number == 7:
                raise ValueError(place)
            yield chunk(number)

    async def score(part: Chunk) -> int:
        await asyncio.sleep(0.001)
        if place == "score" and part.start_row == 7:
            raise ValueError(place)
        return part.start_row

    async def write(results: list[int]) -> None:
        if place == "write" and 7 in results:
            raise ValueError(place)

    before = asyncio.all_tasks()
    with pytest.raises(ValueError, match=place):
        await ordered_map(broken_source(), score, write, Window(max_rows=200, max_bytes=10**9))
    assert asyncio.all_tasks() == before


async def test_cancellation_ends_everything_and_is_seen_by_the_workers():
    """A cancelled map cancels its workers and ends at once."""
    cancelled: list[int] = []

    async def score(part: Chunk) -> int:
        try:
            await asyncio.Event().wait()
        except asyncio.CancelledError:
            cancelled.append(part.start_row)
            raise
        return 0

    async def write(results: list[int]) -> None:
        raise AssertionError("nothing was scored")

    before = asyncio.all_tasks()
    job = asyncio.create_task(
        ordered_map(source(100), score, write, Window(max_rows=50, max_bytes=10**9))
    )
    await asyncio.sleep(0.02)
    job.cancel("SIGTERM")
    with pytest.raises(asyncio.CancelledError) as caught:
        await job
    assert caught.value.args == ("SIGTERM",)
    assert sorted(cancelled) == [0, 1, 2, 3, 4]
    assert asyncio.all_tasks() == before


async def test_gather_gives_results_in_order_and_its_first_error_as_itself():
    """Parts run side by side; an error cancels the others."""

    async def part(number: int) -> int:
        await asyncio.sleep(0.001 * (5 - number))
        if number == 9:
            raise ValueError("nine")
        return number

    assert await gather([part(n) for n in range(5)]) == list(range(5))
    with pytest.raises(ValueError, match="nine"):
        await gather([part(n) for n in (1, 9, 2)])


async def test_a_watcher_ends_with_the_work_and_its_error_ends_the_work():
    """What is watched goes on until the watcher objects; neither outlives the other."""

    async def patient():
        await asyncio.Event().wait()

    async def objecting():
        await asyncio.sleep(0.01)
        raise ValueError("changed")

    before = asyncio.all_tasks()
    async with watching(patient()):
        await asyncio.sleep(0)
    with pytest.raises(ValueError, match="changed"):
        async with watching(objecting()):
            await asyncio.Event().wait()
    with pytest.raises(KeyError):
        async with watching(patient()):
            raise KeyError
    assert asyncio.all_tasks() == before
