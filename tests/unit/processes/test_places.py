"""Places: chunks go to who has room, and nobody gets more than that."""

import asyncio
from dataclasses import dataclass

from batchscore.processes.places import Places


@dataclass
class Process:
    places: int
    taken: int = 0


async def taken(*members: Process, chunks: int):
    places = Places(members)
    tasks = [asyncio.create_task(places.take()) for _ in range(chunks)]
    await asyncio.sleep(0)
    return places, tasks


async def test_others_come_first_and_each_by_its_share():
    """The last one is given a chunk only where no other has room."""
    a, b, last = Process(2), Process(4), Process(2)
    await taken(a, b, last, chunks=3)
    assert (a.taken, b.taken, last.taken) == (1, 2, 0)
    _, tasks = await taken(Process(1), Process(1), one := Process(1), chunks=3)
    assert tasks[2].result() is one


async def test_whoever_waited_longest_is_next():
    """A place that is given back, or is new, goes to the first in the queue, past the cancelled."""
    one, last = Process(0), Process(1)
    places, tasks = await taken(one, last, chunks=5)
    assert [task.done() for task in tasks] == [True, False, False, False, False]
    tasks[1].cancel()
    await asyncio.sleep(0)
    places.give_back(last)
    await asyncio.sleep(0)
    assert [task.done() for task in tasks] == [True, True, True, False, False]
    one.places = 1
    places.refresh()
    await asyncio.sleep(0)
    assert tasks[3].result() is one
    assert not tasks[4].done()
    assert (one.taken, last.taken) == (1, 1)
    tasks[4].cancel()
