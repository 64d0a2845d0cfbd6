"""The clock of the network: waits, deadlines and latencies.

It is that of the event loop, as is all that sleeps. ``Runtime.clock`` is the other one: it times
the whole run and the writing, which goes on in threads.
"""

from __future__ import annotations

import asyncio
import time


def monotonic_s() -> float:
    """The time of the running event loop, so that a simulated loop simulates the time too."""
    try:
        return asyncio.get_running_loop().time()
    except RuntimeError:
        return time.monotonic()
