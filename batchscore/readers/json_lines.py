"""JSON Lines: one pass over the whole file for the types, one for the rows."""

from __future__ import annotations

import json
from contextlib import closing
from typing import TYPE_CHECKING

import msgspec
import pyarrow as pa

from batchscore.batches import INVALID_INPUT, RowBatch, RowFailure
from batchscore.errors import InputError
from batchscore.readers.base import text_field
from batchscore.readers.blocks import blocks, last_line_end
from batchscore.readers.json_shapes import Shape, arrow_type, json_text, merge_rows
from batchscore.readers.sources import open_text

if TYPE_CHECKING:
    from collections.abc import Collection, Generator, Iterator, Mapping
    from pathlib import Path

    from batchscore.readers.discover import InputFile
    from batchscore.readers.formats import Skip

_decode = msgspec.json.Decoder().decode


class JsonLinesReader:
    """One JSON Lines file, optionally stored elsewhere; blank lines are no rows.

    Making it is the first pass: it widens ``shapes``, which all files of an input share.
    ``fix_schema`` follows when all were made, then ``scan``.
    """

    schema: pa.Schema

    def __init__(
        self, file: InputFile, path: Path | None, encoding: str, shapes: dict[str, Shape]
    ) -> None:
        self.name = file.name
        self._file = file
        self._path = path
        self._encoding = encoding
        self.num_rows: int | None = 0
        self._names: dict[str, None] = {}
        failed = 0
        for lines in self._line_blocks():
            rows, failures = _parse(lines)
            self.num_rows += len(rows)
            failed += len(failures)
            self._names.update(merge_rows(shapes, rows))
        if failed == self.num_rows:
            found = "no line is a JSON object" if failed else "the file has no rows"
            raise InputError(
                f"{self.name}: {found}; JSON Lines has an object {{...}} a line, and no [ ] around"
            )

    def fix_schema(self, shapes: Mapping[str, Shape]) -> None:
        """Set the types of this file's columns from the shapes that all files gave."""
        fields = []
        for name in self._names:
            dtype = arrow_type(shapes[name])
            fields.append(text_field(name) if dtype is None else pa.field(name, dtype))
        self.schema = pa.schema(fields)

    def _line_blocks(self) -> Generator[list[bytes]]:
        with closing(open_text(self._file, self._encoding, self._path)) as stream:
            for block in blocks(stream, last_line_end, self.name):
                yield [line for line in block.split(b"\n") if line and not line.isspace()]

    def scan(self, skip: Skip, columns: Collection[str] | None) -> Iterator[RowBatch]:
        """See ``FileReader.scan``; lines to skip are not decoded."""
        wanted = [f for f in self.schema if columns is None or f.name in columns]
        with closing(self._line_blocks()) as line_blocks:
            for lines in line_blocks:
                passed = skip.take(len(lines))
                if passed < len(lines):
                    rows, failures = _parse(lines[passed:])
                    yield RowBatch(self._columns(rows, wanted), failures)

    def _columns(self, rows: list[dict[str, object]], wanted: list[pa.Field]) -> pa.RecordBatch:
        if not wanted:
            return pa.record_batch([pa.nulls(len(rows))], names=["rows"]).select([])
        typed = [field for field in wanted if not field.metadata]
        try:
            values = pa.array(rows, pa.struct(typed))
            columns = dict(zip([f.name for f in typed], values.flatten(), strict=True))
            for field in wanted:
                if field.metadata:
                    texts = [json_text(row.get(field.name)) for row in rows]
                    columns[field.name] = pa.array(texts, pa.string())
        except (pa.ArrowException, OverflowError, TypeError) as error:
            raise InputError(
                f"{self.name}: the values are not those of the first pass; "
                "was the file changed while it was read?"
            ) from error
        return pa.RecordBatch.from_arrays(
            [columns[field.name] for field in wanted], schema=pa.schema(wanted)
        )


def _parse(lines: list[bytes]) -> tuple[list[dict[str, object]], dict[int, RowFailure]]:
    """An object a line, empty where the line is none, with the reason."""
    try:
        rows = [_decode(line) for line in lines]
        if all(type(row) is dict for row in rows):
            return rows, {}
    except (msgspec.DecodeError, RecursionError, UnicodeDecodeError):
        pass
    rows = []
    failures: dict[int, RowFailure] = {}
    for number, line in enumerate(lines):
        try:
            rows.append(_parse_line(line))
        except ValueError as error:
            rows.append({})
            failures[number] = RowFailure(INVALID_INPUT, f"line is no JSON object: {error}")
    return rows, failures


def _parse_line(line: bytes) -> dict[str, object]:
    try:
        value = _decode(line)
    except RecursionError:
        raise ValueError("it is nested too deep") from None
    except (msgspec.DecodeError, UnicodeDecodeError):
        value = _parse_lenient(line)
    if not isinstance(value, dict):
        raise ValueError(f"it is {_article(value)}")  # noqa: TRY004 - of the data, not of the code
    return value


def _parse_lenient(line: bytes) -> object:
    """Also NaN, Infinity and numbers out of range, as Python's json writes them."""
    try:
        value = json.loads(line.decode())
        json.dumps(value, ensure_ascii=False).encode()
    except RecursionError:
        raise ValueError("it is nested too deep") from None
    except UnicodeDecodeError:
        raise ValueError("it is not valid UTF-8") from None
    except UnicodeEncodeError:
        raise ValueError("a string has half of a surrogate pair") from None
    return value


def _article(value: object) -> str:
    kinds = {list: "an array", str: "a string", bool: "true or false", type(None): "null"}
    return kinds.get(type(value), "a number")
