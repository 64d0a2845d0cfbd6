"""The fault server breaks what it is told to break, and nothing else."""

from __future__ import annotations

import asyncio
import gzip
import http.client
import itertools
import json
import math
import signal
import socket
import subprocess
import sys
import threading
import time
import zlib
from contextlib import closing
from dataclasses import replace
from pathlib import Path
from urllib.parse import urlsplit

import numpy as np
import pytest
from faultserver import (
    CLASSIFIER,
    LINEAR,
    FaultServer,
    FaultServerProcess,
    Proxy,
    RequestInfo,
    RowTally,
    echo,
    faults,
    linear_predict,
    mixed_faults,
)

HEADERS = {"Content-Type": "application/json"}
ROWS = [{"x": 1}, {"x": 2.5}, {"x": None}]
ANSWERS = [{"y": 3}, {"y": 6.0}, {"y": 1}]


def connect(url, timeout=5):
    """An HTTP connection to the address's host."""
    parts = urlsplit(url)
    return closing(http.client.HTTPConnection(parts.hostname, parts.port, timeout=timeout))


def post(url, rows=ROWS, headers=(), timeout=5, **options):
    """Status, headers and body of one request on a connection of its own."""
    body = json.dumps({"rows": rows})
    with connect(url, timeout) as client:
        client.request("POST", urlsplit(url).path, body, {**HEADERS, **dict(headers)}, **options)
        answer = client.getresponse()
        return answer.status, answer.headers, answer.read()


def scored(url, rows=ROWS):
    """The rows of a good answer."""
    status, _, body = post(url, rows)
    assert status == 200
    return json.loads(body)["rows"]


def raw_request(server, body=b'{"rows": [{"x": 1}]}'):
    """A request as bytes."""
    path = urlsplit(server.url).path
    head = f"POST {path} HTTP/1.1\r\nHost: h\r\nContent-Type: application/json\r\n"
    return f"{head}Content-Length: {len(body)}\r\n\r\n".encode() + body


def raw_socket(server, timeout=5):
    """A connection without HTTP."""
    return socket.create_connection((server.host, server.port), timeout=timeout)


def read_to_end(connected):
    """Everything up to the end, and whether the end was an RST; None: there was no end."""
    data = b""
    while True:
        try:
            piece = connected.recv(65536)
        except ConnectionResetError:
            return data, True
        except TimeoutError:
            return data, None
        if not piece:
            return data, False
        data += piece


def open_files():
    """How many file descriptors this process has."""
    return len(list(Path("/proc/self/fd").iterdir()))


def wait_until(condition, timeout=5):
    """Wait for what another thread brings about."""
    deadline = time.monotonic() + timeout
    while not condition():
        assert time.monotonic() < deadline, "it did not come to pass"
        time.sleep(0.002)


# Good answers


def test_rows_are_answered_by_the_model_in_order_and_recorded():
    """A request gets the model's rows, and its record tells what came and what was sent."""
    with FaultServer(*LINEAR) as server:
        assert scored(server.url) == ANSWERS
        (info,) = server.requests
        assert (info.index, info.rows, info.status, info.fault) == (0, ROWS, 200, None)
        assert info.body_bytes == len(info.body) == len(json.dumps({"rows": ROWS}))
        assert info.headers["content-type"] == "application/json"
        assert (server.rows_seen, server.max_in_flight, server.in_flight) == (3, 1, 0)


def test_a_connection_is_kept_alive():
    """Many requests, pipelined ones too, travel on one connection."""
    with FaultServer(*LINEAR) as server:
        with connect(server.url) as client:
            for x in range(20):
                client.request(
                    "POST", urlsplit(server.url).path, json.dumps({"rows": [{"x": x}]}), HEADERS
                )
                assert json.load(client.getresponse())["rows"] == [{"y": 2 * x + 1}]
        assert {info.connection for info in server.requests} == {0}
        with raw_socket(server) as connected:
            connected.sendall(raw_request(server) * 3)
            wait_until(lambda: server.request_count == 23)
            connected.shutdown(socket.SHUT_WR)
            data, was_reset = read_to_end(connected)
        assert data.count(b'{"rows":[{"y":3}]}') == 3
        assert not was_reset


