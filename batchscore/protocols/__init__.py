"""The wire formats."""

from __future__ import annotations

from typing import TYPE_CHECKING, cast
from urllib.parse import urlsplit

from batchscore.errors import UsageError
from batchscore.extensions import Extensions
from batchscore.importing import load_object, made
from batchscore.protocols.instances import InstancesProtocol
from batchscore.protocols.mlflow import MlflowProtocol
from batchscore.protocols.open_inference import OpenInferenceProtocol, is_model
from batchscore.protocols.rows import RowsProtocol

if TYPE_CHECKING:
    from collections.abc import Callable

    from batchscore.config import EndpointConfig
    from batchscore.protocols.base import WireProtocol

AUTO = "auto"

_BUILT_IN: dict[str, Callable[[EndpointConfig | None], WireProtocol]] = {
    "instances": InstancesProtocol,
    "mlflow": MlflowProtocol,
    "open-inference": OpenInferenceProtocol,
    "rows": lambda _config: RowsProtocol(),
}
PROTOCOLS = Extensions("batchscore.protocols", "protocol", tuple(_BUILT_IN))
_METHODS = (
    "encoder", "decoder", "learn", "is_complete", "metadata_request", "parse_metadata",
    "score_request", "treatment", "error_text",
)  # fmt: skip
_ATTRIBUTES = ("name", "url_ending", "signature")


def protocol(name: str, config: EndpointConfig | None = None) -> WireProtocol:
    """The protocol of that name: built in, registered, ``package.module:Class``, ``file.py:Class``.

    Args:
        name: as ``--protocol`` takes it, but for ``auto``.
        config: what the user says of the deployment; for the built-in ones.

    Raises:
        UsageError: there is none, or what is there is no protocol.
    """
    if name in _BUILT_IN:
        return _BUILT_IN[name](config)
    if ":" in name:
        where = f"--protocol {name}"
        try:
            found = load_object(name)
        except UsageError as error:
            raise UsageError(f"{where}: {error}") from error
    elif PROTOCOLS.is_known(name):
        found, where = PROTOCOLS.load(name)
    else:
        raise UsageError(
            f"--protocol {name!r} is not known; choose {PROTOCOLS.choice(name)} "
            "(one of your own: package.module:Class or file.py:Class)"
        )
    if isinstance(found, type):
        PROTOCOLS.check(found, where, _METHODS)
    found = made(found, where, "encoder")
    PROTOCOLS.check(found, where, _METHODS, _ATTRIBUTES)
    return cast("WireProtocol", found)


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
