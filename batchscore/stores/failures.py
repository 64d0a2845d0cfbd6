"""What a store says when it refuses or fails, in words for the user: mend it, or wait."""

from __future__ import annotations

import re
from contextlib import contextmanager
from typing import TYPE_CHECKING

import pyarrow as pa

from batchscore.errors import InputError, ShortageError, StoreError

if TYPE_CHECKING:
    from collections.abc import Iterator

_CODE = re.compile(r"AWS Error ([A-Z_]+)")
_LOGIN = (
    "say who you are by the store's own means, for S3 AWS_PROFILE, AWS_ACCESS_KEY_ID and the like"
)
_REFUSALS = {
    "NO_SUCH_BUCKET": "there is no such bucket",
    "NO_SUCH_KEY": "there is no such object",
    "ACCESS_DENIED": f"the store refuses access; {_LOGIN}",
    "INVALID_ACCESS_KEY_ID": f"the store does not know the access key; {_LOGIN}",
    "SIGNATURE_DOES_NOT_MATCH": f"the store does not take the secret key; {_LOGIN}",
    "EXPIRED_TOKEN": "the login has expired; log in again",
}
_SAID = {
    "NoSuchBucket": "NO_SUCH_BUCKET",
    "container does not exist": "NO_SUCH_BUCKET",
    "ContainerNotFound": "NO_SUCH_BUCKET",
    "AuthorizationFailure": "ACCESS_DENIED",
    "AuthenticationFailed": "ACCESS_DENIED",
    "PERMISSION_DENIED": "ACCESS_DENIED",
    "UNAUTHENTICATED": "ACCESS_DENIED",
    "HTTP status 401": "ACCESS_DENIED",
    "HTTP status 403": "ACCESS_DENIED",
    "AWS Error [code 15]": "ACCESS_DENIED",
    "ExpiredToken": "EXPIRED_TOKEN",
    "InvalidAccessKeyId": "INVALID_ACCESS_KEY_ID",
    "SignatureDoesNotMatch": "SIGNATURE_DOES_NOT_MATCH",
}


def refusal(error: BaseException) -> str | None:
    """Why trying again does not help, in words; None where it may."""
    if isinstance(error, FileNotFoundError):
        return "there is no such object"
    text = str(error)
    match = _CODE.search(text)
    code = match[1] if match else next((c for said, c in _SAID.items() if said in text), "")
    if isinstance(error, PermissionError):
        code = "ACCESS_DENIED"
    return _REFUSALS.get(code)


def said(error: BaseException) -> str:
    """The store's own words in one line, without what differs from try to try."""
    text = str(error).strip().splitlines()[0] if str(error).strip() else type(error).__name__
    text = text.partition("; Details:")[2].strip() or text
    return re.sub(r" \(Request ID: [^)]*\)", "", text)[:300]


@contextmanager
def reaching(name: str) -> Iterator[None]:
    """Turn what goes wrong with a store into an error that names the address.

    Raises:
        InputError: it refuses, and would again.
        StoreError: it may work later.
    """
    try:
        yield
    except (OSError, pa.ArrowException) as error:
        ShortageError.check(error)
        raise store_error(name, error) from error


def store_error(name: str, error: BaseException) -> InputError | StoreError:
    """The error for the user, who reads from the address."""
    if why := refusal(error):
        return InputError(f"{name}: {why}")
    return StoreError(
        f"{name}: the store cannot be reached or fails: {said(error)}; the same command with "
        "--resume goes on"
    )
