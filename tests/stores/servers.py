"""The stores that the tests run against: moto on every run, SeaweedFS with ``make stores``.

Which one, ``STORE_SERVER`` tells: ``moto`` where it is not set.
"""

from __future__ import annotations

import json
import logging
import os
import shutil
import socket
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import closing, contextmanager
from pathlib import Path

from moto.server import ThreadedMotoServer

LOGIN = {
    "AWS_ACCESS_KEY_ID": "AKIAIOSFODNN7EXAMPLE",
    "AWS_SECRET_ACCESS_KEY": "wJalrXUtnFEMIxK7MDENGbPxRfiCYEXAMPLEKEY",
    "AWS_REGION": "us-east-1",
    "AWS_EC2_METADATA_DISABLED": "true",
}
_START_S = 60.0


@contextmanager
def s3_server(folder: Path) -> Iterator[str]:
    """The address of an S3 server; it takes no login but ``LOGIN`` where it checks any."""
    name = os.environ.get("STORE_SERVER", "moto")
    with {"moto": _moto, "seaweedfs": _seaweedfs}[name](folder) as endpoint:
        yield endpoint


@contextmanager
def _moto(_folder: Path) -> Iterator[str]:
    logging.getLogger("werkzeug").setLevel(logging.ERROR)
    server = ThreadedMotoServer(ip_address="127.0.0.1", port=0, verbose=False)
    server.start()
    host, port = server.get_host_and_port()
    yield f"http://{host}:{port}"
    server.stop()


@contextmanager
def _seaweedfs(folder: Path) -> Iterator[str]:
    data = folder / "data"
    data.mkdir()
    who = {
        "name": "tests",
        "credentials": [
            {
                "accessKey": LOGIN["AWS_ACCESS_KEY_ID"],
                "secretKey": LOGIN["AWS_SECRET_ACCESS_KEY"],
            }
        ],
        "actions": ["Admin", "Read", "Write", "List"],
    }
    (folder / "s3.json").write_text(json.dumps({"identities": [who]}))
    ports = free_ports(8)
    names = ("master.port", "volume.port", "filer.port", "s3.port")
    grpc = ("master.port.grpc", "volume.port.grpc", "filer.port.grpc", "s3.port.grpc")
    command = [
        str(program("weed")), "server", f"-dir={data}", "-ip=127.0.0.1", "-ip.bind=127.0.0.1",
        "-s3", "-s3.autoCreateBucket=false", f"-s3.config={folder / 's3.json'}",
        "-s3.port.iceberg=0", "-s3.port.lance=0",
        "-master.telemetry=false", "-volume.max=3000", "-master.volumeSizeLimitMB=64",
        *(f"-{name}={port}" for name, port in zip([*names, *grpc], ports, strict=True)),
    ]  # fmt: skip
    with running(command, folder / "weed.log", ports[3]):
        endpoint = f"http://127.0.0.1:{ports[3]}"
        yield endpoint


def program(name: str) -> Path:
    """A program beside the Python of the tests, or on the path."""
    beside = Path(sys.executable).with_name(name)
    found = beside if beside.exists() else shutil.which(name)
    assert found, f"{name} is not installed: make stores does it"
    return Path(found)


def free_ports(count: int) -> list[int]:
    """Ports that nobody listened on a moment ago, below the ones that the system gives away."""
    found = []
    for port in range(21_000 + os.getpid() % 5_000, 32_000):
        with closing(socket.socket()) as probe:
            if probe.connect_ex(("127.0.0.1", port)):
                found.append(port)
        if len(found) == count:
            break
    return found


@contextmanager
def running(command: list[str], log: Path, port: int) -> Iterator[None]:
    """A server that listens on the port, until the end."""
    with log.open("wb") as output:
        process = subprocess.Popen(command, stdout=output, stderr=output, cwd=log.parent)
    try:
        deadline = time.monotonic() + _START_S
        while True:
            with closing(socket.socket()) as probe:
                if not probe.connect_ex(("127.0.0.1", port)):
                    break
            assert process.poll() is None, log.read_text()
            assert time.monotonic() < deadline, log.read_text()
            time.sleep(0.1)
        yield
    finally:
        process.terminate()
        try:
            process.wait(10)
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait()
