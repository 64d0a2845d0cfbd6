"""A transport that counts and times what goes through it."""

from __future__ import annotations

from typing import TYPE_CHECKING

from batchscore.client.clock import monotonic_s

if TYPE_CHECKING:
    from collections.abc import Mapping

    from batchscore.client.transport import Transport
    from batchscore.metrics import RunMetrics
    from batchscore.protocols.base import Request, Response


class Measured:
    """A ``Transport`` for predictions over another one."""

    def __init__(self, transport: Transport, metrics: RunMetrics) -> None:
        self._transport = transport
        self._metrics = metrics

    async def send(self, request: Request, headers: Mapping[str, str]) -> Response:
        """See ``Transport``."""
        self._metrics.requests += 1
        self._metrics.in_flight += 1
        self._metrics.bytes_sent += request.nbytes
        started = monotonic_s()
        try:
            response = await self._transport.send(request, headers)
        finally:
            self._metrics.in_flight -= 1
        self._metrics.latency.record(monotonic_s() - started)
        self._metrics.bytes_received += len(response.body)
        return response
