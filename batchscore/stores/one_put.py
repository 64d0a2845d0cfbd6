"""Uploads to Google Cloud Storage and Azure: one conditional request, from a mapped file.

What is sent in one request appears at its end or not at all, and leaves nothing where it is cut
off. Both stores take gigabytes in one, and the condition with it, which uploads in pieces do not.
"""

from __future__ import annotations

import json
import mmap
import os
from contextlib import contextmanager
from datetime import timedelta
from typing import TYPE_CHECKING, Any

from batchscore.errors import OutputError, UsageError
from batchscore.stores.filesystem import azure_account
from batchscore.stores.uploads import (
    NOTE_KEY,
    OccupiedError,
    Pending,
    Placed,
    packed,
    run_ended,
    unpacked,
    upload_failed,
)

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Mapping
    from pathlib import Path

    from obstore.store import AzureConfig, AzureStore, GCSConfig, GCSStore

    from batchscore.stores.options import StoreOptions
    from batchscore.stores.uploads import Noting
    from batchscore.stores.uri import StoreURI

_MAX_BYTES = {"abfs": 5_000 * 2**20, "gs": 5 * 2**40}
_TIMEOUT = "3600s"
_RETRIES = 6


class OnePutUploads:
    """``Uploads`` of whole objects; ``begin`` sends nothing, ``complete`` all of it."""

    put_bytes = 0

    def __init__(self, uri: StoreURI, options: StoreOptions) -> None:
        try:
            import obstore  # noqa: PLC0415 (an extra)
        except ImportError:
            extra = {"gs": "gcs", "abfs": "azure"}[uri.scheme]
            raise UsageError(
                f"writing to {uri.scheme}:// needs obstore; pip install 'batchscore[{extra}]'"
            ) from None
        self._obstore, self._max_bytes = obstore, _MAX_BYTES[uri.scheme]
        try:
            self._store = _gcs(uri, options) if uri.scheme == "gs" else _azure(uri, options)
        except obstore.exceptions.BaseError as error:
            raise UsageError(f"--output: {uri}: {_said(error)}") from None

    def check(self, uri: StoreURI) -> None:
        """See ``Uploads``; whether it may be read is all that can be found out without a trace."""
        exceptions = self._obstore.exceptions
        try:
            next(iter(self._obstore.list(self._store, uri.key, chunk_size=1)), None)
        except (exceptions.BaseError, OSError) as error:
            if isinstance(error, FileNotFoundError) or "404 Not Found" in str(error):
                reason = "there is no such bucket or container"
                raise UsageError(f"--output: {uri}: {reason}") from None
            # Who may write need not be allowed to list.
            self.placed(uri)

    def placed(self, uri: StoreURI) -> Placed | None:
        """See ``Uploads``."""
        exceptions = self._obstore.exceptions
        try:
            found = self._obstore.get(self._store, uri.key, options={"head": True})
        except (exceptions.NotFoundError, FileNotFoundError):
            return None
        except (
            exceptions.PermissionDeniedError,
            exceptions.UnauthenticatedError,
            PermissionError,
        ) as error:
            raise UsageError(
                f"--output: {uri}: the store refuses access: {_said(error)}; look at the login "
                "that the store's own variables give"
            ) from None
        except (exceptions.BaseError, OSError) as error:
            if "token request" in str(error):
                raise UsageError(
                    f"--output: {uri}: no login is found; set GOOGLE_APPLICATION_CREDENTIALS, or "
                    "run gcloud auth application-default login"
                    if uri.scheme == "gs"
                    else f"--output: {uri}: no login is found; set AZURE_STORAGE_ACCOUNT_KEY or "
                    "AZURE_STORAGE_SAS_TOKEN"
                ) from None
            raise OutputError(
                f"cannot write {uri}: {_said(error)}; nothing was sent: try the same command again "
                "later"
            ) from error
        modified_ns = int(found.meta["last_modified"].timestamp() * 1e9)
        note = unpacked(found.attributes.get(NOTE_KEY))
        return Placed(found.meta["size"], modified_ns, note)

    def begin(
        self,
        uri: StoreURI,
        path: Path,
        note: Mapping[str, Any],
        journal: Noting,
        stopped: Callable[[], bool],
    ) -> Pending:
        """See ``Uploads``; nothing is begun."""
        del journal
        if stopped():
            raise run_ended(uri)
        size = path.stat().st_size
        if size > self._max_bytes:
            raise upload_failed(
                uri,
                f"{size:,} bytes are more than the store takes in one request "
                "(end the address with / for a folder of parts)",
            )
        return Pending(uri, path, note, size)

    def complete(self, pending: Pending, *, if_absent: bool) -> None:
        """See ``Uploads``."""
        with _mapped(pending.path) as data:
            self._put(pending.uri, data, pending.note, if_absent=if_absent)

    def put(self, uri: StoreURI, data: bytes, note: Mapping[str, Any], *, if_absent: bool) -> None:
        """See ``Uploads``."""
        self._put(uri, data, note, if_absent=if_absent)

    def _put(self, uri: StoreURI, data: Any, note: Mapping[str, Any], *, if_absent: bool) -> None:
        exceptions = self._obstore.exceptions
        try:
            self._obstore.put(
                self._store,
                uri.key,
                data,
                attributes={NOTE_KEY: packed(note)},
                mode="create" if if_absent else "overwrite",
                use_multipart=False,
            )
        except exceptions.AlreadyExistsError as error:
            # The answer to the try before may have been lost.
            there = self.placed(uri)
            if there is None or there.note.get("token") != note.get("token"):
                raise OccupiedError from error
        except (exceptions.BaseError, OSError) as error:
            raise upload_failed(uri, _said(error)) from error

    def abandon(self, uri: StoreURI, upload_id: str) -> None:
        """See ``Uploads``; there is never anything."""

    def delete(self, uri: StoreURI) -> None:
        """See ``Uploads``."""
        exceptions = self._obstore.exceptions
        try:
            self._obstore.delete(self._store, uri.key)
        except (exceptions.NotFoundError, FileNotFoundError):
            return
        except (exceptions.BaseError, OSError) as error:
            raise upload_failed(uri, _said(error)) from error


