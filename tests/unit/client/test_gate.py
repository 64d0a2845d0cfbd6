"""The gate in front of requests."""

import asyncio

from batchscore.client.gate import Gate


async def test_a_place_that_is_freed_while_those_who_wait_are_cancelled_is_not_lost():
    """A cancelled waiter that has not yet run is passed over, and the next one goes in."""
    gate = Gate(lambda: 1)
    await gate.enter()
    first, second = (asyncio.create_task(gate.enter()) for _ in range(2))
    await asyncio.sleep(0)
    first.cancel()
    gate.leave()
    await asyncio.wait_for(second, 1)
    gate.leave()
    await asyncio.wait_for(gate.enter(), 1)
    assert first.cancelled()
