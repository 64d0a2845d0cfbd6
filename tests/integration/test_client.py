"""The client against a real server that misbehaves by script."""

import asyncio
import json
import random
import socket
import ssl
import time
from contextlib import asynccontextmanager

import pytest
from faultserver import LINEAR, FaultServer, faults

from batchscore.client.client import Client
from batchscore.client.limiter import FixedLimiter
from batchscore.client.retry import RetryPolicy
from batchscore.client.transport import HTTPTransport, TransportOptions, parse_headers
from batchscore.endpoint import Endpoint
from batchscore.errors import (
    AttemptTimeoutError,
    ConnectionFailedError,
    DecodeError,
    DeploymentAwayError,
    HTTPStatusError,
    MetadataError,
    RefusedError,
    RowsRefusedError,
    UnreachableError,
    UsageError,
)
from batchscore.metrics import RunMetrics
from batchscore.offload import Threads
from batchscore.protocols import protocol
from batchscore.units import Rate

BODY = json.dumps({"rows": [{"x": 1}, {"x": 2}]}).encode()
GOOD = [3.0, 5.0]


class NoJitter(random.Random):
    """Backs off for no time at all, so that only what the server asks for is waited."""

    def uniform(self, a, b):
        return 0.0


@asynccontextmanager
async def client_of(
    url, *, token=None, attempts=3, concurrency=4, timeout_s=5.0, max_response_bytes=2**20,
    headers=None, rate=None,
):  # fmt: skip
    endpoint = Endpoint.parse(url)
    metrics = RunMetrics()
    options = TransportOptions(endpoint, headers or {}, timeout_s, max_response_bytes)
    with Threads(2) as offload:
        async with HTTPTransport(options) as transport:
            yield (
                Client(
                    endpoint=endpoint,
                    protocol=protocol("rows"),
                    transport=transport,
                    limiter=FixedLimiter(concurrency, rate),
                    policy=RetryPolicy(attempts, protocol("rows").treatment, random=NoJitter()),
                    read_token=token if callable(token) else lambda: token,
                    metrics=metrics,
                    offload=offload,
                ),
                metrics,
            )


async def read(response):
    rows = json.loads(response.body)
    if len(rows.get("rows", ())) != 2:
        raise DecodeError("not two rows")
    return [row["y"] for row in rows["rows"]]


async def score(server, **options):
    async with client_of(server.url, **options) as (client, metrics):
        return await client.score(BODY, 2, read), metrics


async def test_the_next_request_is_out_before_an_answer_is_read():
    """A slot that an answer leaves is used at once: reading keeps no server waiting."""
    seen = []

    async def slow_read(response):
        # The event loop stands still, so only what was written by now can arrive.
        deadline = time.monotonic() + 2
        while server.request_count < 3 and time.monotonic() < deadline:
            time.sleep(0.01)  # noqa: ASYNC251 - the event loop shall stand still
        seen.append(server.request_count)
        return await read(response)

    with FaultServer(*LINEAR) as server:
        async with client_of(server.url, concurrency=1) as (client, _):
            await client.score(BODY, 2, read)
            values = await asyncio.gather(*[client.score(BODY, 2, slow_read) for _ in range(2)])
    assert values == [GOOD, GOOD]
    assert seen == [3, 3]


@pytest.mark.parametrize(
    ("fault", "code"),
    [
        (faults.status(429), "http_429"),
        (faults.status(500), "http_500"),
        (faults.status(503), "http_503"),
        (faults.status(408), "http_408"),
        (faults.reset("before"), "connection"),
        (faults.reset("after"), "connection"),
        (faults.reset("middle"), "connection"),
        (faults.close(), "connection"),
        (faults.truncate(), "connection"),
        (faults.hang(), "timeout"),
        (faults.stall(), "timeout"),
        (faults.wrong_row_count(-1), "bad_response"),
    ],
)
async def test_a_passing_fault_is_retried_and_counted_by_its_cause(fault, code):
    """One bad answer costs one retry, whatever was bad about it."""
    with FaultServer(*LINEAR, script=[fault]) as server:
        values, metrics = await score(server, timeout_s=0.5)
    assert values == GOOD
    assert metrics.retries == {code: 1}
    assert metrics.requests == 2
    assert metrics.in_flight == 0


