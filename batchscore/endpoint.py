"""A deployment's address: checked once, shown without its secrets."""

from __future__ import annotations

import base64
import ipaddress
import re
from dataclasses import dataclass, field
from urllib.parse import SplitResult, parse_qsl, unquote, urlsplit, urlunsplit

from batchscore.errors import UsageError

_NOT_IN_HOSTS = re.compile(r"[^\w.:%-]")
_DEFAULT_PORTS = {"http": 80, "https": 443}


@dataclass(frozen=True, slots=True)
class Endpoint:
    """Where requests go.

    Attributes:
        url: the address with its query, without user part and fragment.
        shown: the address as it may be printed and stored: no user part, no query.
        origin: scheme, host and port: what a token belongs to.
        login: user and password of the address, if it had them.
    """

    url: str
    shown: str
    origin: tuple[str, str, int]
    login: tuple[str, str] | None = field(default=None, repr=False)

    @classmethod
    def parse(cls, url: str) -> Endpoint:
        """Check an address.

        Raises:
            UsageError: it is no http(s) address with a host.
        """
        parts, port = _split(url)
        host = (parts.hostname or "").lower()
        labels = host.split(".")
        if ".." in host or any(len(label) > 63 for label in labels) or _NOT_IN_HOSTS.search(host):
            raise UsageError(f"{redacted(url)!r} is no address: no host can have that name")
        if parts.scheme not in _DEFAULT_PORTS or not host:
            raise UsageError(
                f"{redacted(url)!r} is no address of a deployment; "
                "--url takes http(s)://HOST/..., such as https://HOST/deployment/ID/forward"
            )
        netloc = parts.netloc.rpartition("@")[2]
        login = None
        if parts.username:
            login = (unquote(parts.username), unquote(parts.password or ""))
        return cls(
            url=urlunsplit((parts.scheme, netloc, parts.path or "/", parts.query, "")),
            shown=urlunsplit((parts.scheme, netloc, parts.path or "/", "", "")),
            origin=(parts.scheme, host, port or _DEFAULT_PORTS[parts.scheme]),
            login=login,
        )

    @property
    def host_and_port(self) -> str:
        """``host:port``, to name in messages."""
        _, host, port = self.origin
        return f"[{host}]:{port}" if ":" in host else f"{host}:{port}"

    @property
    def secrets(self) -> tuple[str, ...]:
        """What of the address must not be shown: the query, its values, user and password."""
        query = urlsplit(self.url).query
        values = [value for _, value in parse_qsl(query)]
        login = [*self.login, self.basic_login] if self.login else []
        return tuple(filter(None, (query, *values, *login)))

    @property
    def basic_login(self) -> str:
        """User and password as they travel in a header."""
        return base64.b64encode(":".join(self.login or ()).encode()).decode()

    @property
    def is_loopback(self) -> bool:
        """Whether the host is this machine."""
        host = self.origin[1]
        try:
            return ipaddress.ip_address(host).is_loopback
        except ValueError:
            return host == "localhost" or host.endswith(".localhost")

    @property
    def leaks_token(self) -> bool:
        """Whether a token would cross a network in the clear."""
        return self.origin[0] == "http" and not self.is_loopback


def _split(url: str) -> tuple[SplitResult, int | None]:
    try:
        parts = urlsplit(url.strip())
        return parts, parts.port
    except ValueError as error:
        # Its own text may quote a part of the address that is a secret.
        reason = "its port is no number up to 65535" if "ort" in str(error) else "it is malformed"
        raise UsageError(
            f"{redacted(url)!r} is no address: {reason}; --url takes http(s)://HOST/..."
        ) from None


def redacted(text: str) -> str:
    """An address, however broken, without what may be a secret in it; a path stays itself."""
    scheme, slashes, rest = text.partition("://")
    if not slashes:
        return text
    rest = rest.rpartition("@")[2]
    return scheme + slashes + rest.partition("?")[0].partition("#")[0]
