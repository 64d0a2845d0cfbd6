"""Write docs/commands.md: what every command says with --help.

    python scripts/write_command_reference.py

A test fails when the page is not what this would write.
"""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

COMMANDS = ("score", "check", "rescore", "inspect", "bench", "serve", "demo", "completion")
PAGE = Path(__file__).parents[1] / "docs" / "commands.md"
HEAD = """# Commands

This page is what the commands say of themselves with `--help`; do not edit it, run
`python scripts/write_command_reference.py`.
"""


def reference() -> str:
    """The whole page."""
    environment = {**os.environ, "COLUMNS": "100", "NO_COLOR": "1", "TERM": "dumb"}
    parts = [HEAD]
    for command in ((), *((name,) for name in COMMANDS)):
        done = subprocess.run(
            [sys.executable, "-m", "batchscore", *command, "--help"],
            capture_output=True,
            text=True,
            check=True,
            env=environment,
        )
        lines = "\n".join(line.rstrip() for line in done.stdout.strip().splitlines())
        title = " ".join(("batchscore", *command))
        parts.append(f"## `{title}`\n\n```text\n{lines}\n```\n")
    return "\n".join(parts)


if __name__ == "__main__":
    PAGE.write_text(reference(), encoding="utf-8")
