"""Real model servers as processes on 127.0.0.1, started when a test first wants them."""

from __future__ import annotations

import base64
import http.client
import json
import os
import socket
import subprocess
import sys
import time
from pathlib import Path
from typing import Any, NamedTuple, Self

import pyarrow as pa
from servers import install

_PROGRAMS = install.HERE / "programs"
_PATIENCE_S = 180.0  # several servers may start at once, on few cores
_TYPES = {
    "image": pa.list_(pa.list_(pa.float64())),
    "picture": pa.binary(),
    "text": pa.string(),
}


class Sample(NamedTuple):
    """Rows for a model, and what the model itself says of them.

    Attributes:
        table: the features, a column each: ``double`` for wine (13) and diabetes (10), lists of
            8x8 ``double`` for digits, PNG files for picture, ``string`` for sentiment.
        predict: of each row, the class (a string, or an integer for digits) or the number.
        classes: the classes in the order of the probabilities; None for diabetes.
        predict_proba: of each row, the probability of each class; None for diabetes.
    """

    table: pa.Table
    predict: list[Any]
    classes: list[Any] | None
    predict_proba: list[list[float]] | None


class Trained:
    """The models that a server's own Python trained, and what they say.

    Args:
        name: of the server.
        folder: an empty one for the models.
    """

    def __init__(self, name: str, folder: Path) -> None:
        self.name = name
        self.folder = folder
        self.run("train.py", str(folder))

    def run(self, program: str, *arguments: str) -> None:
        """Run a program of ours with the server's Python."""
        command = [install.python(self.name), _PROGRAMS / program, *arguments]
        subprocess.run(
            command,
            check=True,
            env=environment(self.name),
            stdin=subprocess.DEVNULL,
            timeout=_PATIENCE_S,
        )

    def sample(self, model: str) -> Sample:
        """Of ``wine``, ``diabetes``, ``digits``, ``picture`` or ``sentiment``: rows and answers."""
        said = json.loads((self.folder / f"{model}.json").read_text())
        columns = said["columns"]
        if model == "picture":
            columns = {"picture": [base64.b64decode(text) for text in columns["picture"]]}
        table = pa.table(
            {
                key: pa.array(column, _TYPES.get(key, pa.float64()))
                for key, column in columns.items()
            }
        )
        return Sample(table, said["predict"], said.get("classes"), said.get("predict_proba"))


class Server:
    """A server in a process of its own.

    Args:
        trained: its models.
        command: what starts it on ``port``.
        ready: the path that answers 200 as soon as it serves.
        log: where its output goes.

    Attributes:
        name: ``mlflow``, ``kserve``, ``mlserver`` or ``triton``.
        url: ``http://127.0.0.1:PORT``.
        log: the file of what it printed.
        sample: see ``Trained.sample``.
    """

    def __init__(
        self, trained: Trained, port: int, command: list[str], ready: str, log: Path
    ) -> None:
        self.name = trained.name
        self.url = f"http://127.0.0.1:{port}"
        self.port = port
        self.log = log
        self.sample = trained.sample
        with log.open("wb") as output:
            self._process = subprocess.Popen(
                [sys.executable, str(install.HERE / "leash.py"), *command],
                env=environment(trained.name),
                cwd=log.parent,
                stdin=subprocess.PIPE,
                stdout=output,
                stderr=output,
            )
        try:
            self._await(ready)
        except BaseException:
            self.close()
            raise

    def _await(self, path: str) -> None:
        deadline = time.monotonic() + _PATIENCE_S
        while time.monotonic() < deadline and self._process.poll() is None:
            if _status(self.port, path) == 200:
                return
            time.sleep(0.05)
        raise RuntimeError(f"the server did not start:\n{self.printed()}")

    def printed(self, since: int = 0, most: int = 8000) -> str:
        """The end of what it printed after a position in its log."""
        return self.log.read_bytes()[since:][-most:].decode(errors="replace")

    def close(self) -> None:
        """End it and all that it started."""
        assert self._process.stdin is not None
        self._process.stdin.close()
        self._process.wait(60)


