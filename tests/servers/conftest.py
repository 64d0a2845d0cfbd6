"""Fixtures of the tests against real model servers; see ``tests/servers/install.py``.

A test that uses the fixture ``mlflow``, ``kserve``, ``mlserver`` or ``triton`` (or
``open_inference``, which is each of the last three in turn) is skipped where that server is not
installed, and fails there if ``REQUIRED_MODEL_SERVERS`` (names with commas) says that it has to
be.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator
from typing import Any

import pytest
from servers import install
from servers.running import Server, Servers

OPEN_INFERENCE = ("kserve", "mlserver", "triton")

_running: Servers | None = None


def on(*names: str) -> list[Any]:
    """Parameters for these servers, each with its mark."""
    return [pytest.param(name, marks=pytest.mark.server(name)) for name in names]


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """A server's fixture implies its mark, and its start is part of some test's time."""
    for item in items:
        for name in install.NAMES:
            if name in getattr(item, "fixturenames", ()):
                item.add_marker(pytest.mark.server(name))
        if item.get_closest_marker("server"):
            item.add_marker(pytest.mark.timeout(600))


@pytest.hookimpl(tryfirst=True)
def pytest_runtest_setup(item: pytest.Item) -> None:
    """Skip what is not installed, or fail where it is required."""
    required = {name for name in os.environ.get("REQUIRED_MODEL_SERVERS", "").split(",") if name}
    if unknown := required - set(install.NAMES):
        pytest.fail(f"REQUIRED_MODEL_SERVERS names no server: {', '.join(sorted(unknown))}")
    for mark in item.iter_markers("server"):
        for name in mark.args:
            if reason := install.missing(name):
                if name in required:
                    pytest.fail(reason)
                pytest.skip(reason=reason)


@pytest.fixture(scope="session")
def servers(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Servers]:
    """All the servers of this run; ended with it."""
    global _running  # noqa: PLW0603 - the report of a failed test shows their logs
    with Servers(tmp_path_factory.mktemp("servers")) as _running:
        yield _running
    _running = None


@pytest.fixture(scope="session")
def mlflow(servers: Servers) -> Callable[[str], Server]:
    """MLflow serving the model of that name, a process for each."""
    return servers.mlflow


@pytest.fixture(scope="session")
def kserve(servers: Servers) -> Server:
    """KServe's model server with all models."""
    return servers.kserve()


@pytest.fixture(scope="session")
def mlserver(servers: Servers) -> Server:
    """MLServer with all models."""
    return servers.mlserver()


@pytest.fixture(scope="session")
def triton(servers: Servers) -> Server:
    """Triton with all models."""
    return servers.triton()


@pytest.fixture(scope="session", params=on(*OPEN_INFERENCE))
def open_inference(servers: Servers, request: pytest.FixtureRequest) -> Server:
    """Each server that speaks v2 in turn."""
    return servers.named(request.param)


@pytest.hookimpl(wrapper=True)
def pytest_runtest_makereport(item: pytest.Item, call: pytest.CallInfo[None]):
    """A failed test shows what the servers that it used printed."""
    report = yield
    if report.failed and _running is not None:
        used = {name for mark in item.iter_markers("server") for name in mark.args}
        for name, server in _running.running.items():
            if name.split("-")[0] in used:
                report.sections.append((f"the log of {name}", server.printed()))
    return report
