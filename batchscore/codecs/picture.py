"""Pictures as the wire wants them: PNG or JPEG, mode RGB or L."""

from __future__ import annotations

import struct
import threading
import warnings
from contextlib import contextmanager
from io import BytesIO
from typing import TYPE_CHECKING

import numpy as np
from isal.isal_zlib import crc32
from PIL import Image, JpegImagePlugin, PngImagePlugin, UnidentifiedImageError

from batchscore.errors import EncodeError

if TYPE_CHECKING:
    from collections.abc import Iterator

WIRE_MODES = ("RGB", "L")
_PNG_START = b"\x89PNG\r\n\x1a\n"
_PNG_HEAD = _PNG_START + b"\0\0\0\rIHDR"
_PNG_HEADER = struct.Struct(">II5sI")  # width, height, form, checksum
_PNG_FORMS = frozenset({bytes([8, colour, 0, 0, 0]) for colour in (0, 2)})  # L and RGB
_PNG_HEAD_BYTES = 33
_PNG_CHUNK = struct.Struct(">I4s")
_PNG_END = b"\0\0\0\0IEND\xaeB`\x82"
_PNG_MIN_BYTES = 57  # the start and three chunks, without the data
_CRC = struct.Struct(">I")
_JPEG_START = b"\xff\xd8\xff"
_JPEG_END = b"\xff\xd9"
# How the files begin that may be sent as they are.
OWN_STARTS = (_PNG_START, _JPEG_START)
# An MPO (many phones write them) is a JPEG file with more pictures behind the first.
_WIRE_MEDIA_TYPES = {"PNG": "image/png", "JPEG": "image/jpeg", "MPO": "image/jpeg"}
# Pillow runs Ghostscript to read EPS: a program that data should not be able to start.
_REFUSED_FORMATS = frozenset({"EPS"})

# Warning filters belong to the whole process; one thread at a time may change them.
_warnings_lock = threading.Lock()


def wire_picture(data: bytes) -> tuple[str, bytes]:
    """Media type and bytes of a picture as it is sent.

    A PNG or JPEG in mode RGB or L is its own bytes, whatever its file is called; all else
    becomes a PNG.

    Raises:
        EncodeError: the picture does not open, or is too large to be opened safely.
    """
    own = _own_media_type(data)
    if own is not None:
        return own, data
    with opened(data) as image:
        media_type = _WIRE_MEDIA_TYPES.get(image.format or "")
        if media_type is not None and image.mode in WIRE_MODES:
            return media_type, data
        return "image/png", png_bytes(image)


def wire_size(data: bytes) -> int:
    """About how many bytes a picture has when it is sent, told by its head."""
    if data.startswith(OWN_STARTS):
        return len(data)
    try:
        with _warnings_lock, warnings.catch_warnings():
            warnings.simplefilter("ignore")
            with Image.open(BytesIO(data)) as image:
                return max(len(data), 3 * image.width * image.height)
    except Exception:  # noqa: BLE001  (Pillow's readers raise anything; it will not be sent)
        return len(data)


def _own_media_type(data: bytes) -> str | None:
    """The media type of a whole PNG or JPEG in mode RGB or L, told without unpacking it.

    None means: look again with ``opened``.
    """
    if is_simple_png(data):
        return "image/png"
    return _media_type_by_head(data)


def is_simple_png(data: bytes) -> bool:
    """Whether it is a whole PNG of 8 bits a channel in mode RGB or L, and nothing out of the way.

    That is a header, data and the end: other chunks may say more of the pixels. A hundred times
    as quick as to let Pillow find that out.
    """
    if data[:16] != _PNG_HEAD or len(data) < _PNG_MIN_BYTES:
        return False
    width, height, form, checksum = _PNG_HEADER.unpack_from(data, 16)
    limit = Image.MAX_IMAGE_PIXELS
    if form not in _PNG_FORMS or not width or not height or checksum != crc32(data[12:29]):
        return False
    if limit is not None and width * height > limit:
        return False
    view, start = memoryview(data), _PNG_HEAD_BYTES
    while start + 12 < len(data):
        length, kind = _PNG_CHUNK.unpack_from(data, start)
        end = start + 8 + length
        if kind != b"IDAT":
            return start > _PNG_HEAD_BYTES and data[start : start + 12] == _PNG_END
        if end + 4 > len(data) or _CRC.unpack_from(data, end)[0] != crc32(view[start + 4 : end]):
            return False
        start = end + 4
    return data[start : start + 12] == _PNG_END


