"""An event loop in a thread of its own, for engines whose workers are plain functions."""

from __future__ import annotations

import asyncio
import threading
from typing import TYPE_CHECKING, Any, Self, TypeVar

if TYPE_CHECKING:
    from collections.abc import Callable, Coroutine

T = TypeVar("T")


class LoopThread:
    """Runs coroutines for a thread that has no event loop, or one that it must not block."""

    def __init__(self) -> None:
        self._loop = asyncio.new_event_loop()
        self._thread = threading.Thread(
            target=self._loop.run_forever, name="batchscore-loop", daemon=True
        )
        self._thread.start()

    def start(self, work: Coroutine[Any, Any, T], on_end: Callable[[], None]) -> asyncio.Task[T]:
        """Begin work; whatever its end, ``on_end`` is called after it, in the loop's thread."""

        async def begun() -> asyncio.Task[T]:
            task = asyncio.create_task(work)
            task.add_done_callback(lambda _: on_end())
            return task

        return self.run(begun())

    def cancel(self, task: asyncio.Task[Any]) -> None:
        """Ask work to end; nothing happens where it has."""
        self._loop.call_soon_threadsafe(task.cancel)

    def run(self, work: Coroutine[Any, Any, T]) -> T:
        """The result of work; an interrupted wait cancels it."""
        future = asyncio.run_coroutine_threadsafe(work, self._loop)
        try:
            return future.result()
        except BaseException:
            future.cancel()
            raise

    def close(self) -> None:
        """End the loop, and what still runs in it."""
        asyncio.run_coroutine_threadsafe(_cancel_others(), self._loop).result()
        self._loop.call_soon_threadsafe(self._loop.stop)
        self._thread.join()
        self._loop.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()


async def _cancel_others() -> None:
    others = asyncio.all_tasks() - {asyncio.current_task()}
    for task in others:
        task.cancel()
    await asyncio.gather(*others, return_exceptions=True)
    await asyncio.get_running_loop().shutdown_asyncgens()
