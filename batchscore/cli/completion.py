"""``batchscore completion``: what shells complete the commands with, editors the config files."""

from __future__ import annotations

from importlib.resources import files
from typing import Literal

from pydantic import Field

from batchscore.cli.commands import as_function
from batchscore.cli.options import Command, GeneralOptions, OptionsModel
from batchscore.cli.terminal import TERMINAL

_ZSH_END = """
# Called by the completion that loaded this file; or sourced.
if [ "$funcstack[1]" = _batchscore ]; then
  _batchscore "$@"
else
  compdef _batchscore batchscore
fi
"""


class CompletionOptions(OptionsModel):
    """Everything ``completion`` can be told."""

    shell: Literal["bash", "zsh", "fish", "toml"] = Field(
        description="bash: batchscore completion bash > "
        "~/.local/share/bash-completion/completions/batchscore; zsh: into a file _batchscore in "
        "a folder of $fpath; fish: > ~/.config/fish/completions/batchscore.fish; "
        "toml: the JSON Schema of config files, for editors"
    )


def _completion(options: CompletionOptions, _general: GeneralOptions) -> int:
    if options.shell == "toml":
        TERMINAL.data(files("batchscore.cli").joinpath("config.schema.json").read_text("utf-8"))
        return 0
    from batchscore.cli.app import make_app

    script = make_app().generate_completion(shell=options.shell).rstrip("\n") + "\n"
    if options.shell == "bash":
        # Readline's own completion of files knows spaces, folders and ~; it takes over where
        # the script finds nothing.
        script = script.replace('COMPREPLY=( $(compgen -f -- "${cur}") )', "COMPREPLY=()")
        script = script.replace("complete -F ", "complete -o default -F ")
    elif options.shell == "zsh":
        # zsh looks for the function under the name of the file.
        script = script.replace("_cyclopts_batchscore", "_batchscore") + _ZSH_END
    TERMINAL.data(script)
    return 0


COMMAND = Command(
    name="completion",
    model=CompletionOptions,
    call=_completion,
    positional="shell",
    metavars={"shell": "bash|zsh|fish|toml"},
)
completion = as_function(COMMAND)
