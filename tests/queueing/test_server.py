"""The server with one worker keeps its queue, its times and its record."""

import http.client
import json
import random
import threading
import time
from urllib.parse import urlsplit

import pytest

from queueing import Bimodal, Exponential, Fixed, QueueServerProcess
from queueing.services import described, made
from queueing.simulated import waits_s


def post(url, x, method="POST"):
    """Send one row on a connection of its own; status and answer."""
    parts = urlsplit(url)
    connection = http.client.HTTPConnection(parts.hostname, parts.port)
    try:
        body = json.dumps({"rows": [{"x": x}]}) if method == "POST" else None
        connection.request(method, parts.path, body, {"Content-Type": "application/json"})
        answer = connection.getresponse()
        return answer.status, answer.read()
    finally:
        connection.close()


def post_together(url, count):
    """So many requests at once, each from a thread."""
    threads = [threading.Thread(target=post, args=(url, n)) for n in range(count)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()


@pytest.fixture(scope="module")
def server():
    with QueueServerProcess(Fixed(0.005)) as running:
        yield running


@pytest.mark.parametrize(
    "service", [Fixed(0.004), Exponential(0.004), Bimodal(0.002, 0.02, 0.2)], ids=str
)
def test_one_worker_serves_in_order_of_arrival_for_the_times_that_were_drawn(server, service):
    """Starts, ends and order are those of a queue with one worker and the seed's service times."""
    server.begin(service, seed=5)
    post_together(server.url, 12)
    records = server.records()
    assert sorted(record.key for record in records) == list(range(12))
    rng = random.Random(5)
    drawn = [service.draw(rng) for _ in records]
    assert [r.end_s - r.start_s for r in records] == pytest.approx(drawn, abs=1e-9)
    arrivals = [r.arrived_s for r in records]
    assert arrivals == sorted(arrivals)
    assert [r.wait_s for r in records] == pytest.approx(waits_s(arrivals, drawn), abs=1e-6)
    assert all(r.sent_s >= r.end_s for r in records)
    assert max(r.wait_s for r in records) > 0


def test_the_record_is_of_the_clock_that_the_client_has(server):
    """Arrival and answer lie between the client's sending and its last byte."""
    server.begin(Fixed(0.005), seed=1)
    for x in range(5):
        sent = time.monotonic()
        assert post(server.url, x) == (
            200,
            json.dumps({"rows": [{"y": x}]}).replace(" ", "").encode(),
        )
        done = time.monotonic()
        record = server.records()[-1]
        assert sent <= record.arrived_s <= record.sent_s <= done
        assert record.response_s >= 0.005


def test_the_plain_path_takes_as_long_as_the_deployment(server):
    """GET and POST at the plain path wait in the same queue and take the same service."""
    server.begin(Fixed(0.005), seed=1)
    assert post(server.plain_url, None, "GET")[0] == 200
    assert post(server.plain_url, 1)[0] == 200
    assert [r.end_s - r.start_s for r in server.records()] == pytest.approx([0.005] * 2, abs=1e-9)


def test_nothing_is_at_other_paths_and_a_body_without_rows_is_refused(server):
    """Other paths are 404, and a body that is no object with rows is 400."""
    assert post(server.plain_url.replace("plain", "other"), 1)[0] == 404
    parts = urlsplit(server.url)
    connection = http.client.HTTPConnection(parts.hostname, parts.port)
    connection.request("POST", parts.path, b"[]", {"Content-Type": "application/json"})
    assert connection.getresponse().status == 400
    connection.close()


def test_a_new_beginning_forgets_and_draws_the_same_again(server):
    """The record is empty after a beginning, and the seed gives the same times once more."""
    drawn = []
    for _ in range(2):
        server.begin(Exponential(0.002), seed=9)
        assert server.records() == []
        for x in range(4):
            post(server.url, x)
        drawn.append([r.end_s - r.start_s for r in server.records()])
    assert drawn[0] == pytest.approx(drawn[1], abs=1e-9)
    assert len(set(drawn[0])) == 4


def test_who_goes_away_while_waiting_is_not_served(server):
    """A request whose connection ends in the queue takes no service and leaves no record."""
    server.begin(Fixed(0.3), seed=1)
    parts = urlsplit(server.url)
    staying, leaving = (http.client.HTTPConnection(parts.hostname, parts.port) for _ in range(2))
    for x, connection in enumerate((staying, leaving)):
        connection.request("POST", parts.path, json.dumps({"rows": [{"x": x}]}))
        time.sleep(0.05)  # The first is at the worker before the second comes.
    leaving.close()
    post(server.url, 2)
    assert staying.getresponse().status == 200
    staying.close()
    first, second = server.records()
    assert (first.key, second.key) == (0, 2)
    assert second.start_s == pytest.approx(first.end_s, abs=1e-9)


@pytest.mark.parametrize("service", [Fixed(1.0), Exponential(2.0), Bimodal(1.0, 3.0, 0.1)], ids=str)
def test_a_service_is_made_again_from_its_description(service):
    """What goes to the server's process as JSON comes out as the same distribution."""
    assert made(json.loads(json.dumps(described(service)))) == service


@pytest.mark.parametrize("service", [Fixed(1.0), Exponential(2.0), Bimodal(1.0, 5.0, 0.1)], ids=str)
def test_the_moments_of_a_service_are_those_of_what_it_draws(service):
    """Mean and second moment agree with many draws."""
    rng = random.Random(1)
    drawn = [service.draw(rng) for _ in range(200_000)]
    assert sum(drawn) / len(drawn) == pytest.approx(service.mean_s, rel=0.02)
    squares = sum(value**2 for value in drawn) / len(drawn)
    assert squares == pytest.approx(service.second_moment_s2, rel=0.03)
