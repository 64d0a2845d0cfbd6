"""When it was the client that was measured."""

import pytest

from batchscore.bench.validity import ClientDelays, why_invalid


def test_small_delays_leave_a_run_valid():
    """Delays below the share of the latency are no reason, in either loop."""
    delays = ClientDelays(send_delay_s=0.009, loop_lag_s=0.009, cpu=0.5)
    assert why_invalid(0.1, delays, 0.1, is_closed=False) == ()
    assert why_invalid(0.1, delays, 0.1, is_closed=True) == ()


@pytest.mark.parametrize(
    ("delays", "is_closed", "word"),
    [
        (ClientDelays(0.02, 0.0, 0.5), False, "sent 20.0 ms late"),
        (ClientDelays(0.0, 0.02, 0.5), False, "busy for 20.0 ms"),
        (ClientDelays(0.0, 0.02, 0.5), True, "busy for 20.0 ms"),
        (ClientDelays(0.0, 0.0, 0.95), True, "95% of a core"),
        (ClientDelays(0.0, 0.0, 0.1, gave_up="raise it with ulimit -n"), False, "ulimit -n"),
    ],
)
def test_each_bottleneck_of_the_client_is_named(delays, is_closed, word):
    """One reason for each thing that made the client the bottleneck."""
    (reason,) = why_invalid(0.1, delays, 0.1, is_closed=is_closed)
    assert word in reason


def test_a_busy_core_means_nothing_in_an_open_loop():
    """Waiting for the exact moment takes the processor too, so delays alone count there."""
    assert why_invalid(0.1, ClientDelays(0.0, 0.0, 1.0), 0.1, is_closed=False) == ()


def test_being_late_means_nothing_in_a_closed_loop():
    """Nothing is due at a certain time there."""
    assert why_invalid(0.1, ClientDelays(0.05, 0.0, 0.2), 0.1, is_closed=True) == ()
