"""The wire formats."""

from __future__ import annotations

from typing import TYPE_CHECKING, cast

from batchscore.errors import UsageError
from batchscore.extensions import Extensions
from batchscore.importing import load_object, made
from batchscore.protocols.rows import RowsProtocol

if TYPE_CHECKING:
    from batchscore.protocols.base import WireProtocol

_BUILT_IN = {"rows": RowsProtocol}
PROTOCOLS = Extensions("batchscore.protocols", "protocol", tuple(_BUILT_IN))
_METHODS = (
    "encoder", "decoder", "learn", "is_complete", "metadata_request", "parse_metadata",
    "score_request", "treatment", "error_text",
)  # fmt: skip
_ATTRIBUTES = ("name", "url_ending", "signature")


def protocol(name: str) -> WireProtocol:
    """The protocol of that name: built in, registered, ``package.module:Class``, ``file.py:Class``.

    Raises:
        UsageError: there is none, or what is there is no protocol.
    """
    if name in _BUILT_IN:
        return _BUILT_IN[name]()
    if ":" in name:
        where = f"--protocol {name}"
        try:
            found = load_object(name)
        except UsageError as error:
            raise UsageError(f"{where}: {error}") from error
    elif PROTOCOLS.is_known(name):
        found, where = PROTOCOLS.load(name)
    else:
        raise UsageError(
            f"--protocol {name!r} is not known; choose {PROTOCOLS.choice(name)} "
            "(one of your own: package.module:Class or file.py:Class)"
        )
    if isinstance(found, type):
        PROTOCOLS.check(found, where, _METHODS)
    found = made(found, where, "encoder")
    PROTOCOLS.check(found, where, _METHODS, _ATTRIBUTES)
    return cast("WireProtocol", found)
