"""Addresses of deployments."""

import pytest

from batchscore.endpoint import Endpoint
from batchscore.errors import UsageError


def test_an_address_is_shown_without_user_and_query():
    """What is printed and stored holds no user part and no query."""
    endpoint = Endpoint.parse("https://me:secret@host.example/deployment/1/forward?key=secret#x")
    assert endpoint.shown == "https://host.example/deployment/1/forward"
    assert endpoint.url == "https://host.example/deployment/1/forward?key=secret"
    assert endpoint.login == ("me", "secret")
    assert "secret" not in repr(endpoint).replace(endpoint.url, "")
    assert endpoint.host_and_port == "host.example:443"


@pytest.mark.parametrize(
    "url",
    ["", "host/deployment", "ftp://host/x", "http://", "http://host:99999/x", "http://[::1/x",
     "http://my host/x", "http://ho<st>/x"],
)  # fmt: skip
def test_what_is_no_address_is_refused(url):
    """An address without http(s) and a host is a usage error that shows the form."""
    with pytest.raises(UsageError):
        Endpoint.parse(url)


def test_a_refused_address_does_not_show_its_secrets():
    """Even an unreadable address is printed without its user part and query."""
    with pytest.raises(UsageError) as caught:
        Endpoint.parse("ftp://me:secret@host/x?key=secret")
    assert "secret" not in str(caught.value)
    assert "host" in str(caught.value)


@pytest.mark.parametrize(
    ("url", "leaks"),
    [
        ("http://127.0.0.1:80/x", False),
        ("http://localhost/x", False),
        ("http://[::1]:8000/x", False),
        ("https://host.example/x", False),
        ("http://host.example/x", True),
    ],
)
def test_plain_http_leaks_a_token_only_off_this_machine(url, leaks):
    """A token is unprotected on plain http to another machine, and only there."""
    assert Endpoint.parse(url).leaks_token is leaks
