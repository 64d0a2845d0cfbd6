"""Where the token comes from; its text is never printed, logged or stored."""

from __future__ import annotations

import os
import subprocess
from typing import TYPE_CHECKING

from batchscore.errors import UsageError

if TYPE_CHECKING:
    from collections.abc import Callable

    from batchscore.config import EndpointConfig

TOKEN_VARIABLE = "BATCHSCORE_TOKEN"  # noqa: S105 - the name of a variable, not a token
_COMMAND_TIMEOUT_S = 60.0


def token_source(config: EndpointConfig) -> Callable[[], str | None]:
    """A function that reads the token anew each time it is called; it may block.

    The order: the ``token`` of Python, ``--token-command`` or ``--token-file``, else the
    variable ``BATCHSCORE_TOKEN``.

    Raises:
        UsageError: two sources are given; and when called, a source cannot be read.
    """
    if config.token_command is not None and config.token_file is not None:
        raise UsageError("give --token-command or --token-file, not both")
    return lambda: _checked(_read(config))


def _read(config: EndpointConfig) -> str | None:
    if config.token is not None:
        return config.token() if callable(config.token) else config.token
    if config.token_command is not None:
        return _run(config.token_command)
    if config.token_file is not None:
        try:
            return config.token_file.read_text(encoding="utf-8")
        except (OSError, UnicodeDecodeError) as error:
            raise UsageError(
                f"--token-file: cannot read {str(config.token_file)!r}: "
                f"{getattr(error, 'strerror', None) or 'it is no text'}"
            ) from None
    return os.environ.get(TOKEN_VARIABLE)


def _run(command: str) -> str:
    # A shell, as users write pipes here; the command is theirs. Its standard error stays theirs
    # too: what a secrets tool prints there may be what helps, and it is not ours to store.
    try:
        done = subprocess.run(  # noqa: S602
            command,
            shell=True,
            stdout=subprocess.PIPE,
            stdin=subprocess.DEVNULL,
            timeout=_COMMAND_TIMEOUT_S,
            check=False,
        )
    except subprocess.TimeoutExpired:
        raise UsageError(
            f"--token-command printed no token within {_COMMAND_TIMEOUT_S:g} s"
        ) from None
    if done.returncode != 0:
        raise UsageError(f"--token-command failed with exit code {done.returncode}")
    return done.stdout.decode("utf-8", "replace")


def _checked(token: str | None) -> str | None:
    token = (token or "").strip()
    if not token:
        return None
    if not (token.isascii() and token.isprintable()) or " " in token:
        raise UsageError("the token holds characters that no HTTP header can carry")
    return token
