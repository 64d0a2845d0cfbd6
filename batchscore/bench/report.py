"""What a bench leaves: the JSON of ``--report`` and the requests of ``--output``."""

from __future__ import annotations

import json
import math
import os
from dataclasses import dataclass, field
from datetime import UTC, datetime
from typing import TYPE_CHECKING

import numpy as np
import pyarrow as pa

from batchscore.bench.compare import CONFIDENCE
from batchscore.bench.figures import known
from batchscore.environment import environment
from batchscore.processes.count import usable_cores
from batchscore.version import __version__

if TYPE_CHECKING:
    from collections.abc import Iterable
    from pathlib import Path

    from batchscore.bench.cells import Cell
    from batchscore.bench.compare import Change
    from batchscore.bench.find_max import Search
    from batchscore.bench.slo import Slo

SCHEMA_VERSION = 1
_MARK = "batchscore.bench"
_PLACES = ("cell", "search", "step", "measurement")
_MOMENTS = ("connect_began", "connected", "sent", "first_byte", "last_byte", "decoded")


@dataclass(frozen=True, slots=True)
class SloResult:
    """Whether a load kept an objective.

    Attributes:
        slo: the objective.
        cell: which load, by its place in the report.
        value: what it did; infinite where failed requests make it so.
    """

    slo: Slo
    cell: int
    value: float

    @property
    def is_kept(self) -> bool:
        """Whether it kept it."""
        return self.slo.is_kept(self.value)

    def as_dict(self) -> dict[str, object]:
        """As it stands in the report."""
        return {
            "text": self.slo.text,
            "cell": self.cell,
            "value": known(self.value),
            "is_kept": self.is_kept,
        }


def _now() -> str:
    return datetime.now(UTC).isoformat(timespec="milliseconds")


def _load_average() -> list[float]:
    return [round(load, 2) for load in os.getloadavg()] if hasattr(os, "getloadavg") else []


@dataclass
class BenchReport:
    """How a bench went. ``as_dict`` is the JSON of ``--report``; times are in seconds.

    Attributes:
        status: ``ok``, ``invalid``, ``failed``, ``slo_missed``,
            ``regressed``, or as in a job's report.
        exit_code: what the command exits with.
        message: why it is not ``ok``.
        cells: the loads, in the order they were measured.
        searches: how the highest rate was found, where it was looked for, by batch size.
        compared_with: what the earlier report says of itself.
        changes: what became of its loads.
        max_regression: how much worse one may have got; None: as much as it likes.
        notes: what else there is to know, a sentence each.
        load_average: how busy the computer was before, where the system tells.
        reuse: the places of a load with different and with the same rows, and how much less time
            the latter took.
    """

    started_at: str = field(default_factory=_now)
    endpoint: str | None = None
    protocol: str | None = None
    options: dict[str, object] = field(default_factory=dict)
    status: str = "ok"
    exit_code: int = 0
    message: str | None = None
    cells: list[Cell] = field(default_factory=list)
    slo: list[SloResult] = field(default_factory=list)
    reuse: dict[str, object] | None = None
    searches: list[Search] = field(default_factory=list)
    compared_with: dict[str, object] | None = None
    changes: list[Change] = field(default_factory=list)
    max_regression: float | None = None
    notes: list[str] = field(default_factory=list)
    load_average: list[float] = field(default_factory=_load_average)

    def as_dict(self) -> dict[str, object]:
        """The report as JSON-ready values."""
        return {
            "kind": "bench",
            "schema_version": SCHEMA_VERSION,
            "status": self.status,
            "exit_code": self.exit_code,
            "message": self.message,
            "notes": self.notes,
            "version": __version__,
            "started_at": self.started_at,
            "endpoint": self.endpoint,
            "protocol": self.protocol,
            "options": self.options,
            "environment": {
                **environment(),
                "usable_cores": usable_cores(),
                "load_average": self.load_average,
            },
            "cells": [cell.as_dict() for cell in self.cells],
            "slo": [result.as_dict() for result in self.slo],
            "find_max": [
                search.as_dict(is_best=search is self.best_search) for search in self.searches
            ],
            "reuse": self.reuse,
            "comparison": self._comparison(),
        }

    @property
    def best_search(self) -> Search | None:
        """The one with the batch size that has the highest throughput; None where none is kept."""
        found = [search for search in self.searches if search.best]
        return max(found, key=lambda search: search.rows_per_s, default=None)

    @property
    def regressions(self) -> list[Change]:
        """What got worse by more than it may."""
        most = math.inf if self.max_regression is None else self.max_regression
        return [change for change in self.changes if change.is_regression(most)]

    def _comparison(self) -> dict[str, object] | None:
        if self.compared_with is None:
            return None
        most = math.inf if self.max_regression is None else self.max_regression
        cells = [change.as_dict(most) for change in self.changes]
        return {
            "old": self.compared_with,
            "confidence": CONFIDENCE,
            "max_regression": self.max_regression,
            "cells": cells,
        }

    def write(self, paths: Iterable[Path]) -> None:
        """Write the report as JSON, or as a page where a name ends in ``.html``.

        Raises:
            OSError: it cannot be written.
        """
        figures = self.as_dict()
        for path in paths:
            if path.suffix == ".html":
                from batchscore.report_page import page  # noqa: PLC0415 (seldom needed)

                text = page(figures)
            else:
                text = json.dumps(figures, indent=2, allow_nan=False) + "\n"
            path.write_text(text, encoding="utf-8")


