"""The ordered bounded map: chunks in, results out in the same order, memory bounded.

A feeder reads a chunk, waits until the window has room, starts a task for it and queues the
task's handle; a drainer awaits the handles in order and hands the results on, those at one go
that are ready. One TaskGroup owns
every task, so nothing outlives ``ordered_map``: the first error, or a cancellation from outside,
cancels the rest and comes out as itself.
"""

from __future__ import annotations

import asyncio
from collections import deque
from contextlib import aclosing, asynccontextmanager
from dataclasses import dataclass
from typing import TYPE_CHECKING, TypeVar

if TYPE_CHECKING:
    from collections.abc import (
        AsyncGenerator,
        AsyncIterator,
        Awaitable,
        Callable,
        Coroutine,
        Iterable,
    )

    from batchscore.batches import Chunk

R = TypeVar("R")

# Results that are written at one go; a cancellation waits for all of them.
_MAX_RUN = 16


@dataclass
class Window:
    """What has been read and is not yet written, bounded in rows and in bytes.

    One chunk is always let in, however large it is, so that the job goes on. A chunk counts with
    the bytes of its rows, and with those that its predictions can be expected to have.

    Attributes:
        max_rows, max_bytes: the bounds.
        one_at_a_time: a chunk is let in only after the one before it was written.
    """

    max_rows: int
    max_bytes: int
    one_at_a_time: bool = False

    def __post_init__(self) -> None:
        self._sizes: dict[int, int] = {}
        self._rows = 0
        self._bytes = 0
        self._result_bytes_a_row = 0.0
        self._freed = asyncio.Event()

    async def enter(self, chunk: Chunk) -> None:
        """Wait until the chunk fits."""
        rows, size = chunk.rows.num_rows, chunk.rows.columns.nbytes
        while not self._fits(rows, size):
            self._freed.clear()
            await self._freed.wait()
        self._rows += rows
        self._bytes += size
        self._sizes[chunk.start_row] = size

    def leave(self, chunk: Chunk) -> None:
        """Make the chunk's room free again."""
        self._rows -= chunk.rows.num_rows
        self._bytes -= self._sizes.pop(chunk.start_row)
        self._freed.set()

    def expect(self, rows: int, result_bytes: int) -> None:
        """Take note of how large the predictions of so many rows were."""
        self._result_bytes_a_row = max(self._result_bytes_a_row, result_bytes / max(rows, 1))

    def _fits(self, rows: int, size: int) -> bool:
        if not self._sizes:
            return True
        if self.one_at_a_time:
            return False
        rows, size = self._rows + rows, self._bytes + size
        return rows <= self.max_rows and size + rows * self._result_bytes_a_row <= self.max_bytes


async def ordered_map(
    chunks: AsyncGenerator[Chunk, None],
    score: Callable[[Chunk], Coroutine[None, None, R]],
    write: Callable[[list[R]], Awaitable[None]],
    window: Window,
) -> None:
    """Score chunks concurrently and write the results in the order of the chunks.

    What was scored while the one before was written is written at one go: a hop to a thread
    costs as much as to encode a hundred rows.

    A cancellation, or an error, may come at any await. What was handed to ``write`` by then is
    written, in order and without gaps; a chunk that was read and not handed on is lost here, and
    read again by who goes on behind the last row that was written.

    Raises:
        Exception: the first error of reading, scoring or writing, itself and not in a group.
    """
    started: deque[tuple[Chunk, asyncio.Task[R]]] = deque()
    changed = asyncio.Event()
    is_fed = False

    async def feed(group: asyncio.TaskGroup) -> None:
        nonlocal is_fed
        async with aclosing(chunks):
            async for chunk in chunks:
                await window.enter(chunk)
                started.append((chunk, group.create_task(score(chunk))))
                changed.set()
        is_fed = True
        changed.set()

    async def drain() -> None:
        while started or not is_fed:
            if not started:
                changed.clear()
                await changed.wait()
                continue
            done: list[Chunk] = []
            results: list[R] = []
            while started and len(done) < _MAX_RUN and (not done or started[0][1].done()):
                chunk, task = started.popleft()
                results.append(await task)
                done.append(chunk)
            await write(results)
            for chunk in done:
                window.leave(chunk)

    try:
        async with asyncio.TaskGroup() as group:
            group.create_task(feed(group))
            group.create_task(drain())
    except BaseExceptionGroup as errors:
        error = first_error(errors)
        raise error from error.__cause__


async def gather(parts: Iterable[Coroutine[None, None, R]]) -> list[R]:
    """The results of all parts, run side by side; the first error cancels the others."""
    try:
        async with asyncio.TaskGroup() as group:
            tasks = [group.create_task(part) for part in parts]
    except BaseExceptionGroup as errors:
        error = first_error(errors)
        raise error from error.__cause__
    return [task.result() for task in tasks]


@asynccontextmanager
async def watching(watch: Coroutine[None, None, None]) -> AsyncIterator[None]:
    """Run ``watch`` beside the body; its error ends the body, the body's end ends it."""
    try:
        async with asyncio.TaskGroup() as group:
            watcher = group.create_task(watch)
            yield
            watcher.cancel()
    except BaseExceptionGroup as errors:
        error = first_error(errors)
        raise error from error.__cause__


def first_error(errors: BaseExceptionGroup[BaseException]) -> BaseException:
    """The error that made a task group end: its siblings were only cancelled."""
    error: BaseException = errors
    while isinstance(error, BaseExceptionGroup):
        error = error.exceptions[0]
    return error
