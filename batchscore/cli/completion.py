"""``batchscore completion``: the script that makes a shell complete the commands."""

from __future__ import annotations

from typing import Literal

from pydantic import Field

from batchscore.cli.commands import as_function
from batchscore.cli.options import Command, GeneralOptions, OptionsModel
from batchscore.cli.terminal import TERMINAL


class CompletionOptions(OptionsModel):
    """Everything ``completion`` can be told."""

    shell: Literal["bash", "zsh", "fish"] = Field(
        description="bash: batchscore completion bash > "
        "~/.local/share/bash-completion/completions/batchscore; zsh: into a file _batchscore in "
        "a folder of $fpath; fish: > ~/.config/fish/completions/batchscore.fish"
    )


def _completion(options: CompletionOptions, _general: GeneralOptions) -> int:
    from batchscore.cli.app import make_app

    script = make_app().generate_completion(shell=options.shell)
    TERMINAL.data(script.rstrip("\n") + "\n")
    return 0


COMMAND = Command(
    name="completion",
    model=CompletionOptions,
    call=_completion,
    positional="shell",
    metavars={"shell": "bash|zsh|fish"},
)
completion = as_function(COMMAND)
