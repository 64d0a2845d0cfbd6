"""Sends one request and notes how it went."""

from __future__ import annotations

import time
from typing import TYPE_CHECKING

from batchscore.bench.samples import NOT_SENT, Sample
from batchscore.bench.timed import Times, times_of_task
from batchscore.client.retry import RetryPolicy, retried
from batchscore.errors import AttemptError, DecodeError, HTTPStatusError, ShortageError

if TYPE_CHECKING:
    import random

    from batchscore.bench.places import Places
    from batchscore.protocols.base import Body, Request, Response
    from batchscore.scoring.connection import Connection
    from batchscore.scoring.decoding import Decoding


class Sender:
    """Sends requests, each when it is told to, or when there is a place for it.

    Attributes:
        answered: the last request that was answered well, and its answer, by rows.
    """

    def __init__(
        self, connection: Connection, decoding: Decoding, max_attempts: int, dice: random.Random
    ) -> None:
        self._authorized = connection.client.authorized
        self._protocol, self._url = connection.protocol, connection.endpoint.url
        self._decoding = decoding
        self._policy = RetryPolicy(max_attempts, connection.protocol.treatment, {}, dice)
        self.answered: dict[int, tuple[Request, Response]] = {}

    async def send(
        self, body: Body, rows: int, places: Places, intended: float | None = None
    ) -> Sample:
        """Send a request, with the tries it may have.

        Args:
            body: what is sent.
            rows: how many rows that is.
            places: where it waits until it may be in flight.
            intended: when it was meant to be sent; None: when it is sent.

        Raises:
            RefusedError: the deployment will answer no request.
        """
        times = Times(places)
        times_of_task.set(times)
        request = self._protocol.score_request(self._url, body)
        sample = Sample(rows=rows)
        first_sent = 0.0

        async def attempt() -> None:
            nonlocal first_sent
            sample.attempts += 1
            sample.bytes_sent += request.nbytes
            times.begin_anew()
            sample.status, sample.bytes_received = 0, 0
            try:
                response = await self._authorized.send(request)
                self._read(response, sample)
                self.answered[rows] = request, response
            finally:
                first_sent = first_sent or times.sent

        try:
            await retried(attempt, self._policy, on_retry=_unheard, rows=rows)
        except AttemptError as error:
            sample.error = error.code
            sample.status = error.status if isinstance(error, HTTPStatusError) else sample.status
        except ShortageError:
            sample.error = NOT_SENT
        sample.ended = time.monotonic()
        sample.in_flight = times.in_flight
        sample.due = intended if intended is not None else times.free_since
        sample.connect_began, sample.connected = times.connect_began, times.connected
        sample.sent, sample.first_byte = times.sent, times.first_byte
        sample.last_byte = times.last_byte
        sample.intended = intended if intended is not None else first_sent or sample.due
        return sample

    def _read(self, response: Response, sample: Sample) -> None:
        sample.status, sample.bytes_received = response.status, len(response.body)
        try:
            self._decoding.read(response, sample.rows)
        except DecodeError as error:
            # Its traceback would keep the answer in memory.
            error.__traceback__ = None
            raise
        sample.decoded = time.monotonic()


def _unheard(_code: str, _attempt: int, _wait_s: float) -> None:
    """Tries are counted, not told."""
