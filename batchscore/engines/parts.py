"""The output of several workers: a folder of parts, which appears when all of it is there."""

from __future__ import annotations

import uuid
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Protocol

import pyarrow as pa

from batchscore.partial.disk import writing
from batchscore.sinks import exporter, output_format_of

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator

    from batchscore.config import ScoreConfig
    from batchscore.stores import StoredFile

_DIGITS = 5


class PartWriter(Protocol):
    """Writes one part after another, on any worker; can be pickled. Its calls block.

    Where two workers write the same part, as engines may have it, either counts: they hold the
    same rows.
    """

    def write(self, number: int, schema: pa.Schema, batches: Iterable[pa.RecordBatch]) -> None:
        """Write a part.

        Raises:
            OutputError: it cannot be written.
        """
        ...


class PartsOutput(Protocol):
    """The folder OUT, on the driver. All calls but for the attributes may block.

    ``reach`` and ``check_apart_from`` come first, then ``begin`` and ``commit``; ``close`` last in
    any case, also while another call still runs in its thread, which then shall end soon.

    Attributes:
        output_format: of the parts.
        own: folders and addresses that are no input though they lie where input is.
    """

    output_format: str
    own: tuple[Path | str, ...]

    def reach(self) -> None:
        """Raise ``UsageError`` where a network tells that nothing can be written there."""
        ...

    def check_apart_from(self, files: Iterable[Path | StoredFile | str]) -> None:
        """Refuse to replace what is read.

        Raises:
            UsageError: a file of the input is in the output's folder.
        """
        ...

    def begin(self, parts: int) -> PartWriter:
        """Make room for so many parts.

        Raises:
            OutputError: it cannot be written.
        """
        ...

    def commit(self, parts: int) -> None:
        """Let OUT appear.

        Raises:
            OutputError: a part is missing, or it cannot be written.
            UsageError: another run was first.
        """
        ...

    def close(self) -> None:
        """Remove the work in progress, unless it was committed."""
        ...


def format_of_parts(config: ScoreConfig) -> str:
    """Parquet, unless the option or the suffix of OUT says otherwise."""
    out = config.output.rstrip("/")
    is_told = config.output_format is not None or Path(out).suffix
    return output_format_of(out, config.output_format) if is_told else "parquet"


def digits_for(parts: int) -> int:
    """Of the number in a part's name, so that the names of so many parts sort as the rows do."""
    return max(_DIGITS, len(str(max(0, parts - 1))))


def name_of_part(number: int, output_format: str, digits: int) -> str:
    """The file name of a part."""
    return f"part-{number:0{digits}}.{output_format}"


@contextmanager
def written(
    folder: Path,
    name: str,
    output_format: str,
    schema: pa.Schema,
    batches: Iterable[pa.RecordBatch],
) -> Iterator[Path]:
    """Rows as a file in the output's format, under a name in a folder that nobody else has.

    The file is removed at the end, where it was not moved away.

    Raises:
        OutputError: it cannot be written.
    """
    export = exporter(output_format)
    # Another attempt may be at the same part, on another machine.
    rows, exported = (folder / f"_{name}.{uuid.uuid4().hex}" for _ in range(2))
    try:
        with writing(folder / name):
            with rows.open("wb") as file, pa.ipc.new_file(file, schema) as writer:
                for batch in batches:
                    writer.write_batch(batch)
            if export is None:
                exported = rows
            else:
                export.export(rows, exported)
                rows.unlink()
        yield exported
    finally:
        rows.unlink(missing_ok=True)
        exported.unlink(missing_ok=True)
