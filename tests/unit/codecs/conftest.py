"""What the codec tests share: encoding a column as a job does, and pictures."""

from __future__ import annotations

import io
import json
from typing import TYPE_CHECKING, Any, Protocol

import msgspec
import pyarrow as pa
import pytest
from hypothesis import settings
from PIL import Image

from batchscore.codecs import EncodedColumn, ImageFolder, input_codec
from batchscore.schema import UNTYPED_KEY, FeatureSpec

if TYPE_CHECKING:
    from collections.abc import Callable

# A busy machine is no defect: no test here promises a time.
settings.register_profile("no-deadline", deadline=None)
settings.load_profile("no-deadline")


class Encode(Protocol):
    def __call__(
        self,
        spec: FeatureSpec,
        column: pa.Array,
        *,
        untyped: bool = False,
        tensor_json: bool = True,
        folder: ImageFolder | None = None,
    ) -> EncodedColumn: ...


@pytest.fixture(scope="session")
def encode() -> Encode:
    """Encodes a column named ``x``, and checks what holds for every encoded column."""

    def run(
        spec: FeatureSpec,
        column: pa.Array,
        *,
        untyped: bool = False,
        tensor_json: bool = True,
        folder: ImageFolder | None = None,
    ) -> EncodedColumn:
        field = pa.field("x", column.type, metadata={UNTYPED_KEY: b"1"} if untyped else None)
        codec = input_codec(spec, field, tensor_json=tensor_json, folder=folder)
        encoded = codec.encode(column)
        assert len(encoded.values) == len(column)
        assert all(text.startswith("column 'x': ") for text in encoded.failures.values())
        assert codec.wire_bytes(column) >= 0
        return encoded

    return run


@pytest.fixture(scope="session")
def wire() -> Callable[[EncodedColumn], str]:
    """The JSON text of the values, as it is sent."""
    encoder = msgspec.json.Encoder(decimal_format="number")
    return lambda encoded: encoder.encode(encoded.values).decode()


@pytest.fixture(scope="session")
def sent(wire: Callable[[EncodedColumn], str]) -> Callable[[EncodedColumn], list[Any]]:
    """The values as a server reads them."""
    return lambda encoded: json.loads(wire(encoded))


@pytest.fixture(scope="session")
def picture() -> Callable[..., bytes]:
    """An encoded picture of the mode and format, with a few different pixels."""

    def make(mode: str = "RGB", format_: str = "PNG", size: tuple[int, int] = (5, 4)) -> bytes:
        image = Image.linear_gradient("L").resize(size).convert("RGB")
        if mode == "I;16":
            image = Image.linear_gradient("L").resize(size).convert("I").point(lambda v: v * 257)
        buffer = io.BytesIO()
        (image if image.mode == mode else image.convert(mode)).save(buffer, format_)
        return buffer.getvalue()

    return make
