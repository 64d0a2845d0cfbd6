"""Work in progress between the look at it and the going on with it."""

from __future__ import annotations

import shutil
from typing import TYPE_CHECKING

import pyarrow as pa
import pytest

from batchscore.config import ScoreConfig, configured
from batchscore.errors import UsageError
from batchscore.job import Job
from batchscore.runtime import Runtime
from batchscore.sinks.file import FileOutput
from batchscore.sinks.work import UnfinishedOutput

if TYPE_CHECKING:
    from pathlib import Path

BATCH = pa.record_batch({"n": [1, 2], "prediction_error": ["timeout: none", None]})
JOB = Job({"limit": 2}, (), ())
OTHER_JOB = Job({"limit": 3}, (), ())


def output_of(folder: Path, **options: bool) -> FileOutput:
    values = {"inputs": ["x"], "output": str(folder / "out.arrow"), "url": "http://h/x"}
    return FileOutput(configured(ScoreConfig, values | options), Runtime())


def leave_rows(folder: Path, job: Job) -> bytes:
    """What an interrupted run of the job leaves."""
    output = output_of(folder, overwrite=True)
    assert output.begin(job) is None
    output.open(BATCH.schema)
    output.append(BATCH)
    output.close()
    return (folder / "out.arrow.partial" / "rows.arrow").read_bytes()


def found(output: FileOutput) -> UnfinishedOutput:
    earlier = output.begin(JOB)
    assert isinstance(earlier, UnfinishedOutput)
    return earlier


def test_rows_are_counted(tmp_path: Path) -> None:
    """Going on tells what became of the rows that are there."""
    leave_rows(tmp_path, JOB)
    output = output_of(tmp_path, resume=True)
    counts = output.go_on(found(output).schema)
    output.close()
    assert (counts.rows, counts.failed) == (2, {"timeout": 1})


def test_another_job_that_began_meanwhile_loses_nothing(tmp_path: Path) -> None:
    """Where another job began between look and going on, that is an error and its rows stay."""
    leave_rows(tmp_path, JOB)
    output = output_of(tmp_path, resume=True)
    earlier = found(output)
    rows = leave_rows(tmp_path, OTHER_JOB)
    with pytest.raises(UsageError, match="holds the work of another job: it was begun meanwhile"):
        output.go_on(earlier.schema)
    output.close()
    assert (tmp_path / "out.arrow.partial" / "rows.arrow").read_bytes() == rows
    assert leave_rows(tmp_path, OTHER_JOB) == rows


def test_work_that_is_gone_meanwhile_is_begun_anew(tmp_path: Path) -> None:
    """Where nothing is there any more, no row counts as done."""
    leave_rows(tmp_path, JOB)
    output = output_of(tmp_path, resume=True)
    earlier = found(output)
    shutil.rmtree(tmp_path / "out.arrow.partial")
    assert output.go_on(earlier.schema).rows == 0
    output.close()
