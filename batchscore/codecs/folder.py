"""The folder that cells name files in, and never leave."""

from __future__ import annotations

import os
import stat
from dataclasses import dataclass
from pathlib import Path

from batchscore.codecs.columns import shown
from batchscore.errors import EncodeError, ShortageError

NO_FOLDER = "no folder is known to read it from; name one with --image-root"


@dataclass(frozen=True)
class ImageFolder:
    """Where the files that cells name are read.

    Attributes:
        base: the folder that relative paths start from.
        root: the folder that a file must really lie in, symbolic links followed.
    """

    base: Path
    root: Path

    def resolve(self, cell: str) -> Path:
        """The real path of the file that the cell names; it may not exist.

        Raises:
            EncodeError: the path leads out of the root, or can be no path at all.
        """
        if not cell or "\0" in cell:
            raise EncodeError(f"{shown(cell)} is not a path")
        try:
            root = os.path.realpath(self.root)
            real = os.path.realpath(os.path.join(self.base, cell))  # noqa: PTH118 (much quicker)
            inside = os.path.commonpath((root, real)) == root
        except (OSError, ValueError) as error:
            raise EncodeError(f"{shown(cell)} cannot be read: {_reason(error)}") from None
        if not inside:
            raise EncodeError(f"{shown(cell)} is outside the image root {str(self.root)!r}")
        return Path(real)

    def read(self, cell: str) -> bytes:
        """The bytes of the file that the cell names.

        Raises:
            EncodeError: the file is outside the root, not there, no plain file or not readable.
        """
        path = self.resolve(cell)
        try:
            # Opening a named pipe would wait for ever, so the kind of file is asked first.
            if not stat.S_ISREG(path.stat().st_mode):
                kind = "a folder" if path.is_dir() else "not a plain file"
                raise EncodeError(f"{shown(cell)} is {kind}")
            return path.read_bytes()
        except FileNotFoundError:
            raise EncodeError(f"{shown(cell)} does not exist in {str(self.base)!r}") from None
        except (OSError, ValueError) as error:
            ShortageError.check(error)
            raise EncodeError(f"{shown(cell)} cannot be read: {_reason(error)}") from None

    def file_size(self, cell: str) -> int:
        """How many bytes the file has; 0 where it cannot be told."""
        try:
            return self.resolve(cell).stat().st_size
        except (EncodeError, OSError, ValueError):
            return 0


def _reason(error: Exception) -> str:
    return (error.strerror if isinstance(error, OSError) else None) or str(error)
