"""A Spark of the job's own: started quietly, on this computer or with a cluster's workers."""

from __future__ import annotations

import logging
import os
import re
import shutil
import socket
import subprocess
import sys
import tempfile
import time
import uuid
import warnings
from contextlib import contextmanager, suppress
from importlib.util import find_spec
from pathlib import Path
from typing import TYPE_CHECKING, Any, Self

from batchscore.errors import TemporaryError, UnreachableError, UsageError

if TYPE_CHECKING:
    from collections.abc import Iterator

    from pyspark import SparkContext

_log = logging.getLogger("batchscore")

TRIES = 4
"""How often Spark gives a task to a worker, the first one included; its default on clusters."""

_LOCAL = re.compile(r"local(\[(?P<threads>\d+|\*)(,\s*(?P<tries>\d+))?\])?")
_LOCAL_CLUSTER = re.compile(r"local-cluster\[\s*(?P<nodes>\d+)\s*,\s*(?P<cores>\d+)\s*,\s*\d+\s*\]")
_EXECUTORS_S = 60.0
_CONNECT_S = 10.0
_END_S = 10.0
_LOOPBACK = "127.0.0.1"


class SharedSpark:
    """The SparkContext that the user's program has already; it is left as it is.

    Attributes:
        context: the SparkContext.
        room: how many tasks run at a time.
    """

    def __init__(self, context: SparkContext) -> None:
        self.context, self.room = context, int(context.defaultParallelism)
        self._jobs = f"batchscore-{uuid.uuid4().hex}"

    @classmethod
    def find(cls, master: str | None) -> Self | None:
        """The one that there is, if there is one.

        Raises:
            UsageError: it is of another master than the one that is asked for.
        """
        with without_warnings():
            from pyspark import SparkContext  # noqa: PLC0415 (heavy, and optional)

        context = SparkContext._active_spark_context  # noqa: SLF001 (getOrCreate would make one)
        if context is None:
            return None
        if master not in {None, context.master}:
            raise UsageError(
                f"--master: a Spark session of {context.master!r} runs in this program already; "
                "stop it, or leave out the master"
            )
        return cls(context)

    def name_jobs(self) -> None:
        """Mark the jobs that this thread begins, so that they can be told from the user's own."""
        self.context.setJobGroup(self._jobs, "batchscore", interruptOnCancel=True)

    def cancel_jobs(self) -> None:
        """End the jobs that run now."""
        self.context.cancelJobGroup(self._jobs)

    def stop(self) -> None:
        """Leave it to the user."""
        self.cancel_jobs()


class OwnSpark(SharedSpark):
    """The SparkContext of one job, in a process of its own; ``stop`` ends it.

    Attributes:
        context: the SparkContext.
        room: how many tasks run at a time.
    """

    def __init__(self, master: str | None, workers: int | None) -> None:
        """Start it; blocks for some seconds.

        Args:
            master: Spark's address of the cluster; None: this computer.
            workers: how many tasks the job wants to run at a time, where it says.

        Raises:
            UsageError: PySpark, Java or the master is not there.
        """
        master, threads = _resolved(master or "local[*]", workers)
        self._is_here = master.startswith("local")
        _check_java()
        _check_there(master)
        self._gateway: Any = None
        # Without a name, so that nothing is left of it, whatever ends this program.
        self._log = None if _is_debugging() else tempfile.TemporaryFile()  # noqa: SIM115
        try:
            super().__init__(self._start(master))
            self.room = threads or self._wait_for_executors()
        except BaseException:
            self._end_process()
            raise

    def _start(self, master: str) -> SparkContext:
        with without_warnings():
            from pyspark import SparkConf, SparkContext  # noqa: PLC0415 (heavy, and optional)
            from pyspark.errors import PySparkException  # noqa: PLC0415
            from pyspark.java_gateway import launch_gateway  # noqa: PLC0415

            conf = SparkConf(loadDefaults=False).setMaster(master).setAppName("batchscore")
            conf.setAll(list(_settings(is_here=self._is_here).items()))
            try:
                # What an earlier session of the user's program has left is used again.
                if SparkContext._gateway is None:  # noqa: SLF001 (nothing else tells)
                    # What its processes say: with --debug to the user.
                    output = 2 if self._log is None else self._log.fileno()
                    self._gateway = launch_gateway(conf, {"stdout": output, "stderr": output})
                context = SparkContext(conf=conf, gateway=self._gateway)
            except PySparkException as error:
                raise UsageError(f"--engine spark: {self._why_not(error)}") from error
            except Exception as error:
                raise _not_started(master, error) from error
        if self._is_here and "PYSPARK_PYTHON" not in os.environ:
            # Not whatever python3 is first on the path.
            context.pythonExec = sys.executable
        return context

    def _why_not(self, error: Exception) -> str:
        said = ""
        if self._log is not None:
            self._log.seek(0)
            said = self._log.read().decode("utf-8", "replace")
        if "UnsupportedClassVersionError" in said:
            return "Spark needs Java 17 or later, and finds an older one; set JAVA_HOME"
        lines = [line.strip() for line in said.splitlines() if line.strip()] or [str(error)]
        telling = next(
            (line for line in lines if re.search(r"(Exception|Error):", line)), lines[-1]
        )
        return f"Spark does not start: {telling[:300]}; --debug shows all that it says"

    def _wait_for_executors(self) -> int:
        """The number of tasks that run at a time, once a cluster has given the first executor."""
        tracker = self.context._jsc.sc().statusTracker()  # noqa: SLF001 (PySpark's own has not this)
        deadline = time.monotonic() + _EXECUTORS_S
        while len(tracker.getExecutorInfos()) < 2:  # the driver counts as one
            if time.monotonic() > deadline:
                self.context.stop()
                raise TemporaryError(
                    f"--master: Spark gave no executor within {_EXECUTORS_S:g} s; has the cluster "
                    "room for one?"
                )
            time.sleep(0.1)
        return int(self.context.defaultParallelism)

    def stop(self) -> None:
        """End it, with all that still runs."""
        with warnings.catch_warnings():
            # That its process has ended before is what the job's own error is about.
            warnings.simplefilter("ignore", RuntimeWarning)
            self.context.stop()
        self._end_process()

    def _end_process(self) -> None:
        """PySpark itself keeps the process that it started until the end of the program."""
        gateway, self._gateway = self._gateway, None
        if gateway is not None:
            _end(gateway)
        if self._log is not None:
            self._log.close()


