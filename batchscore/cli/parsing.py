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

from batchscore.cli.words import CREDENTIAL_ADVICE, STANDARD_STREAM
from batchscore.errors import UsageError
from batchscore.nearest import nearest

if TYPE_CHECKING:
    from cyclopts import App, Argument, CycloptsError, Token


def prepared(arguments: list[str]) -> list[str]:
    """The words as cyclopts shall see them.

    Raises:
        UsageError: there is a ``--token``; what follows it is not shown.
    """
    options = list(takewhile(lambda word: word != "--", arguments))
    if any(word.partition("=")[0] == "--token" for word in options):
        raise UsageError(f"--token: {CREDENTIAL_ADVICE}")
    return [STANDARD_STREAM if word == "-" else word for word in arguments]


def reworded(error: CycloptsError, app: App) -> str:
    """One line for what was wrong with the words. Never more of them than the option's name."""
    match error:
        case UnknownOptionError():
            # After "=" stands a value, perhaps a secret.
            text = (error.token.keyword or error.token.value).partition("=")[0]
            names = [name for item in error.argument_collection for name in item.names]
            text = f"unknown option {text}{nearest(text, names)}"
        case UnknownCommandError():
            word = _shown((error.unused_tokens or [""])[0])
            commands = [name for name in app if not name.startswith("-")]
            hint = nearest(word, commands) or f"; there are {', '.join(commands)}"
            text = f"unknown command {word!r}{hint}"
        case UnusedCliTokensError():
            text = f"unexpected argument {_shown((error.unused_tokens or [''])[0])!r}"
        case RepeatArgumentError():
            text = f"{error.token.keyword} is given twice"
        case MissingArgumentError():
            name = error.keyword or (error.argument.name if error.argument else "an option")
            text = f"{name} needs a value"
        case CoercionError() if error.argument is not None and error.token is not None:
            text = _not_a_choice(error.argument, error.token)
        case _:
            error.verbose = False
            text = _shown(" ".join(str(error).split()))
    return text


def _not_a_choice(argument: Argument, token: Token) -> str:
    name = token.keyword or argument.name
    expected = ", ".join(argument.get_choices(force=True) or ())
    if not expected:
        return f"{name} is a switch and takes no value; {name} or {name}=false"
    return f"{name}: {_shown(token.value)!r} is not one of {expected}"


def _shown(text: str) -> str:
    return text.replace(STANDARD_STREAM, "-")
