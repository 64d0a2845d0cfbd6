"""One object as a file: read at any place, tried again, told apart from damage."""

from __future__ import annotations

import io
from contextlib import suppress
from typing import TYPE_CHECKING, Any

import pyarrow as pa
import tenacity

from batchscore.stores.failures import refusal, store_error

if TYPE_CHECKING:
    from collections.abc import Callable

_ATTEMPTS = 5
_MAX_WAIT_S = 8.0
AHEAD_BYTES = 4 * 2**20
"""What is read front to back is asked for in pieces of this size."""


class RemoteFile(io.RawIOBase):
    """An object of a store, read-only. Not for several threads at once.

    What the store fails to give is asked for again, the file opened anew; then it is a
    ``StoreError``, so that trouble on the way is never taken for a damaged file.

    Args:
        name: to name it in errors.
        size: its length in bytes.
        opened: opens the file of the store.
        ahead_bytes: how much to ask for at least.
    """

    def __init__(
        self, name: str, size: int, opened: Callable[[], Any], *, ahead_bytes: int = 0
    ) -> None:
        super().__init__()
        self._name, self._size, self._open = name, size, opened
        self._ahead_bytes = ahead_bytes
        self._file: Any = None
        self._at = 0
        self._held = memoryview(b"")
        self._held_at = 0

    def readable(self) -> bool:
        return True

    def seekable(self) -> bool:
        return True

    def tell(self) -> int:
        return self._at

    def size(self) -> int:
        """Its length in bytes, which PyArrow asks for by this name."""
        return self._size

    def seek(self, offset: int, whence: int = io.SEEK_SET, /) -> int:
        start = {io.SEEK_SET: 0, io.SEEK_CUR: self._at, io.SEEK_END: self._size}[whence]
        self._at = max(0, start + offset)
        return self._at

    def read(self, size: int | None = -1, /) -> bytes:
        """Exactly so many bytes, fewer only at the end.

        Raises:
            InputError: the store refuses, or the object is gone.
            StoreError: it does not answer.
        """
        left = max(0, self._size - self._at)
        wanted = left if size is None or size < 0 else min(size, left)
        if not wanted:
            return b""
        start = self._at - self._held_at
        if not (start >= 0 and start + wanted <= len(self._held)):
            asked = min(max(wanted, self._ahead_bytes), left)
            self._held, self._held_at = memoryview(self._fetched(self._at, asked)), self._at
            start = 0
        data = bytes(self._held[start : start + wanted])
        if not self._ahead_bytes:
            self._held = memoryview(b"")
        self._at += wanted
        return data

    def read1(self, size: int = -1, /) -> bytes:
        """What a buffered file has by this name: no more is waited for than is needed."""
        return self.read(size)

    def readinto(self, buffer: Any, /) -> int:
        data = self.read(len(buffer))
        buffer[: len(data)] = data
        return len(data)

    def close(self) -> None:
        self._let_go()
        super().close()

    def _fetched(self, offset: int, size: int) -> bytes:
        return fetched(self._name, lambda: self._fetched_once(offset, size))

    def _fetched_once(self, offset: int, size: int) -> bytes:
        try:
            if self._file is None:
                self._file = self._open()
            data = self._file.read_at(size, offset)
            if len(data) < size:
                raise OSError(f"{len(data):,} bytes came instead of {size:,}")
        except BaseException:
            self._let_go()
            raise
        return bytes(data)

    def _let_go(self) -> None:
        file, self._file = self._file, None
        if file is not None:
            with suppress(OSError, pa.ArrowException):
                file.close()


def fetched(name: str, fetch: Callable[[], bytes]) -> bytes:
    """What a store gives, asked for again where it fails.

    Raises:
        InputError: it refuses.
        StoreError: it has failed for good.
    """
    retrying = tenacity.Retrying(
        retry=tenacity.retry_if_exception(_may_pass),
        stop=tenacity.stop_after_attempt(_ATTEMPTS),
        wait=tenacity.wait_random_exponential(multiplier=0.2, max=_MAX_WAIT_S),
        reraise=True,
    )
    try:
        return retrying(fetch)
    except (OSError, pa.ArrowException) as error:
        raise store_error(name, error) from error


def _may_pass(error: BaseException) -> bool:
    return isinstance(error, (OSError, pa.ArrowException)) and refusal(error) is None
