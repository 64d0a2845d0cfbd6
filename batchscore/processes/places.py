"""Which process scores the next chunk: one that has room, whoever waited longest first."""

from __future__ import annotations

import asyncio
from collections import deque
from typing import TYPE_CHECKING, Generic, Protocol, TypeVar

if TYPE_CHECKING:
    from collections.abc import Sequence


class Seated(Protocol):
    """A process that takes chunks.

    Attributes:
        places: how many chunks it may have now.
        taken: how many it has.
    """

    taken: int

    @property
    def places(self) -> int: ...


M = TypeVar("M", bound=Seated)


class Places(Generic[M]):
    """The places for chunks in all processes.

    Args:
        members: the processes; the last one is given a chunk only where no other has room.
    """

    def __init__(self, members: Sequence[M]) -> None:
        self._others, self._last = members[:-1], members[-1]
        self._waiting: deque[asyncio.Future[M]] = deque()

    async def take(self) -> M:
        """Wait for a place; to be given back."""
        member = None if self._waiting else self._free()
        if member is None:
            turn: asyncio.Future[M] = asyncio.get_running_loop().create_future()
            self._waiting.append(turn)
            # Who is cancelled here is so because the job ends: nobody misses the place.
            return await turn
        member.taken += 1
        return member

    def give_back(self, member: M) -> None:
        """This place is free again."""
        member.taken -= 1
        self.refresh()

    def refresh(self) -> None:
        """To be called where there may be more places than before."""
        while self._waiting:
            if self._waiting[0].done():
                self._waiting.popleft()
                continue
            member = self._free()
            if member is None:
                return
            member.taken += 1
            self._waiting.popleft().set_result(member)

    def _free(self) -> M | None:
        """The process that has the smallest share of its places taken."""
        free = [member for member in self._others if member.taken < member.places]
        if free:
            return min(free, key=lambda member: member.taken / member.places)
        return self._last if self._last.taken < self._last.places else None
