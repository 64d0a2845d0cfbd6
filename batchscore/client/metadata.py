"""What the deployment tells of itself: its signature, whether it is there, and still the same."""

from __future__ import annotations

import asyncio
import logging
import math
from functools import partial
from typing import TYPE_CHECKING, TypeVar

from batchscore.client.clock import monotonic_s
from batchscore.client.retry import RetryPolicy, retried
from batchscore.errors import (
    AttemptError,
    ConnectionFailedError,
    DecodeError,
    MetadataError,
    ModelChangedError,
    RefusedError,
    UnreachableError,
)
from batchscore.protocols.base import AsksServer, read_metadata

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable

    from batchscore.client.authorized import Authorized
    from batchscore.endpoint import Endpoint
    from batchscore.protocols.base import Response, WireProtocol
    from batchscore.schema import ModelSignature

T = TypeVar("T")

_log = logging.getLogger("batchscore")

# Before the first answer ever, an unreachable host is more likely a typing error than an outage.
# One more connection may be tried at the end of this time, and takes up to 5 s.
_FIRST_ANSWER_WITHIN_S = 4.0
_CHECK_WITHIN_S = 10.0


class Metadata:
    """Asks a deployment for its specification, whenever that is wanted.

    Where the protocol knows of none, it is only asked whether it is there: any answer says so.

    Args:
        endpoint: the deployment.
        protocol: makes the request and reads the answer.
        authorized: sends a request with the token; raises what a failed try means.
        policy: says whether a failed try is repeated.
        on_retry: told of each such.

    Attributes:
        fingerprint: of the signature that the job began with.
    """

    def __init__(
        self,
        endpoint: Endpoint,
        protocol: WireProtocol,
        *,
        authorized: Authorized,
        policy: RetryPolicy,
        on_retry: Callable[[str, int, float], None],
    ) -> None:
        self._endpoint = endpoint
        self._protocol = protocol
        self._request = protocol.metadata_request(endpoint.url)
        self._authorized = authorized
        self._policy, self._on_retry = policy, on_retry
        self.fingerprint: str | None = None

    async def signature(self) -> ModelSignature:
        """The deployment's signature; empty where the protocol knows of none.

        Raises:
            UnreachableError: nobody answers at that host within a few seconds.
            RefusedError: the deployment refuses.
            MetadataError: the answer is no specification.
        """
        deadline = monotonic_s() + _FIRST_ANSWER_WITHIN_S
        try:
            signature = await self._retried(self._read, until_s=deadline)
        except ConnectionFailedError as error:
            raise UnreachableError(
                f"cannot reach {self._endpoint.host_and_port} ({error}): is the deployment "
                "running, and is --url right?"
            ) from error
        except AttemptError as error:
            text = f"{self._endpoint.shown} gives no specification: {error.code}: {error}"
            if self._policy.is_retried(error, 1) and not isinstance(error, DecodeError):
                raise UnreachableError(text) from error
            raise MetadataError(text) from error
        self.fingerprint = signature.fingerprint()
        return signature

    async def _read(self) -> ModelSignature:
        try:
            signature = read_metadata(self._protocol, await self._answer())
        except MetadataError as error:
            text = self._authorized.without_secrets(str(error))
            raise MetadataError(f"{self._endpoint.shown}: {text}") from error
        if not isinstance(self._protocol, AsksServer):
            return signature
        request = self._protocol.server_request(self._endpoint.url)
        said: Response | None = None
        try:
            said = await self._retried(partial(self._authorized.send, request))
        except (AttemptError, RefusedError) as error:
            # A gateway may let only the model's own address through.
            _log.info("%s tells nothing of itself: %s", self._endpoint.host_and_port, error)
        return self._protocol.with_server(signature, said)

    async def _answer(self) -> Response | None:
        """The specification; None where none can be asked for, but somebody is there."""
        if self._request is not None:
            return await self._authorized.send(self._request)
        await self._authorized.knock()
        return None

    async def check_model(self) -> None:
        """Read the specification again; without an answer it is taken to be the same.

        Raises:
            ModelChangedError: it is not the one that the job began with.
        """
        if self._request is None:
            return
        try:
            async with asyncio.timeout(_CHECK_WITHIN_S):
                signature = await self._retried(self._read)
        except (AttemptError, MetadataError, TimeoutError) as error:
            # A gateway's page in between is no other model.
            _log.info("the specification could not be read again: %s", error)
            return
        if signature.fingerprint() != self.fingerprint:
            raise ModelChangedError(
                f"{self._endpoint.shown} has another specification than when the job began: "
                "the model was changed; its predictions must not be mixed with the first one's"
            )

    async def _retried(self, attempt: Callable[[], Awaitable[T]], until_s: float = math.inf) -> T:
        return await retried(attempt, self._policy, on_retry=self._on_retry, until_s=until_s)

    async def is_there(self) -> bool:
        """Whether the deployment answers."""
        try:
            await self._answer()
        except AttemptError:
            return False
        return True