@pytest.mark.parametrize(
    ("fault", "verdict", "last"),
    [
        (faults.status(503, "too busy"), DeploymentAwayError, HTTPStatusError),
        (faults.status(429), DeploymentAwayError, HTTPStatusError),
        (faults.reset("after"), DeploymentAwayError, ConnectionFailedError),
        (faults.hang(), DeploymentAwayError, AttemptTimeoutError),
        (faults.status(500, "crashed"), RowsRefusedError, HTTPStatusError),
        (faults.wrong_row_count(1), RowsRefusedError, DecodeError),
    ],
)
async def test_used_up_attempts_blame_the_rows_where_the_server_answered(fault, verdict, last):
    """After max_attempts tries: an answer blames the rows, silence the deployment."""
    with FaultServer(*LINEAR, script=lambda _: fault) as server:
        with pytest.raises(verdict) as caught:
            await score(server, attempts=3, timeout_s=0.3)
        assert isinstance(caught.value.last, last)
        assert len(server.requests) == 3


async def test_silence_blames_the_rows_while_others_are_answered():
    """A request that never gets through, while others do, is not an outage."""
    poison = BODY.replace(b"1", b"666")

    def script(request):
        return faults.reset("after") if b"666" in request.body else None

    with FaultServer(*LINEAR, script=script) as server:
        async with client_of(server.url) as (client, _):

            async def others():
                while True:
                    await client.score(BODY, 2, read)
                    await asyncio.sleep(0.001)

            task = asyncio.create_task(others())
            client._policy = RetryPolicy(3, protocol("rows").treatment, random=random.Random(1))
            with pytest.raises(RowsRefusedError):
                await client.score(poison, 2, read)
            task.cancel()
            await asyncio.gather(task, return_exceptions=True)


@pytest.mark.parametrize("status", [400, 413, 422])
async def test_refused_rows_are_not_retried(status):
    """The same rows would be refused again, so they are sent once; the server's words are kept."""
    with FaultServer(*LINEAR, script=lambda _: faults.status(status, "row is bad")) as server:
        with pytest.raises(RowsRefusedError, match="row is bad") as caught:
            await score(server)
        assert caught.value.last.code == f"http_{status}"
        assert len(server.requests) == 1


@pytest.mark.parametrize("status", [403, 404, 410])
async def test_a_refusal_of_everything_stops_the_job(status):
    """403, 404 and the like would meet every batch: one request, then the end."""
    with FaultServer(*LINEAR, script=lambda _: faults.status(status, "not enabled")) as server:
        with pytest.raises(RefusedError, match="not enabled"):
            await score(server)
        assert len(server.requests) == 1


async def test_retry_after_is_honoured_by_all_workers():
    """While the server asks for a pause nobody sends, also not a worker that saw no error."""
    with FaultServer(*LINEAR, script=[faults.status(429, retry_after=1)]) as server:
        async with client_of(server.url) as (client, _):
            first = asyncio.create_task(client.score(BODY, 2, read))
            await asyncio.sleep(0.3)
            began = time.monotonic()
            assert await client.score(BODY, 2, read) == GOOD
            assert time.monotonic() - began > 0.5
            assert await first == GOOD


async def test_no_more_requests_are_in_flight_than_allowed():
    """The limiter bounds what the server sees at one time."""
    with FaultServer(*LINEAR, delay_s=0.02) as server:
        async with client_of(server.url, concurrency=3) as (client, _):
            await asyncio.gather(*[client.score(BODY, 2, read) for _ in range(30)])
        assert server.max_in_flight == 3


async def test_a_worker_gives_its_slot_back_while_it_backs_off():
    """With one slot, a second request goes through while the first waits to be retried."""

    class Slow(random.Random):
        def uniform(self, a, b):
            return 1.0

    with FaultServer(*LINEAR, script=[faults.status(500)]) as server:
        async with client_of(server.url, concurrency=1) as (client, _):
            client._policy = RetryPolicy(3, protocol("rows").treatment, random=Slow())
            first = asyncio.create_task(client.score(BODY, 2, read))
            await asyncio.sleep(0.2)
            assert await client.score(BODY, 2, read) == GOOD
            assert not first.done()
            assert await first == GOOD


@pytest.mark.parametrize("rate", [Rate(20, "requests"), Rate(40, "rows")])
async def test_the_rate_is_not_exceeded(rate):
    """At 20 requests (of two rows) a second, eleven take at least half a second."""
    with FaultServer(*LINEAR) as server:
        async with client_of(server.url, rate=rate) as (client, _):
            began = time.monotonic()
            await asyncio.gather(*[client.score(BODY, 2, read) for _ in range(11)])
            assert time.monotonic() - began >= 0.49


