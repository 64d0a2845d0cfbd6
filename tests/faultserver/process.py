"""The server as a subprocess: ``python -m faultserver --spec FILE_OR_JSON --port 0``."""

from __future__ import annotations

import argparse
import importlib
import json
import os
import signal
import subprocess
import sys
import threading
from pathlib import Path
from typing import Any, Self

from faultserver import faults
from faultserver.models import CLASSIFIER, LINEAR, Model, echo
from faultserver.server import FaultServer
from faultserver.tally import RowTally

_MODELS = {"linear": LINEAR, "classifier": CLASSIFIER}
_TESTS = Path(__file__).parent.parent


def build(spec: dict[str, Any], port: int = 0) -> FaultServer:
    """The server that a JSON description tells.

    Keys: ``model`` (``linear``, ``classifier``, ``echo`` or ``module:function``), ``inputs`` and
    ``outputs`` (needed by the last two; echo takes only inputs), ``script`` (a list of faults and
    nulls, see ``faults.make_fault``), or ``mix`` (the arguments of ``mixed_faults``),
    ``max_body_bytes`` (longer requests get a 413), ``tally`` (the arguments of ``RowTally``), and
    the other options of ``FaultServer``.
    """
    options = dict(spec)
    name = options.pop("model", "linear")
    given = {key: options.pop(key) for key in ("inputs", "outputs") if key in options}
    if name in _MODELS:
        model = _MODELS[name]._replace(**given)
    elif name == "echo":
        model = echo(given["inputs"])
    else:
        module, _, function = name.partition(":")
        model = Model(predict=getattr(importlib.import_module(module), function), **given)
    for key in ("script", "spec_script"):
        if key in options:
            options[key] = [None if kind is None else faults.make_fault(kind)
                            for kind in options[key]]  # fmt: skip
    scripts = []
    if "max_body_bytes" in options:
        scripts.append(faults.too_long(options.pop("max_body_bytes")))
    if "mix" in options:
        scripts.append(faults.mixed_faults(**options.pop("mix")))
    if scripts:
        options["script"] = faults.first_of(*scripts)
    if "tally" in options:
        options["tally"] = RowTally(**options["tally"])
    return FaultServer(*model, port=port, **{"keep_requests": False, **options})


def main(arguments: list[str] | None = None) -> None:
    """Serve until SIGTERM or SIGINT; print the address, and at the end the counts as JSON."""
    parser = argparse.ArgumentParser(prog="faultserver", description=__doc__)
    parser.add_argument("--spec", default="{}", help="JSON, or the path of a JSON file")
    parser.add_argument("--port", type=int, default=0, help="0: any free one")
    parser.add_argument("--until-eof", action="store_true", help="end when standard input does")
    options = parser.parse_args(arguments)
    spec = options.spec if options.spec.lstrip().startswith("{") else Path(options.spec).read_text()
    ended = threading.Event()
    for number in (signal.SIGTERM, signal.SIGINT):
        signal.signal(number, lambda *_: ended.set())
    if options.until_eof:
        threading.Thread(target=_await_eof, args=[ended], daemon=True).start()
    with build(json.loads(spec), options.port) as server:
        print(server.url, flush=True)  # noqa: T201 - this is the command's output
        ended.wait()
    names = ("request_count", "rows_seen", "spec_requests", "max_in_flight", "connections")
    counts = {name: getattr(server, name) for name in names}
    if server.tally is not None:
        counts |= server.tally.counts()
    print(json.dumps(counts))  # noqa: T201


def _await_eof(ended: threading.Event) -> None:
    # The descriptor itself: a thread blocked in sys.stdin would disturb the interpreter's end.
    while os.read(0, 4096):
        pass
    ended.set()


class FaultServerProcess:
    """The server in a process of its own, from ``with`` to its end, so that it takes no GIL.

    Args:
        spec: see ``build``.

    Attributes:
        url: the address of the deployment.
        counts: after the end, what was counted; see ``FaultServer``.
    """

    def __init__(self, port: int = 0, **spec: Any) -> None:
        # This process holds the other end of its input: no server outlives its test.
        self._arguments = ["--spec", json.dumps(spec), "--port", str(port), "--until-eof"]
        self.counts: dict[str, Any] = {}

    def __enter__(self) -> Self:
        paths = [str(_TESTS), *filter(None, [os.environ.get("PYTHONPATH")])]
        self._process = subprocess.Popen(
            [sys.executable, "-m", "faultserver", *self._arguments],
            env={**os.environ, "PYTHONPATH": os.pathsep.join(paths)},
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
        )
        assert self._process.stdout is not None
        self.url = self._process.stdout.readline().strip()
        if not self.url:
            self._process.communicate()
            raise RuntimeError(f"the server ended with status {self._process.returncode}")
        return self

    @property
    def pid(self) -> int:
        """The process."""
        return self._process.pid

    def kill(self) -> None:
        """SIGKILL: the port is closed, nothing is counted."""
        self._process.kill()

    def __exit__(self, *_: object) -> None:
        printed, _unused = self._process.communicate(timeout=10)
        self.counts = json.loads(printed or "{}")
