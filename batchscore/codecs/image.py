"""Images: bytes, structs of bytes and path, or paths, and data URIs on the wire."""

from __future__ import annotations

from dataclasses import dataclass
from functools import reduce
from typing import TYPE_CHECKING, Any

import pyarrow as pa
import pyarrow.compute as pc

from batchscore.codecs.base import EncodedColumn, PieceColumn
from batchscore.codecs.columns import (
    byte_strings,
    is_bytes,
    is_text,
    is_untyped,
    named,
    nulls,
    plain,
    plain_type,
    quoted,
    shown,
    texts,
    wrong_type,
)
from batchscore.codecs.datauri import data_uri_bytes, media_type_of, uri_pieces
from batchscore.codecs.folder import NO_FOLDER, ImageFolder
from batchscore.codecs.picture import OWN_STARTS, is_simple_png, wire_picture, wire_size
from batchscore.errors import DecodeError, EncodeError

if TYPE_CHECKING:
    from collections.abc import Sequence

    from batchscore.schema import FeatureSpec


def image_input(spec: FeatureSpec, field: pa.Field, folder: ImageFolder | None) -> ImageInput:
    """The codec of an image column.

    Raises:
        InputError: the column's type can hold neither pictures nor paths.
    """
    type_ = plain_type(field.type)
    if not (
        is_bytes(type_)
        or is_text(type_)
        or pa.types.is_null(type_)
        or (pa.types.is_struct(type_) and _is_picture_struct(type_))
    ):
        raise wrong_type(spec, field, "bytes, a struct {bytes, path}, or paths")
    return ImageInput(field, folder)


def _is_picture_struct(type_: pa.StructType) -> bool:
    kinds = {field.name: plain_type(field.type) for field in type_}
    found = {"bytes": is_bytes, "path": is_text}
    present = [name for name in found if name in kinds and not pa.types.is_null(kinds[name])]
    return bool(present) and all(found[name](kinds[name]) for name in present)


@dataclass(frozen=True, slots=True)
class ImageInput:
    """Pictures as data URIs; PNG and JPEG files in mode RGB or L travel as they are."""

    field: pa.Field
    folder: ImageFolder | None
    blocks: bool = True

    def encode(self, column: pa.Array) -> EncodedColumn:
        """The pictures as data URIs; a picture that does not open fails its row."""
        uris, failures = self._uris(plain(column))
        values = [None if uri is None else b"".join(uri).decode("ascii") for uri in uris]
        return EncodedColumn(values, failures)

    def encode_whole(self, column: pa.Array) -> PieceColumn:
        """The same without decoding what was encoded."""
        uris, failures = self._uris(plain(column))
        return PieceColumn(quoted(uris), failures)

    def _uris(self, column: pa.Array) -> tuple[list[tuple[bytes, bytes] | None], dict[int, str]]:
        pictures, failures = self.pictures(column)
        return [None if each is None else uri_pieces(*each) for each in pictures], failures

    def pictures(self, column: pa.Array) -> tuple[list[tuple[str, bytes] | None], dict[int, str]]:
        """Media type and bytes of each picture of a plain column (None: null), and failures."""
        found: list[tuple[str, bytes] | None] = [None] * len(column)
        data, paths, failures = _bytes_and_paths(column)
        skip_empty = is_untyped(self.field)
        for row, (picture, path) in enumerate(zip(data, paths, strict=True)):
            if picture is not None and is_simple_png(picture):
                found[row] = ("image/png", picture)
                continue
            if row in failures or (picture is None and (path is None or (skip_empty and not path))):
                continue
            try:
                found[row] = wire_picture(self._read(picture, path))
            except EncodeError as error:
                where = "" if picture is not None or _names(error, path) else f"{shown(path)}: "
                failures[row] = f"{where}{error}"
        return found, named(self.field, failures)

    def _read(self, picture: bytes | None, path: str | None) -> bytes:
        if picture is not None:
            return picture
        cell = path or ""
        if cell[:5].lower() == "data:":
            media_type = media_type_of(cell)
            if media_type is None or not media_type.startswith("image/"):
                raise EncodeError(f"{shown(cell)} is no data URI of a picture")
            try:
                return data_uri_bytes(cell)
            except ValueError as error:
                raise EncodeError(f"{shown(cell)}: {error}") from None
        if self.folder is None:
            raise EncodeError(f"{shown(cell)}: {NO_FOLDER}")
        return self.folder.read(cell)

    def wire_bytes(self, column: pa.Array) -> int:
        """Bytes grow by a third in base64; what becomes a PNG counts with its pixels."""
        column, num_rows, own = plain(column), len(column), 0
        if is_bytes(column.type):
            # Most pictures are sent as they are: only the others are looked at.
            is_own = reduce(pc.or_, [pc.starts_with(column, pattern=start) for start in OWN_STARTS])
            own = pc.sum(pc.binary_length(column.filter(is_own))).as_py() or 0
            column = column.filter(pc.invert(is_own))
        data, paths, _ = _bytes_and_paths(column)
        total = sum(wire_size(picture) for picture in data if picture is not None)
        for picture, path in zip(data, paths, strict=True):
            if picture is not None or not path:
                continue
            if path[:5].lower() == "data:":
                total += len(path) * 3 // 4
            elif self.folder is not None:
                total += self._file_wire_size(self.folder, path)
        return (own + total) * 4 // 3 + 32 * num_rows

    def _file_wire_size(self, folder: ImageFolder, path: str) -> int:
        if path.lower().endswith((".png", ".jpg", ".jpeg")):
            return folder.file_size(path)
        try:
            return wire_size(folder.read(path))
        except EncodeError:
            return 0