class Servers:
    """The servers of a test run: each is started once, at its first use, and ended at the end.

    Args:
        folder: for models and logs.
    """

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self._trained: dict[str, Trained] = {}
        self._running: dict[str, Server] = {}

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        for server in self._running.values():
            server.close()

    @property
    def running(self) -> dict[str, Server]:
        """Those started so far, by name."""
        return dict(self._running)

    def mlflow(self, model: str) -> Server:
        """MLflow's scoring server, which serves one model, at ``/invocations``."""
        name = f"mlflow-{model}"
        if name not in self._running:
            folder, port = self.mlflow_model(model), free_port()
            command = self._program("mlflow", "mlflow_server.py", folder, port)
            self._start(name, self._models("mlflow"), port, command, "/ping")
        return self._running[name]

    def mlflow_model(self, model: str) -> Path:
        """The folder of an MLflow model, with its ``MLmodel`` file."""
        trained = self._models("mlflow")
        folder = trained.folder / "mlflow"
        if not folder.exists():
            trained.run("mlflow_models.py", str(trained.folder))
        return folder / model

    def named(self, name: str) -> Server:
        """One of those that serve all models, by its name."""
        return {"kserve": self.kserve, "mlserver": self.mlserver, "triton": self.triton}[name]()

    def kserve(self) -> Server:
        """KServe's model server: ``/v1/models/NAME:predict`` and ``/v2/models/NAME/infer``."""
        if "kserve" not in self._running:
            trained = self._models("kserve")
            port = free_port()
            command = self._program("kserve", "kserve_server.py", trained.folder, port)
            self._start("kserve", trained, port, command, "/v2/health/ready")
        return self._running["kserve"]

    def mlserver(self) -> Server:
        """MLServer: ``/v2/models/NAME/infer``."""
        if "mlserver" not in self._running:
            trained = self._models("mlserver")
            port = free_port()
            trained.run("mlserver_settings.py", str(trained.folder), str(port), str(free_port()))
            script = install.place("mlserver") / "bin" / "mlserver"
            command = [str(script), "start", str(trained.folder / "mlserver")]
            self._start("mlserver", trained, port, command, "/v2/health/ready")
        return self._running["mlserver"]

    def triton(self) -> Server:
        """Triton: ``/v2/models/NAME/infer``."""
        if "triton" not in self._running:
            trained = self._models("triton")
            port = free_port()
            command = self._program("triton", "triton_server.py", trained.folder, port)
            self._start("triton", trained, port, command, "/v2/health/ready")
        return self._running["triton"]

    def _models(self, name: str) -> Trained:
        if name not in self._trained:
            folder = self._folder / name
            folder.mkdir()
            self._trained[name] = Trained(name, folder)
        return self._trained[name]

    def _program(self, name: str, program: str, folder: Path, port: int) -> list[str]:
        return [str(install.python(name)), str(_PROGRAMS / program), str(folder), str(port)]

    def _start(
        self, name: str, trained: Trained, port: int, command: list[str], ready: str
    ) -> None:
        log = self._folder / f"{name}.log"
        self._running[name] = Server(trained, port, command, ready, log)


def environment(name: str) -> dict[str, str]:
    """What a server and its programs see: its own commands first, our programs, one thread each."""
    return {
        **{key: value for key, value in os.environ.items() if not key.startswith("COVERAGE_")},
        "PATH": os.pathsep.join([str(install.python(name).parent), os.environ.get("PATH", "")]),
        "PYTHONPATH": str(_PROGRAMS),
        "PYTHONUNBUFFERED": "1",
        "OMP_NUM_THREADS": "1",
        "DO_NOT_TRACK": "true",
        "MLFLOW_DISABLE_TELEMETRY": "true",
    }


def free_port() -> int:
    """A port of 127.0.0.1 that nobody listens on."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


def _status(port: int, path: str) -> int | None:
    """What a GET is answered with; None while nobody listens."""
    connection = http.client.HTTPConnection("127.0.0.1", port, timeout=5)
    try:
        connection.request("GET", path)
        return connection.getresponse().status
    except (OSError, http.client.HTTPException):
        return None
    finally:
        connection.close()
