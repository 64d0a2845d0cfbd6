"""Who is alone with a deployment that is away: one request at a time, of all processes."""

from __future__ import annotations

import asyncio
from contextlib import asynccontextmanager
from typing import TYPE_CHECKING, Protocol

if TYPE_CHECKING:
    from collections.abc import AsyncIterator
    from contextlib import AbstractAsyncContextManager


class Member(Protocol):
    """Somebody who sends requests and can be held back."""

    def hold(self) -> None:
        """Begin nothing new."""
        ...

    async def held(self) -> None:
        """Wait until nothing new is begun."""
        ...

    def go_on(self) -> None:
        """Send again."""
        ...


class Turns(Protocol):
    """The turns of suspects: requests that were in flight when the deployment went away.

    Attributes:
        is_away: whether the deployment is away as far as is known; to be read and set by who has
            the turn.
    """

    is_away: bool

    def join(self, member: Member) -> None:
        """Hold this one back too."""
        ...

    def alone(self) -> AbstractAsyncContextManager[None]:
        """Hold every member back; suspects have their turns one after another."""
        ...


class LocalTurns:
    """Gives the turns; the one for all members, of this process and of others."""

    def __init__(self) -> None:
        self.is_away = False
        self._members: list[Member] = []
        self._suspects = 0
        self._turn = asyncio.Lock()

    def join(self, member: Member) -> None:
        """See ``Turns``; a member that joins while others are held must begin held."""
        self._members.append(member)

    @property
    def are_taken(self) -> bool:
        """Whether members are held back now."""
        return self._suspects > 0

    @asynccontextmanager
    async def alone(self) -> AsyncIterator[None]:
        """See ``Turns``."""
        self.is_away = True
        self._suspects += 1
        try:
            async with self._turn:
                for member in self._members:
                    member.hold()
                for member in self._members:
                    await member.held()
                yield
        finally:
            self._suspects -= 1
            if self._suspects == 0:
                for member in self._members:
                    member.go_on()
