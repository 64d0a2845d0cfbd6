"""Whether it was the deployment that was measured, or the client."""

from __future__ import annotations

from dataclasses import dataclass

# A process with one event loop has one core; from here on it waits for itself.
_MAX_CPU = 0.9
# Below that a delay shows in no latency that the event loop could tell apart.
_LEAST_S = 0.001


@dataclass(frozen=True, slots=True)
class ClientDelays:
    """What the client itself took of the time.

    Attributes:
        send_delay_s: p99 of how late requests were sent, in seconds.
        loop_lag_s: p99 of how late the event loop was, in seconds.
        cpu: the processor's time, as a share of one core.
        gave_up: why the client sent no more before the end.
    """

    send_delay_s: float
    loop_lag_s: float
    cpu: float
    gave_up: str = ""


def why_invalid(
    latency_s: float, delays: ClientDelays, max_share: float, *, is_closed: bool
) -> tuple[str, ...]:
    """Why a measurement tells of the client, not the deployment; empty where it does not.

    Args:
        latency_s: p99 of the response times in seconds.
        delays: the client's.
        max_share: how large a delay may be, beside the latency.
        is_closed: the load was a closed loop.
    """
    reasons = []
    bound = max(max_share * latency_s, _LEAST_S)
    # In a closed loop nothing is due at a certain time; being slow there shows in the processor.
    if not is_closed and delays.send_delay_s > bound:
        reasons.append(
            f"requests were sent {_ms(delays.send_delay_s)} late (p99), beside a latency of "
            f"{_ms(latency_s)}"
        )
    if delays.loop_lag_s > bound:
        reasons.append(
            f"the client was busy for {_ms(delays.loop_lag_s)} at a time (p99), beside a latency "
            f"of {_ms(latency_s)}"
        )
    if is_closed and delays.cpu > _MAX_CPU:
        reasons.append(f"the client used {delays.cpu:.0%} of a core, and has one")
    if delays.gave_up:
        reasons.append(delays.gave_up)
    return tuple(reasons)


def _ms(seconds: float) -> str:
    return f"{seconds * 1000:.1f} ms"
