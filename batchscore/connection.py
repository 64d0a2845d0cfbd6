"""The network side, put together: transport, token, limiter, retry, client."""

from __future__ import annotations

import logging
from contextlib import asynccontextmanager, closing
from typing import TYPE_CHECKING, Literal, TypeVar

from batchscore.client.client import Client
from batchscore.client.controller import SliceSize
from batchscore.client.proxy import proxy_of
from batchscore.client.retry import RetryPolicy, moved_treatments
from batchscore.client.share import WHOLE, Share
from batchscore.client.token import TokenSource
from batchscore.client.transport import TransportOptions, parse_headers
from batchscore.config import RetryTable
from batchscore.endpoint import Endpoint
from batchscore.errors import MetadataError, RefusedError, UsageError
from batchscore.metrics import RunMetrics
from batchscore.protocols import AUTO, PROTOCOLS, asked, recognised
from batchscore.protocols import protocol as protocol_named
from batchscore.readers.chunks import AUTO_ROWS

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Callable
    from contextlib import AbstractAsyncContextManager

    from batchscore.client.token import Token
    from batchscore.config import EndpointConfig, ScoreConfig
    from batchscore.offload import Offload
    from batchscore.protocols.base import WireProtocol
    from batchscore.runtime import Runtime
    from batchscore.units import Rate

E = TypeVar("E", bound="EndpointConfig")

# Where there is nothing at an address, or nothing to read, another protocol may know better.
_NOT_HERE = frozenset({404, 405, 410})
_log = logging.getLogger("batchscore")


async def with_protocol(config: E, *, offload: Offload, runtime: Runtime) -> E:
    """The configuration with the name of the protocol, where it is to be recognised.

    The address tells most often; else the deployment is asked for what each protocol would.

    Raises:
        UsageError: it is none that is known.
        UnreachableError: nobody answers at that host.
        RefusedError: the token is refused.
    """
    if config.protocol != AUTO:
        return config
    name = recognised(config.url)
    if name is None:
        Endpoint.parse(config.url)
        name = await _asked(config, offload, runtime)
    return config.model_copy(update={"protocol": name})


async def _asked(config: EndpointConfig, offload: Offload, runtime: Runtime) -> str:
    for name in asked():
        candidate = config.model_copy(update={"protocol": name})
        async with connect(
            candidate,
            concurrency=1,
            max_attempts=1,
            retry=RetryTable(),
            metrics=RunMetrics(),
            offload=offload,
            runtime=runtime,
        ) as (client, _):
            try:
                await client.signature()
            except MetadataError:
                continue
            except RefusedError as error:
                if error.status not in _NOT_HERE:
                    raise
                continue
            return name
    shown, names = Endpoint.parse(config.url).shown, "|".join(PROTOCOLS.built_in)
    raise UsageError(
        f"{shown} does not show which protocol it speaks; say --protocol {names}, and the whole "
        "address that rows are sent to"
    )


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
    share: Share = WHOLE,
    token: Token | None = None,
) -> AsyncIterator[tuple[Client, WireProtocol]]:
    """A client for a deployment, and the protocol it speaks; closed at the end.

    Args:
        config: where the deployment is.
        concurrency: requests in flight, of all processes together.
        max_attempts: tries of one request.
        retry: statuses that are treated otherwise.
        metrics: counts what is sent.
        offload: runs what blocks.
        runtime: network and chance.
        rate: requests or rows a second, of all processes together.
        slice_size: how many rows a request may have.
        max_outage_s: how long the deployment may be away.
        on_retry: told of each retry.
        share: the part of the limits that is this process's own.
        token: where it is not for the configuration to say.

    Raises:
        UsageError: the address, a header, the token's source or the protocol is wrong.
    """
    endpoint = Endpoint.parse(config.url)
    protocol = protocol_named(config.protocol, config)
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
                limiter=share.limiter(concurrency, rate),
                policy=RetryPolicy(
                    max_attempts, protocol.treatment, moved_treatments(retry), runtime.random
                ),
                read_token=read_and_warn,
                token=token,
                metrics=metrics,
                offload=offload,
                slice_size=slice_size,
                max_outage_s=max_outage_s,
                secrets=(*headers.values(), *endpoint.secrets, *(proxy.secrets if proxy else ())),
                on_retry=on_retry,
                share=share,
            )
            yield client, protocol


def connect_job(
    config: ScoreConfig,
    *,
    metrics: RunMetrics,
    offload: Offload,
    runtime: Runtime,
    on_retry: Callable[[str, int, float], None],
    share: Share = WHOLE,
    token: Token | None = None,
) -> AbstractAsyncContextManager[tuple[Client, WireProtocol]]:
    """``connect`` as the configuration of a job says."""
    # A size that was asked for gives way to a 413 alone.
    timeout_s = config.timeout if config.batch_size == "auto" else None
    return connect(
        config,
        concurrency=config.concurrency,
        max_attempts=config.max_attempts,
        retry=config.retry,
        rate=config.rate_limit,
        slice_size=SliceSize(chunk_rows(config), timeout_s=timeout_s),
        max_outage_s=config.max_outage,
        metrics=metrics,
        offload=offload,
        runtime=runtime,
        on_retry=on_retry,
        share=share,
        token=token,
    )


def chunk_rows(config: ScoreConfig) -> int:
    """The rows of a chunk, and the most that a request has."""
    return AUTO_ROWS if config.batch_size == "auto" else config.batch_size
