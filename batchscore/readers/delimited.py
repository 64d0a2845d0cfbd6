"""CSV and TSV files: every cell as the file has it, no type guessed, no row lost."""

from __future__ import annotations

from contextlib import closing
from typing import TYPE_CHECKING

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.csv

from batchscore.batches import INVALID_INPUT, RowBatch, RowFailure
from batchscore.errors import InputError
from batchscore.readers.blocks import RecordFormat, UnfinishedRecordError, blocks
from batchscore.readers.columns import check_names
from batchscore.readers.sources import open_text
from batchscore.readers.typed_text import convert
from batchscore.schema import UNTYPED_KEY

if TYPE_CHECKING:
    from collections.abc import Collection, Iterator, Mapping

    from batchscore.readers.discover import InputFile
    from batchscore.readers.formats import Skip
    from batchscore.readers.options import ReadOptions

_DELIMITERS = {"csv": ",", "tsv": "\t"}


class DelimitedReader:
    """One CSV or TSV file. Columns are text without a type, unless ``types`` names theirs."""

    num_rows: int | None = None

    def __init__(
        self, file: InputFile, options: ReadOptions, types: Mapping[str, pa.DataType]
    ) -> None:
        self.name = file.name
        self._file = file
        self._encoding = options.encoding
        self._nulls = frozenset(text.encode() for text in options.null)
        self._delimiter = options.delimiter or _DELIMITERS[file.format]
        self._format = RecordFormat(self._delimiter)
        records = _Records(file, options.encoding, self._format, as_it_comes=options.as_it_comes)
        # What can be read only once stays open for the one pass there will be.
        self._once = records if file.is_stream else None
        try:
            self.schema = self._read_header(records.header, types)
        except BaseException:
            records.close()
            raise
        self._format.has_one_field = len(self.schema) == 1
        if not file.is_stream:
            records.close()

    def close(self) -> None:
        """Let go of the file, if it is still open."""
        if self._once is not None:
            self._once.close()

    def _open(self) -> _Records:
        if not self._file.is_stream:
            return _Records(self._file, self._encoding, self._format)
        if self._once is None:
            raise InputError(f"{self.name}: this input can be read only once")
        records, self._once = self._once, None
        return records

    def _read_header(self, header: bytes, types: Mapping[str, pa.DataType]) -> pa.Schema:
        try:
            names = [cell.decode() for cell, _ in self._format.fields(header)]
        except UnicodeDecodeError:
            raise InputError(
                f"{self.name}: the header is not valid {self._encoding}; say --encoding"
            ) from None
        check_names(names, self.name)
        return pa.schema(
            [
                pa.field(name, types[name])
                if name in types
                else pa.field(name, pa.string(), metadata={UNTYPED_KEY: b"1"})
                for name in names
            ]
        )

    def scan(self, skip: Skip, columns: Collection[str] | None) -> Iterator[RowBatch]:
        """See ``FileReader.scan``; rows to skip are read but not converted."""
        wanted = [name for name in self.schema.names if columns is None or name in columns]
        options = self._convert_options(wanted)
        with closing(self._open()) as records:
            for block in records:
                if skip.rows:
                    rows = self._count(block)
                    if skip.rows >= rows:
                        records.passed += skip.take(rows)
                        continue
                batch = self._batch(*self._parse(block, options), wanted)
                records.passed += batch.num_rows
                passed = skip.take(batch.num_rows)
                yield batch.slice(passed, batch.num_rows) if passed else batch

    def _count(self, block: bytes) -> int:
        quick = self._format.quick_count(block)
        if quick is not None:
            return quick
        good, bad = self._parse(block, self._convert_options([]))
        return int(good.num_rows) + len(bad)

    def _convert_options(self, columns: list[str]) -> pyarrow.csv.ConvertOptions:
        # To name no column would mean all; to know how many rows there are, one has to be read.
        columns = columns or self.schema.names[:1]
        return pyarrow.csv.ConvertOptions(
            # As bytes: text that is not valid UTF-8 must fail its own row only.
            column_types={name: pa.binary() for name in columns},
            include_columns=columns,
            null_values=[text.decode() for text in self._nulls],
            strings_can_be_null=bool(self._nulls),
            quoted_strings_can_be_null=False,
        )

    def _parse(
        self, block: bytes, options: pyarrow.csv.ConvertOptions
    ) -> tuple[pa.RecordBatch, dict[int, bytes]]:
        """The records of a block that have the right number of fields, and the others by row."""
        try:
            return self._parse_even(block, options), {}
        except pa.ArrowInvalid:
            width = len(self.schema)
            good: list[bytes] = []
            bad: dict[int, bytes] = {}
            for row, record in enumerate(self._format.records(block)):
                if self._format.count_fields(record) == width:
                    good.append(record)
                else:
                    bad[row] = record
            try:
                return self._parse_even(b"".join(r + b"\n" for r in good), options), bad
            except pa.ArrowInvalid as error:
                raise InputError(f"{self.name}: cannot be read as CSV: {error}") from error

    def _parse_even(self, block: bytes, options: pyarrow.csv.ConvertOptions) -> pa.RecordBatch:
        if not block:
            schema = pa.schema([(name, pa.binary()) for name in options.include_columns])
            return pa.RecordBatch.from_pylist([], schema=schema)
        table = pyarrow.csv.read_csv(
            pa.BufferReader(block),
            read_options=pyarrow.csv.ReadOptions(
                use_threads=False, block_size=len(block) + 1, column_names=self.schema.names
            ),
            parse_options=pyarrow.csv.ParseOptions(
                delimiter=self._delimiter,
                newlines_in_values=True,
                ignore_empty_lines=not self._format.has_one_field,
            ),
            convert_options=options,
        )
        batches = table.combine_chunks().to_batches()
        return batches[0] if batches else self._parse_even(b"", options)

    def _batch(self, good: pa.RecordBatch, bad: Mapping[int, bytes], wanted: list[str]) -> RowBatch:
        failures: dict[int, RowFailure] = {}
        width = len(self.schema)
        num_rows = good.num_rows + len(bad)
        fields = {row: self._format.fields(record) for row, record in bad.items()}
        for row, cells in fields.items():
            plural = "" if len(cells) == 1 else "s"
            failures[row] = RowFailure(
                INVALID_INPUT, f"CSV record has {len(cells)} field{plural}, the header {width}"
            )
        arrays = []
        for name in wanted:
            cells = good.column(name)
            if bad:
                place = self.schema.get_field_index(name)
                more = [self._cell(row_fields, place) for row_fields in fields.values()]
                cells = _merged(cells, pa.array(more, pa.binary()), list(bad))
            arrays.append(self._column(name, cells, failures))
        if not arrays:
            return RowBatch(
                pa.record_batch([pa.nulls(num_rows)], names=["rows"]).select([]), failures
            )
        schema = pa.schema([self.schema.field(name) for name in wanted])
        # In order of rows, so that equal input gives equal failures whatever was wrong first.
        return RowBatch(
            pa.RecordBatch.from_arrays(arrays, schema=schema), dict(sorted(failures.items()))
        )

    def _cell(self, fields: list[tuple[bytes, bool]], place: int) -> bytes | None:
        if place >= len(fields):
            return None
        cell, quoted = fields[place]
        return None if not quoted and cell in self._nulls else cell

    def _column(self, name: str, cells: pa.Array, failures: dict[int, RowFailure]) -> pa.Array:
        text, wrong = _as_text(cells, self._encoding)
        dtype = self.schema.field(name).type
        values, unfit = convert(text, dtype)
        for row, why in {**unfit, **wrong}.items():
            failures.setdefault(row, RowFailure(INVALID_INPUT, f"column {name!r}: {why}"))
        return values


