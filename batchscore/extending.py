"""What a package needs that adds a format or a protocol: see ``docs/extending.md``."""

from __future__ import annotations

from batchscore.batches import RowBatch, RowFailure
from batchscore.protocols.base import BaseProtocol, Request, Response, Treatment
from batchscore.protocols.plain import PlainProtocol
from batchscore.protocols.untrusted import parse_json
from batchscore.readers.base import FormatReader, text_field
from batchscore.readers.options import ReadOptions
from batchscore.schema import FeatureSpec, ModelSignature
from batchscore.sinks.base import FormatWriter

__all__ = [
    "BaseProtocol",
    "FeatureSpec",
    "FormatReader",
    "FormatWriter",
    "ModelSignature",
    "PlainProtocol",
    "ReadOptions",
    "Request",
    "Response",
    "RowBatch",
    "RowFailure",
    "Treatment",
    "parse_json",
    "text_field",
]
