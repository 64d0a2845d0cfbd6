"""Exporters: from the sealed partial file to the format of the output."""

from __future__ import annotations

from pathlib import PurePath
from typing import TYPE_CHECKING

from batchscore.errors import UsageError
from batchscore.sinks.csv import CsvExporter
from batchscore.sinks.jsonl import JsonLinesExporter
from batchscore.sinks.parquet import ParquetExporter

if TYPE_CHECKING:
    import pyarrow as pa

    from batchscore.config import OutputFormat
    from batchscore.sinks.base import Exporter

__all__ = ["check_schema", "exporter", "output_format_of"]

_SUFFIXES: dict[str, OutputFormat] = {
    ".arrow": "arrow",
    ".ipc": "arrow",
    ".feather": "arrow",
    ".parquet": "parquet",
    ".pq": "parquet",
    ".csv": "csv",
    ".jsonl": "jsonl",
    ".ndjson": "jsonl",
}


def output_format_of(out: str, given: str | None) -> OutputFormat:
    """The format to write: the given one, else by the suffix of ``out`` (``-``: Arrow).

    Raises:
        UsageError: the suffix, or the given format, is none that can be written.
    """
    if given is not None:
        for known in _SUFFIXES.values():
            if given == known:
                return known
        formats = ", ".join(dict.fromkeys(_SUFFIXES.values()))
        raise UsageError(f"--output-format {given!r} is not one of {formats}")
    if out == "-":
        return "arrow"
    suffix = PurePath(out).suffix
    if suffix.lower() not in _SUFFIXES:
        raise UsageError(
            f"the suffix of '{out}' tells no format to write: end it in .arrow, .parquet, .csv or "
            ".jsonl, or give --output-format"
        )
    return _SUFFIXES[suffix.lower()]


def exporter(output_format: str) -> Exporter | None:
    """What writes the format; None for Arrow, which the sealed file already is."""
    match output_format:
        case "arrow":
            return None
        case "parquet":
            return ParquetExporter()
        case "csv":
            return CsvExporter()
        case "jsonl":
            return JsonLinesExporter()
    raise ValueError(f"no exporter writes {output_format!r}")


def check_schema(output_format: str, schema: pa.Schema) -> None:
    """Find out before the first request what the format could not hold after the last.

    Raises:
        UsageError: a column is of a type that the format does not have.
    """
    if output_format == "parquet":
        ParquetExporter.check_schema(schema)
