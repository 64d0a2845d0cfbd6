"""``batchscore bench`` against the truth, and the truth against theory.

The server's own record is the truth: both are of one clock and one run, so that a busy computer
changes both alike. Theory holds for what came of chance, and is compared within the confidence
interval of the run itself.
"""

import statistics
from pathlib import Path

import numpy as np
import pytest

from queueing import Bimodal, Exponential, Fixed, QueueServerProcess, ours, theory
from queueing.process import last_core
from queueing.simulated import batch_means, percentile, waits_s
from queueing.tools import SHARES, Load

SECONDS = 8
RATE = 100.0
CASES = {
    "closed, fixed": (Fixed(0.010), None),
    "closed, exponential": (Exponential(0.005), None),
    "M/D/1": (Fixed(0.005), RATE),
    "M/M/1": (Exponential(0.005), RATE),
    "M/G/1": (Bimodal(short_s=0.002, long_s=0.017, long_share=0.2), RATE),
}
CLIENTS = 4
OPEN = [name for name, (_, rate) in CASES.items() if rate]


class Seen:
    """One run from both sides: request by request, in order of their arrival."""

    def __init__(self, name, folder):
        self.service, self.rate = CASES[name]
        with QueueServerProcess(self.service, core=last_core()) as server:
            load = Load(server.url, CLIENTS, SECONDS, self.rate)
            self.run = ours.run(load, folder, arrivals="poisson", seed=11)
            # The first request completes what is known of the model; it is none of the load's.
            self.records = server.records()[1:]
        # Equal ranks are the same request, as the queue keeps its order; where two were sent at
        # nearly one time, what the checks below say of all pairs holds for ranks all the same.
        self.requests = self.run.requests.sort_by("sent_s")

    def column(self, name):
        """A column of the requests."""
        return self.requests[name].to_numpy(zero_copy_only=False)

    def truth(self, name):
        """An attribute of each record."""
        return np.array([getattr(record, name) for record in self.records])


@pytest.fixture(scope="module", params=CASES, ids=str)
def seen(request, tmp_path_factory):
    return Seen(request.param, Path(tmp_path_factory.mktemp("bench")))


def test_every_request_of_the_load_is_one_that_the_server_answered(seen):
    """No request is missing and none is made up."""
    assert seen.requests.num_rows == len(seen.records)
    assert seen.requests["error"].null_count == seen.requests.num_rows
    assert seen.run.cell["requests"] == seen.requests["measured"].to_numpy(False).sum()


def test_no_request_takes_less_than_it_took_at_the_server(seen):
    """From sending to the last byte each request takes its true response, and something more."""
    more = np.sort(seen.column("service_s")) - np.sort(seen.truth("response_s"))
    assert more.min() > 0


def test_what_happened_before_is_told_as_before(seen):
    """One shift between the clocks puts all sendings before arrivals, and answers before reads."""
    least = np.sort(seen.column("sent_s")) - np.sort(seen.truth("arrived_s"))
    most = np.sort(seen.column("last_byte_s")) - np.sort(seen.truth("sent_s"))
    assert least.max() <= most.min()


def test_the_median_is_the_servers_own(seen):
    """Where a response takes 5 ms or more, half of them differ from the truth by below a tenth."""
    truth = statistics.median(seen.truth("response_s"))
    told = seen.run.cell["service_s"]["p50"]
    assert truth <= told * 1.01  # The histogram has its own resolution.
    assert told < truth * 1.1 + 0.0005


def test_percentiles_are_those_of_the_requests(seen):
    """What the report says are percentiles of the very requests that it wrote down."""
    measured = seen.requests.filter(seen.requests["measured"])
    for kind in ("response_s", "service_s"):
        values = measured[kind].to_pylist()
        for share in SHARES:
            told = seen.run.cell[kind][f"p{share * 100:.0f}"]
            assert told == pytest.approx(percentile(values, share), rel=0.01)


def test_response_counts_from_when_a_request_was_to_be_sent(seen):
    """A response holds all of the queue that its intended time would have met at this server."""
    if not seen.rate:
        assert np.allclose(seen.column("response_s"), seen.column("service_s"), atol=0.05)
        return
    intended = np.sort(seen.column("intended_s"))
    services = seen.truth("end_s") - seen.truth("start_s")
    least = np.array(waits_s(intended, services)) + services
    told = seen.column("last_byte_s") - seen.column("intended_s")
    assert np.allclose(told, seen.column("response_s"), atol=1e-6)
    # The k-th answer cannot come before the k-th of a queue that nothing delayed.
    ended = np.sort(seen.column("last_byte_s"))
    assert (ended - (intended + least)).min() > -1e-6


def test_the_truth_is_what_theory_says(seen):
    """The server's mean response is that of Pollaczek and Khinchine, or of c whole services."""
    interval = batch_means(seen.truth("response_s"))
    if seen.rate:
        expected = theory.mean_response_s(seen.service, seen.rate)
        assert interval.holds(expected), (interval, expected)
        return
    # Little's law, for any computer: what a client does between two requests is in no response.
    rate = len(seen.records) / (seen.records[-1].sent_s - seen.records[0].arrived_s)
    assert rate <= theory.closed_requests_per_s(_drawn(seen), CLIENTS) * 1.01
    assert interval.mean <= CLIENTS / rate * 1.01


def _drawn(seen):
    """A fixed service with the mean of those that were drawn, which chance moved."""
    return Fixed(float(np.mean(seen.truth("end_s") - seen.truth("start_s"))))
