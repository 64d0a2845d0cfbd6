"""How a store is reached. Credentials are none of it: they come from the environment alone."""

from __future__ import annotations

import os
from dataclasses import dataclass
from urllib.parse import urlsplit

_ENDPOINT_VARIABLES = {
    "s3": ("AWS_ENDPOINT_URL_S3", "AWS_ENDPOINT_URL"),
    "gs": ("STORAGE_EMULATOR_HOST",),
    "abfs": ("AZURE_STORAGE_ENDPOINT",),
}


@dataclass(frozen=True, slots=True)
class StoreOptions:
    """How stores are reached; picklable.

    Attributes:
        endpoint: http(s)://HOST[:PORT] of a store that is not the cloud's own.
        region: of the bucket.
    """

    endpoint: str | None = None
    region: str | None = None

    def endpoint_for(self, scheme: str) -> str | None:
        """The endpoint that was given, else the one that the store's own variables name."""
        if self.endpoint:
            return self.endpoint
        for name in _ENDPOINT_VARIABLES.get(scheme, ()):
            if found := os.environ.get(name):
                return found if "://" in found else f"http://{found}"
        return None

    def authority_for(self, scheme: str) -> tuple[str, str] | None:
        """Scheme and ``HOST[:PORT]`` of the endpoint, if there is one."""
        endpoint = self.endpoint_for(scheme)
        if endpoint is None:
            return None
        parts = urlsplit(endpoint)
        return parts.scheme, parts.netloc.rpartition("@")[2] + parts.path.rstrip("/")
