"""One try of a request, with the token; an answer that is none becomes an error."""

from __future__ import annotations

from typing import TYPE_CHECKING

from batchscore.client.retry import ANSWERED_FOR_IT, parse_retry_after
from batchscore.errors import AttemptError, HTTPStatusError, RefusedError
from batchscore.protocols.base import Request, Treatment

if TYPE_CHECKING:
    from collections.abc import Callable, Collection

    from batchscore.client.retry import RetryPolicy
    from batchscore.client.token import Token
    from batchscore.client.transport import Transport
    from batchscore.endpoint import Endpoint
    from batchscore.protocols.base import Response, WireProtocol

# Shorter header values are no secrets, and taking them out would garble a message.
_SHORTEST_SECRET = 4
_ADVICE = {
    401: "; check the token (BATCHSCORE_TOKEN, --token-file or --token-command)",
    403: "; is the deployment enabled, and the token its own?",
    404: "; check --url",
    407: "; check the login of the proxy that HTTP_PROXY names",
}


class Authorized:
    """A transport to a deployment that wants to know who sends the requests."""

    def __init__(
        self,
        transport: Transport,
        *,
        endpoint: Endpoint,
        protocol: WireProtocol,
        policy: RetryPolicy,
        token: Token,
        secrets: Collection[str],
        on_pause: Callable[[float], None],
    ) -> None:
        """Remember what is needed.

        Args:
            transport: sends each request as it is.
            endpoint: the deployment.
            protocol: reads the server's words.
            policy: says which answers stop the job.
            token: shared by all workers.
            secrets: what no message may show, beside the token.
            on_pause: told for how many seconds the server asked not to be sent anything.
        """
        self._transport = transport
        self._endpoint = endpoint
        self._protocol = protocol
        self._policy = policy
        self._token = token
        self._on_pause = on_pause
        self._secrets = {secret for secret in secrets if len(secret) >= _SHORTEST_SECRET}

    async def send(self, request: Request) -> Response:
        """One try; a refused token is read again once for all workers, and costs no attempt.

        Raises:
            HTTPStatusError: the answer's status is not 2xx.
            RefusedError: it is one that stops the job.
        """
        token = await self._token.current()
        response = await self._transport.send(request, self._authorization(token))
        if response.status == 401:
            fresh = await self._token.renewed(token)
            if fresh != token:
                token = fresh
                response = await self._transport.send(request, self._authorization(token))
        if 200 <= response.status < 300:
            return response
        raise self._error(response, token)

    async def knock(self) -> None:
        """Find out whether anybody is there, where no specification can be asked for.

        Any answer will do that does not come in the deployment's place. No token goes out.

        Raises:
            AttemptError: there is none.
        """
        response = await self._transport.send(Request("GET", self._endpoint.url), {})
        if response.status in ANSWERED_FOR_IT:
            raise HTTPStatusError(response.status, self._protocol.error_text(response))

    def without_secrets(self, text: str, token: str | None = None) -> str:
        """A server's words, which may quote what it was sent."""
        for secret in {*self._secrets, *([token] if token else [])}:
            text = text.replace(secret, "[secret]")
        return text

    def _authorization(self, token: str | None) -> dict[str, str]:
        if token is not None:
            return {"Authorization": f"Bearer {token}"}
        if self._endpoint.login is not None:
            return {"Authorization": f"Basic {self._endpoint.basic_login}"}
        return {}

    def _error(self, response: Response, token: str | None) -> AttemptError | RefusedError:
        error = HTTPStatusError(
            response.status,
            self.without_secrets(self._protocol.error_text(response), token),
            retry_after_s=parse_retry_after(response.headers.get("retry-after")),
        )
        if self._policy.treatment(error) is Treatment.STOP:
            advice = _ADVICE.get(response.status, "")
            if response.status == 404 and self._protocol.url_ending:
                advice += f": it ends in {self._protocol.url_ending}"
            said = str(error).rstrip(".") if advice else str(error)
            return RefusedError(
                f"{self._endpoint.shown} answered {response.status}: {said}{advice}",
                response.status,
            )
        if error.retry_after_s is not None:
            self._on_pause(error.retry_after_s)
        return error