def _gcs(uri: StoreURI, options: StoreOptions) -> GCSStore:
    from obstore.store import GCSStore  # noqa: PLC0415 (an extra)

    given: GCSConfig = {}
    if endpoint := options.endpoint_for("gs"):
        # What stands in for Google's own store knows no accounts.
        login = {"gcs_base_url": endpoint, "disable_oauth": True}
        nobody = {"client_email": "", "private_key": "", "private_key_id": ""}
        given = {"service_account_key": json.dumps(login | nobody)}
    return GCSStore(uri.bucket, config=given, **_sending(options, "gs"))


def _azure(uri: StoreURI, options: StoreOptions) -> AzureStore:
    from obstore.store import AzureStore  # noqa: PLC0415 (an extra)

    account = azure_account(uri)
    given: AzureConfig = {"account_name": account}
    if endpoint := options.endpoint_for("abfs"):
        given["endpoint"] = f"{endpoint.removesuffix(f'/{account}')}/{account}"
    # pyarrow.fs and the command line of Azure call it by different names.
    if key := os.environ.get("AZURE_STORAGE_ACCESS_KEY"):
        given["account_key"] = key
    return AzureStore(uri.bucket, config=given, **_sending(options, "abfs"))


def _sending(options: StoreOptions, scheme: str) -> dict[str, Any]:
    is_plain = (options.endpoint_for(scheme) or "").startswith("http://")
    return {
        "client_options": {"timeout": _TIMEOUT, "connect_timeout": "10s", "allow_http": is_plain},
        "retry_config": {
            "max_retries": _RETRIES,
            "retry_timeout": timedelta(hours=1),
            "backoff": {
                "init_backoff": timedelta(milliseconds=200),
                "max_backoff": timedelta(seconds=15),
                "base": 2,
            },
        },
    }


@contextmanager
def _mapped(path: Path) -> Iterator[Any]:
    """A file's bytes without a copy of them in memory."""
    with path.open("rb") as file:
        if not path.stat().st_size:
            yield b""
            return
        with mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ) as mapped:
            view = memoryview(mapped)
            try:
                yield view
            finally:
                view.release()


def _said(error: Exception) -> str:
    """The store's own words in one line."""
    lines = str(error).strip().splitlines() or [type(error).__name__]
    return lines[0].partition("Debug source:")[0].strip()[:300]
