"""The requests of a chunk: where its rows are cut, and how a part of them is sent.

They are cut three times, each time by what is known by then: before they are encoded by what they
are about to take on the wire, so that no body in memory is much larger than may be sent; when
their turn comes by how many rows have proved good (``equal_share``); and encoded by their bytes.
"""

from __future__ import annotations

import math
from itertools import pairwise
from typing import TYPE_CHECKING

from batchscore.errors import RowsRefusedError
from batchscore.offload import by_size
from batchscore.protocols.base import FallsBack

if TYPE_CHECKING:
    from collections.abc import Callable

    from batchscore.batches import RowBatch
    from batchscore.client.client import Client
    from batchscore.errors import DeploymentAwayError
    from batchscore.offload import Offload
    from batchscore.protocols.base import Body, EncodedRows, Response, RowEncoder
    from batchscore.scoring.decoding import Decoding, Predictions


def runs_on_the_wire(
    rows: RowBatch, encoder: RowEncoder, max_bytes: int
) -> tuple[list[tuple[int, int]], int]:
    """Where rows are cut before they are encoded, and how many bytes a run has at most."""

    def wire_bytes(start: int, stop: int) -> int:
        return encoder.wire_bytes(rows.slice(start, stop))

    size = wire_bytes(0, rows.num_rows)
    if size <= max_bytes:
        return [(0, rows.num_rows)], size
    return slices(rows.num_rows, wire_bytes, max_bytes), max_bytes


def equal_share(left: int, most: int | None) -> int:
    """Rows of the next request, when so many are left and it may have ``most``."""
    return math.ceil(left / math.ceil(left / (most or left))) if left else 0


def slices(length: int, size: Callable[[int, int], int], max_bytes: int) -> list[tuple[int, int]]:
    """Cut rows into equal runs of at most ``max_bytes``; where rows differ much, unequal ones.

    One row is never cut, however large it is.
    """
    if length == 0:
        return [(0, 0)]
    count = min(length, math.ceil(size(0, length) / max_bytes))
    bounds = [length * index // count for index in range(count + 1)]
    runs = list(pairwise(bounds))
    if count == 1:
        return runs
    return [part for run in runs for part in _halved(run, size, max_bytes)]


def _halved(
    run: tuple[int, int], size: Callable[[int, int], int], max_bytes: int
) -> list[tuple[int, int]]:
    start, stop = run
    if stop - start <= 1 or size(start, stop) <= max_bytes:
        return [run]
    middle = (start + stop) // 2
    halves = [(start, middle), (middle, stop)]
    return [part for half in halves for part in _halved(half, size, max_bytes)]


class Requests:
    """The requests for encoded rows, any run of which isolation may have sent; a ``Sender``."""

    def __init__(
        self, encoded: EncodedRows, client: Client, decoding: Decoding, offload: Offload
    ) -> None:
        self._encoded = encoded
        self._client = client
        self._decoding = decoding
        self._offload = offload
        self.alone = client.alone
        self.in_order = decoding.in_order
        self.run_all = decoding.run_all

    async def send(self, start: int, stop: int, *, alone: bool) -> Predictions:
        """See ``Sender``."""
        body = await self._body(start, stop)

        async def read(response: Response) -> Predictions:
            return await by_size(
                self._offload, len(response.body), self._decoding.read, response, stop - start
            )

        try:
            return await self._client.score(body, stop - start, read, alone=alone)
        except RowsRefusedError as refused:
            rows = self._encoded
            if not (isinstance(rows, FallsBack) and rows.fall_back(body, refused.last)):
                raise
            return await self.send(start, stop, alone=alone)

    async def ride_out(self, away: DeploymentAwayError, row: int | None) -> None:
        """See ``Sender``."""
        body = None if row is None else await self._body(row, row + 1)
        await self._client.ride_out(away, body)

    async def _body(self, start: int, stop: int) -> Body:
        if stop - start == len(self._encoded.positions):
            return self._encoded.body(start, stop)
        size = self._encoded.size(start, stop)
        return await by_size(self._offload, size, self._encoded.body, start, stop)
