"""Which client writes to which store; each is loaded when it is needed."""

from __future__ import annotations

from typing import TYPE_CHECKING

from batchscore.errors import UsageError

if TYPE_CHECKING:
    from batchscore.stores.options import StoreOptions
    from batchscore.stores.uploads import Uploads
    from batchscore.stores.uri import StoreURI


def uploads_to(uri: StoreURI, options: StoreOptions) -> Uploads:
    """What writes to the store of an address.

    Raises:
        UsageError: nothing does, or what does is not installed.
    """
    if uri.scheme == "s3":
        from batchscore.stores.s3 import S3Uploads  # noqa: PLC0415 (an extra)

        return S3Uploads(options)
    if uri.scheme in {"gs", "abfs"}:
        from batchscore.stores.one_put import OnePutUploads  # noqa: PLC0415 (an extra)

        return OnePutUploads(uri, options)
    raise UsageError(
        f"--output: {uri}: {uri.scheme}:// can be read, not written to; write a local file, or to "
        "s3://, gs:// or abfs://"
    )