class _Records:
    """An open CSV file: its header is read, then it is iterated as blocks of whole records.

    Attributes:
        header: the first record.
        passed: how many rows stand before the next block; the reader counts them.
    """

    def __init__(
        self,
        file: InputFile,
        encoding: str,
        record_format: RecordFormat,
        *,
        as_it_comes: bool = False,
    ) -> None:
        self._name = file.name
        self._stream = open_text(file, encoding, as_it_comes=as_it_comes)
        self._blocks = blocks(self._stream, record_format.end_of_last, file.name)
        self.passed = 0
        self._in_header = True
        try:
            self.header, self._rest = self._read_header(record_format)
        except BaseException:
            self.close()
            raise
        self._in_header = False

    def close(self) -> None:
        self._stream.close()

    def __iter__(self) -> Iterator[bytes]:
        block: bytes | None = self._rest
        self._rest = b""
        while block is not None:
            if block:
                yield block
            block = self._next_block()

    def _next_block(self) -> bytes | None:
        try:
            return next(self._blocks, None)
        except UnfinishedRecordError:
            row = f"row {self.passed + 1:,} (counted from 1, the header not)"
            where = "the header" if self._in_header else row
            raise InputError(
                f"{self._name}: the file ends inside a quoted cell of {where}; close the quote"
            ) from None

    def _read_header(self, record_format: RecordFormat) -> tuple[bytes, bytes]:
        """The header, and the rest of the block that it is in."""
        while (block := self._next_block()) is not None:
            header, end = record_format.first_record(block)
            if header:
                return header, block[end:]
        raise InputError(
            f"{self._name}: the file has no header; its first record has to name the columns"
        )


def _merged(good: pa.Array, bad: pa.Array, rows: list[int]) -> pa.Array:
    """The cells of even and uneven records in the order of the file."""
    order = np.empty(len(good) + len(bad), dtype=np.int64)
    is_bad = np.zeros(len(order), dtype=bool)
    is_bad[rows] = True
    order[is_bad] = len(good) + np.arange(len(bad))
    order[~is_bad] = np.arange(len(good))
    return pa.concat_arrays([good, bad]).take(pa.array(order))


def _as_text(cells: pa.Array, encoding: str) -> tuple[pa.Array, dict[int, str]]:
    try:
        return cells.cast(pa.string()), {}
    except pa.ArrowInvalid:
        wrong = {}
        for row, cell in enumerate(cells.to_pylist()):
            try:
                if cell is not None:
                    cell.decode()
            except UnicodeDecodeError:
                wrong[row] = f"the cell is not valid {encoding}"
        keep = np.ones(len(cells), dtype=bool)
        keep[list(wrong)] = False
        return pc.if_else(pa.array(keep), cells, None).cast(pa.string()), wrong
