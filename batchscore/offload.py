"""Where blocking work runs: threads in earnest, inline under simulation."""

from __future__ import annotations

import asyncio
from concurrent.futures import ThreadPoolExecutor
from typing import TYPE_CHECKING, Any, ParamSpec, Protocol, TypeVar

if TYPE_CHECKING:
    from collections.abc import Callable, Coroutine
    from typing import Self

P = ParamSpec("P")
T = TypeVar("T")


_GRACE_S = 0.5
# What takes less time than the switches to a thread and back, or little more: one that holds
# the interpreter's lock would stop the event loop all the same.
_INLINE_BYTES = 2**20


async def uninterrupted(
    work: Coroutine[Any, Any, T], on_cancel: Callable[[], None] | None = None
) -> T:
    """Await work in a thread that must not go on behind our back.

    A cancellation waits for it, but not for long: a thread cannot be stopped, and a job must end.
    Work that can stop by itself is told to by ``on_cancel``.
    """
    task = asyncio.ensure_future(work)
    try:
        return await asyncio.shield(task)
    except asyncio.CancelledError:
        if on_cancel is not None:
            on_cancel()
        await asyncio.wait({task}, timeout=_GRACE_S)
        task.cancel()
        await asyncio.wait({task})
        raise


class Offload(Protocol):
    """Runs a blocking function and gives its result; the event loop goes on meanwhile."""

    async def __call__(
        self, function: Callable[P, T], /, *args: P.args, **kwargs: P.kwargs
    ) -> T: ...


async def by_size(
    offload: Offload, size: int, function: Callable[P, T], /, *args: P.args, **kwargs: P.kwargs
) -> T:
    """Run work on so many bytes: in a thread if that is many, else at once."""
    if size > _INLINE_BYTES:
        return await offload(function, *args, **kwargs)
    return function(*args, **kwargs)


class Threads:
    """Runs blocking work in a few threads; a context manager that does not wait at its end.

    Work that hangs (a pipe that nobody writes to) must not keep a cancelled run from ending, so
    leaving abandons what is still under way.
    """

    def __init__(self, max_workers: int) -> None:
        self._pool = ThreadPoolExecutor(max_workers, thread_name_prefix="batchscore")

    def __enter__(self) -> Self:
        return self

    def __exit__(self, kind: object, *_: object) -> None:
        self._pool.shutdown(wait=kind is None, cancel_futures=True)

    async def __call__(self, function: Callable[P, T], /, *args: P.args, **kwargs: P.kwargs) -> T:
        """See ``Offload``."""
        loop = asyncio.get_running_loop()
        return await loop.run_in_executor(self._pool, lambda: function(*args, **kwargs))
