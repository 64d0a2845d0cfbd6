"""What was found, put into words: problems, and notes on what is no problem."""

from __future__ import annotations

import re
from pathlib import PurePath
from typing import TYPE_CHECKING

from batchscore.checking.kinds import (
    MISSING_COLUMN,
    NAME_COLLISION,
    OUTPUT,
    REFUSED,
    UNREADABLE,
    WRONG_TYPE,
    Kind,
    remedy_of,
)
from batchscore.checking.report import Problem, ProblemRow
from batchscore.errors import UsageError
from batchscore.readers.union import is_untyped
from batchscore.sinks import exporter, output_format_of
from batchscore.sinks.layout import OutputLayout, check_collisions, error_column

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

    import pyarrow as pa

    from batchscore.checking.columns import Served
    from batchscore.checking.findings import Example, Finding
    from batchscore.checking.judge import Judged
    from batchscore.config import ScoreConfig
    from batchscore.errors import AttemptError
    from batchscore.readers import OpenedInput

# How the nearest name is told, where it can stand in a command as it is.
_MEANT = re.compile(r"\(did you mean '([\w.-]+)'\?\)")
# The deployment may take the same rows in smaller requests.
_TOO_LARGE = "http_413"


class Found:
    """Collects problems and notes.

    Attributes:
        problems: what makes rows or the job fail.
        notes: what does not.
    """

    def __init__(self, config: ScoreConfig, opened: OpenedInput) -> None:
        self._config, self._opened = config, opened
        self.problems: list[Problem] = []
        self.notes: list[Problem] = []

    def refused(self, served: Served) -> None:
        """Inputs that no column serves."""
        for feature, error in served.refused:
            is_missing = "has no column" in str(error)
            self._of_error(MISSING_COLUMN if is_missing else WRONG_TYPE, error, feature)
        if served.unlooked:
            self.problems.append(
                Problem(
                    MISSING_COLUMN.name, None, None,
                    f"{served.unlooked:,} more inputs were not looked at",
                    "mend the first ones, then check again",
                )
            )  # fmt: skip

    def output(self, kept: Sequence[str], fields: Sequence[pa.Field]) -> None:
        """Columns that the output cannot have; what was told before is not told again."""
        config = self._config
        outputs = [field.name for field in fields]
        names = {config.prefix + name for name in outputs} | {error_column(config.prefix)}
        errors: dict[str, UsageError] = {}
        for columns in [(), *((name,) for name in kept if name in names)]:
            try:
                check_collisions(columns, outputs, config.prefix)
            except UsageError as refused:
                errors.setdefault(str(refused), refused)
        told = {problem.text for problem in self.problems}
        for error in errors.values():
            if _halves(error)[0] not in told:
                self._of_error(NAME_COLLISION, error)
        if not errors and config.output != "-":
            self._format(kept, fields)

    def _format(self, kept: Sequence[str], fields: Sequence[pa.Field]) -> None:
        """Whether the format of the output that was named has a place for its columns."""
        config = self._config
        is_plain = config.engine == "local" or PurePath(config.output).suffix
        is_folder = config.output.endswith("/") or not is_plain
        # A folder of parts has no suffix that tells.
        given = config.output_format or ("parquet" if is_folder else None)
        export = exporter(output_format_of(config.output, given))
        if export is None:
            return
        schema = self._opened.reader.schema
        layout = OutputLayout.make(schema, kept, fields, prefix=config.prefix, metadata={})
        try:
            export.check_schema(layout.schema)
        except UsageError as error:
            if _halves(error)[0] not in {problem.text for problem in self.problems}:
                self._of_error(OUTPUT, error)

    def rows(self, judged: Judged, unreadable: UsageError | None) -> None:
        """What was found in the rows; the most frequent first."""
        self.problems += map(self._of_finding, _sorted(judged.problems.values()))
        self.notes += map(self._of_finding, _sorted(judged.notes.values()))
        if unreadable is not None:
            self._of_error(UNREADABLE, unreadable)

    def refusals(self, errors: Sequence[AttemptError], sent: int) -> None:
        """What the deployment said of rows that it was sent."""
        for code in dict.fromkeys(error.code for error in errors):
            of_code = [error for error in errors if error.code == code]
            text = f"{len(of_code)} of {sent} requests were refused: {code}: {of_code[0]}"
            if code == _TOO_LARGE:
                remedy = (
                    "score would send smaller ones; --batch-size or --max-batch-bytes do at once"
                )
                self.notes.append(Problem(REFUSED.name, None, None, text, remedy))
            else:
                self.problems.append(Problem(REFUSED.name, None, None, text, REFUSED.remedy))

    def _of_error(self, kind: Kind, error: UsageError, feature: str | None = None) -> None:
        text, remedy = _halves(error)
        if (meant := _MEANT.search(text)) is not None:
            remedy = remedy.replace("=COLUMN'", f"={meant[1]}'").replace("name another with", "say")
        column = None
        if kind is WRONG_TYPE and feature is not None:
            column = self._config.map.get(feature, feature)
        self.problems.append(Problem(kind.name, column, feature, text, remedy or kind.remedy))

    def _of_finding(self, finding: Finding) -> Problem:
        kind, column = finding.kind, finding.column
        schema = self._opened.reader.schema
        is_text = column in schema.names and is_untyped(schema.field(column))
        return Problem(
            kind.name,
            column,
            None,
            kind.title,
            remedy_of(kind, list(finding.values), self._config, is_text=is_text),
            finding.count,
            tuple(map(self._row, finding.examples)),
        )

    def _row(self, example: Example) -> ProblemRow:
        file, row = self._opened.place_of(example.row)
        return ProblemRow(example.row, file, row, example.value, example.text)


def _halves(error: UsageError) -> tuple[str, str]:
    """What happened, and what to do next: our errors say the one, then the other."""
    text, _, remedy = str(error).partition("; ")
    return text, remedy


def _sorted(findings: Iterable[Finding]) -> list[Finding]:
    return sorted(findings, key=lambda finding: -finding.count)
