"""What the server remembers of a request."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Mapping

    from faultserver.faults import Fault


@dataclass(slots=True, eq=False)
class RequestInfo:
    """One request for predictions, filled in while it is served.

    Attributes:
        index: its number among the requests for predictions, from 0.
        connection: the number of the TCP connection it came on, from 0.
        headers: its headers, names in lower case.
        time_s: when its head arrived, by ``time.monotonic``.
        in_flight: how many requests were under way then, this one included.
        body: the body, chunks joined; ``body_bytes`` is its length.
        rows: its rows as they travelled; empty where the body is no such message.
        fault: what the script chose.
        status: the status that was sent, None where no answer went out.
        disconnected: the client went away before the answer was sent.
    """

    index: int
    connection: int
    headers: Mapping[str, str]
    time_s: float
    in_flight: int
    body: bytes = b""
    rows: list[dict[str, Any]] = field(default_factory=list)
    fault: Fault | None = None
    status: int | None = None
    disconnected: bool = False

    @property
    def body_bytes(self) -> int:
        """Length of the body in bytes."""
        return len(self.body)
