"""https, certificates, redirects and proxies: a token goes to the deployment and nowhere else."""

import base64
import ssl
from datetime import UTC, datetime
from urllib.parse import urlsplit

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import trustme
from faultserver import LINEAR, FaultServer, TunnelProxy, faults
from integration.conftest import read_arrow

import batchscore
from batchscore.errors import RefusedError, UnreachableError, UsageError

TOKEN = "the-token"
LOGIN = "me:hunter2"
BASIC = f"Basic {base64.b64encode(LOGIN.encode()).decode()}"
HTTP_URL = "http://deployment.test/deployment/test/forward"
HTTPS_URL = "https://deployment.test/deployment/test/forward"


@pytest.fixture(scope="module")
def authority():
    return trustme.CA()


@pytest.fixture
def score(tmp_path, monkeypatch, authority):
    """Scores three rows with a token, in an environment of these variables alone."""
    for name in ("http_proxy", "https_proxy", "all_proxy", "no_proxy"):
        monkeypatch.delenv(name, raising=False)
        monkeypatch.delenv(name.upper(), raising=False)
    pq.write_table(pa.table({"x": [1.0, 2.0, 3.0]}), tmp_path / "in.parquet")
    authority.cert_pem.write_to_path(tmp_path / "ca.pem")

    def run(url, *, trusted=True, variables=(), **options):
        for name, value in dict(variables).items():
            monkeypatch.setenv(name, value)
        batchscore.score(
            tmp_path / "in.parquet", tmp_path / "out.arrow", url=url, token=TOKEN, overwrite=True,
            ca_bundle=tmp_path / "ca.pem" if trusted else None, **options,
        )  # fmt: skip
        return read_arrow(tmp_path / "out.arrow")["predicted_y"].to_pylist()

    return run


@pytest.fixture
def certificate(authority):
    """The TLS side of a server with a certificate for these names."""

    def make(*names, **options):
        context = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH)
        authority.issue_cert(*names, **options).configure_cert(context)
        return context

    return make


@pytest.fixture
def predictions(score):
    """What the model says of the three rows, asked without TLS and proxies."""
    with FaultServer(*LINEAR) as server:
        return score(server.url)


# Certificates.


def test_a_certificate_that_nobody_knows_is_refused_and_a_bundle_makes_it_known(
    score, certificate, predictions
):
    """By default only the system's authorities are trusted, with --ca-bundle those in it."""
    with FaultServer(*LINEAR, tls=certificate("127.0.0.1")) as server:
        with pytest.raises(RefusedError, match="not trusted.*give --ca-bundle FILE") as caught:
            score(server.url, trusted=False)
        assert caught.value.exit_code == 1
        assert f"127.0.0.1:{server.port}" in str(caught.value)
        assert (server.spec_requests, server.request_count) == (0, 0)
        assert score(server.url) == predictions


@pytest.mark.parametrize(
    ("names", "years", "why"),
    [
        (["other.test"], (2020, 2200), "not valid for '127.0.0.1'"),
        (["127.0.0.1"], (2019, 2020), "certificate has expired"),
        (["127.0.0.1"], (2199, 2200), "certificate is not yet valid"),
    ],
)
def test_a_known_certificate_must_be_good_for_this_host_and_day(
    score, certificate, names, years, why
):
    """The reason is told, no bundle is advised as none would help, and no token is sent."""
    first, last = (datetime(year, 1, 1, tzinfo=UTC) for year in years)
    tls = certificate(*names, not_before=first, not_after=last)
    with FaultServer(*LINEAR, tls=tls) as server:
        with pytest.raises(RefusedError, match=why) as caught:
            score(server.url)
        assert "--ca-bundle" not in str(caught.value)
        assert (server.spec_requests, server.request_count) == (0, 0)


# Redirects.


@pytest.mark.parametrize("code", [301, 302, 303, 307, 308])
@pytest.mark.parametrize("of_specification", [False, True])
def test_no_redirect_leads_from_https_to_http(score, certificate, code, of_specification):
    """The same host without TLS is another place; the token does not go there."""
    with FaultServer(*LINEAR) as plain, FaultServer(*LINEAR, tls=certificate("127.0.0.1")) as safe:
        target = faults.redirect(plain.url, code)
        if of_specification:
            safe.spec_script = faults.always(target)
        else:
            safe.script = faults.always(target)
        with pytest.raises(RefusedError, match="redirects to another host, http://127.0.0.1"):
            score(safe.url)
        assert plain.connections == 0


@pytest.mark.parametrize(
    "place", ["http://localhost:{port}/x", "//127.0.0.2:{port}/x", "http://127.0.0.1:1/x"]
)
def test_another_name_or_port_is_another_host(score, place):
    """The token belongs to scheme, name and port."""
    with FaultServer(*LINEAR) as server:
        server.script = faults.always(faults.redirect(place.format(port=server.port)))
        with pytest.raises(RefusedError, match="redirects to another host"):
            score(server.url)
        assert server.request_count == 1


@pytest.mark.parametrize("code", [307, 308])
def test_a_redirect_on_the_same_host_keeps_rows_and_token(score, certificate, predictions, code):
    """A deployment may have moved to another path of its server."""
    with FaultServer(*LINEAR, tls=certificate("127.0.0.1"), token=TOKEN) as server:
        to_itself = faults.redirect(urlsplit(server.url).path, code)
        server.script = lambda info: None if info.index % 2 else to_itself
        assert score(server.url) == predictions
        assert server.request_count == 2


