"""Words that parsing and the options share; imports nothing, so that ``--help`` is quick."""

from __future__ import annotations

STANDARD_STREAM = "\0"
"""Stands for a lone ``-`` while cyclopts, which takes it for an option, has the words.

No argument of a process can hold this character.
"""

CREDENTIAL_ADVICE = (
    "a token is never given as an option or in a config file, where others can read it; "
    "use token_file, token_command or the variable BATCHSCORE_TOKEN"
)
