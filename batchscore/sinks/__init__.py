"""Exporters: from the sealed partial file to the format of the output."""

from __future__ import annotations

from pathlib import PurePath
from typing import TYPE_CHECKING, cast

from batchscore.errors import UsageError
from batchscore.extensions import OUTPUT_FORMATS
from batchscore.importing import made
from batchscore.sinks.csv import CsvExporter
from batchscore.sinks.jsonl import JsonLinesExporter
from batchscore.sinks.parquet import ParquetExporter

if TYPE_CHECKING:
    from batchscore.sinks.base import Exporter

__all__ = ["exporter", "output_format_of"]

_METHODS = ("export", "check_schema")
_SUFFIXES = {
    ".arrow": "arrow",
    ".ipc": "arrow",
    ".feather": "arrow",
    ".parquet": "parquet",
    ".pq": "parquet",
    ".csv": "csv",
    ".jsonl": "jsonl",
    ".ndjson": "jsonl",
}


def output_format_of(out: str, given: str | None) -> str:
    """The format to write: the given one, else by the suffix of ``out`` (``-``: Arrow).

    The suffix of a registered format is its name.

    Raises:
        UsageError: the suffix, or the given format, is none that can be written.
    """
    if given is not None:
        if OUTPUT_FORMATS.is_known(given):
            return given
        choice = OUTPUT_FORMATS.choice(given)
        raise UsageError(f"--output-format {given!r} is not one of {choice}")
    if out == "-":
        return "arrow"
    suffix = PurePath(out).suffix.lower()
    if suffix in _SUFFIXES:
        return _SUFFIXES[suffix]
    registered = OUTPUT_FORMATS.registered()
    if suffix[1:] in registered:
        return suffix[1:]
    others = "".join(f", .{name}" for name in registered)
    raise UsageError(
        f"the suffix of '{out}' tells no format to write: end it in .arrow, .parquet, .csv, "
        f".jsonl{others}, or give --output-format"
    )


def exporter(output_format: str) -> Exporter | None:
    """What writes the format; None for Arrow, which the sealed file already is.

    Raises:
        UsageError: what a package registered for it is no exporter.
    """
    match output_format:
        case "arrow":
            return None
        case "parquet":
            return ParquetExporter()
        case "csv":
            return CsvExporter()
        case "jsonl":
            return JsonLinesExporter()
    if not OUTPUT_FORMATS.is_known(output_format):
        raise ValueError(f"no exporter writes {output_format!r}")
    found, where = OUTPUT_FORMATS.load(output_format)
    if isinstance(found, type):
        OUTPUT_FORMATS.check(found, where, _METHODS)
    found = made(found, where, "export")
    OUTPUT_FORMATS.check(found, where, _METHODS)
    return cast("Exporter", found)
