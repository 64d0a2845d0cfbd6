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

COMMANDS = {
    "score": "Score the rows of files with a deployment; the output has them in input order.",
    "check": "Read all rows as score would, send none, and tell every problem with its rows.",
    "rescore": "Send only the rows of an output that failed; what comes back takes their places.",
    "inspect": "Show a deployment's protocol, inputs and outputs.",
    "bench": "Measure a deployment's latency and throughput with the rows of files.",
    "serve": "Run a deployment on this computer, and print its address.",
    "demo": "Score sample data with a deployment in this process, and show the result.",
    "completion": "Print what makes a shell complete the commands, or an editor a config file.",
}
USAGE = {
    "score": "INPUT... --url URL -o OUT",
    "check": "INPUT... --url URL",
    "rescore": "OUT --url URL",
    "inspect": "--url URL",
    "bench": "INPUT... --url URL",
    "serve": "[MODEL]",
    "demo": "[DIRECTORY]",
    "completion": "bash|zsh|fish|toml",
}
