"""The wire formats."""

from __future__ import annotations

from typing import TYPE_CHECKING

from batchscore.errors import UsageError
from batchscore.protocols.rows import RowsProtocol

if TYPE_CHECKING:
    from batchscore.protocols.base import WireProtocol

_PROTOCOLS = {"rows": RowsProtocol}


def protocol(name: str) -> WireProtocol:
    """The protocol of that name.

    Raises:
        UsageError: there is none.
    """
    try:
        return _PROTOCOLS[name]()
    except KeyError:
        known = ", ".join(sorted(_PROTOCOLS))
        raise UsageError(f"--protocol {name!r} is not known; choose {known}") from None
