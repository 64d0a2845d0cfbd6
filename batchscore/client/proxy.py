"""The HTTP proxy that the environment names: ``HTTP_PROXY``, ``HTTPS_PROXY``, ``NO_PROXY``."""

from __future__ import annotations

import base64
import urllib.request
from dataclasses import dataclass, field
from typing import TYPE_CHECKING
from urllib.parse import unquote, urlsplit

from batchscore.endpoint import redacted
from batchscore.errors import UsageError

if TYPE_CHECKING:
    from batchscore.endpoint import Endpoint


@dataclass(frozen=True, slots=True)
class Proxy:
    """Where requests go instead.

    Attributes:
        url: its address, with user and password.
        shown: its address as it may be printed.
        secrets: what of it must not be shown, also in the form that travels.
    """

    url: str = field(repr=False)
    shown: str
    secrets: tuple[str, ...] = field(repr=False)


def proxy_of(endpoint: Endpoint) -> Proxy | None:
    """The proxy for a deployment; None for this machine itself, and for what NO_PROXY names.

    Raises:
        UsageError: the environment names one that cannot be used.
    """
    scheme, _, _ = endpoint.origin
    if endpoint.is_loopback or urllib.request.proxy_bypass(endpoint.host_and_port):
        return None
    proxies = urllib.request.getproxies()
    named = proxies.get(scheme) or proxies.get("all")
    return None if named is None else _parsed(named, scheme)


def _parsed(named: str, scheme: str) -> Proxy:
    # curl and others take a host and port alone.
    url = named if "://" in named else f"http://{named}"
    try:
        parts = urlsplit(url)
        is_usable = parts.scheme in {"http", "https"} and bool(parts.hostname) and parts.port != 0
    except ValueError:
        is_usable = False
    if not is_usable:
        raise UsageError(
            f"{scheme.upper()}_PROXY or ALL_PROXY: {redacted(url)!r} is no proxy that can be used; "
            f"it must be http(s)://HOST:PORT, or name the deployment in NO_PROXY"
        )
    user, password = unquote(parts.username or ""), unquote(parts.password or "")
    login = base64.b64encode(f"{user}:{password}".encode()).decode() if user else ""
    secrets = tuple(filter(None, (login, user, password, parts.password)))
    return Proxy(url, redacted(f"{parts.scheme}://{parts.netloc}"), secrets)
