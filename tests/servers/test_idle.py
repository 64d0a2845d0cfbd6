"""Who closes a connection that nothing is sent on."""

from __future__ import annotations

import http.client

import pytest
from servers.conftest import on

PATIENCE_S = 60


def closed_when_idle(server, path):
    """Whether the server hangs up on a connection that has had an answer."""
    connection = http.client.HTTPConnection("127.0.0.1", server.port, timeout=PATIENCE_S)
    try:
        connection.request("GET", path)
        answer = connection.getresponse()
        answer.read()
        assert answer.status == 200
        assert not answer.will_close
        return connection.sock.recv(1) == b""
    finally:
        connection.close()


@pytest.mark.parametrize("name", on("mlflow", "mlserver"))
def test_an_idle_connection_is_closed_without_a_word(servers, name):
    """MLflow and MLServer hang up after some seconds: no answer has failed."""
    if name == "mlflow":
        assert closed_when_idle(servers.mlflow("wine"), "/ping")
    else:
        assert closed_when_idle(servers.mlserver(), "/v2")
