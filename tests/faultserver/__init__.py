"""A deployment with scripted faults, for tests and benchmarks: a real server on 127.0.0.1.

::

    with FaultServer(*LINEAR, script=[faults.status(503), None, faults.reset("middle")]) as server:
        ...                 # score against server.url
        server.requests     # what arrived, in order

``faults`` holds the faults and the scripts made of them, ``models`` the example models,
``open_inference`` and ``untold`` the same server with other formats on its wire, ``proxy`` a TCP
proxy that breaks connections,
``tunnel`` an HTTP proxy for https, ``process`` the same server as a subprocess.
"""

from __future__ import annotations

from faultserver import faults
from faultserver.faults import Fault, mixed_faults
from faultserver.models import (
    CLASSIFIER,
    LINEAR,
    Model,
    classify_predict,
    echo,
    echo_predict,
    linear_predict,
)
from faultserver.open_inference import OpenInferenceServer
from faultserver.process import FaultServerProcess
from faultserver.proxy import Proxy
from faultserver.requests import RequestInfo
from faultserver.server import FaultServer
from faultserver.tally import RowTally
from faultserver.tunnel import TunnelProxy
from faultserver.untold import InstancesServer, MlflowServer

__all__ = [
    "CLASSIFIER",
    "LINEAR",
    "Fault",
    "FaultServer",
    "FaultServerProcess",
    "InstancesServer",
    "MlflowServer",
    "Model",
    "OpenInferenceServer",
    "Proxy",
    "RequestInfo",
    "RowTally",
    "TunnelProxy",
    "classify_predict",
    "echo",
    "echo_predict",
    "faults",
    "linear_predict",
    "mixed_faults",
]
