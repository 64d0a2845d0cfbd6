"""The output file of a job: work in progress, then whole, never half."""

from __future__ import annotations

import shutil
import sys
import tempfile
from pathlib import Path
from typing import TYPE_CHECKING

from batchscore.errors import OutputError, UsageError
from batchscore.partial import PartialFile, commit
from batchscore.sinks import exporter, output_format_of

if TYPE_CHECKING:
    from collections.abc import Mapping

    import pyarrow as pa

    from batchscore.config import ScoreConfig

STANDARD_OUTPUT = "-"


class FileOutput:
    """Appends to the partial file beside OUT; ``finish`` makes OUT appear, whole.

    A ``BatchSink``. For standard output the work in progress is in a temporary folder, and what
    is whole is copied out at the end.
    """

    def __init__(self, config: ScoreConfig, identity: Mapping[str, object]) -> None:
        """Check that the output may be written, and nothing else.

        Raises:
            UsageError: it exists, its folder does not, or its format cannot be told.
        """
        self._out = None if config.output == STANDARD_OUTPUT else Path(config.output)
        self._format = output_format_of(config.output, config.output_format)
        self._overwrite = config.overwrite
        self._identity = identity
        self._temporary: Path | None = None
        if self._out is None:
            if sys.stdout.isatty() and self._format in {"arrow", "parquet"}:
                raise UsageError(
                    f"{self._format} is not for a terminal; redirect it, or --output-format csv"
                )
            work_dir = config.work_dir and str(config.work_dir)
            self._temporary = Path(tempfile.mkdtemp(prefix="batchscore-", dir=work_dir))
            folder = self._temporary / "output.partial"
        else:
            folder = _partial_folder(self._out, config.work_dir)
        self._folder = folder
        self._partial = PartialFile(folder)
        if self._out is not None:
            self._check(self._out)

    def _check(self, out: Path) -> None:
        if out.is_dir():
            raise UsageError(f"--output: {str(out)!r} is a folder, not a file")
        for folder in (out.parent, self._folder.parent):
            if not folder.is_dir():
                raise UsageError(f"--output: there is no folder {str(folder)!r}")
        if out.exists() and not self._overwrite:
            raise UsageError(f"--output: {str(out)!r} exists; --overwrite replaces it")
        if self._partial.exists() and not self._overwrite:
            raise UsageError(
                f"{str(self._folder)!r} holds the work of an earlier run; --overwrite starts afresh"
            )

    def open(self, schema: pa.Schema) -> None:
        """See ``BatchSink``."""
        self._partial.discard()
        self._partial.open(schema, self._identity)

    def append(self, batch: pa.RecordBatch) -> None:
        """See ``BatchSink``."""
        self._partial.append(batch)

    def finish(self) -> None:
        """Seal the work in progress, export it, and put it in OUT's place in one step.

        Raises:
            OutputError: it cannot be written.
        """
        try:
            whole = self._partial.seal()
            export = exporter(self._format)
            if export is not None:
                exported = whole.with_name(f"exported.{self._format}")
                export.export(whole, exported)
                whole = exported
            if self._out is None:
                with whole.open("rb") as file:
                    shutil.copyfileobj(file, sys.stdout.buffer)
                sys.stdout.buffer.flush()
            else:
                commit(whole, self._out, overwrite=self._overwrite)
                self._partial.discard()
        except BrokenPipeError:
            raise
        except OSError as error:
            raise OutputError(
                f"cannot write {str(self._out or 'standard output')!r}: {error.strerror or error}"
            ) from error

    def close(self) -> None:
        """Leave the work in progress durable; that of standard output is removed."""
        self._partial.close()
        if self._temporary is not None:
            shutil.rmtree(self._temporary, ignore_errors=True)


def _partial_folder(out: Path, work_dir: Path | None) -> Path:
    return (work_dir or out.parent) / f"{out.name}.partial"
