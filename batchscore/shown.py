"""Options as they may be shown and stored: nothing in them that may be a secret."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from batchscore.endpoint import redacted

if TYPE_CHECKING:
    from collections.abc import Mapping

_NEVER = {"token", "url"}
_HIDDEN = {"token_command"}
_TABLES = {"instances", "retry"}
HIDDEN = "(set)"


def shown_options(options: Mapping[str, Any]) -> dict[str, Any]:
    """Options without what may be a secret; what was shown once is shown the same again.

    A token and an address are left out; of a command that prints a token only that there is one
    is told, of headers and of what is added to requests only the names.
    """
    return {
        name: HIDDEN if name in _HIDDEN and value else _shown(name, value)
        for name, value in options.items()
        if name not in _NEVER
    }


def _shown(name: str, value: Any) -> Any:
    if name == "header":
        lines = [value] if isinstance(value, str) else value
        return [str(line).partition(":")[0] for line in lines]
    if isinstance(value, str):
        return redacted(value)
    if name == "extra" and isinstance(value, dict):
        return dict.fromkeys(value, HIDDEN)
    if isinstance(value, dict):
        # The keys of other mappings are columns and features, whatever they are called.
        is_table = name in _TABLES
        return shown_options(value) if is_table else {k: _shown("", v) for k, v in value.items()}
    if isinstance(value, (list, tuple)):
        return [_shown("", item) for item in value]
    return value
