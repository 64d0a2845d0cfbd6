"""How much memory a command takes at most."""

from __future__ import annotations

import os
import subprocess
import threading
import time
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Sequence


@dataclass(frozen=True, slots=True)
class Measured:
    """A command that has ended: its peak of resident memory, its exit code, its last words."""

    peak_bytes: int
    returncode: int
    errors: str


def measured(command: Sequence[str], folder: Path | None = None) -> Measured:
    """Run a command to its end, without what measures coverage.

    The peak is the kernel's own (VmHWM), mapped files included. What ``wait4`` tells is of no
    use: it counts the memory of whoever started the process.
    """
    foreign = ("BATCHSCORE_", "COV_", "COVERAGE_")
    environment = {name: text for name, text in os.environ.items() if not name.startswith(foreign)}
    peak, errors = 0, b""
    with subprocess.Popen(
        command, cwd=folder, env=environment, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE
    ) as process:
        assert process.stderr is not None

        def read() -> None:
            nonlocal errors
            errors = process.stderr.read()

        reader = threading.Thread(target=read)
        reader.start()
        status = Path(f"/proc/{process.pid}/status")
        while process.poll() is None:
            for line in status.read_text().splitlines():
                if line.startswith("VmHWM:"):
                    peak = max(peak, 1024 * int(line.split()[1]))
            time.sleep(0.01)
        reader.join()
    return Measured(peak, process.returncode, errors.decode())