def _media_type_by_head(data: bytes) -> str | None:
    """The same, for all forms of the two.

    Ten times as quick as unpacking, and as sure that the file is whole: a PNG has checksums up
    to its last chunk, and a JPEG has an end mark. None means: look again with ``opened``.
    """
    try:
        if data.startswith(_PNG_START):
            png = PngImagePlugin.PngImageFile(BytesIO(data))
            if png.mode in WIRE_MODES and not _too_large(png):
                png.verify()
                return "image/png"
        elif data.startswith(_JPEG_START) and data.rstrip(b"\0\r\n").endswith(_JPEG_END):
            jpeg = JpegImagePlugin.JpegImageFile(BytesIO(data))
            if jpeg.mode in WIRE_MODES and not _too_large(jpeg):
                return "image/jpeg"
    except Exception:  # noqa: BLE001  (Pillow's readers raise anything; the second look tells)
        return None
    return None


def _too_large(image: Image.Image) -> bool:
    limit = Image.MAX_IMAGE_PIXELS
    return limit is not None and image.width * image.height > limit


@contextmanager
def opened(data: bytes) -> Iterator[Image.Image]:
    """The picture's first frame, read to its last pixel.

    Raises:
        EncodeError: it does not open, or has more pixels than ``Image.MAX_IMAGE_PIXELS``.
    """
    try:
        image = _loaded(data)
    except (Image.DecompressionBombError, Image.DecompressionBombWarning):
        raise EncodeError(
            f"the picture has more than {Image.MAX_IMAGE_PIXELS} pixels, the most that is safe"
        ) from None
    except UnidentifiedImageError:
        raise EncodeError("the picture does not open: its format is not known") from None
    except Exception as error:  # noqa: BLE001  (Pillow's readers raise anything)
        raise EncodeError(f"the picture does not open: {error}") from None
    with image:
        yield image


def _loaded(data: bytes) -> Image.Image:
    Image.init()
    formats = [name for name in Image.ID if name not in _REFUSED_FORMATS]
    with _warnings_lock, warnings.catch_warnings():
        warnings.filterwarnings("ignore", module=r"PIL\.")
        warnings.simplefilter("error", Image.DecompressionBombWarning)
        image = Image.open(BytesIO(data), formats=formats)
        image.load()
    return image


def png_bytes(image: Image.Image) -> bytes:
    """The picture as a PNG in mode RGB or L, pixels as they lie in the file."""
    try:
        wire = wire_mode(image)
        if wire is image:
            wire = image.copy()
        # What hangs on a picture (transparency, the profile of other colours) may not fit now.
        wire.info = {}
        buffer = BytesIO()
        wire.save(buffer, "PNG")
    except Exception as error:  # noqa: BLE001  (Pillow's converters raise anything)
        raise EncodeError(f"the picture cannot be sent: {error}") from None
    return buffer.getvalue()


def wire_mode(image: Image.Image) -> Image.Image:
    """The picture in mode RGB or L; alpha is dropped, more than 8 bits are scaled down."""
    mode = image.mode
    if mode in WIRE_MODES:
        return image
    if mode.startswith("I") or mode == "F":
        return _eight_bits(image).convert("RGB")
    if mode in {"1", "LA"}:
        return image.convert("L")
    if mode == "La":
        return image.convert("LA").convert("L")
    if mode in {"RGBa", "PA", "P"}:  # by way of RGBA, where a palette's transparency has a place
        image = image.convert("RGBA")
    return image.convert("RGB")


def _eight_bits(image: Image.Image) -> Image.Image:
    """A picture of 16 or 32 bits a pixel as mode L. Pillow would cut all above 255 to white.

    Integers of 16 bits are scaled by their type's range, and so are wider ones that keep to it;
    floats from 0 to 1 by that range; other values by their own least and greatest.
    """
    pixels = np.asarray(image).astype(np.float64)
    pixels = np.nan_to_num(pixels, nan=0.0, posinf=0.0, neginf=0.0)
    low, high = float(pixels.min(initial=0)), float(pixels.max(initial=0))
    if low >= 0 and image.mode == "F" and high <= 255:
        high = 1.0 if high <= 1 else 255.0
        low = 0.0
    elif low >= 0 and image.mode != "F" and high <= 65535:
        low, high = 0.0, 65535.0
    scale = 255 / (high - low) if high > low else 0.0
    return Image.fromarray(np.rint((pixels - low) * scale).astype(np.uint8))
