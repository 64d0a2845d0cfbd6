"""JSON from a server that may be broken or hostile: bounded before it becomes Python objects.

An object of JSON takes two bytes on the wire and a hundred in memory, so that a bound on bytes
alone is none: a third of a megabyte, packed, can unpack to 200 MB of JSON and 20 GB of objects.
"""

from __future__ import annotations

import json
from math import prod
from typing import TYPE_CHECKING, Any

import msgspec

from batchscore.errors import DecodeError

if TYPE_CHECKING:
    from collections.abc import Sequence

    from batchscore.schema import FeatureSpec

# About 25 MB of objects, and more than any specification or error has.
_SPARE_VALUES = 250_000
# Nothing forbids a server to send each number in brackets of its own, or outputs beside ours.
_GENEROSITY = 4
_UNKNOWN_CLASSES = 1000
_BLOCK_BYTES = 2**20


def most_values(outputs: Sequence[FeatureSpec], num_rows: int) -> int:
    """How many JSON values an answer of so many rows may have, generously."""

    def values(spec: FeatureSpec) -> int:
        if spec.kind == "array":
            return prod(spec.shape) + len(spec.shape)
        if spec.kind == "category":
            return _UNKNOWN_CLASSES if spec.classes is None else len(spec.classes)
        return 1

    return _SPARE_VALUES + _GENEROSITY * num_rows * (1 + sum(map(values, outputs)))


def check_values(body: bytes, most: int = _SPARE_VALUES) -> None:
    """Count a body's values, in constant memory.

    Raises:
        DecodeError: there are more than ``most``.
    """
    if len(body) > most and _separators(body) > most and _has_more_outside_text(body, most):
        raise DecodeError(
            f"the answer has more than {most} values in its {len(body)} bytes, too many for what "
            "was asked"
        )


def parse_json(body: bytes, most: int = _SPARE_VALUES) -> Any:
    """A JSON document; bare ``NaN`` and ``Infinity``, as Python servers send them, are accepted.

    Raises:
        DecodeError: the body is no JSON, or has too many or too deeply nested values.
    """
    check_values(body, most)
    try:
        return msgspec.json.decode(body)
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError):
        try:
            return json.loads(body)
        except (ValueError, RecursionError):
            raise DecodeError(f"the answer is no JSON: {beginning(body)}") from None


def beginning(body: bytes, limit: int = 200) -> str:
    """The first words of a body, in one line."""
    text = " ".join(body[: 4 * limit].decode("utf-8", "replace").split())
    return text if len(text) <= limit else text[: limit - 1] + "…"


def _separators(text: bytes) -> int:
    """Every value follows a comma, or opens an object or array, or is the first in one."""
    return text.count(b",") + text.count(b"[") + text.count(b"{")


def _has_more_outside_text(body: bytes, most: int) -> bool:
    found, inside, escape = 0, 0, b""
    for start in range(0, len(body), _BLOCK_BYTES):
        block = escape + body[start : start + _BLOCK_BYTES]
        # An escape that the block's end cuts in two belongs to the next one.
        escape = b"\\" if (len(block) - len(block.rstrip(b"\\"))) % 2 else b""
        block = block.removesuffix(escape) if escape else block
        parts = block.replace(b"\\\\", b"").replace(b'\\"', b"").split(b'"')
        found += sum(map(_separators, parts[inside::2]))
        if found > most:
            return True
        inside ^= (len(parts) - 1) % 2
    return False
