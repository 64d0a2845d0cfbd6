"""What a job is like and what happens to it, drawn from a seed."""

from __future__ import annotations

import random
from dataclasses import dataclass, field
from typing import Literal

Poison = Literal["refused", "breaks", "nonsense", "hangs", "kills"]
Away = Literal["refused", "503", "page", "silent"]
Model = Literal["number", "category", "published category", "both"]
End = Literal["kill", "power", "cancel", "full"]


@dataclass(frozen=True)
class Outage:
    """The deployment is away from ``start_s`` on, counted from the first request."""

    start_s: float
    length_s: float
    kind: Away


@dataclass(frozen=True)
class Interruption:
    """How one run of the job ends before its time.

    Attributes:
        end: a kill, a power loss, a cancellation, a full disk.
        after_steps: after so many changes to the disk; None: by the time.
        after_s: after so long.
    """

    end: End
    after_steps: int | None
    after_s: float


@dataclass(frozen=True)
class Plan:
    """One job, and all that will happen to it.

    Attributes:
        seed: where all of it comes from.
        num_rows: rows of the input.
        source: format of the input.
        output: format of the output.
        model: what the deployment answers.
        options: of the job, as in Python.
        unreadable: rows with a cell that cannot be converted.
        poison: what rows do to the deployment.
        fault_share: of the requests, for which something passing goes wrong.
        capacity: requests that the deployment works on at once.
        over_capacity: what it does with more: refuse them, or let them wait.
        max_rows: rows a request before the deployment answers 413.
        latency_s, row_s: of an answer, and of each row more.
        slow_s: mean of the longer waits for a thread.
        outages: in the order of their time.
        changes_at_s: when the model is exchanged for another.
        expires_every_s: how long a token is good for.
        interruptions: of the first runs, one each; the next runs to its end.
    """

    seed: int
    num_rows: int
    source: Literal["parquet", "csv"]
    output: Literal["arrow", "parquet", "csv", "jsonl"]
    model: Model
    options: dict[str, object]
    unreadable: frozenset[int] = frozenset()
    poison: dict[int, Poison] = field(default_factory=dict)
    fault_share: float = 0.0
    capacity: int | None = None
    over_capacity: Literal["refuse", "queue"] = "queue"
    max_rows: int | None = None
    latency_s: float = 0.05
    row_s: float = 0.0
    slow_s: float = 0.01
    outages: tuple[Outage, ...] = ()
    changes_at_s: float | None = None
    expires_every_s: float | None = None
    interruptions: tuple[Interruption, ...] = ()

    @property
    def chunk_rows(self) -> int:
        size = self.options["batch_size"]
        return size if isinstance(size, int) else 1024


def draw(seed: int) -> Plan:
    """The plan of a seed; every part of it is absent now and then."""
    dice = random.Random(f"plan {seed}")

    def some(share: float) -> bool:
        return dice.random() < share

    # Small jobs: more of them in a second find more than more rows do.
    num_rows = dice.choice([0, 1, dice.randint(2, 12), dice.randint(12, 40), dice.randint(40, 120)])
    batch_size: int | str = dice.choice([1, 2, 7, 16, 50, "auto"])
    if batch_size in {1, 2}:
        num_rows = min(num_rows, 24)
    source = dice.choice(["parquet", "csv"])
    timeout_s = dice.choice([5.0, 60.0])
    poisons: list[Poison] = ["refused", "refused", "breaks", "nonsense", "hangs", "kills"]
    # Where every row hangs the deployment is away, as far as anybody can tell.
    bad = dice.sample(range(num_rows), min(num_rows // 2, dice.choice([0, 0, 1, 2, 5])))
    unreadable = frozenset(
        row for row in range(num_rows) if source == "csv" and some(0.02) and row not in bad
    )
    return Plan(
        seed=seed,
        num_rows=num_rows,
        source=source,
        output=dice.choice(["arrow", "arrow", "arrow", "parquet", "csv", "jsonl"]),
        model=dice.choice(["number", "number", "category", "published category", "both"]),
        options={
            "batch_size": batch_size,
            "concurrency": dice.choice(["auto", "auto", 1, 2, 8]),
            "max_attempts": dice.choice([2, 3, 5]),
            # Long enough for three probes by a row that hangs.
            "max_outage": 300.0 if timeout_s > 5 else dice.choice([30.0, 300.0]),
            "timeout": timeout_s,
            "rate_limit": dice.choice([None, None, None, "20req/s", "500rows/s"]),
            "max_batch_bytes": dice.choice([8 * 2**20, 200]),
        },
        unreadable=unreadable,
        poison={row: dice.choice(poisons) for row in bad},
        fault_share=dice.choice([0.0, 0.0, 0.05, 0.2, 0.6]),
        capacity=dice.choice([None, None, 1, 3, 10]),
        over_capacity=dice.choice(["refuse", "queue"]),
        max_rows=dice.choice([None, None, 1, 10]),
        latency_s=dice.choice([0.001, 0.05, 0.5]),
        row_s=dice.choice([0.0, 0.001, 0.01]),
        slow_s=dice.choice([0.001, 0.1, 1.0]),
        outages=_outages(dice) if some(0.3) else (),
        changes_at_s=dice.uniform(0, 60) if some(0.05) else None,
        expires_every_s=dice.choice([2.0, 20.0]) if some(0.15) else None,
        interruptions=tuple(_interruption(dice) for _ in range(dice.choice([0, 1, 1, 2, 3, 4]))),
    )


def _outages(dice: random.Random) -> tuple[Outage, ...]:
    """So far apart that no request is in flight at two of them, but for those that a row made."""
    kinds: list[Away] = ["refused", "503", "page", "silent"]
    found, at = [], dice.uniform(0.5, 20)
    for _ in range(dice.choice([1, 1, 2, 3])):
        length = dice.choice([1.0, 10.0, 100.0, 1000.0])
        found.append(Outage(at, length, dice.choice(kinds)))
        at += length + 3600
    return tuple(found)


def _interruption(dice: random.Random) -> Interruption:
    end: End = dice.choice(["kill", "kill", "power", "power", "cancel", "full"])
    by_steps = end == "full" or dice.random() < 0.6
    steps = int(dice.expovariate(1 / 40)) + 1 if by_steps else None
    return Interruption(end, steps, dice.expovariate(1 / 5))