def _names(error: EncodeError, path: str | None) -> bool:
    return path is not None and shown(path) in str(error)


def _bytes_and_paths(
    column: pa.Array,
) -> tuple[Sequence[bytes | None], Sequence[str | None], dict[int, str]]:
    """Bytes and path of each row, each perhaps null, and the rows whose path is no text."""
    none: list[Any] = nulls(column)
    if is_bytes(column.type):
        return byte_strings(column), none, {}
    if is_text(column.type):
        paths, failures = texts(column)
        return none, paths, failures
    if pa.types.is_null(column.type):
        return none, none, {}
    names = {field.name for field in column.type}
    parts = {
        name: plain(pc.struct_field(column, name)) for name in ("bytes", "path") if name in names
    }
    data = byte_strings(parts["bytes"]) if "bytes" in parts else none
    if "path" not in parts or pa.types.is_null(parts["path"].type):
        return data, none, {}
    paths, failures = texts(parts["path"])
    # Where there are bytes, the path is not looked at.
    return data, paths, {row: why for row, why in failures.items() if data[row] is None}


@dataclass(frozen=True, slots=True)
class ImageOutput:
    """Pictures as the bytes that came; the media type stands in the field's metadata."""

    spec: FeatureSpec

    @property
    def fields(self) -> tuple[pa.Field, ...]:
        """One binary column."""
        known = self.spec.media_type
        metadata = {b"media_type": known.encode()} if known else None
        return (pa.field("", pa.binary(), metadata=metadata),)

    def decode(self, values: Sequence[object]) -> tuple[pa.Array, ...]:
        """One binary column; null where the answer says null."""
        return (pa.array([self._bytes(value) for value in values], pa.binary()),)

    def _bytes(self, value: object) -> bytes | None:
        if value is None:
            return None
        if not isinstance(value, str) or not (media_type_of(value) or "").startswith("image/"):
            raise DecodeError(f"output {self.spec.name!r}: {shown(value)} is no picture's data URI")
        try:
            return data_uri_bytes(value)
        except ValueError as error:
            raise DecodeError(f"output {self.spec.name!r}: {shown(value)}: {error}") from None
