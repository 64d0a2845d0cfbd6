"""Places of requests in flight."""

from __future__ import annotations

import asyncio

import pytest

from batchscore.bench.places import Places


async def test_no_more_are_in_than_there_are_places():
    """Who comes later waits, and is let in in the order of coming, with the time of the place."""
    places, order = Places(2), []

    async def come(name: str) -> None:
        since = await places.enter()
        order.append((name, since))

    await come("a")
    await come("b")
    waiting = [asyncio.create_task(come(name)) for name in "cd"]
    await asyncio.sleep(0)
    assert [name for name, _ in order] == ["a", "b"]
    assert places.taken == 2
    places.leave(7.0)
    places.leave(8.0)
    await asyncio.gather(*waiting)
    assert order[2:] == [("c", 7.0), ("d", 8.0)]
    assert places.taken == 2


async def test_who_is_cancelled_leaves_the_place_to_the_next():
    """A place that was given to somebody who no longer wants it is not lost."""
    places = Places(1)
    await places.enter()
    first, second = (asyncio.create_task(places.enter()) for _ in range(2))
    await asyncio.sleep(0)
    places.leave(1.0)
    # It has been given the place, and has not woken up yet.
    first.cancel()
    assert await asyncio.wait_for(second, 1) == 1.0
    with pytest.raises(asyncio.CancelledError):
        await first
    places.leave(2.0)
    assert await asyncio.wait_for(places.enter(), 1) == 2.0


async def test_after_the_end_only_further_tries_are_let_in():
    """Closing cancels who has not begun, now and later; a request that was tried goes on."""
    places = Places(1)
    await places.enter()
    fresh = asyncio.create_task(places.enter())
    again = asyncio.create_task(places.enter(has_begun=True))
    await asyncio.sleep(0)
    places.close()
    places.leave(3.0)
    assert await asyncio.wait_for(again, 1) == 3.0
    assert (await asyncio.gather(fresh, return_exceptions=True))[0].__class__ is (
        asyncio.CancelledError
    )
    with pytest.raises(asyncio.CancelledError):
        await places.enter()


async def test_without_a_number_nobody_waits():
    """Where the load is a rate, everybody is let in at once."""
    places = Places(None)
    for _ in range(100):
        await asyncio.wait_for(places.enter(), 1)
    assert places.taken == 100
    places.leave(0.0)
    assert places.taken == 99
