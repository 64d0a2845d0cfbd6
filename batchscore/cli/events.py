"""``--log-format json``: what goes to standard error, one JSON object a line."""

from __future__ import annotations

import json
import logging
import re
from datetime import UTC, datetime
from itertools import pairwise
from typing import TYPE_CHECKING, Any

from batchscore.errors import EXIT_FAILED_ROWS, EXIT_OK, BatchscoreError

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

_LEVELS = ((logging.ERROR, "error"), (logging.WARNING, "warning"), (logging.INFO, "info"))


def event_line(level: int, event: str, message: str, **fields: Any) -> str:
    """An event as a line of JSON, with its end.

    Args:
        level: as in ``logging``.
        event: its stable name.
        message: what the text log would say, for people.
        fields: what it tells besides.
    """
    content = {
        "time": datetime.now(UTC).isoformat(timespec="milliseconds"),
        "level": next((name for least, name in _LEVELS if level >= least), "debug"),
        "event": event,
        "message": message,
        **fields,
    }
    # ASCII alone: whatever the terminal's encoding, and no character that ends a line elsewhere.
    return json.dumps(content, default=str) + "\n"


def end_line(exit_code: int) -> str:
    """The last line of every command."""
    level = {EXIT_OK: logging.INFO, EXIT_FAILED_ROWS: logging.WARNING}
    text = f"the command ends with exit code {exit_code}"
    return event_line(level.get(exit_code, logging.ERROR), "end", text, exit_code=exit_code)


def code_of(error: BaseException) -> str:
    """The stable name of an error: ``usage``, ``unreachable``; ``internal`` where it is no ours."""
    if not isinstance(error, BatchscoreError):
        return "internal"
    words = re.findall("[A-Z][a-z]*", type(error).__name__.removesuffix("Error"))
    return "_".join(words).lower()


def wants_json(arguments: Sequence[str], variables: Mapping[str, str]) -> bool:
    """Whether JSON is asked for, as far as that shows before the options are parsed."""
    form = variables.get("BATCHSCORE_LOG_FORMAT", "text")
    for word, following in pairwise([*arguments, ""]):
        option, sign, value = word.partition("=")
        if option == "--log-format":
            form = value if sign else following
    return form == "json"