async def test_a_token_that_was_renewed_is_read_again_once_for_all_and_costs_no_attempt():
    """On 401 the token is read anew; all workers share what was read."""
    reads = []

    def token():
        reads.append(1)
        return "old" if len(reads) == 1 else "new"

    with FaultServer(*LINEAR, token="new") as server:
        async with client_of(server.url, token=token, attempts=1) as (client, metrics):
            results = await asyncio.gather(*[client.score(BODY, 2, read) for _ in range(4)])
        assert results == [GOOD] * 4
        assert len(reads) == 2
        assert not metrics.retries


@pytest.mark.parametrize("token", [None, "wrong"])
async def test_a_wrong_token_stops_the_job_and_is_not_told(token):
    """401 with an unchanged token ends the job; the message names no token."""
    with FaultServer(*LINEAR, token="right") as server, pytest.raises(RefusedError) as caught:
        async with client_of(server.url, token=token) as (client, _):
            await client.signature()
    assert "401" in str(caught.value)
    assert "wrong" not in str(caught.value).replace("wrong or missing", "")


async def test_a_token_travels_as_bearer_and_none_as_no_header():
    """Authorization is there with a token, and only then; own headers go out too."""
    with FaultServer(*LINEAR) as server:
        await score(server, token="abc", headers={"X-Team": "blue"})
        await score(server)
        with_token, without = (request.headers for request in server.requests)
    assert with_token["authorization"] == "Bearer abc"
    assert with_token["x-team"] == "blue"
    assert "authorization" not in without


async def test_a_netrc_login_is_never_sent(tmp_path, monkeypatch):
    """A ~/.netrc of the machine does not become an Authorization header."""
    netrc = tmp_path / "netrc"
    netrc.write_text("machine 127.0.0.1 login me password secret\n")
    monkeypatch.setenv("NETRC", str(netrc))
    with FaultServer(*LINEAR) as server:
        await score(server)
        assert "authorization" not in server.requests[0].headers


async def test_an_unreachable_host_is_named_with_its_port_within_ten_seconds():
    """Nobody there: the host and port are told, soon."""
    with socket.create_server(("127.0.0.1", 0)) as listener:
        port = listener.getsockname()[1]
    began = time.monotonic()
    with pytest.raises(UnreachableError, match=f"127.0.0.1:{port}"):
        async with client_of(f"http://127.0.0.1:{port}/deployment/1/forward") as (client, _):
            await client.signature()
    assert time.monotonic() - began < 10


async def test_a_host_that_does_not_even_refuse_is_unreachable_too():
    """A connection that is neither made nor refused is given up after a few seconds."""
    with socket.socket() as listener:
        listener.bind(("127.0.0.1", 0))
        listener.listen(0)
        host, port = listener.getsockname()
        # With its queue of connections full, the system lets further ones wait.
        waiting = [socket.socket() for _ in range(4)]
        for other in waiting:
            other.setblocking(False)
            other.connect_ex((host, port))
        began = time.monotonic()
        with pytest.raises(UnreachableError, match="no connection within 5 s"):
            async with client_of(f"http://{host}:{port}/x", timeout_s=60) as (client, _):
                await client.signature()
        assert time.monotonic() - began < 12
        for other in waiting:
            other.close()


async def test_a_server_that_gives_no_specification_is_told_apart():
    """A page that is no specification is not taken for one."""
    with FaultServer(*LINEAR) as server:
        server.spec_script = [faults.html_200()]
        with pytest.raises(MetadataError, match="no specification"):
            async with client_of(server.url) as (client, _):
                await client.signature()


async def test_the_specification_is_asked_for_again_when_the_server_is_busy():
    """A 503 for the specification is retried like any other."""
    with FaultServer(*LINEAR) as server:
        server.spec_script = [faults.status(503), faults.reset("after")]
        async with client_of(server.url) as (client, _):
            signature = await client.signature()
        assert [spec.name for spec in signature.outputs] == ["y"]


async def test_gzipped_answers_are_unpacked():
    """Answers may be compressed."""
    with FaultServer(*LINEAR, gzip_answers=True) as server:
        values, _ = await score(server)
    assert values == GOOD


async def test_a_large_answer_and_a_decompression_bomb_are_refused():
    """No more than max_response_bytes are unpacked, however small the answer was packed."""
    with FaultServer(*LINEAR, script=lambda _: faults.gzip_bomb(2**26)) as server:
        with pytest.raises(RowsRefusedError, match="larger than 1048576"):
            await score(server, attempts=1)


async def test_a_redirect_to_another_host_is_refused_and_the_token_stays_home():
    """The token does not follow a redirect to another origin."""
    with FaultServer(*LINEAR) as other, FaultServer(*LINEAR) as server:
        server.script = lambda _: faults.redirect(other.url)
        with pytest.raises(RefusedError, match="another host"):
            await score(server, token="abc")
        assert not other.requests