def test_a_body_may_come_in_chunks_and_pieces():
    """Chunked bodies and bodies that arrive byte by byte are read whole."""
    body = json.dumps({"rows": ROWS}).encode()
    with FaultServer(*LINEAR) as server:
        with connect(server.url) as client:
            pieces = iter([body[:5], body[5:6], body[6:]])
            client.request("POST", urlsplit(server.url).path, pieces, HEADERS, encode_chunked=True)
            assert json.load(client.getresponse())["rows"] == ANSWERS
        with raw_socket(server) as connected:
            connected.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
            for byte in raw_request(server):
                connected.sendall(bytes([byte]))
            assert connected.recv(1000).endswith(b'{"rows":[{"y":3}]}')


def test_connection_close_is_honoured():
    """A client that asks for the end of the connection gets it after its answer."""
    with FaultServer(*LINEAR) as server, raw_socket(server) as connected:
        connected.sendall(raw_request(server).replace(b"Host", b"Connection: close\r\nHost"))
        data, was_reset = read_to_end(connected)
    assert data.endswith(b'{"rows":[{"y":3}]}')
    assert not was_reset


@pytest.mark.parametrize("old_style", [False, True])
def test_the_specification_is_in_the_style_that_is_asked_for(old_style):
    """Both styles of the specification are served, classes where they are given."""
    classes = {"animal": ["bird", "cat", "dog"]}
    with FaultServer(*CLASSIFIER, old_style=old_style, classes=classes) as server:
        with connect(server.url) as client:
            client.request("GET", "/deployment/test/openapi.json")
            document = json.load(client.getresponse())
        assert server.spec_requests == 1
    schemas = document["components"]["schemas"]
    x = schemas["input-row"]["properties"]["x"]
    animal = schemas["output-row-batch"]["properties"]["rows"]["properties"]["animal"]
    operation = document["paths"]["/deployment/{deploymentId}/forward"]
    if old_style:
        x, animal = x["extensions"], animal["extensions"]
        assert "x-peltarion-tensorjson" not in operation
    else:
        assert operation["x-peltarion-tensorjson"] is True
    assert x == {"x-peltarion": {"type": "numeric", "shape": [1]}}
    assert animal["x-peltarion"]["classes"] == classes["animal"]


def test_the_token_is_asked_for_and_can_be_changed():
    """Without the right token everything is a 401; a rotated token counts at once."""
    with FaultServer(*LINEAR, token="one") as server:
        assert post(server.url)[0] == 401
        assert post(server.url, headers={"Authorization": "Bearer one"})[0] == 200
        server.token = "two"
        assert post(server.url, headers={"Authorization": "Bearer one"})[0] == 401
        with connect(server.url) as client:
            client.request("GET", "/deployment/test/openapi.json")
            assert client.getresponse().status == 401


def test_a_disabled_deployment_denies_everything():
    """While disabled, predictions and specification are a 403 with the API's error."""
    with FaultServer(*LINEAR) as server:
        server.disabled = True
        status, _, body = post(server.url)
        assert (status, json.loads(body)["errorCode"]) == (403, "DEPLOYMENT_DISABLED")
        with connect(server.url) as client:
            client.request("GET", "/deployment/test/openapi.json")
            assert client.getresponse().status == 403
        server.disabled = False
        assert scored(server.url) == ANSWERS


@pytest.mark.parametrize(
    ("body", "content_type", "status"),
    [
        (b"{", "application/json", 400),
        (b"[]", "application/json", 400),
        (b'{"rows": 1}', "application/json", 400),
        (b'{"rows": [1]}', "application/json", 400),
        (b'{"rows": [{"y": 1}]}', "application/json", 422),
        (b'{"rows": [{"x": 1}]}', "text/plain", 415),
    ],
)
def test_what_a_deployment_would_refuse_is_refused(body, content_type, status):
    """Bodies that break the protocol get the status a deployment would give."""
    with FaultServer(*LINEAR) as server, connect(server.url) as client:
        client.request("POST", "/deployment/test/forward", body, {"Content-Type": content_type})
        answer = client.getresponse()
        assert (answer.status, json.load(answer).keys()) == (
            status, {"errorCode", "errorMessage"},
        )  # fmt: skip
        client.request("POST", "/elsewhere", body, HEADERS)
        assert client.getresponse().status == 404
        assert server.request_count == 1


