"""What a Python process of an executor keeps from one task to the next."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, ClassVar, TypeVar

from batchscore.engines.partition import Partition
from batchscore.engines.work import FileWorker

if TYPE_CHECKING:
    from collections.abc import Callable, Hashable

W = TypeVar("W", FileWorker, Partition)


class Kept:
    """The connection of the job that this process works for, and what its limiter has learned.

    Spark gives a process one task after another, never two at once, and ends it without a word;
    so there is one connection at most, and nobody closes the last one.
    """

    _key: ClassVar[Hashable] = None
    _worker: ClassVar[Any] = None

    @classmethod
    def get(cls, key: Hashable, make: Callable[[], W]) -> W:
        """What was made for this key before, or make it now; what belongs to another is closed."""
        if cls._key != key:
            cls.drop()
            cls._worker = make()
            cls._key = key
        worker: W = cls._worker
        return worker

    @classmethod
    def drop(cls) -> None:
        """Close what there is: it is of no more use, or may be broken."""
        worker, cls._worker, cls._key = cls._worker, None, None
        if worker is not None:
            worker.close()
