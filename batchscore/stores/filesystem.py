"""The file systems of ``pyarrow.fs`` behind the addresses, made once each."""

from __future__ import annotations

import os
import threading
from datetime import timedelta
from functools import lru_cache
from typing import TYPE_CHECKING, Any

from batchscore.errors import UsageError
from batchscore.stores.options import StoreOptions
from batchscore.stores.s3_session import find_credentials, find_region, session

if TYPE_CHECKING:
    from batchscore.stores.uri import StoreURI

_lock = threading.Lock()
_ATTEMPTS = 5
_CONNECT_S = 10.0
_AZURITE = "devstoreaccount1"


def filesystem_of(uri: StoreURI, options: StoreOptions) -> tuple[Any, str]:
    """The file system and the path in it; blocks where it has to look for credentials.

    Raises:
        UsageError: the scheme is known to nobody, or what it needs is not installed or not told.
    """
    with _lock:
        match uri.scheme:
            case "s3":
                found = _s3(uri.bucket, options, _s3_authority(options), find_credentials())
            case "gs":
                found = _gcs(options)
            case "abfs":
                found = _azure(azure_account(uri), options)
            case _:
                return _fsspec(uri)
    return found, f"{uri.bucket}/{uri.key}".rstrip("/")


def _s3_authority(options: StoreOptions) -> tuple[str, str] | None:
    """Scheme and host of the endpoint that option, environment or profile name, if one does."""
    found = options.authority_for("s3")
    if found is not None or session() is None:
        return found
    from batchscore.stores.s3 import s3_client  # noqa: PLC0415 (slow to make)

    endpoint = str(s3_client(options).meta.endpoint_url)
    return None if "amazonaws.com" in endpoint else StoreOptions(endpoint).authority_for("s3")


@lru_cache(maxsize=8)
def _s3(
    bucket: str,
    options: StoreOptions,
    authority: tuple[str, str] | None,
    credentials: tuple[str, str, str | None] | None,
) -> Any:
    """Made anew as soon as the credentials are others: those of a role last for an hour."""
    from pyarrow import fs  # noqa: PLC0415 (most jobs are quicker without)

    given: dict[str, Any] = {}
    if credentials is not None:
        access, secret, session = credentials
        given |= {"access_key": access, "secret_key": secret, "session_token": session}
    if authority is not None:
        given |= {"scheme": authority[0], "endpoint_override": authority[1]}
    region = options.region or find_region()
    if region is None and authority is None:
        region = _resolved_region(bucket)
    if bundle := os.environ.get("AWS_CA_BUNDLE"):
        given["tls_ca_file_path"] = bundle
    return fs.S3FileSystem(
        region=region or "us-east-1",
        connect_timeout=_CONNECT_S,
        retry_strategy=fs.AwsStandardS3RetryStrategy(max_attempts=_ATTEMPTS),
        **given,
    )


def _resolved_region(bucket: str) -> str | None:
    from pyarrow import fs  # noqa: PLC0415 (most jobs are quicker without)

    try:
        return str(fs.resolve_s3_region(bucket))
    except OSError:
        return None  # What is wrong shows at the first request, in words of the store.


@lru_cache(maxsize=8)
def _gcs(options: StoreOptions) -> Any:
    from pyarrow import fs  # noqa: PLC0415 (most jobs are quicker without)

    given: dict[str, Any] = {}
    authority = options.authority_for("gs")
    if authority is not None:
        # What stands in for Google's own store knows no accounts.
        given |= {"scheme": authority[0], "endpoint_override": authority[1], "anonymous": True}
    return fs.GcsFileSystem(retry_time_limit=timedelta(seconds=60), **given)


def azure_account(uri: StoreURI) -> str:
    """The storage account of an address, else of ``AZURE_STORAGE_ACCOUNT_NAME``.

    Raises:
        UsageError: neither tells it.
    """
    named = os.environ.get("AZURE_STORAGE_ACCOUNT_NAME") or os.environ.get("AZURE_STORAGE_ACCOUNT")
    account = uri.account or named
    if not account:
        raise UsageError(
            f"{uri}: no storage account is told; write abfs://CONTAINER@ACCOUNT.dfs.core."
            "windows.net/KEY, or set AZURE_STORAGE_ACCOUNT_NAME"
        )
    return account


@lru_cache(maxsize=8)
def _azure(account: str, options: StoreOptions) -> Any:
    from pyarrow import fs  # noqa: PLC0415 (most jobs are quicker without)

    given: dict[str, Any] = {}
    if key := (
        os.environ.get("AZURE_STORAGE_ACCOUNT_KEY") or os.environ.get("AZURE_STORAGE_ACCESS_KEY")
    ):
        given["account_key"] = key
    elif sas := os.environ.get("AZURE_STORAGE_SAS_TOKEN"):
        given["sas_token"] = sas
    authority = options.authority_for("abfs")
    if authority is not None:
        scheme, host = authority[0], authority[1].removesuffix(f"/{account}")
        given |= {"blob_storage_scheme": scheme, "blob_storage_authority": host}
        given |= {"dfs_storage_scheme": scheme, "dfs_storage_authority": host}
    return fs.AzureFileSystem(account, **given)


def _fsspec(uri: StoreURI) -> tuple[Any, str]:
    from pyarrow import fs  # noqa: PLC0415 (most jobs are quicker without)

    try:
        from fsspec.core import url_to_fs  # noqa: PLC0415 (an extra)
    except ImportError:
        raise UsageError(
            f"{uri}: {uri.scheme}:// needs fsspec; pip install 'batchscore[fsspec]'"
        ) from None
    try:
        found, path = url_to_fs(uri.key)
    except (ImportError, ValueError) as error:
        reason = str(error).replace(uri.key, str(uri)).splitlines()[0]
        raise UsageError(f"{uri}: {uri.scheme}:// cannot be read: {reason}") from None
    return fs.PyFileSystem(fs.FSSpecHandler(found)), path
