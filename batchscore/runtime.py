"""What a job stands on: threads, network, disk, time and chance, chosen in one place."""

from __future__ import annotations

import os
import random
import time
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from batchscore.client.transport import HTTPTransport
from batchscore.offload import Threads
from batchscore.partial import Disk

if TYPE_CHECKING:
    from collections.abc import Callable
    from contextlib import AbstractAsyncContextManager, AbstractContextManager

    from batchscore.client.transport import Transport, TransportOptions
    from batchscore.offload import Offload


def _threads() -> Threads:
    # One reads, one writes, the others encode and decode.
    return Threads(2 + (os.cpu_count() or 1))


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
