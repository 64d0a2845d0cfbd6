"""The network side, put together: transport, token, limiter, retry, client."""

from __future__ import annotations

import logging
from contextlib import asynccontextmanager, closing
from typing import TYPE_CHECKING, Literal

from batchscore.client.client import Client
from batchscore.client.limiter import AdaptiveLimiter, FixedLimiter
from batchscore.client.proxy import proxy_of
from batchscore.client.retry import RetryPolicy, moved_treatments
from batchscore.client.token import TokenSource
from batchscore.client.transport import TransportOptions, parse_headers
from batchscore.endpoint import Endpoint
from batchscore.protocols import protocol as protocol_named

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Callable

    from batchscore.client.controller import SliceSize
    from batchscore.config import EndpointConfig, RetryTable
    from batchscore.metrics import RunMetrics
    from batchscore.offload import Offload
    from batchscore.protocols.base import WireProtocol
    from batchscore.runtime import Runtime
    from batchscore.units import Rate

_log = logging.getLogger("batchscore")


@asynccontextmanager
async def connect(
    config: EndpointConfig,
    *,
    concurrency: int | Literal["auto"],
    max_attempts: int,
    retry: RetryTable,
    metrics: RunMetrics,
    offload: Offload,
    runtime: Runtime,
    rate: Rate | None = None,
    slice_size: SliceSize | None = None,
    max_outage_s: float = 0.0,
    on_retry: Callable[[str, int, float], None] = lambda _code, _attempt, _wait: None,
) -> AsyncIterator[tuple[Client, WireProtocol]]:
    """A client for a deployment, and the protocol it speaks; closed at the end.

    Raises:
        UsageError: the address, a header, the token's source or the protocol is wrong.
    """
    endpoint = Endpoint.parse(config.url)
    protocol = protocol_named(config.protocol)
    source = TokenSource(config)
    headers = parse_headers(config.header, config.header_file)
    proxy = proxy_of(endpoint)
    options = TransportOptions(
        endpoint=endpoint,
        headers=headers,
        timeout_s=config.timeout,
        max_response_bytes=config.max_response_bytes,
        ca_bundle=config.ca_bundle,
        proxy=proxy,
    )

    def read_and_warn() -> str | None:
        token = source.read()
        if token is not None and endpoint.leaks_token:
            _log.warning("the token goes to %s unencrypted; use https", endpoint.host_and_port)
        return token

    with closing(source):
        async with runtime.transport(options) as transport:
            client = Client(
                endpoint=endpoint,
                protocol=protocol,
                transport=transport,
                limiter=AdaptiveLimiter(rate)
                if concurrency == "auto"
                else FixedLimiter(concurrency, rate),
                policy=RetryPolicy(
                    max_attempts, protocol.treatment, moved_treatments(retry), runtime.random
                ),
                read_token=read_and_warn,
                metrics=metrics,
                offload=offload,
                slice_size=slice_size,
                max_outage_s=max_outage_s,
                secrets=(*headers.values(), *endpoint.secrets, *(proxy.secrets if proxy else ())),
                on_retry=on_retry,
            )
            yield client, protocol
