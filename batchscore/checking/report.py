"""What a check found: for people by ``batchscore.cli.check``, for programs as JSON."""

from __future__ import annotations

import json
from dataclasses import asdict, dataclass

REPORT_SCHEMA_VERSION = 1


@dataclass(frozen=True, slots=True)
class ProblemRow:
    """One row with a problem.

    Attributes:
        row: its place in the whole input, from 1; a CSV header is no row.
        file: the file it stands in, where there are files.
        file_row: its place in that file, from 1.
        value: the cell, shortened; None where it is null or no cell is meant.
        text: what ``prediction_error`` would say, without the column's name.
    """

    row: int
    file: str | None
    file_row: int | None
    value: str | None
    text: str


@dataclass(frozen=True, slots=True)
class Problem:
    """One kind of trouble, in one column where it has one.

    Attributes:
        kind: what it is, for programs: ``number``, ``missing_column``, ``picture``, ...
        column: the input's column; of a missing one None.
        feature: the deployment's input, where that is what lacks a column.
        text: what it is, for people.
        remedy: how to mend it.
        count: rows; 0 where it is about a column as a whole.
        rows: the first of them.
    """

    kind: str
    column: str | None
    feature: str | None
    text: str
    remedy: str
    count: int = 0
    rows: tuple[ProblemRow, ...] = ()


@dataclass(frozen=True, slots=True)
class Probe:
    """What a few requests showed of the deployment's speed.

    Attributes:
        requests, rows: what was sent.
        latency_s: the median time of a request, alone in flight.
        at_once: how many were in flight when the speed was measured.
        rows_per_s: the speed that all rows can be expected to have.
        expected_s: the time to expect for all rows: at that speed, within ``--rate-limit``, and
            at least what reading them takes.
    """

    requests: int
    rows: int
    latency_s: float | None = None
    at_once: int | None = None
    rows_per_s: float | None = None
    expected_s: float | None = None


@dataclass(frozen=True, slots=True)
class CheckReport:
    """What a check found of an input, without scoring it. ``as_dict`` is the JSON of ``--json``.

    Attributes:
        status: ``ok``, or ``problems``.
        exit_code: what the command exits with: 0, or 3.
        input: what was checked.
        endpoint: the deployment, without user and query.
        protocol, fingerprint: what it speaks, and which model it has.
        rows, rows_failed: rows read, and how many of them ``score`` would fail unsent.
        is_whole: whether all rows were read.
        requests, request_bytes: what ``score`` would send at least; None where a missing column
            or one of a wrong type keeps it from sending anything.
        nonfinite_as_null: NaN and infinite numbers that would be sent as null.
        problems: what makes rows, or the job, fail.
        notes: what does not, and is worth knowing: nulls, classes that are not the deployment's.
        probe: what a few requests showed, where some were sent.
        seconds: how long the check took.
        version: of this package.
    """

    status: str
    exit_code: int
    input: tuple[str, ...]
    endpoint: str
    protocol: str
    fingerprint: str
    rows: int
    rows_failed: int
    is_whole: bool
    requests: int | None
    request_bytes: int | None
    nonfinite_as_null: int
    problems: tuple[Problem, ...]
    notes: tuple[Problem, ...]
    probe: Probe | None
    seconds: float
    version: str

    @property
    def is_ok(self) -> bool:
        """Whether every row can be sent."""
        return not self.problems

    def as_dict(self) -> dict[str, object]:
        """The report as JSON-ready values."""
        return {"schema_version": REPORT_SCHEMA_VERSION, **asdict(self)}

    def as_json(self) -> str:
        """The report as JSON text."""
        return json.dumps(self.as_dict(), indent=2) + "\n"
