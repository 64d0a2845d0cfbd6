"""Runs the command as users do: a process of its own, its streams, its exit code."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING

import pytest

if TYPE_CHECKING:
    from pathlib import Path

Command = Callable[..., "Done"]


@dataclass(frozen=True)
class Done:
    """How a command ended."""

    code: int
    out: str
    err: str

    @property
    def error(self) -> str:
        """The one error on standard error, which stands there alone and has no traceback."""
        lines = self.err.splitlines()
        assert 1 <= len(lines) <= 2, self.err
        assert lines[0].startswith("error: "), self.err
        assert "Traceback" not in self.err
        return self.err.removeprefix("error: ").rstrip("\n")


def clean_environment() -> dict[str, str]:
    """The environment without options for batchscore, and without colours."""
    kept = {name: value for name, value in os.environ.items() if "BATCHSCORE_" not in name}
    kept.pop("NO_COLOR", None)
    return {**kept, "COLUMNS": "100", "TERM": "xterm"}


@pytest.fixture
def batchscore(tmp_path: Path) -> Command:
    """``batchscore("score", ..., BATCHSCORE_URL=...)`` in an empty folder."""

    def run(*words: str | Path, stdin: str = "", **variables: str) -> Done:
        done = subprocess.run(
            [sys.executable, "-m", "batchscore", *map(str, words)],
            capture_output=True,
            text=True,
            input=stdin,
            cwd=tmp_path,
            env=clean_environment() | variables,
            timeout=60,
            check=False,
        )
        return Done(done.returncode, done.stdout, done.stderr)

    return run
