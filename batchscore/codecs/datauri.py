"""Data URIs: ``data:<media type>;base64,<bytes>``."""

from __future__ import annotations

import binascii

import pybase64


def uri_pieces(media_type: str, data: bytes | memoryview) -> tuple[bytes, bytes]:
    """The same in two pieces, so that whoever joins them with others copies them once."""
    return b"data:%b;base64," % media_type.encode(), pybase64.b64encode(data)


def media_type_of(uri: object) -> str | None:
    """The media type of a base64 data URI (``image/jpg`` read as ``image/jpeg``), else None."""
    if not isinstance(uri, str) or uri[:5].lower() != "data:":
        return None
    head, comma, _ = uri.partition(",")
    media_type, *parameters = head[5:].lower().split(";")
    if not comma or not parameters or parameters[-1].strip() != "base64":
        return None
    media_type = media_type.strip()
    return "image/jpeg" if media_type == "image/jpg" else media_type


def data_uri_bytes(uri: str) -> bytes:
    """The bytes of a data URI that ``media_type_of`` recognised.

    Raises:
        ValueError: its base64 is not valid to the letter.
    """
    encoded = uri[uri.index(",") + 1 :]
    try:
        return binascii.a2b_base64(encoded, strict_mode=True)
    except ValueError as error:
        raise ValueError(f"its base64 is not valid: {error}") from None
