"""What the deployment tells of itself: its signature, whether it is there, and still the same."""

from __future__ import annotations

import asyncio
import logging
from typing import TYPE_CHECKING

from batchscore.client.transport import monotonic_s
from batchscore.errors import (
    AttemptError,
    ConnectionFailedError,
    DecodeError,
    MetadataError,
    ModelChangedError,
    RefusedError,
    UnreachableError,
)
from batchscore.protocols.base import AsksServer, Request, Response
from batchscore.schema import ModelSignature

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable

    from tenacity import AsyncRetrying

    from batchscore.endpoint import Endpoint
    from batchscore.protocols.base import WireProtocol

_log = logging.getLogger("batchscore")

# Before the first answer ever, an unreachable host is more likely a typing error than an outage.
# One more connection may be tried at the end of this time, and takes up to 5 s.
_FIRST_ANSWER_WITHIN_S = 4.0
_CHECK_WITHIN_S = 10.0
_NOT_ITSELF = frozenset({502, 503, 504})


class Metadata:
    """Asks a deployment for its specification, whenever that is wanted.

    Where the protocol knows of none, it is only asked whether it is there: any answer says so.

    Args:
        endpoint: the deployment.
        protocol: makes the request and reads the answer.
        ask: sends a request with the token; raises what a failed try means.
        knock: sends a request without; its answer may have any status.
        retrying: makes what repeats a failed try for as long as its argument allows.
        is_retried: whether a failed try may be repeated.
        clean: takes secrets out of the server's words.
        fingerprint: of the signature that the job began with, where another process read it.
    """

    def __init__(
        self,
        endpoint: Endpoint,
        protocol: WireProtocol,
        *,
        ask: Callable[[Request], Awaitable[Response]],
        knock: Callable[[Request], Awaitable[Response]],
        retrying: Callable[[Callable[[BaseException], bool]], AsyncRetrying],
        is_retried: Callable[[BaseException], bool],
        clean: Callable[[str], str],
        fingerprint: str | None,
    ) -> None:
        self._endpoint = endpoint
        self._protocol = protocol
        self._request = protocol.metadata_request(endpoint.url)
        self._ask, self._knock = ask, knock
        self._retrying, self._is_retried = retrying, is_retried
        self._clean = clean
        self._fingerprint = fingerprint

    async def signature(self) -> ModelSignature:
        """The deployment's signature; empty where the protocol knows of none.

        Raises:
            UnreachableError: nobody answers at that host within a few seconds.
            RefusedError: the deployment refuses.
            MetadataError: the answer is no specification.
        """
        deadline = monotonic_s() + _FIRST_ANSWER_WITHIN_S

        def may_retry(error: BaseException) -> bool:
            return self._is_retried(error) and monotonic_s() < deadline

        try:
            signature: ModelSignature = await self._retrying(may_retry)(self._read)
        except ConnectionFailedError as error:
            raise UnreachableError(
                f"cannot reach {self._endpoint.host_and_port} ({error}): is the deployment "
                "running, and is --url right?"
            ) from error
        except AttemptError as error:
            text = f"{self._endpoint.shown} gives no specification: {error.code}: {error}"
            if self._is_retried(error) and not isinstance(error, DecodeError):
                raise UnreachableError(text) from error
            raise MetadataError(text) from error
        self._fingerprint = signature.fingerprint()
        return signature

    async def _read(self) -> ModelSignature:
        if self._request is None:
            await self._knock(Request("GET", self._endpoint.url))
            return ModelSignature((), ())
        response = await self._ask(self._request)
        try:
            signature = self._protocol.parse_metadata(response)
        except MetadataError as error:
            raise MetadataError(f"{self._endpoint.shown}: {self._clean(str(error))}") from error
        if not isinstance(self._protocol, AsksServer):
            return signature
        request = self._protocol.server_request(self._endpoint.url)
        said: Response | None = None
        try:
            said = await self._retrying(self._is_retried)(self._ask, request)
        except (AttemptError, RefusedError) as error:
            # A gateway may let only the model's own address through.
            _log.info("%s tells nothing of itself: %s", self._endpoint.host_and_port, error)
        return self._protocol.with_server(signature, said)

    async def check_model(self) -> None:
        """Read the specification again; without an answer it is taken to be the same.

        Raises:
            ModelChangedError: it is not the one that the job began with.
        """
        if self._request is None:
            return
        try:
            async with asyncio.timeout(_CHECK_WITHIN_S):
                response: Response = await self._retrying(self._is_retried)(
                    self._ask, self._request
                )
            fingerprint = self._protocol.parse_metadata(response).fingerprint()
        except (AttemptError, MetadataError, TimeoutError) as error:
            # A gateway's page in between is no other model.
            _log.info("the specification could not be read again: %s", error)
            return
        if fingerprint != self._fingerprint:
            raise ModelChangedError(
                f"{self._endpoint.shown} has another specification than when the job began: "
                "the model was changed; its predictions must not be mixed with the first one's"
            )

    async def is_there(self) -> bool:
        """Whether the deployment answers."""
        try:
            if self._request is None:
                answer = await self._knock(Request("GET", self._endpoint.url))
                return answer.status not in _NOT_ITSELF
            await self._ask(self._request)
        except AttemptError:
            return False
        return True