async def test_a_redirect_on_the_same_host_is_followed_with_the_rows():
    """307 and 308 on the same origin keep the method and the body."""
    with FaultServer(*LINEAR) as server:
        server.script = [faults.redirect(server.url, 308)]
        values, _ = await score(server, token="abc")
        assert values == GOOD
        assert server.requests[1].headers["authorization"] == "Bearer abc"


async def test_a_body_of_many_megabytes_arrives_whole():
    """Large bodies are sent in pieces, and completely."""
    rows = [{"x": number} for number in range(300_000)]
    body = json.dumps({"rows": rows}).encode()
    assert len(body) > 4 * 2**20

    async def count(response):
        return len(json.loads(response.body)["rows"])

    with FaultServer(*LINEAR) as server:
        async with client_of(server.url, max_response_bytes=2**30) as (client, _):
            assert await client.score(body, len(rows), count) == len(rows)


async def test_a_cancelled_request_is_not_in_flight_any_more():
    """Cancelling a worker closes its request at once."""
    with FaultServer(*LINEAR, script=lambda _: faults.hang()) as server:
        async with client_of(server.url) as (client, metrics):
            task = asyncio.create_task(client.score(BODY, 2, read))
            while not metrics.in_flight:
                await asyncio.sleep(0.01)
            task.cancel()
            with pytest.raises(asyncio.CancelledError):
                await task
            assert metrics.in_flight == 0


def test_a_ca_bundle_that_cannot_be_read_is_a_usage_error(tmp_path):
    """A missing or broken bundle is named before anything is sent."""
    options = TransportOptions(
        Endpoint.parse("https://127.0.0.1/x"), {}, 1.0, 100, tmp_path / "none.pem"
    )
    with pytest.raises(UsageError, match="none.pem"):
        HTTPTransport(options)
    (tmp_path / "none.pem").write_text("no certificate")
    with pytest.raises(UsageError, match="none.pem"):
        HTTPTransport(options)
    assert ssl.OPENSSL_VERSION


def test_headers_come_from_options_and_a_file(tmp_path):
    """--header and --header-file make one set; a broken line is told by number, not by value."""
    file = tmp_path / "headers"
    file.write_text("# comment\n\nX-B: two: colons\n")
    assert parse_headers(("X-A: 1",), file) == {"X-A": "1", "X-B": "two: colons"}
    file.write_text("my-secret-without-colon\n")
    with pytest.raises(UsageError) as caught:
        parse_headers((), file)
    assert "secret" not in str(caught.value)
    assert f"{str(file)!r}, line 1 " in str(caught.value)


@asynccontextmanager
async def closing_server(*, resets: bool):
    """Answers the first request of each connection, and closes it when another comes."""
    seen: list[int] = []

    async def serve(reader, writer):
        for number in range(2):
            try:
                head = await reader.readuntil(b"\r\n\r\n")
            except asyncio.IncompleteReadError:
                break
            length = int(head.lower().partition(b"content-length: ")[2].partition(b"\r")[0])
            await reader.readexactly(length)
            seen.append(number)
            if number == 0:
                body = b'{"rows":[{"y":3.0},{"y":5.0}]}'
                writer.write(b"HTTP/1.1 200 OK\r\nContent-Length: %d\r\n\r\n%b" % (len(body), body))
            elif resets:
                writer.transport.abort()
        writer.close()

    server = await asyncio.start_server(serve, "127.0.0.1", 0)
    port = server.sockets[0].getsockname()[1]
    yield f"http://127.0.0.1:{port}/deployment/x/forward", seen
    server.close()
    await server.wait_closed()


@pytest.mark.parametrize("resets", [True, False])
async def test_an_idle_connection_that_was_closed_costs_no_try(resets):
    """Servers close idle connections: that a request meets that is no failed try of it."""
    async with closing_server(resets=resets) as (url, seen):
        async with client_of(url, attempts=1) as (client, metrics):
            assert await client.score(BODY, 2, read) == GOOD
            await asyncio.sleep(1.1)
            assert await client.score(BODY, 2, read) == GOOD
    assert seen == [0, 1, 0]
    assert (metrics.requests, metrics.retries) == (2, {})


async def test_a_busy_connection_that_was_closed_costs_a_try():
    """Where the connection was used a moment ago, its end is the server's trouble."""
    async with closing_server(resets=False) as (url, seen):
        async with client_of(url, attempts=2) as (client, metrics):
            assert await client.score(BODY, 2, read) == GOOD
            assert await client.score(BODY, 2, read) == GOOD
    assert seen == [0, 1, 0]
    assert (metrics.requests, metrics.retries) == (3, {"connection": 1})
