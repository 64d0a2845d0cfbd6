"""Around cyclopts: words that it would take amiss, and its errors in our words."""

from __future__ import annotations

from itertools import takewhile
from typing import TYPE_CHECKING

from cyclopts.exceptions import (
    CoercionError,
    MissingArgumentError,
    RepeatArgumentError,
    UnknownCommandError,
    UnknownOptionError,
    UnusedCliTokensError,
)

from batchscore.cli.words import STANDARD_STREAM, TOKEN_TEXT, nearest
from batchscore.errors import UsageError

if TYPE_CHECKING:
    from cyclopts import App, CycloptsError


def prepared(arguments: list[str]) -> list[str]:
    """The words as cyclopts shall see them.

    Raises:
        UsageError: there is a ``--token``; what follows it is not shown.
    """
    options = list(takewhile(lambda word: word != "--", arguments))
    if any(word.partition("=")[0] == "--token" for word in options):
        raise UsageError(f"--token: {TOKEN_TEXT}")
    return [STANDARD_STREAM if word == "-" else word for word in arguments]


def reworded(error: CycloptsError, app: App) -> str:
    """One line for what was wrong with the words. Never more of them than the option's name."""
    match error:
        case UnknownOptionError():
            # After "=" stands a value, perhaps a secret.
            name = (error.token.keyword or error.token.value).partition("=")[0]
            names = [name for item in error.argument_collection for name in item.names]
            return f"unknown option {name}{nearest(name, names)}"
        case UnknownCommandError():
            words = error.unused_tokens or [""]
            commands = [name for name in app if not name.startswith("-")]
            hint = nearest(words[0], commands) or f"; there are {', '.join(commands)}"
            return f"unknown command {_shown(words[0])!r}{hint}"
        case RepeatArgumentError():
            return f"{error.token.keyword} is given twice"
        case MissingArgumentError():
            name = error.keyword or (error.argument.name if error.argument else "an option")
            return f"{name} needs a value"
        case UnusedCliTokensError():
            words = error.unused_tokens or [""]
            return f"unexpected argument {_shown(words[0])!r}"
        case CoercionError() if error.argument is not None and error.token is not None:
            name = error.token.keyword or error.argument.name
            expected = ", ".join(error.argument.get_choices(force=True) or ())
            if expected:
                return f"{name}: {_shown(error.token.value)!r} is not one of {expected}"
            return f"{name}: a switch takes no value, or true or false"
    error.verbose = False
    return _shown(" ".join(str(error).split()))


def _shown(text: str) -> str:
    return text.replace(STANDARD_STREAM, "-")
