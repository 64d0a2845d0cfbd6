"""Where the parts of an engine's workers go: chosen by what OUT is."""

from __future__ import annotations

from typing import TYPE_CHECKING

from batchscore.engines.local_parts import LocalParts
from batchscore.engines.stored_parts import StoredParts
from batchscore.errors import UsageError
from batchscore.stores import is_uri

if TYPE_CHECKING:
    from batchscore.config import ScoreConfig
    from batchscore.engines.parts import PartsOutput


def parts_output(config: ScoreConfig) -> PartsOutput:
    """The folder that OUT names, on a disk or in a store; nothing is written yet.

    Raises:
        UsageError: it cannot be written there.
    """
    if config.output == "-":
        raise UsageError(
            "--output: with --engine the output is a folder of parts, and cannot be standard "
            "output; name a folder that all workers can write to, or an address of S3"
        )
    return StoredParts(config) if is_uri(config.output) else LocalParts(config)