def write_requests(report: BenchReport, path: Path) -> None:
    """Write every request, those of the warm-up and of a search too, as a row of an Arrow file.

    Times are seconds from the beginning of the measured stretch, null where a request did not come
    so far. ``cell`` is the place of the load in the report; in a search it is null, and ``search``,
    ``step`` and ``measurement`` tell the place of the batch size, of the rate, and which time it
    was that this rate was measured.

    Raises:
        OSError: it cannot be written.
    """
    tables = [_table(cell, {"cell": number}) for number, cell in enumerate(report.cells)] + [
        _table(cell, {"search": number, "step": place, "measurement": time})
        for number, search in enumerate(report.searches)
        for place, step in enumerate(search.steps)
        for time, cell in enumerate(step.cells)
    ]
    if not tables:
        return
    with pa.OSFile(str(path), "wb") as file, pa.ipc.new_file(file, tables[0].schema) as writer:
        for table in tables:
            writer.write_table(table)


def is_of_bench(path: Path) -> bool:
    """Whether a file holds the requests of an earlier bench, which a new one may replace."""
    try:
        with pa.OSFile(str(path)) as file, pa.ipc.open_file(file) as reader:
            return _MARK.encode() in (reader.schema.metadata or {})
    except (OSError, pa.ArrowInvalid):
        return False


def _table(cell: Cell, place: dict[str, int]) -> pa.Table:
    measured, samples = cell.measured, cell.measured.samples
    load, count = measured.load.as_dict(), len(samples)
    intended = samples.column("intended")
    is_measured = samples.between(measured.start, measured.end)

    def times(name: str) -> pa.Array:
        values = samples.column(name)
        return pa.array(values - measured.start, mask=values == 0)

    def whole(name: str) -> pa.Array:
        return pa.array(samples.column(name).astype(np.int64))

    def same(value: object, type_: pa.DataType) -> pa.Array:
        return pa.repeat(pa.scalar(value, type_), count)

    status = samples.column("status").astype(np.int64)
    columns = {
        **{name: same(place.get(name), pa.int32()) for name in _PLACES},
        "loop": same(load["kind"], pa.string()),
        "concurrency": same(load.get("concurrency"), pa.int64()),
        "rate": same(load.get("rate"), pa.float64()),
        "measured": pa.array(is_measured),
        "intended_s": pa.array(intended - measured.start),
        **{f"{name}_s": times(name) for name in _MOMENTS},
        "response_s": _difference(samples.column("last_byte"), intended),
        "service_s": _difference(samples.column("last_byte"), samples.column("sent")),
        "attempts": whole("attempts"),
        "rows": whole("rows"),
        "bytes_sent": whole("bytes_sent"),
        "bytes_received": whole("bytes_received"),
        "in_flight": whole("in_flight"),
        "status": pa.array(status, mask=status == 0),
        "error": pa.array([error or None for error in samples.errors.tolist()], pa.string()),
    }
    return pa.table(columns).replace_schema_metadata({_MARK: __version__})


def _difference(later: np.ndarray, earlier: np.ndarray) -> pa.Array:
    return pa.array(later - earlier, mask=(later == 0) | (earlier == 0))
