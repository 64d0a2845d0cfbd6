"""Objectives: how they are read, and what keeps them."""

import math

import pytest

from batchscore.bench.cells import Cell, Measured
from batchscore.bench.load import Open
from batchscore.bench.samples import Sample, Samples
from batchscore.bench.slo import Slo


def cell(good: int, failed: int) -> Cell:
    """A second of requests of 10 rows that took 10, 20, ... ms, and others that failed at once."""
    samples = []
    for number in range(good + failed):
        took = (number + 1) / 100 if number < good else 0.0001
        at = 0.001 * number
        error = "" if number < good else "http_500"
        samples.append(
            Sample(
                at, 10, 1, 1, intended=at, sent=at, first_byte=at + took, last_byte=at + took,
                decoded=at + took, ended=at + took, attempts=1, error=error,
            )
        )  # fmt: skip
    measured = Measured(Open(10, "constant"), 10, Samples(samples), [], 0.0, 1.0, 0.0, 0.1, 99)
    return Cell(measured, max_client_share=0.1, max_drift=0.1)


@pytest.mark.parametrize(
    ("text", "value", "is_kept"),
    [
        ("p50=250ms", 0.25, True),
        ("p50=249ms", 0.25, False),
        ("p99.9=1s", 0.5, True),
        ("max=400ms", 0.5, False),
        ("mean=255ms", 0.255, True),
        ("errors=0%", 0.0, True),
        ("throughput=500rows/s", 500, True),
        ("throughput=51req/s", 50, False),
    ],
)
def test_an_objective_is_held_against_what_a_load_did(text, value, is_kept):
    """Latencies and errors are at most what is asked for, throughput at least."""
    slo = Slo.parse(text)
    assert slo.value(cell(50, 0)) == pytest.approx(value)
    assert slo.is_kept(slo.value(cell(50, 0))) is is_kept


def test_a_failed_request_keeps_no_latency():
    """However fast a server refuses, that does not make it fast."""
    half_failed = cell(25, 25)
    assert Slo.parse("p50=1s").value(half_failed) == 0.25
    assert Slo.parse("p51=1s").value(half_failed) == math.inf
    assert Slo.parse("errors=50%").value(half_failed) == 0.5


@pytest.mark.parametrize(
    ("text", "word"),
    [
        ("p99", "write it like"),
        ("p101=1s", "'p101' cannot be asked for"),
        ("latency=1s", "'latency' cannot"),
        ("p99=fast", "'fast' is not understood"),
        ("errors=1", "needs a %"),
        ("throughput=5", "needs a unit"),
    ],
)
def test_what_is_no_objective_is_refused(text, word):
    """The message tells what is wrong and how to write it."""
    with pytest.raises(ValueError, match=word):
        Slo.parse(text)