def test_a_redirect_that_drops_the_rows_or_never_ends_stops_the_job(score):
    """302 turns a POST into a GET; a circle is left after a few rounds."""
    with FaultServer(*LINEAR) as server:
        server.script = faults.always(faults.redirect(server.url, 302))
        with pytest.raises(RefusedError, match="drops the rows"):
            score(server.url)
        server.script = faults.always(faults.redirect(server.url, 307))
        with pytest.raises(RefusedError, match="without end"):
            score(server.url)
        assert server.request_count < 10


# Proxies. The deployment's name has no address, so that only a proxy can reach it.


@pytest.mark.parametrize(
    ("variable", "form"),
    [
        ("HTTP_PROXY", "http://{host}"), ("http_proxy", "http://{host}/"),
        ("ALL_PROXY", "http://{host}"), ("HTTP_PROXY", "{host}"),
    ],
)  # fmt: skip
def test_http_goes_through_the_proxy_of_the_environment(score, predictions, variable, form):
    """The proxy gets the requests for a host that this machine cannot even look up."""
    with FaultServer(*LINEAR, token=TOKEN) as proxy:
        named = form.format(host=f"127.0.0.1:{proxy.port}")
        assert score(HTTP_URL, variables={variable: named}) == predictions
        assert proxy.requests[0].headers["host"] == "deployment.test"
        assert "proxy-authorization" not in proxy.requests[0].headers


@pytest.mark.parametrize("variable", ["HTTPS_PROXY", "ALL_PROXY"])
def test_https_goes_through_a_tunnel_that_sees_no_token(score, certificate, predictions, variable):
    """The proxy is told the host alone, and the certificate is the deployment's."""
    with (
        FaultServer(*LINEAR, tls=certificate("deployment.test"), token=TOKEN) as server,
        TunnelProxy(server.port) as proxy,
    ):
        assert score(HTTPS_URL, variables={variable: proxy.url}) == predictions
        assert proxy.heads
        for head in proxy.heads:
            assert head.startswith("CONNECT deployment.test:443 HTTP/1.1\r\n")
            assert TOKEN not in head
            assert "authorization" not in head.lower()
        with pytest.raises(RefusedError, match="not valid for 'wrong.test'"):
            score(HTTPS_URL.replace("deployment.test", "wrong.test"))


def test_a_proxys_login_is_sent_to_it_and_never_shown(score, certificate, predictions, caplog):
    """User and password are in Proxy-Authorization, and in no message, even if it is quoted."""
    with (
        FaultServer(*LINEAR, tls=certificate("deployment.test")) as server,
        TunnelProxy(server.port, authorization=BASIC) as proxy,
    ):
        named = proxy.url.replace("//", f"//{LOGIN}@")
        assert score(HTTPS_URL, variables={"HTTPS_PROXY": named}) == predictions
        proxy.authorization = "Basic another"
        with pytest.raises(RefusedError, match=f"the proxy {proxy.url}: 407") as refused:
            score(HTTPS_URL)
    with FaultServer(*LINEAR) as proxy:
        named = f"http://{LOGIN}@127.0.0.1:{proxy.port}"
        assert score(HTTP_URL, variables={"HTTP_PROXY": named}) == predictions
        assert proxy.requests[0].headers["proxy-authorization"] == BASIC
        proxy.spec_script = faults.always(faults.status(407, f"{BASIC} is wrong, {LOGIN}"))
        with pytest.raises(RefusedError, match="407.*login of the proxy") as quoted:
            score(HTTP_URL)
    for text in (str(refused.value), str(quoted.value), caplog.text):
        assert "hunter2" not in text
        assert BASIC.split()[1] not in text


def test_a_proxy_that_is_away_is_the_one_that_is_named(score):
    """Who cannot be reached is the proxy, whether it refuses or its name is unknown."""
    for place in ("127.0.0.1:1", "proxy.invalid:3128"):
        variables = {"HTTP_PROXY": f"http://{LOGIN}@{place}"}
        with pytest.raises(UnreachableError, match=f"the proxy http://{place}: ") as caught:
            score(HTTP_URL, variables=variables)
        assert "hunter2" not in str(caught.value)


@pytest.mark.parametrize(
    "named",
    ["socks5://{}@127.0.0.1:1080", "http://{}@[bad", "http://{}@127.0.0.1:99999", "http://"],
)
def test_a_proxy_that_cannot_be_used_is_a_usage_error(score, named):
    """The variable is named, with neither user nor password."""
    with pytest.raises(UsageError, match="HTTP_PROXY or ALL_PROXY") as caught:
        score(HTTP_URL, variables={"HTTP_PROXY": named.format(LOGIN)})
    assert "hunter2" not in str(caught.value)


@pytest.mark.parametrize("excepted", ["deployment.test", ".test", "deployment.test:80", "*"])
def test_no_proxy_names_hosts_that_are_reached_directly(score, excepted):
    """With the name in NO_PROXY this machine looks it up itself, and does not find it."""
    with FaultServer(*LINEAR) as proxy:
        variables = {"HTTP_PROXY": f"http://127.0.0.1:{proxy.port}", "NO_PROXY": excepted}
        with pytest.raises(UnreachableError, match="deployment.test:80"):
            score(HTTP_URL, variables=variables)
        assert proxy.connections == 0


def test_this_machine_is_never_reached_through_a_proxy(score, predictions):
    """A proxy could not reach it: 127.0.0.1 there is another machine."""
    with FaultServer(*LINEAR) as server, FaultServer(*LINEAR) as proxy:
        named = f"http://127.0.0.1:{proxy.port}"
        for url in (server.url, server.url.replace("127.0.0.1", "localhost")):
            variables = {"HTTP_PROXY": named, "ALL_PROXY": named}
            assert score(url, variables=variables) == predictions
        assert proxy.connections == 0
