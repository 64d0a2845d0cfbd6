"""Where to listen, as people write it."""

import pytest

from batchscore.units import Address, parse_address


@pytest.mark.parametrize(
    ("written", "host", "port"),
    [
        ("9464", "127.0.0.1", 9464),
        (9464, "127.0.0.1", 9464),
        ("0", "127.0.0.1", 0),
        ("0.0.0.0:9464", "0.0.0.0", 9464),
        ("localhost:1", "localhost", 1),
        ("[::1]:65535", "::1", 65535),
    ],
)
def test_an_address_is_a_port_with_or_without_its_host(written, host, port):
    """Without a host it is this computer's own, which nobody else reaches."""
    assert parse_address(written) == Address(host, port)


@pytest.mark.parametrize(
    ("written", "told"),
    [
        (":9464", "names no host"),
        ("::1:9464", "has colons"),
        ("65536", "is no port"),
        ("-1", "is no port"),
        ("", "is no port"),
        ("host:", "is no port"),
        ("host:http", "is no port"),
        ("٣", "is no port"),
    ],
)
def test_what_is_no_address_is_refused_in_words(written, told):
    """The message quotes what was written and says how it should be."""
    with pytest.raises(ValueError, match=told) as raised:
        parse_address(written)
    assert repr(written) in str(raised.value)


def test_an_address_is_shown_as_it_is_written():
    """A host with colons stands in brackets."""
    assert str(Address("::1", 9464)) == "[::1]:9464"
    assert str(Address("127.0.0.1", 0)) == "127.0.0.1:0"