def _end(gateway: Any) -> None:
    from py4j.protocol import Py4JError  # noqa: PLC0415 (an extra)
    from pyspark import SparkContext  # noqa: PLC0415

    with suppress(Py4JError, OSError):
        gateway.shutdown()
    # The end of its input is what tells the process to end.
    with suppress(OSError):
        gateway.proc.stdin.close()
    try:
        gateway.proc.wait(_END_S)
    except subprocess.TimeoutExpired:
        gateway.proc.kill()
        gateway.proc.wait()
    SparkContext._gateway = SparkContext._jvm = None  # noqa: SLF001 (nothing else forgets it)


def check_installed() -> None:
    """Raise ``UsageError`` where the extra is missing."""
    if find_spec("pyspark") is None:
        raise UsageError("Spark is not installed: pip install 'batchscore[spark]'")


@contextmanager
def without_warnings() -> Iterator[None]:
    """PySpark warns of the versions of pandas, which no job here touches."""
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", category=FutureWarning, message="PySpark does not yet")
        yield


def _resolved(master: str, workers: int | None) -> tuple[str, int | None]:
    """The master as it is started, and how many tasks run there at a time, where that shows."""
    if re.search(r"[\[,]\s*0+\s*[\],]", master):
        raise UsageError(
            f"--master: {master!r} leaves no room for a task"
            "; ask for a core at least, as in local[2]"
        )
    if found := _LOCAL.fullmatch(master):
        threads = found["threads"] or "1"
        count = workers or (len(os.sched_getaffinity(0)) if threads == "*" else int(threads))
        # Without a number of tries, a worker that is lost would end the job.
        return f"local[{count},{found['tries'] or TRIES}]", count
    if found := _LOCAL_CLUSTER.fullmatch(master):
        return master, int(found["nodes"]) * int(found["cores"])
    if master.startswith("sc://"):
        raise UsageError(
            f"--master: {master!r} is Spark Connect, which has no place for a job of files; "
            "name the cluster itself, or use batchscore.engines.spark.score_dataframe"
        )
    return master, None


def _check_java() -> None:
    home = os.environ.get("JAVA_HOME")
    java = shutil.which("java") if home is None else shutil.which(str(Path(home, "bin", "java")))
    if java is None:
        where = "on the PATH" if home is None else f"in JAVA_HOME ({home})"
        raise UsageError(
            f"--engine spark: Spark needs Java, 17 or later, and there is none {where}"
            "; install one, or set JAVA_HOME"
        )


def _check_there(master: str) -> None:
    """Raise where no master listens: Spark itself says so only after minutes."""
    if not master.startswith("spark://"):
        return
    reason = ""
    for place in master.removeprefix("spark://").split(","):
        host, _, port = place.rpartition(":")
        try:
            with socket.create_connection((host.strip("[]"), int(port)), timeout=_CONNECT_S):
                return
        except ValueError:
            raise UsageError(
                f"--master: {master!r} is not spark://HOST:PORT; write it so"
            ) from None
        except OSError as error:
            reason = error.strerror or str(error)
    raise UnreachableError(
        f"--master: nobody answers at {master!r}: {reason}"
        "; is the cluster running, and the address right?"
    )


def _settings(*, is_here: bool) -> dict[str, str]:
    settings = {
        "spark.ui.enabled": "false",
        "spark.ui.showConsoleProgress": "false",
        # The job has a report of its own.
        "spark.eventLog.enabled": "false",
    }
    if is_here:
        settings |= {"spark.driver.host": _LOOPBACK, "spark.driver.bindAddress": _LOOPBACK}
    return settings


def _is_debugging() -> bool:
    return _log.isEnabledFor(logging.DEBUG)


def _not_started(master: str, error: Exception) -> UsageError:
    lines = [line.strip() for line in str(error).splitlines() if line.strip()]
    # Py4J's first line tells of Py4J, the next one of Spark.
    reason = next((line for line in lines if "Exception" in line), lines[0] if lines else "?")
    return UsageError(
        f"--master: Spark does not start with {master!r}: {reason.lstrip(': ')[:300]}"
    )
