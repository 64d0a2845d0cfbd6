"""The output file of a job: work in progress, then whole, never half."""

from __future__ import annotations

import shutil
import sys
import tempfile
from pathlib import Path
from typing import TYPE_CHECKING

from batchscore.endpoint import redacted
from batchscore.errors import OutputError, UsageError
from batchscore.partial import PartialFile, commit, partial_folder
from batchscore.partial.disk import writing
from batchscore.sinks import check_schema, exporter, output_format_of

if TYPE_CHECKING:
    from collections.abc import Mapping

    import pyarrow as pa

    from batchscore.config import ScoreConfig

STANDARD_OUTPUT = "-"
_BINARY = {"arrow", "parquet"}


class FileOutput:
    """Appends to the partial file beside OUT; ``finish`` makes OUT appear, whole.

    A ``BatchSink``. For standard output the work in progress is in a temporary folder, and what
    is whole is copied out at the end: a reader of the pipe never takes a half for a whole.
    """

    def __init__(self, config: ScoreConfig, identity: Mapping[str, object]) -> None:
        """Check that the output may be written, and write nothing yet.

        Raises:
            UsageError: it exists, its folder does not, or its format cannot be told.
        """
        self._format = output_format_of(config.output, config.output_format)
        self._overwrite = config.overwrite
        self._identity = identity
        self._temporary: Path | None = None
        self._is_closed = False
        self._out: Path | None = None
        if config.output == STANDARD_OUTPUT:
            if sys.stdout.isatty() and self._format in _BINARY:
                raise UsageError(
                    f"{self._format} is not for a terminal; redirect it, or --output-format csv"
                )
            if config.work_dir is not None and not config.work_dir.is_dir():
                raise UsageError(f"--work-dir: there is no folder {str(config.work_dir)!r}")
            work_dir = None if config.work_dir is None else str(config.work_dir)
            self._temporary = Path(tempfile.mkdtemp(prefix="batchscore-", dir=work_dir))
            self._partial = PartialFile(self._temporary / "output.partial")
        else:
            if "://" in config.output:
                raise UsageError(
                    f"--output: {redacted(config.output)!r} is an address, which cannot be written "
                    "to yet; name a file"
                )
            self._out = Path(config.output)
            self._partial = PartialFile(partial_folder(self._out, config.work_dir))
            self._check_place(self._out)

    def _check_place(self, out: Path) -> None:
        if out.is_dir():
            raise UsageError(f"--output: {str(out)!r} is a folder, not a file")
        for option, folder in (("output", out.parent), ("work-dir", self._partial.folder.parent)):
            if not folder.is_dir():
                raise UsageError(f"--{option}: there is no folder {str(folder)!r}")
        if out.exists() and not self._overwrite:
            raise UsageError(f"--output: {str(out)!r} exists; --overwrite replaces it")
        if self._partial.exists() and not self._overwrite:
            raise UsageError(
                f"{str(self._partial.folder)!r} holds the work of an earlier run; "
                "--overwrite starts afresh"
            )

    def check(self, schema: pa.Schema) -> None:
        """See ``BatchSink``."""
        check_schema(self._format, schema)

    def open(self, schema: pa.Schema) -> None:
        """See ``BatchSink``."""
        self._partial.open(schema, self._identity)

    def append(self, batch: pa.RecordBatch) -> None:
        """See ``BatchSink``."""
        self._partial.append(batch)

    def finish(self) -> None:
        """Seal the work in progress, export it, and put it in OUT's place in one step.

        Raises:
            OutputError: it cannot be written.
        """
        whole = self._partial.seal()
        export = exporter(self._format)
        if export is not None:
            with writing(self._partial.export_path):
                export.export(whole, self._partial.export_path)
            whole = self._partial.export_path
        if self._is_closed:
            raise OutputError("the run ended while its output was being finished")
        if self._out is not None:
            commit(whole, self._out, overwrite=self._overwrite)
            return
        try:
            with whole.open("rb") as file:
                shutil.copyfileobj(file, sys.stdout.buffer)
            sys.stdout.buffer.flush()
        except BrokenPipeError:
            raise  # the reader has seen enough, which is no error
        except OSError as error:
            raise OutputError(f"cannot write to standard output: {error.strerror}") from error

    def close(self) -> None:
        """Leave the work in progress durable; that of standard output is removed."""
        self._is_closed = True
        self._partial.close()
        if self._temporary is not None:
            shutil.rmtree(self._temporary, ignore_errors=True)
