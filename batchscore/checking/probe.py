"""A few requests with the first rows: whether they are taken, and the time to expect for all."""

from __future__ import annotations

from dataclasses import dataclass, field
from statistics import median
from typing import TYPE_CHECKING

from batchscore.checking.report import Probe
from batchscore.errors import DeploymentAwayError, RowsRefusedError, UnreachableError
from batchscore.scoring.pipeline import gather
from batchscore.scoring.requests import Requests

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from batchscore.checking.judge import Sendable
    from batchscore.client.client import Client
    from batchscore.errors import AttemptError
    from batchscore.offload import Offload
    from batchscore.scoring.decoding import Decoding
    from batchscore.units import Rate

MAX_REQUESTS = 12
AT_ONCE = 4
MAX_AT_ONCE = 8
_ALONE = 3


@dataclass
class Prober:
    """Sends a sample of the requests, each once.

    Attributes:
        clock: seconds that never go back.
        place: the deployment's host and port.
        at_once: requests in flight, as the client allows.
        refusals: what the deployment said of rows that it did not take.
    """

    client: Client
    decoding: Decoding
    offload: Offload
    clock: Callable[[], float]
    place: str
    at_once: int
    refusals: list[AttemptError] = field(default_factory=list)

    async def probe(
        self,
        sample: Sequence[Sendable],
        rows: int,
        requests: int,
        *,
        rate: Rate | None,
        least_s: float,
    ) -> Probe:
        """Send a sample, and tell the time to expect.

        Args:
            sample: the first requests of the job.
            rows: all that there are to be sent.
            requests: the same.
            rate: the most that may be sent in a second.
            least_s: what reading and encoding alone takes.

        Raises:
            UnreachableError: nothing is answered.
            RefusedError: the deployment refuses whatever is sent.
        """
        # The first one opens a connection, and perhaps wakes the model up.
        first = [await self._timed(each) for each in sample[:1]]
        alone = [await self._timed(each) for each in sample[1 : 1 + _ALONE]]
        others = sample[1 + _ALONE :]
        began = self.clock()
        if self.decoding.in_order():
            together = [await self._timed(each) for each in others]
        else:
            together = await gather([self._timed(each) for each in others])
        wall_s = self.clock() - began
        sent = sum(each.stop - each.start for each in sample)
        singles = [pair for pair in alone or first if pair is not None]
        answered = sum(rows for rows, _ in filter(None, together))
        at_once = 1 if self.decoding.in_order() else min(self.at_once, len(others))
        if not answered:
            at_once = 1
            answered, wall_s = sum(n for n, _ in singles), sum(s for _, s in singles)
        if not answered:
            return Probe(len(sample), sent)
        speed = answered / max(wall_s, 1e-9)
        expected_s = max(rows / speed, least_s)
        if rate is not None:
            count = rows if rate.unit == "rows" else requests
            expected_s = max(expected_s, count / rate.per_second)
        latency_s = median(seconds for _, seconds in singles) if singles else None
        return Probe(len(sample), sent, latency_s, at_once, speed, expected_s)

    async def _timed(self, each: Sendable) -> tuple[int, float] | None:
        """How many rows were answered, in how many seconds; None where they were refused."""
        requests = Requests(each.encoded, self.client, self.decoding, self.offload)
        began = self.clock()
        try:
            await requests.send(each.start, each.stop, alone=False)
        except RowsRefusedError as error:
            self.refusals.append(error.last)
            return None
        except DeploymentAwayError as error:
            raise UnreachableError(
                f"{self.place} answers no rows: {error.last.code}: {error.last}; try again later"
            ) from error
        return each.stop - each.start, self.clock() - began
