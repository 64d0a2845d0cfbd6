"""The wire formats."""

from __future__ import annotations

from typing import TYPE_CHECKING
from urllib.parse import urlsplit

from batchscore.errors import UsageError
from batchscore.protocols.instances import InstancesProtocol
from batchscore.protocols.mlflow import MlflowProtocol
from batchscore.protocols.open_inference import OpenInferenceProtocol, is_model
from batchscore.protocols.rows import RowsProtocol

if TYPE_CHECKING:
    from collections.abc import Callable

    from batchscore.config import EndpointConfig
    from batchscore.protocols.base import WireProtocol

AUTO = "auto"

_PROTOCOLS: dict[str, Callable[[EndpointConfig | None], WireProtocol]] = {
    "instances": InstancesProtocol,
    "mlflow": MlflowProtocol,
    "open-inference": OpenInferenceProtocol,
    "rows": lambda _config: RowsProtocol(),
}


def protocol(name: str, config: EndpointConfig | None = None) -> WireProtocol:
    """The protocol of that name.

    Args:
        name: as ``--protocol`` takes it, but for ``auto``.
        config: what the user says of the deployment.

    Raises:
        UsageError: there is none.
    """
    try:
        make = _PROTOCOLS[name]
    except KeyError:
        known = ", ".join(sorted(_PROTOCOLS))
        raise UsageError(f"--protocol {name!r} is not known; choose {known}") from None
    return make(config)


def names() -> list[str]:
    """What ``--protocol`` can name."""
    return sorted(_PROTOCOLS)


def asked() -> list[str]:
    """The protocols whose specification can be asked for, in this order."""
    return ["rows", "open-inference"]


def recognised(url: str) -> str | None:
    """The protocol that an address by itself shows; None where it does not."""
    path = urlsplit(url).path.rstrip("/")
    if path.endswith("/forward"):
        return "rows"
    if path.endswith(":predict"):
        return "instances"
    if path.endswith("/invocations"):
        return "mlflow"
    return "open-inference" if is_model(url) else None
