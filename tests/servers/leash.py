"""Run a command until it ends or standard input does: ``python leash.py COMMAND...``.

The tests hold the other end of that input, so no server outlives them, however they end. The
command and what it started are one process group, and only that group is ended.
"""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import threading

_GRACE_S = 5.0


def main() -> int:
    """Give back the command's exit status; 128 + N where signal N ended it."""
    process = subprocess.Popen(
        sys.argv[1:], stdin=subprocess.DEVNULL, stdout=2, start_new_session=True
    )

    def end() -> None:
        while os.read(0, 4096):
            pass
        _signal(process, signal.SIGTERM)
        try:
            process.wait(_GRACE_S)
        except subprocess.TimeoutExpired:
            _signal(process, signal.SIGKILL)

    threading.Thread(target=end, daemon=True).start()
    status = process.wait()
    _signal(process, signal.SIGKILL)  # whoever of the group is left
    return status if status >= 0 else 128 - status


def _signal(process: subprocess.Popen[bytes], number: int) -> None:
    try:
        os.killpg(process.pid, number)
    except ProcessLookupError:
        return  # all of the group have ended


if __name__ == "__main__":
    sys.exit(main())
