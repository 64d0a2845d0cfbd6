"""The retry decision."""

import random
from datetime import UTC, datetime, timedelta
from email.utils import format_datetime

import pytest

from batchscore.client.retry import RetryPolicy, moved_treatments, parse_retry_after
from batchscore.errors import (
    AttemptTimeoutError,
    ConnectionFailedError,
    DecodeError,
    HTTPStatusError,
)
from batchscore.option_types import RetryTable
from batchscore.protocols import protocol
from batchscore.protocols.base import Treatment

NOW = datetime(2026, 1, 1, tzinfo=UTC)


def policy(**moved):
    return RetryPolicy(5, protocol("rows").treatment, moved_treatments(RetryTable(**moved)))


@pytest.mark.parametrize(
    ("status", "treatment"),
    [
        *[(status, Treatment.RETRY) for status in (408, 425, 429, 500, 502, 503, 504, 599)],
        *[(status, Treatment.ISOLATE) for status in (400, 413, 422)],
        *[(status, Treatment.STOP) for status in (401, 403, 404, 405, 410, 418, 451, 302)],
    ],
)
def test_each_status_is_treated_as_the_contract_says(status, treatment):
    """Busy and broken servers are asked again, refused rows fail, refused jobs stop."""
    assert policy().treatment(HTTPStatusError(status, "")) is treatment


@pytest.mark.parametrize("error", [ConnectionFailedError, AttemptTimeoutError, DecodeError])
def test_trouble_on_the_way_is_retried(error):
    """Connections that break, timeouts and answers that cannot be read are tried again."""
    assert policy().treatment(error("x")) is Treatment.RETRY


def test_a_status_can_be_moved_and_an_exact_one_beats_its_family():
    """[retry] moves a status; 503 beats 5xx."""
    moved = policy(isolate=["5xx", 409], retry=["503"], stop=["500"])
    assert moved.treatment(HTTPStatusError(502, "")) is Treatment.ISOLATE
    assert moved.treatment(HTTPStatusError(409, "")) is Treatment.ISOLATE
    assert moved.treatment(HTTPStatusError(503, "")) is Treatment.RETRY
    assert moved.treatment(HTTPStatusError(500, "")) is Treatment.STOP


def test_the_wait_is_full_jitter_under_an_exponential_ceiling():
    """Waits lie anywhere between nothing and a ceiling that doubles, up to 30 s."""
    waits = RetryPolicy(9, protocol("rows").treatment, random=random.Random(4))
    error = ConnectionFailedError("x")
    for attempt, ceiling in [(1, 0.25), (2, 0.5), (5, 4.0), (9, 30.0), (50, 30.0)]:
        sample = [waits.wait_s(attempt, error) for _ in range(2000)]
        assert 0 <= min(sample) < 0.05 * ceiling
        assert 0.95 * ceiling < max(sample) <= ceiling


def test_the_server_is_given_the_time_it_asks_for():
    """With Retry-After the wait is at least that long."""
    error = HTTPStatusError(429, "", retry_after_s=7.0)
    assert all(7.0 <= policy().wait_s(1, error) <= 7.25 for _ in range(100))


@pytest.mark.parametrize(
    ("header", "seconds"),
    [
        (None, None),
        ("3", 3.0),
        (" 3 ", 3.0),
        ("0", 0.0),
        ("99999999", 300.0),
        (format_datetime(NOW + timedelta(seconds=20), usegmt=True), 20.0),
        (format_datetime(NOW - timedelta(seconds=20), usegmt=True), 0.0),
        ("Thu, 01 Jan 2026 00:00:05 -0000", 5.0),
        ("soon", None),
        ("-1", None),
        ("1.5", None),
        ("", None),
    ],
)
def test_retry_after_is_read_as_seconds_or_date(header, seconds):
    """RFC 9110: a number of seconds or an HTTP date; what is neither is ignored."""
    assert parse_retry_after(header, NOW) == seconds
