"""``batchscore bench`` against the truth, and the truth against theory.

The server's own record is the truth: both are of one clock and one run, so that a busy computer
changes both alike. Theory holds for what came of chance, and is compared within the confidence
interval of the run itself.
"""

import itertools
from pathlib import Path

import numpy as np
import pytest

from batchscore.bench.schedule import arrivals
from queueing import Bimodal, Exponential, Fixed, QueueServerProcess, ours, theory
from queueing.process import last_core
from queueing.simulated import batch_means, percentile, waits_s
from queueing.tools import SHARES, Load

SECONDS, SEED = 6, 11
RATE = 100.0
CASES = {
    "closed, fixed": (Fixed(0.010), None),
    "closed, exponential": (Exponential(0.005), None),
    "M/D/1": (Fixed(0.005), RATE),
    "M/M/1": (Exponential(0.005), RATE),
    "M/G/1": (Bimodal(short_s=0.002, long_s=0.017, long_share=0.2), RATE),
}
CLIENTS = 4


class Seen:
    """One run from both sides: request by request, in order of their arrival."""

    def __init__(self, name, folder):
        self.service, self.rate = CASES[name]
        with QueueServerProcess(self.service, core=last_core()) as server:
            load = Load(server.url, CLIENTS, SECONDS, self.rate)
            self.run = ours.run(load, folder, arrivals="poisson", seed=SEED)
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


def test_an_answer_that_comes_at_once_has_one_moment(seen):
    """The first and the last byte of a small answer, written at once, come at the same time."""
    assert np.median(seen.column("last_byte_s") - seen.column("first_byte_s")) == 0


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


def test_half_of_the_requests_are_told_as_the_server_saw_them(seen):
    """The median difference is below a fifth of the truth, beside the share that the run states."""
    truth = seen.truth("response_s")
    more = np.median(seen.column("service_s") - truth)
    assert more < 0.2 * np.median(truth) + seen.run.cell["client_share_s"]


def test_percentiles_are_those_of_the_requests(seen):
    """What the report says are the percentiles of what it wrote down, to three digits."""
    measured = seen.requests.filter(seen.requests["measured"])
    for kind in ("response_s", "service_s"):
        values = sorted(measured[kind].to_pylist())
        for share in SHARES:
            told = seen.run.cell[kind][f"p{share * 100:.0f}"]
            assert told == pytest.approx(percentile(values, share), rel=0.001), (kind, share)


def test_requests_are_to_be_sent_when_the_seed_says(seen):
    """The schedule of an open loop knows nothing of answers; a closed loop has none but itself."""
    intended = np.sort(seen.column("intended_s"))
    if seen.rate:
        times = itertools.islice(arrivals(seen.rate, "poisson", SEED), len(intended))
        planned = np.fromiter(times, float)
        assert np.allclose(intended - intended[0], planned - planned[0], atol=1e-6)
        assert (seen.column("sent_s") >= seen.column("intended_s")).all()
    else:
        assert np.allclose(intended, seen.column("sent_s"), atol=1e-6)


def test_response_counts_from_when_a_request_was_to_be_sent(seen):
    """A response holds all of the queue that its intended time would have met at this server."""
    told = seen.column("last_byte_s") - seen.column("intended_s")
    assert np.allclose(told, seen.column("response_s"), atol=1e-6)
    intended = np.sort(seen.column("intended_s"))
    services = seen.truth("end_s") - seen.truth("start_s")
    least = np.array(waits_s(intended, services)) + services
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
