"""AWS's own chain of credentials and settings, as botocore has it where it is installed.

One chain for reading and writing: what uploads finds a login, and what reads would not, or the
other way round, is a trouble that nobody can guess.
"""

from __future__ import annotations

import os
from functools import cache
from typing import Any

from batchscore.errors import UsageError


@cache
def session() -> Any | None:
    """The session of botocore; None where it is not installed."""
    try:
        import botocore.session  # noqa: PLC0415 (an extra)
    except ImportError:
        return None
    return botocore.session.Session()


def find_credentials() -> tuple[str, str, str | None] | None:
    """Key, secret and session token as they are now; None: PyArrow looks for itself.

    Raises:
        UsageError: what should give them cannot, such as a profile that is not there.
    """
    found = session()
    if found is None:
        return None
    from botocore.exceptions import BotoCoreError  # noqa: PLC0415 (an extra)

    try:
        credentials = found.get_credentials()
        frozen = None if credentials is None else credentials.get_frozen_credentials()
    except BotoCoreError as error:
        raise UsageError(f"AWS credentials: {error}; see AWS_PROFILE and ~/.aws/config") from None
    return None if frozen is None else (frozen.access_key, frozen.secret_key, frozen.token)


def find_region() -> str | None:
    """The region that environment or profile name."""
    for name in ("AWS_REGION", "AWS_DEFAULT_REGION"):
        if found := os.environ.get(name):
            return found
    known = session()
    if known is None:
        return None
    from botocore.exceptions import BotoCoreError  # noqa: PLC0415 (an extra)

    try:
        region = known.get_config_variable("region")
    except BotoCoreError as error:
        raise UsageError(f"AWS region: {error}; see AWS_PROFILE and ~/.aws/config") from None
    return None if region is None else str(region)
