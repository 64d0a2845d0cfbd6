"""``--metrics-port``: the counters of a run over HTTP, for Prometheus to fetch."""

from __future__ import annotations

import asyncio
import errno
import logging
import os
from contextlib import suppress
from typing import TYPE_CHECKING

from batchscore.errors import UsageError
from batchscore.observers import NOTE
from batchscore.observers.exposition import exposition, families, negotiated

if TYPE_CHECKING:
    from aiohttp import web

    from batchscore.metrics import RunMetrics
    from batchscore.observers.exposition import About
    from batchscore.units import Address

PATH = "/metrics"

_log = logging.getLogger("batchscore")
_SHUTDOWN_S = 0.1


class Scrapes:
    """Answers ``GET /metrics`` in the event loop of the run, whose counters need no lock there.

    ``open`` comes first, ``last`` at the end where there is time, ``close`` always. Without an
    address nothing is served.

    Args:
        address: where to listen.
        linger_s: how long ``last`` waits.
        metrics: the counters.
        about: what is told beside them.
    """

    def __init__(
        self, address: Address | None, linger_s: float, metrics: RunMetrics, about: About
    ) -> None:
        self._address, self._linger_s = address, linger_s
        self._metrics, self._about = metrics, about
        self._runner: web.AppRunner | None = None
        self._last = asyncio.Event()

    async def open(self) -> None:
        """Listen from now on.

        Raises:
            UsageError: the port is taken, or the host is none of this computer's.
        """
        if self._address is None:
            return
        from aiohttp import web  # noqa: PLC0415 (most runs are quicker without)

        app = web.Application()
        app.router.add_get(PATH, self._scraped)
        app.router.add_get("/", self._shown)
        self._runner = web.AppRunner(app, access_log=None, shutdown_timeout=_SHUTDOWN_S)
        await self._runner.setup()
        try:
            await web.TCPSite(self._runner, *self._address).start()
        except OSError as error:
            raise UsageError(f"--metrics-port: {_why(self._address, error)}") from error
        listening = self._address._replace(port=self._runner.addresses[0][1])
        url = f"http://{listening}{PATH}"
        _log.log(NOTE, "metrics at %s", url, extra={"event": "metrics", "fields": {"url": url}})

    async def last(self, exit_code: int) -> None:
        """The run has ended: wait until that was fetched, but not for longer than was asked."""
        self._about.exit_code = exit_code
        if self._runner is not None and self._linger_s:
            with suppress(TimeoutError):
                async with asyncio.timeout(self._linger_s):
                    await self._last.wait()

    async def close(self) -> None:
        """Listen no more."""
        if self._runner is not None:
            runner, self._runner = self._runner, None
            await runner.cleanup()

    async def _scraped(self, request: web.Request) -> web.StreamResponse:
        from aiohttp import web  # noqa: PLC0415 (as above)

        content_type = negotiated(request.headers.get("Accept", ""))
        has_ended = self._about.exit_code is not None
        body = exposition(families(self._metrics, self._about), content_type)
        response = web.Response(body=body, headers={"Content-Type": content_type})
        await response.prepare(request)
        await response.write_eof()
        if has_ended:
            self._last.set()
        return response

    async def _shown(self, _request: web.Request) -> web.Response:
        from aiohttp import web  # noqa: PLC0415 (as above)

        return web.Response(text=f"The metrics of a batchscore run are at {PATH}\n")


def _why(address: Address, error: OSError) -> str:
    if error.errno == errno.EADDRINUSE:
        return f"{address} is taken; name another port, or 0 for any free one"
    # asyncio's own text repeats the address; errors of names have texts and no number.
    is_known = error.errno is not None and error.errno > 0
    reason = os.strerror(error.errno or 0) if is_known else error.strerror or error
    return f"cannot listen on {address}: {reason}; name an address of this computer"
