"""What real shells offer after a TAB, with the completion script of ``batchscore completion``."""

from __future__ import annotations

import fcntl
import os
import pty
import select
import shlex
import struct
import subprocess
import sys
import termios
import time
from contextlib import suppress
from typing import TYPE_CHECKING, Self

if TYPE_CHECKING:
    from collections.abc import Sequence
    from pathlib import Path

_WAIT_S = 60
_SCREEN = struct.pack("HHHH", 2000, 200, 0, 0)  # so tall that no shell asks before it lists

# Job control wants the terminal to be that of the session.
_ON_TERMINAL = (
    "import fcntl, os, sys, termios; fcntl.ioctl(0, termios.TIOCSCTTY, 0); "
    "os.execvp(sys.argv[1], sys.argv[1:])"
)

_BASH = """
source {script}
offer() {{
  COMP_WORDS=("$@") COMP_CWORD=$(($# - 1)) COMPREPLY=()
  _batchscore
  printf '%s\\n' "${{COMPREPLY[@]}}" END
}}
"""

# Beside what compadd does: note down each word that it adds.
_ZSH = """
PS1='> ' LISTMAX=0
fpath=({folder} $fpath)
autoload -Uz compinit && compinit -u -d {folder}/dump
compadd() {{
  local -a found
  builtin compadd -O found "$@"
  print -rl -- $found >> {folder}/found
  builtin compadd "$@"
}}
"""


def offered(shell: str, script: str, lines: Sequence[str], folder: Path) -> list[set[str]]:
    """What the shell offers at the end of each command line.

    Args:
        shell: bash, zsh or fish.
        script: what completes the commands.
        lines: as they are typed, before the TAB.
        folder: where the shell is; also gets the script.
    """
    path = folder / ("_batchscore" if shell == "zsh" else "completion")
    path.write_text(script, encoding="utf-8")
    if shell == "zsh":
        return _of_zsh(lines, folder)
    if shell == "bash":
        asked = [f"offer {' '.join(map(shlex.quote, line.split(' ')))}" for line in lines]
        program = "\n".join([_BASH.format(script=path), *asked])
    else:
        asked = [f"complete -C {shlex.quote(line)}; echo END" for line in lines]
        program = "\n".join([f"source {path}", *asked])
    command = [shell, *(["--no-config"] if shell == "fish" else ["--norc"]), "-c", program]
    done = subprocess.run(
        command, capture_output=True, text=True, cwd=folder, timeout=_WAIT_S, check=True,
        env={**os.environ, "HOME": str(folder)},
    )  # fmt: skip
    assert done.stderr == ""
    return _parts(done.stdout)


def _parts(text: str) -> list[set[str]]:
    parts = text.split("END\n")
    assert parts.pop() == ""
    return [{line.partition("\t")[0].strip() for line in part.splitlines()} for part in parts]


def _of_zsh(lines: Sequence[str], folder: Path) -> list[set[str]]:
    found = folder / "found"
    found.touch()
    typed = [f"{line}\t\x15print END >> {found}\r" for line in lines]
    (folder / ".zshrc").write_text(_ZSH.format(folder=folder), encoding="utf-8")
    with Typing(["zsh", "-o", "no_global_rcs", "-i"], folder) as terminal:
        # What is typed before the shell reads keys, the terminal itself would take apart.
        terminal.read_until(lambda shown: "> " in shown)
        for text in typed:
            ends = found.read_text(encoding="utf-8").count("END\n")
            terminal.type(text)
            terminal.read_until(
                lambda _, ends=ends: found.read_text(encoding="utf-8").count("END\n") > ends
            )
    return _parts(found.read_text(encoding="utf-8"))


class Typing:
    """A program on a terminal of its own, and what is typed to it."""

    def __init__(self, command: Sequence[str], folder: Path) -> None:
        self._ours, theirs = pty.openpty()
        fcntl.ioctl(theirs, termios.TIOCSWINSZ, _SCREEN)
        self._process = subprocess.Popen(
            [sys.executable, "-c", _ON_TERMINAL, *command],
            stdin=theirs, stdout=theirs, stderr=theirs, cwd=folder, start_new_session=True,
            env={**os.environ, "HOME": str(folder), "ZDOTDIR": str(folder), "TERM": "xterm"},
        )  # fmt: skip
        os.close(theirs)
        self.shown = ""

    def __enter__(self) -> Self:
        return self

    def type(self, text: str) -> None:
        """Type it."""
        os.write(self._ours, text.encode())

    def read_until(self, is_there) -> str:
        """Read what is shown until the condition holds for it; all that was shown so far."""
        end = time.monotonic() + _WAIT_S
        while not is_there(self.shown):
            assert time.monotonic() < end, self.shown
            if select.select([self._ours], [], [], 0.05)[0]:
                self.shown += os.read(self._ours, 65536).decode("utf-8", "replace")
        return self.shown

    def __exit__(self, *_error: object) -> None:
        self._process.kill()
        self._process.wait()
        with suppress(OSError):
            os.close(self._ours)
