"""How long the one worker takes for a request: three kinds, each with its moments."""

from __future__ import annotations

import random
from dataclasses import asdict, dataclass
from typing import Any, Protocol


class Service(Protocol):
    """A distribution of service times in seconds."""

    @property
    def mean_s(self) -> float:
        """E[S]."""

    @property
    def second_moment_s2(self) -> float:
        """E[S²]."""

    def draw(self, rng: random.Random) -> float:
        """One service time."""


@dataclass(frozen=True, slots=True)
class Fixed:
    """Always the same; 0 is an echo server."""

    seconds: float

    @property
    def mean_s(self) -> float:
        return self.seconds

    @property
    def second_moment_s2(self) -> float:
        return self.seconds**2

    def draw(self, rng: random.Random) -> float:
        return self.seconds


@dataclass(frozen=True, slots=True)
class Exponential:
    """Without memory; ``mean_s`` is 1/mu."""

    mean_s: float

    @property
    def second_moment_s2(self) -> float:
        return 2 * self.mean_s**2

    def draw(self, rng: random.Random) -> float:
        return rng.expovariate(1 / self.mean_s)


@dataclass(frozen=True, slots=True)
class Bimodal:
    """Short, but with a chance of ``long_share`` long: a cache that misses, a model that swaps."""

    short_s: float
    long_s: float
    long_share: float

    @property
    def mean_s(self) -> float:
        return (1 - self.long_share) * self.short_s + self.long_share * self.long_s

    @property
    def second_moment_s2(self) -> float:
        return (1 - self.long_share) * self.short_s**2 + self.long_share * self.long_s**2

    def draw(self, rng: random.Random) -> float:
        return self.long_s if rng.random() < self.long_share else self.short_s


_KINDS = {kind.__name__.lower(): kind for kind in (Fixed, Exponential, Bimodal)}


def described(service: Service) -> dict[str, Any]:
    """A service as JSON, for ``made``."""
    return {"kind": type(service).__name__.lower(), **asdict(service)}  # type: ignore[call-overload]


def made(description: dict[str, Any]) -> Service:
    """The service that a description tells."""
    options = dict(description)
    return _KINDS[options.pop("kind")](**options)
