"""The input side: from what the user typed to batches of rows, in order."""

from __future__ import annotations

from contextlib import ExitStack
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Literal, Self

from batchscore.errors import UsageError
from batchscore.readers.arrow_ipc import ArrowReader
from batchscore.readers.base import Reader
from batchscore.readers.chunks import chunks
from batchscore.readers.delimited import DelimitedReader
from batchscore.readers.discover import STDIN, FoundInput, InputFile, discover
from batchscore.readers.json_lines import JsonLinesReader
from batchscore.readers.options import ReadOptions
from batchscore.readers.parquet import ParquetReader
from batchscore.readers.partitions import PartitionedReader, shown_partition
from batchscore.readers.pictures import PictureReader
from batchscore.readers.registered import RegisteredReader
from batchscore.readers.sources import spool
from batchscore.readers.stream_table import TableReader
from batchscore.readers.typed_text import check_columns, parse_types
from batchscore.readers.union import UnionReader
from batchscore.stores import StoreURI

if TYPE_CHECKING:
    from collections.abc import Sequence

    import pyarrow as pa

    from batchscore.readers.formats import FileReader
    from batchscore.readers.json_shapes import Shape
    from batchscore.stores import StoredFile

__all__ = ["OpenedInput", "ReadOptions", "Reader", "chunks", "open_reader", "table_reader"]


@dataclass
class OpenedInput:
    """The input, ready to be read; to be closed after.

    Attributes:
        reader: the rows of all files.
        files: the files in order, ``"-"`` for standard input.
        image_base: the folder that relative picture paths in the data start from, where known.
        image_root: the folder that no picture may be outside of, where known.
        is_pictures: whether the rows are picture files.
        is_stream: whether something of it can be read only once.
        partitions: what the folders of each file tell of its rows, where they are columns.
    """

    reader: Reader
    files: tuple[Path | StoredFile | Literal["-"], ...]
    image_base: Path | StoreURI | None
    image_root: Path | StoreURI | None
    is_pictures: bool
    is_stream: bool = False
    partitions: tuple[str | None, ...] = ()
    _resources: ExitStack = field(default_factory=ExitStack)

    def place_of(self, row: int) -> tuple[str | None, int | None]:
        """The file of a row that was read, and its place there from 1; None where there is none.

        Args:
            row: its place in the whole input, from 1.
        """
        return self.reader.place_of(row) if isinstance(self.reader, UnionReader) else (None, None)

    def close(self) -> None:
        """Close what is open, delete what was stored for reading."""
        self._resources.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()


def open_reader(inputs: Sequence[str], options: ReadOptions) -> OpenedInput:
    """Find the files of an input and read their schemas; blocks.

    JSON Lines are read once as a whole; standard input in a format that is not read front to
    back is stored in ``options.work_dir`` until ``close``.

    Raises:
        UsageError: an option is wrong.
        InputError: an input is missing, empty, damaged or of another format; a column collides.
    """
    found = discover(
        tuple(inputs),
        options.input_format,
        options.not_input,
        store=options.store,
        hive=options.hive,
    )
    types = parse_types(options.types)
    with ExitStack() as stack:
        if found.is_pictures:
            if types:
                raise UsageError("--type is for columns of CSV input; the input is pictures")
            names = [file.name for file in found.files]
            reader: Reader = PictureReader(names, options.source_column)
        else:
            readers = _open_files(found, options, types, stack)
            reader = UnionReader(readers, options.source_column)
        is_stored = isinstance(found.root, StoreURI)
        has_partitions = not found.is_pictures and any(file.partition for file in found.files)
        return OpenedInput(
            reader=reader,
            files=tuple(map(_file, found.files)),
            image_base=Path.cwd() if found.is_pictures and not is_stored else found.root,
            image_root=found.root,
            is_pictures=found.is_pictures,
            is_stream=any(file.is_stream for file in found.files),
            partitions=tuple(shown_partition(file.partition) for file in found.files)
            if has_partitions
            else (),
            _resources=stack.pop_all(),
        )


def table_reader(data: object) -> Reader:
    """A reader of a table in memory: PyArrow, Polars, pandas, DuckDB, anything like them.

    Raises:
        UsageError: the object does not export an Arrow stream.
    """
    return TableReader(data)


def _open_files(
    found: FoundInput, options: ReadOptions, types: dict[str, pa.DataType], stack: ExitStack
) -> list[FileReader]:
    shapes: dict[str, Shape] = {}
    readers: list[FileReader] = []
    for file in found.files:
        if file.format in {"csv", "tsv"}:
            delimited = DelimitedReader(file, options, types)
            stack.callback(delimited.close)
            readers.append(delimited)
            continue
        path = _seekable(file, options, stack)
        if file.format == "parquet":
            readers.append(ParquetReader(file, path))
        elif file.format == "arrow":
            readers.append(ArrowReader(file, path))
        elif file.format == "jsonl":
            readers.append(JsonLinesReader(file, path, options.encoding, shapes))
        else:
            readers.append(RegisteredReader(file, path, options))
    for reader in readers:
        if isinstance(reader, JsonLinesReader):
            reader.fix_schema(shapes)
    if types:
        columns = [r.schema.names for r in readers if isinstance(r, DelimitedReader)]
        columns += [[key for key, _ in file.partition] for file in found.files if file.partition]
        if not columns:
            raise UsageError("--type is for columns of CSV input; there is none")
        check_columns(types, list(dict.fromkeys(name for names in columns for name in names)))
    return [
        PartitionedReader(reader, file.partition, types) if file.partition else reader
        for reader, file in zip(readers, found.files, strict=True)
    ]


def _file(file: InputFile) -> Path | StoredFile | Literal["-"]:
    if file.stored is not None:
        return file.stored
    return "-" if file.name == STDIN else Path(file.name)


def _seekable(file: InputFile, options: ReadOptions, stack: ExitStack) -> Path:
    reads_itself = file.format in {"parquet", "arrow", "jsonl"}
    if not file.is_stream and (file.stored is None or reads_itself):
        return Path(file.name)
    path = spool(file, options.work_dir)
    stack.callback(path.unlink, missing_ok=True)
    return path
