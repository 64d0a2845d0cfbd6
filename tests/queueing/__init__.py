"""A server with one worker, a queue and known service times, and what theory says of it.

``services`` the service times, ``server`` and ``process`` the server, ``theory`` the formulas,
``simulated`` the same queues without a network, ``tools`` load generators of other people.
"""

from __future__ import annotations

from queueing.process import QueueServerProcess, Record
from queueing.services import Bimodal, Exponential, Fixed, Service

__all__ = ["Bimodal", "Exponential", "Fixed", "QueueServerProcess", "Record", "Service"]
