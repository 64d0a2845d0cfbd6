"""Addresses in object stores: taken apart once, shown without what may be a secret."""

from __future__ import annotations

import re
from dataclasses import dataclass, field, replace

from batchscore.endpoint import redacted
from batchscore.errors import UsageError

_URI = re.compile(r"([A-Za-z][A-Za-z0-9+.-]+)://(.*)", re.DOTALL)
_QUERY = re.compile(r"\?[A-Za-z_][\w.-]*=")
_SCHEMES = {
    "s3": "s3", "s3a": "s3", "s3n": "s3",
    "gs": "gs", "gcs": "gs",
    "abfs": "abfs", "abfss": "abfs", "az": "abfs",
}  # fmt: skip
_OF_FEATURES = "credentials come from the environment, the endpoint from --store-endpoint"


def is_uri(text: str) -> bool:
    """Whether a text is an address, not a local path."""
    return _URI.match(text) is not None


@dataclass(frozen=True, slots=True)
class StoreURI:
    """An object, or what the keys of objects begin with.

    Attributes:
        scheme: ``s3``, ``gs``, ``abfs``, or one that fsspec knows.
        bucket: the bucket or container; empty for fsspec's.
        key: of the object, without a leading slash. For fsspec's the whole address.
        shown: the address as it may be printed and stored; ``str()`` gives it too. Of one that was
            typed it ends at a "?": what follows may be a wildcard, and may be a secret.
        account: of Azure, where the address tells it.
        place: what stands before the key.
    """

    scheme: str
    bucket: str
    key: str = field(repr=False)
    shown: str
    account: str | None = None
    place: str = ""

    @classmethod
    def parse(cls, text: str) -> StoreURI:
        """Take an address apart.

        Raises:
            UsageError: it has no bucket, or holds a password or options, which are not repeated.
        """
        match = _URI.fullmatch(text)
        if match is None:
            raise UsageError(f"{redacted(text)!r} is no address; write s3://BUCKET/KEY")
        typed, rest = match[1].lower(), match[2]
        if typed not in _SCHEMES:
            return cls(typed, "", text, redacted(text))
        place, _, key = rest.partition("/")
        shown = f"{typed}://{place.rpartition('@')[2]}/{key.partition('?')[0]}"
        user, at, host = place.rpartition("@")
        bucket, account = place, None
        if _SCHEMES[typed] == "abfs" and at and ":" not in user:
            # The form of Hadoop: abfs://CONTAINER@ACCOUNT.dfs.core.windows.net/KEY.
            bucket, account = user, host.partition(".")[0]
        elif at:
            raise UsageError(f"{shown}: an address takes no user part; {_OF_FEATURES}")
        if _QUERY.search(rest):
            raise UsageError(f"{shown}: an address takes no options after '?'; {_OF_FEATURES}")
        if not bucket or set(bucket) & set("*?["):
            raise UsageError(f"{shown}: an address is of the form {typed}://BUCKET/KEY")
        shown = f"{typed}://{place}/{key.partition('?')[0]}"
        return cls(_SCHEMES[typed], bucket, key, shown, account, f"{typed}://{place}/")

    @property
    def name(self) -> str:
        """The last part of the key."""
        return self.key.rstrip("/").rpartition("/")[2]

    @property
    def is_folder(self) -> bool:
        """Whether it stands for all keys that begin with it."""
        return not self.key or self.key.endswith("/")

    def with_key(self, key: str) -> StoreURI:
        """Another key of the same bucket."""
        if not self.bucket:
            scheme = self.key.partition("://")[0]
            whole = key if "://" in key else f"{scheme}://{key}"
            return StoreURI(self.scheme, "", whole, redacted(whole))
        return replace(self, key=key, shown=self.place + key)

    def __str__(self) -> str:
        return self.shown
