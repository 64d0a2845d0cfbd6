"""Run a command until it ends or standard input does: ``python leash.py COMMAND...``.

The tests hold the other end of that input, so no server outlives them, however they end. The
command is told by SIGTERM and has some seconds to clean up; then its process group is ended, which
is itself and what it started.
"""

from __future__ import annotations

import contextlib
import os
import signal
import subprocess
import sys
import threading

_GRACE_S = 20.0


def main() -> int:
    """Give back the command's exit status; 128 + N where signal N ended it."""
    process = subprocess.Popen(
        sys.argv[1:], stdin=subprocess.DEVNULL, stdout=2, start_new_session=True
    )

    def end() -> None:
        while os.read(0, 4096):
            pass
        process.terminate()
        try:
            process.wait(_GRACE_S)
        except subprocess.TimeoutExpired:
            process.kill()

    threading.Thread(target=end, daemon=True).start()
    status = process.wait()
    with contextlib.suppress(ProcessLookupError):  # nobody of the group is left
        os.killpg(process.pid, signal.SIGKILL)
    return status if status >= 0 else 128 - status


if __name__ == "__main__":
    sys.exit(main())
