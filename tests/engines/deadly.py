"""A source of tokens that is the end of any worker of Ray that asks it."""

import os
import signal

from faultserver.clients import command_of


def token() -> str:
    if command_of(os.getpid()).startswith("ray::"):
        os.kill(os.getpid(), signal.SIGKILL)
    return "good"
