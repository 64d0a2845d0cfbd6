"""Runs a command on some cores and prints what it took, as JSON.

    python -I -S launch.py 0,1 COMMAND...

It is a process of its own because the kernel counts the memory of whoever starts a process as the
process's: this one is smaller than any that it starts. What the command prints goes to standard
error. ``any`` in the place of cores pins nothing.
"""

import json
import os
import sys
import time

cores, command = sys.argv[1], sys.argv[2:]
if cores != "any":
    os.sched_setaffinity(0, [int(core) for core in cores.split(",")])
started = time.perf_counter()
pid = os.posix_spawn(command[0], command, os.environ, file_actions=[(os.POSIX_SPAWN_DUP2, 2, 1)])
_, status, usage = os.wait4(pid, 0)
seconds = time.perf_counter() - started
unit = 1 if sys.platform == "darwin" else 1024
print(
    json.dumps(
        {
            "seconds": seconds,
            "cpu_s": usage.ru_utime + usage.ru_stime,
            "peak_bytes": usage.ru_maxrss * unit,
        }
    )
)
sys.exit(os.waitstatus_to_exitcode(status))
