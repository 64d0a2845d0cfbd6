"""What an exporter is: from the finished partial file to the user's format."""

from __future__ import annotations

from typing import TYPE_CHECKING, Protocol

if TYPE_CHECKING:
    from pathlib import Path


class Exporter(Protocol):
    """Writes a sealed Arrow IPC file in another format, one record batch at a time.

    Called once, from a worker thread, after the last row. ``out`` is a fresh file in the
    folder of the work in progress; the caller syncs it and renames it into place. May raise
    ``OSError``, which the caller turns into ``OutputError``.
    """

    def export(self, partial: Path, out: Path) -> None: ...
