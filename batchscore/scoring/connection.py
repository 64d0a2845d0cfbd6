"""The network side, put together: transport, token, limiter, retry, client."""

from __future__ import annotations

import logging
from contextlib import asynccontextmanager, closing
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING, Literal, Self, TypeVar

from batchscore.client.client import Client
from batchscore.client.controller import SliceSize
from batchscore.client.proxy import proxy_of
from batchscore.client.retry import RetryPolicy, moved_treatments
from batchscore.client.share import WHOLE, Share
from batchscore.client.token import TokenSource
from batchscore.client.transport import TransportOptions, parse_headers
from batchscore.endpoint import Endpoint
from batchscore.errors import MetadataError, RefusedError, UsageError
from batchscore.metrics import RunMetrics
from batchscore.option_types import RetryTable
from batchscore.protocols import AUTO, PROTOCOLS, asked, recognised
from batchscore.protocols import protocol as protocol_named

if TYPE_CHECKING:
    from collections.abc import AsyncIterator

    from batchscore.client.token import Token
    from batchscore.config import EndpointConfig, ScoreConfig
    from batchscore.protocols.base import WireProtocol
    from batchscore.runtime import Ground
    from batchscore.schema import ModelSignature
    from batchscore.units import Rate

E = TypeVar("E", bound="EndpointConfig")

# Where there is nothing at an address, or nothing to read, another protocol may know better.
_NOT_HERE = frozenset({404, 405, 410})
_log = logging.getLogger("batchscore")


@dataclass(frozen=True)
class Limits:
    """How much may be sent, by all processes of a job together, and how long it is tried.

    Attributes:
        concurrency: requests in flight.
        max_attempts: tries of one request.
        rate: requests or rows a second.
        retry: statuses that are treated otherwise.
        max_outage_s: how long the deployment may be away.
        max_rows: rows in a request; None: as many as there are.
        timeout_s: requests that come near it get smaller; None: only 413 makes them so.
    """

    concurrency: int | Literal["auto"] = 1
    max_attempts: int = 3
    rate: Rate | None = None
    retry: RetryTable = field(default_factory=RetryTable)
    max_outage_s: float = 0.0
    max_rows: int | None = None
    timeout_s: float | None = None

    @classmethod
    def of(cls, config: ScoreConfig) -> Self:
        """The limits of a job."""
        return cls(
            concurrency=config.concurrency,
            max_attempts=config.max_attempts,
            rate=config.rate_limit,
            retry=config.retry,
            max_outage_s=config.max_outage,
            max_rows=config.chunk_rows,
            # A size that was asked for gives way to a 413 alone.
            timeout_s=config.timeout if config.batch_rows is None else None,
        )


@dataclass(frozen=True)
class Connection:
    """A deployment that can be sent requests.

    Attributes:
        endpoint: where it is.
        protocol: what it speaks.
        client: sends, as far as the share of this process allows.
        share: the part of the limits that is this process's own.
    """

    endpoint: Endpoint
    protocol: WireProtocol
    client: Client
    share: Share


@dataclass(frozen=True)
class Target:
    """The deployment of a run, and what is known of its model.

    Attributes:
        connection: to the deployment.
        signature: what it publishes, with what the user tells besides.
        are_outputs_published: the deployment itself tells its outputs.
        has_scored: it scored a row of this job before.
    """

    connection: Connection
    signature: ModelSignature
    are_outputs_published: bool
    has_scored: bool = False


async def with_protocol(config: E, ground: Ground) -> E:
    """The configuration with the name of the protocol, where it is to be recognised.

    The address tells most often; else the deployment is asked for what each protocol would.

    Raises:
        UsageError: the address is none, or it is no protocol that is known.
        UnreachableError: nobody answers at that host.
        RefusedError: the token is refused.
    """
    endpoint = Endpoint.parse(config.url)
    if config.protocol != AUTO:
        return config
    name = recognised(config.url)
    if name is None:
        name = await _asked(config, endpoint, replace(ground, metrics=RunMetrics()))
    return config.model_copy(update={"protocol": name})


async def _asked(config: EndpointConfig, endpoint: Endpoint, ground: Ground) -> str:
    for name in asked():
        candidate = config.model_copy(update={"protocol": name})
        async with connect(candidate, ground, Limits(max_attempts=1)) as connection:
            try:
                await connection.client.signature()
            except MetadataError:
                continue
            except RefusedError as error:
                if error.status not in _NOT_HERE:
                    raise
                continue
            return name
    shown, names = endpoint.shown, "|".join(PROTOCOLS.built_in)
    raise UsageError(
        f"{shown} does not show which protocol it speaks; say --protocol {names}, and the whole "
        "address that rows are sent to"
    )


@asynccontextmanager
async def connect(
    config: EndpointConfig,
    ground: Ground,
    limits: Limits,
    *,
    share: Share = WHOLE,
    token: Token | None = None,
) -> AsyncIterator[Connection]:
    """A connection to a deployment; closed at the end.

    Args:
        config: where the deployment is.
        ground: what it stands on.
        limits: how much may be sent.
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
    slice_size = SliceSize(limits.max_rows, limits.timeout_s) if limits.max_rows else None

    def read_and_warn() -> str | None:
        token = source.read()
        if token is not None and endpoint.leaks_token:
            _log.warning("the token goes to %s unencrypted; use https", endpoint.host_and_port)
        return token

    with closing(source):
        async with ground.runtime.transport(options) as transport:
            client = Client(
                endpoint=endpoint,
                protocol=protocol,
                transport=transport,
                limiter=share.limiter(limits.concurrency, limits.rate),
                policy=RetryPolicy(
                    limits.max_attempts,
                    protocol.treatment,
                    moved_treatments(limits.retry),
                    ground.runtime.random,
                ),
                read_token=read_and_warn,
                token=token,
                metrics=ground.metrics,
                offload=ground.offload,
                slice_size=slice_size,
                max_outage_s=limits.max_outage_s,
                secrets=(*headers.values(), *endpoint.secrets, *(proxy.secrets if proxy else ())),
                on_retry=ground.on_retry,
                share=share,
            )
            yield Connection(endpoint, protocol, client, share)