def test_arrays_of_the_model_are_encoded_as_the_specification_says():
    """NumPy arrays travel as tensor JSON, or as NumPy files in data URIs."""
    features = {"a": ("numeric", [2, 1])}

    def double(rows):
        return [{"a": np.array(row["a"]["data"], "f4").reshape(2, 1) * 2} for row in rows]

    with FaultServer(features, features, double) as server:
        rows = [{"a": {"shape": [2, 1], "data": [1, 2]}}]
        assert scored(server.url, rows) == [{"a": {"shape": [2, 1], "data": [2.0, 4.0]}}]
        server.tensor_json = False
        (row,) = scored(server.url, rows)
        assert row["a"].startswith("data:application/x.peltarion.npy;base64,")


def test_the_echo_model_gives_back_what_it_gets():
    """Echo answers each value as it travelled, and a label as the one sure class."""
    with FaultServer(*echo({"t": ("text", [1]), "c": ("categorical", [1])})) as server:
        assert scored(server.url, [{"t": "ä", "c": "cat"}]) == [{"t": "ä", "c": {"cat": 1.0}}]


def test_answers_are_compressed_for_clients_that_accept_it():
    """With gzip_answers, Accept-Encoding decides."""
    with FaultServer(*LINEAR, gzip_answers=True) as server:
        _, headers, body = post(server.url, headers={"Accept-Encoding": "gzip, deflate"})
        assert headers["Content-Encoding"] == "gzip"
        assert json.loads(gzip.decompress(body))["rows"] == ANSWERS
        assert "Content-Encoding" not in post(server.url, headers={"Accept-Encoding": "x"})[1]


# Faults


def test_a_script_is_followed_in_order_and_then_all_is_well():
    """An iterable gives each request its fault; afterwards, and at None, answers are good."""
    script = [faults.status(503, "later", retry_after=2), None, faults.status(500, body=b"oops")]
    with FaultServer(*LINEAR, script=script) as server:
        status, headers, body = post(server.url)
        assert (status, headers["Retry-After"]) == (503, "2")
        assert json.loads(body) == {"errorCode": "HTTP_503", "errorMessage": "later"}
        assert scored(server.url) == ANSWERS
        assert post(server.url)[::2] == (500, b"oops")
        assert scored(server.url) == ANSWERS
        assert [info.status for info in server.requests] == [503, 200, 500, 200]
        assert [info.fault for info in server.requests] == [script[0], None, script[2], None]
        server.script = [faults.status(404)]
        assert post(server.url)[0] == 404


def test_resets_before_and_after_the_body_send_nothing():
    """A reset before the body needs no body; neither gives the client one byte."""
    with FaultServer(*LINEAR, script=[faults.reset("before"), faults.reset()]) as server:
        whole = raw_request(server)
        head = whole[: whole.index(b"\r\n\r\n") + 4]
        for data in (head, whole):
            with raw_socket(server) as connected:
                connected.sendall(data)
                assert read_to_end(connected) == (b"", True)
        assert [info.rows for info in server.requests] == [[], [{"x": 1}]]
        assert [info.status for info in server.requests] == [None, None]
        assert server.in_flight == 0


