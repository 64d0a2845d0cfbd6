"""What a job stands on: threads, network, disk, time and chance, chosen in one place."""

from __future__ import annotations

import os
import random
import time
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from batchscore.client.transport import HTTPTransport
from batchscore.offload import Threads
from batchscore.partial import Disk

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from contextlib import AbstractAsyncContextManager, AbstractContextManager

    from batchscore.client.transport import Transport, TransportOptions
    from batchscore.metrics import RunMetrics
    from batchscore.offload import Offload

    OnRetry = Callable[[str, int, float], None]


def _threads() -> Threads:
    # One reads, one writes, the others encode and decode.
    return Threads(2 + (os.cpu_count() or 1))


def _unheard(_code: str, _attempt: int, _wait_s: float) -> None:
    """Nobody is told of retries."""


@dataclass(frozen=True)
class Runtime:
    """The world outside a job, the real one by default; a simulation brings its own.

    Attributes:
        offload: opens what runs blocking work.
        transport: opens a transport to a deployment.
        disk: changes files.
        clock: seconds that never go back, in any thread.
        random: the source of jitter.
    """

    offload: Callable[[], AbstractContextManager[Offload]] = _threads
    transport: Callable[[TransportOptions], AbstractAsyncContextManager[Transport]] = HTTPTransport
    disk: Disk = field(default_factory=Disk)
    clock: Callable[[], float] = time.monotonic
    random: random.Random = field(default_factory=random.Random)

    @contextmanager
    def ground(self, metrics: RunMetrics, on_retry: OnRetry = _unheard) -> Iterator[Ground]:
        """What a run stands on, until its end."""
        with self.offload() as offload:
            yield Ground(self, offload, metrics, on_retry)


@dataclass(frozen=True)
class Ground:
    """What all parts of one run stand on.

    Attributes:
        runtime: the world outside.
        offload: runs what blocks.
        metrics: counts for all.
        on_retry: told of each retry: why, which attempt failed, and for how long it waits.
    """

    runtime: Runtime
    offload: Offload
    metrics: RunMetrics
    on_retry: OnRetry
