"""Where the token comes from; its text is never printed, logged or stored."""

from __future__ import annotations

import asyncio
import os
import signal
import subprocess
import sys
import time
from contextlib import suppress
from typing import TYPE_CHECKING, Protocol

from batchscore.errors import UsageError

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    from batchscore.config import EndpointConfig
    from batchscore.offload import Offload

TOKEN_VARIABLE = "BATCHSCORE_TOKEN"  # noqa: S105 - the name of a variable, not a token
_COMMAND_TIMEOUT_S = 60.0
# A file that is rewritten in place is empty for a moment.
_EMPTY_FILE_TRIES = 5
_EMPTY_FILE_WAIT_S = 0.1


class TokenSource:
    """Reads the token anew each time it is asked; reading may block.

    The order: the ``token`` of Python, ``--token-command`` or ``--token-file``, else the
    variable ``BATCHSCORE_TOKEN``.
    """

    def __init__(self, config: EndpointConfig) -> None:
        """Remember where to read.

        Raises:
            UsageError: two sources are given.
        """
        if config.token_command is not None and config.token_file is not None:
            raise UsageError("give --token-command or --token-file, not both")
        self._config = config
        self._command: subprocess.Popen[bytes] | None = None

    def read(self) -> str | None:
        """The token; None where there is no source of one.

        Raises:
            UsageError: the source cannot be read, or gives no token.
        """
        config = self._config
        if config.token is not None:
            token = config.token() if callable(config.token) else config.token
            if token is not None and not isinstance(token, str):
                raise UsageError(
                    f"token gives {type(token).__name__}, not a string"
                    "; give the token itself, or a function that returns it"
                )
            return _checked(token)
        if config.token_command is not None:
            return _required(_checked(self._run(config.token_command)), "--token-command")
        if config.token_file is not None:
            return _required(_read_file(config.token_file), "--token-file")
        return _checked(os.environ.get(TOKEN_VARIABLE))

    def close(self) -> None:
        """End a command that is still running, with all that it started."""
        command = self._command
        if command is None or command.poll() is not None:
            return
        with suppress(OSError):
            if sys.platform == "win32":
                command.kill()
            else:
                os.killpg(command.pid, signal.SIGKILL)

    def _run(self, command: str) -> str:
        # A shell, as users write pipes here; the command is theirs, and so is its standard error,
        # where a secrets tool says what it needs. A session of its own, so that it can be ended.
        with subprocess.Popen(  # noqa: S602
            command,
            shell=True,
            stdout=subprocess.PIPE,
            stdin=subprocess.DEVNULL,
            start_new_session=True,
        ) as self._command:
            try:
                output, _ = self._command.communicate(timeout=_COMMAND_TIMEOUT_S)
            except subprocess.TimeoutExpired:
                self.close()
                raise UsageError(
                    f"--token-command printed no token within {_COMMAND_TIMEOUT_S:g} s"
                    "; run it by itself: does it wait for something?"
                ) from None
            if self._command.returncode != 0:
                code = self._command.returncode
                raise UsageError(
                    f"--token-command failed with exit code {code}; run it by itself to see why"
                )
        return output.decode("utf-8", "replace")


def _read_file(path: Path) -> str | None:
    for _ in range(_EMPTY_FILE_TRIES):
        try:
            token = _checked(path.read_text(encoding="utf-8"))
        except (OSError, UnicodeDecodeError) as error:
            reason = getattr(error, "strerror", None) or "it is no text"
            raise UsageError(
                f"--token-file: cannot read {str(path)!r}: {reason}"
                "; name the file that holds the token alone"
            ) from None
        if token is not None:
            return token
        time.sleep(_EMPTY_FILE_WAIT_S)
    return None


def _required(token: str | None, option: str) -> str:
    if token is None:
        raise UsageError(
            f"{option} gives no token, only nothing; it has to give the token alone, on one line"
        )
    return token


def _checked(token: str | None) -> str | None:
    token = (token or "").strip()
    if not token:
        return None
    if not (token.isascii() and token.isprintable()) or " " in token:
        raise UsageError(
            "the token holds characters that no HTTP header can carry"
            "; its source has to give the token alone, on one line"
        )
    return token


class Token(Protocol):
    """The token that all workers share: asked before each request, and again where it is refused.

    Both may wait for its source; what they raise ends the job.
    """

    async def current(self) -> str | None:
        """The token as it was last read."""
        ...

    async def renewed(self, refused: str | None) -> str | None:
        """A token other than the refused one, if the source has one by now."""
        ...


class SharedToken:
    """``Token`` that is read in this process."""

    def __init__(self, read: Callable[[], str | None], offload: Offload) -> None:
        self._read = read
        self._offload = offload
        self._lock = asyncio.Lock()
        self._is_read = False
        self._token: str | None = None

    async def current(self) -> str | None:
        """See ``Token``; read now, where it never was."""
        if not self._is_read:
            async with self._lock:
                if not self._is_read:
                    self._token = await self._offload(self._read)
                    self._is_read = True
        return self._token

    async def renewed(self, refused: str | None) -> str | None:
        """See ``Token``; of those that are refused at once, the first has it read."""
        async with self._lock:
            if self._token == refused:
                self._token = await self._offload(self._read)
            return self._token