@pytest.mark.parametrize(
    ("fault", "half", "is_reset"),
    [
        (faults.reset("middle"), True, True),
        (faults.truncate(), True, False),
        (faults.close(), False, False),
    ],
    ids=str,
)
def test_answers_break_off_where_they_shall(fault, half, is_reset):
    """In the middle or before the first byte, by RST or by an orderly end."""
    with FaultServer(*LINEAR, script=[fault]) as server, raw_socket(server) as connected:
        connected.sendall(raw_request(server))
        data, was_reset = read_to_end(connected)
        assert was_reset is is_reset
        _, _, body = data.partition(b"\r\n\r\n")
        good = b'{"rows":[{"y":3}]}'
        assert body == (good[: len(good) // 2] if half else b"")
        assert (b"Content-Length: %d\r\n" % len(good) in data) is half


@pytest.mark.parametrize("fault", [faults.hang(), faults.stall()], ids=str)
def test_a_hanging_request_ends_with_its_client(fault):
    """Nothing (more) comes, the request stays under way, and is over when the client leaves."""
    with FaultServer(*LINEAR, script=[fault]) as server:
        with raw_socket(server, timeout=0.1) as connected:
            connected.sendall(raw_request(server))
            data, is_over = read_to_end(connected)
            assert is_over is None
            assert data.endswith(b'{"rows":[') if fault.wire == "stall" else data == b""
            assert server.in_flight == 1
        wait_until(lambda: server.in_flight == 0)
        assert server.requests[0].disconnected


def test_slow_and_dripping_answers_are_good_answers():
    """They take their time and are whole."""
    script = [faults.slow(0.1), faults.drip(0), replace(faults.status(503), delay_s=0.1)]
    with FaultServer(*LINEAR, script=script) as server:
        began = time.monotonic()
        assert scored(server.url) == ANSWERS
        assert time.monotonic() - began >= 0.09
        assert scored(server.url) == ANSWERS
        began = time.monotonic()
        assert post(server.url)[0] == 503
        assert time.monotonic() - began >= 0.09


def test_a_drip_comes_byte_by_byte():
    """The client sees the answer grow in many small pieces."""
    with FaultServer(*LINEAR, script=[faults.drip(0.002)]) as server:
        with raw_socket(server) as connected:
            connected.sendall(raw_request(server))
            pieces = []
            while not b"".join(pieces).endswith(b"]}"):
                pieces.append(connected.recv(1000))
        assert len(pieces) > 10
        assert len(pieces[0]) < 10


def test_a_client_that_leaves_ends_a_slow_answer():
    """A timer whose client is gone does nothing any more."""
    with FaultServer(*LINEAR, delay_s=lambda info: 30 if info.index == 0 else 0) as server:
        with raw_socket(server) as connected:
            connected.sendall(raw_request(server))
            wait_until(lambda: server.rows_seen == 1)
        wait_until(lambda: server.in_flight == 0)
        assert server.requests[0].status is None
        assert scored(server.url) == ANSWERS


def test_each_body_that_is_no_answer_is_a_200_bad_in_its_own_way():
    """Each kind of bad 200 is a 200, and bad in its own way."""
    script = [
        faults.html_200(), faults.empty_200(), faults.error_in_200("QUOTA", "no more"),
        faults.invalid_json(), faults.wrong_row_count(-2), faults.wrong_row_count(1),
    ]  # fmt: skip
    with FaultServer(*LINEAR, script=script) as server:
        answers = [post(server.url) for _ in script]
    assert {status for status, _, _ in answers} == {200}
    html, empty, error, broken, fewer, more = (body for _, _, body in answers)
    assert answers[0][1]["Content-Type"].startswith("text/html")
    assert html.startswith(b"<!DOCTYPE html>")
    assert empty == b""
    assert json.loads(error) == {"errorCode": "QUOTA", "errorMessage": "no more"}
    with pytest.raises(json.JSONDecodeError):
        json.loads(broken)
    assert json.loads(fewer)["rows"] == ANSWERS[:1]
    assert json.loads(more)["rows"] == [*ANSWERS, ANSWERS[-1]]


def test_bare_nan_is_no_json_but_python_reads_it():
    """Numbers become NaN, Infinity and -Infinity in turn; the model's own NaN may go bare too."""
    with FaultServer(*LINEAR, script=[faults.bare_nan()]) as server:
        body = post(server.url)[2]
        assert b"NaN" in body
        values = [row["y"] for row in json.loads(body)["rows"]]
        assert math.isnan(values[0])
        assert values[1:] == [math.inf, -math.inf]
        server.predict = lambda rows: [{"y": math.nan} for _ in rows]
        assert scored(server.url) == [{"y": None}] * 3
        server.bare_nan = True
        assert b"NaN" in post(server.url)[2]


def test_a_gzip_bomb_is_small_and_grows():
    """It unpacks to valid JSON of the size that was asked for."""
    with FaultServer(*LINEAR, script=[faults.gzip_bomb(2**24)]) as server:
        _, headers, body = post(server.url)
    assert headers["Content-Encoding"] == "gzip"
    assert len(body) < 2**16
    unpacked = zlib.decompress(body, 31)
    assert len(unpacked) >= 2**24
    assert json.loads(unpacked) == {"rows": []}


def test_a_redirect_names_its_location():
    """A redirect carries the status and the address it was given."""
    with FaultServer(*LINEAR, script=[faults.redirect("http://h/x", 308)]) as server:
        status, headers, _ = post(server.url)
        assert (status, headers["Location"]) == (308, "http://h/x")


def test_callables_see_the_rows_and_the_load():
    """Rows can be refused by their values or number, requests by what is in flight."""
    script = faults.first_of(
        faults.refuse_rows(lambda row: row["x"] == 13), faults.too_large(max_rows=4)
    )
    with FaultServer(*LINEAR, script=script) as server:
        assert post(server.url, [{"x": 12}, {"x": 13}])[0] == 422
        assert post(server.url, [{"x": 1}] * 5)[0] == 413
        assert post(server.url, [{"x": 1}] * 4)[0] == 200
        server.script = faults.too_large(max_bytes=20)
        assert post(server.url)[0] == 413
        server.script = faults.busy_above(0)
        assert post(server.url)[0] == 429


def test_the_specification_has_its_own_script():
    """Faults of the specification leave predictions alone."""
    with FaultServer(*LINEAR, spec_script=[faults.status(500), faults.close()]) as server:
        assert scored(server.url) == ANSWERS
        with connect(server.url) as client:
            client.request("GET", "/deployment/test/openapi.json")
            assert client.getresponse().read().startswith(b'{"errorCode"')
            client.request("GET", "/deployment/test/openapi.json")
            with pytest.raises(http.client.RemoteDisconnected):
                client.getresponse()


def test_mixed_faults_are_a_pure_function_of_seed_and_index():
    """The same seed gives the same faults in any order, about as many as were asked for."""

    def chosen(seed, indices):
        script = mixed_faults(seed, 0.3, ["close", {"kind": "status", "code": 500}])
        return {i: script(RequestInfo(i, 0, {}, 0.0, 1)) for i in indices}

    forward = chosen(1, range(1000))
    assert forward == chosen(1, reversed(range(1000)))
    assert forward != chosen(2, range(1000))
    assert 200 < sum(fault is not None for fault in forward.values()) < 400
    assert {str(fault) for fault in forward.values()} == {"None", "close", "status 500"}
    with pytest.raises(ValueError, match="no kind of fault"):
        mixed_faults(1, 0.5, ["tsunami"])


def test_every_transient_fault_is_mended_by_a_retry():
    """Of the default mix, each fault shows as a failure at once, and the next try is good."""
    script = itertools.chain.from_iterable((fault, None) for fault in faults.TRANSIENT)
    with FaultServer(*LINEAR, script=script) as server:
        for fault in faults.TRANSIENT:
            try:
                status, _, body = post(server.url)
                good = status == 200 and json.loads(body)["rows"] == ANSWERS
            except (OSError, http.client.HTTPException, ValueError, KeyError):
                good = False
            assert not good, fault
            assert scored(server.url) == ANSWERS


# Load, life and death


def test_capacity_makes_requests_wait_in_a_queue():
    """No more than so many are served at once; the others wait and are answered all the same."""
    served, most = 0, 0

    def delay(_):
        nonlocal served, most
        served += 1
        most = max(most, served)
        return 0.02

    def predict(rows):
        nonlocal served
        served -= 1
        return linear_predict(rows)

    with FaultServer(LINEAR.inputs, LINEAR.outputs, predict, delay_s=delay, capacity=2) as server:
        threads = [threading.Thread(target=scored, args=[server.url]) for _ in range(8)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        assert [info.status for info in server.requests] == [200] * 8
        assert most == 2
        assert server.max_in_flight > 2


def test_a_server_can_go_away_and_come_back():
    """Away, its port refuses and open connections break; back, it is at the same address."""
    with FaultServer(*LINEAR) as server:
        with raw_socket(server) as connected:
            connected.sendall(raw_request(server))
            connected.recv(1000)
            server.go_away()
            assert read_to_end(connected) == (b"", True)
        with pytest.raises(ConnectionRefusedError):
            post(server.url)
        server.come_back()
        assert scored(server.url) == ANSWERS


def test_a_script_can_restart_the_server():
    """Connections break and are refused, and after a while accepted again."""

    def post_for_ever(url):
        while True:  # the restart begins after the answer
            post(url)

    with FaultServer(*LINEAR) as server:
        server.script = lambda info: server.restart(0.2) if info.index == 0 else None
        with pytest.raises(ConnectionError):
            post_for_ever(server.url)
        server.come_back()
        assert post(server.url)[0] == 200


def test_a_request_whose_head_announces_too_much_is_refused():
    """413 by the length of the body, and never for less."""
    with FaultServer(*LINEAR, script=faults.too_long(100)) as server:
        assert post(server.url, [{"x": 1}])[0] == 200
        assert post(server.url, [{"x": 1}] * 50)[0] == 413


def test_a_tally_tells_rows_that_came_twice_from_those_that_had_to():
    """What a fault made necessary is no second time; what came though it was answered is."""
    script = [faults.status(503), None, None, faults.slow(0.001)]
    with FaultServer(*LINEAR, script=script, tally=RowTally("x", 5)) as server:
        for x in (0, 0, 1, 1):
            post(server.url, [{"x": x}])
        counts = server.tally.counts()
    assert counts["rows_sent_twice"] == 1
    assert counts["rows_never_sent"] == 3
    assert counts["most_times_a_row"] == 2
    assert counts["faults"] == {"status 503": 1, "slow": 1}


def test_closing_is_quick_and_leaves_nothing():
    """Whatever is under way, the server ends within a second, without a thread or a socket."""
    threads, files = threading.active_count(), open_files()
    sockets = []
    with FaultServer(*LINEAR, script=faults.always(faults.hang())) as server:
        for index in range(50):
            sockets.append(raw_socket(server))
            if index % 2:
                sockets[-1].sendall(raw_request(server))
        began = time.monotonic()
    assert time.monotonic() - began < 1
    for connected in sockets:
        assert read_to_end(connected) == (b"", True)
        connected.close()
    assert threading.active_count() == threads
    assert open_files() == files
    with pytest.raises(ConnectionRefusedError):
        raw_socket(server)


def test_errors_of_the_model_are_not_swallowed():
    """A model or script that raises is a 500 to the client and an error at the end."""

    def broken(_):
        raise ZeroDivisionError("model")

    def run(**options):
        with FaultServer(**{**LINEAR._asdict(), **options}) as server:
            assert post(server.url)[0] == 500

    with pytest.raises(ZeroDivisionError):
        run(predict=broken)
    with pytest.raises(ZeroDivisionError):
        run(script=broken)


async def test_the_server_serves_async_tests():
    """A test's own event loop talks to it while it runs."""
    with FaultServer(*LINEAR) as server:
        reader, writer = await asyncio.open_connection(server.host, server.port)
        writer.write(raw_request(server))
        assert (await reader.readuntil(b"}]}")).endswith(b'{"rows":[{"y":3}]}')
        writer.close()
        await writer.wait_closed()


def test_thousands_of_tiny_requests_are_all_answered(capsys):
    """Thousands of tiny requests over a few connections are all answered; the rate is printed."""
    connections, rounds = 4, 1000
    with FaultServerProcess() as server:
        address = urlsplit(server.url)
        head = f"POST {address.path} HTTP/1.1\r\nHost: h\r\nContent-Type: application/json\r\n"
        request = f'{head}Content-Length: 20\r\n\r\n{{"rows": [{{"x": 1}}]}}'.encode()
        sockets = [
            socket.create_connection((address.hostname, address.port)) for _ in range(connections)
        ]
        began = time.monotonic()
        for _ in range(rounds):
            for connected in sockets:
                connected.sendall(request)
            for connected in sockets:
                assert connected.recv(1000).endswith(b'{"rows":[{"y":3}]}')
        seconds = time.monotonic() - began
        for connected in sockets:
            connected.close()
    assert server.counts["request_count"] == server.counts["rows_seen"] == connections * rounds
    with capsys.disabled():
        sys.stdout.write(f" [{connections * rounds / seconds:,.0f} requests/s] ")


# Subprocess


def test_a_subprocess_serves_what_its_description_says():
    """Model, script and options come from JSON; the counts are told at the end."""
    inputs = {"t": ["text", [1]]}
    script = [{"kind": "status", "code": 503}, None]
    with FaultServerProcess(model="echo", inputs=inputs, script=script, token="t") as server:
        authorized = {"Authorization": "Bearer t"}
        assert post(server.url, [{"t": "a"}], authorized)[0] == 503
        assert post(server.url, [{"t": "a"}], authorized)[2] == b'{"rows":[{"t":"a"}]}'
        assert post(server.url, [{"t": "a"}])[0] == 401
    assert server.counts["request_count"] == 3


def test_the_command_ends_on_sigterm(tmp_path):
    """Started with a file as its description, it runs until the signal and exits with 0."""
    spec = tmp_path / "spec.json"
    spec.write_text(json.dumps({"mix": {"seed": 1, "share": 1.0, "kinds": ["close"]}}))
    command = [sys.executable, "-m", "faultserver", "--spec", str(spec)]
    tests = Path(__file__).parents[1]
    with subprocess.Popen(
        command, cwd=tests, stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, text=True
    ) as process:
        url = process.stdout.readline().strip()
        with pytest.raises(http.client.RemoteDisconnected):
            post(url)
        process.send_signal(signal.SIGTERM)
        counts = json.loads(process.stdout.read())
    assert process.returncode == 0
    assert counts["request_count"] == 1


def test_a_killed_subprocess_leaves_its_port_closed():
    """After SIGKILL, connections are refused."""
    with FaultServerProcess() as server:
        assert scored(server.url) == ANSWERS
        server.kill()

        def refused():
            try:
                post(server.url)
            except ConnectionRefusedError:
                return True
            except OSError:
                return False

        wait_until(refused)
    assert server.counts == {}


# Proxy


def test_the_proxy_forwards():
    """Without a command, requests and answers go through as they are."""
    with FaultServer(*LINEAR) as server, Proxy.before(server.url) as proxy:
        assert scored(proxy.url_of(server.url)) == ANSWERS
        big = [{"x": float(x)} for x in range(50_000)]
        assert scored(proxy.url_of(server.url), big) == linear_predict(big)
        assert proxy.connections == 2
        assert proxy.bytes_sent > sum(info.body_bytes for info in server.requests)
        assert proxy.bytes_received > 500_000


def test_the_proxy_resets_refuses_and_accepts_again():
    """Open connections break by RST; a refusing proxy refuses until it accepts again."""
    with FaultServer(*LINEAR) as server, Proxy.before(server.url) as proxy:
        server.script = [faults.hang()]
        with socket.create_connection(("127.0.0.1", proxy.port), timeout=5) as connected:
            connected.sendall(raw_request(server))
            wait_until(lambda: server.in_flight == 1)
            proxy.reset()
            assert read_to_end(connected) == (b"", True)
        wait_until(lambda: server.in_flight == 0)
        proxy.refuse()
        with pytest.raises(ConnectionRefusedError):
            post(proxy.url_of(server.url))
        proxy.accept()
        assert scored(proxy.url_of(server.url)) == ANSWERS


def test_the_proxy_cuts_after_so_many_bytes():
    """The client gets exactly that many bytes of the answer, then an RST."""
    with FaultServer(*LINEAR) as server, Proxy.before(server.url) as proxy:
        proxy.cut_after_bytes = 30
        with socket.create_connection(("127.0.0.1", proxy.port), timeout=5) as connected:
            connected.sendall(raw_request(server))
            data, was_reset = read_to_end(connected)
        assert (len(data), was_reset) == (30, True)
        proxy.cut_after_bytes = None
        assert scored(proxy.url_of(server.url)) == ANSWERS


def test_the_proxy_delays_both_ways():
    """A delay applies to the request and to the answer, and keeps their bytes in order."""
    with FaultServer(*LINEAR) as server, Proxy.before(server.url) as proxy:
        proxy.delay_s = 0.05
        began = time.monotonic()
        big = [{"x": float(x)} for x in range(20_000)]
        assert scored(proxy.url_of(server.url), big) == linear_predict(big)
        assert time.monotonic() - began >= 0.09


def test_a_proxy_without_a_target_breaks_the_connection():
    """Where the target refuses, the client's connection is reset."""
    with FaultServer(*LINEAR) as server, Proxy.before(server.url) as proxy:
        server.go_away()
        with pytest.raises(ConnectionError):
            post(proxy.url_of(server.url))
