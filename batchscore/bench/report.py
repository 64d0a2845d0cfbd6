"""What a bench leaves: the JSON of ``--report`` and the requests of ``--output``."""

from __future__ import annotations

import json
import math
import os
import platform
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
import pyarrow as pa

from batchscore.bench.compare import CONFIDENCE
from batchscore.bench.figures import known
from batchscore.version import __version__

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

    from batchscore.bench.cells import Cell
    from batchscore.bench.compare import Change
    from batchscore.bench.find_max import Search
    from batchscore.bench.slo import Slo

SCHEMA_VERSION = 1
_MARK = "batchscore.bench"
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
    def is_met(self) -> bool:
        """Whether it kept it."""
        return self.slo.is_met(self.value)

    def as_dict(self) -> dict[str, object]:
        """As it stands in the report."""
        return {
            "text": self.slo.text,
            "cell": self.cell,
            "value": known(self.value),
            "is_met": self.is_met,
        }


@dataclass
class BenchReport:
    """How a bench went. ``as_dict`` is the JSON of ``--report``; times are in seconds.

    Attributes:
        status: ``ok``, ``invalid``, ``failed``, ``slo_missed``,
            ``regressed``, or as in a job's report.
        exit_code: what the command exits with.
        message: why it is not ``ok``.
        cells: the loads, in the order they were measured.
        search: how the highest rate was found, where it was looked for.
        seed: of the resampling.
        compared_with: what the earlier report says of itself.
        changes: what became of its loads.
        max_regression: how much worse one may have got; None: as much as it likes.
        reuse: the places of a load with different and with the same rows, and how much less time
            the latter took.
    """

    started_at: str
    endpoint: str | None = None
    protocol: str | None = None
    options: dict[str, object] = field(default_factory=dict)
    status: str = "ok"
    exit_code: int = 0
    message: str | None = None
    cells: list[Cell] = field(default_factory=list)
    slo: list[SloResult] = field(default_factory=list)
    reuse: dict[str, object] | None = None
    search: Search | None = None
    seed: int = 1
    compared_with: dict[str, object] | None = None
    changes: list[Change] = field(default_factory=list)
    max_regression: float | None = None

    def as_dict(self) -> dict[str, object]:
        """The report as JSON-ready values."""
        return {
            "kind": "bench",
            "schema_version": SCHEMA_VERSION,
            "status": self.status,
            "exit_code": self.exit_code,
            "message": self.message,
            "version": __version__,
            "started_at": self.started_at,
            "endpoint": self.endpoint,
            "protocol": self.protocol,
            "options": self.options,
            "environment": environment(),
            "cells": [cell.as_dict() for cell in self.cells],
            "slo": [result.as_dict() for result in self.slo],
            "find_max": None if self.search is None else self.search.as_dict(self.seed),
            "reuse": self.reuse,
            "comparison": self._comparison(),
        }

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
        return {"old": self.compared_with, "confidence": CONFIDENCE, "cells": cells}

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


def environment() -> dict[str, object]:
    """The computer that the load comes from."""
    return {
        "python": f"{platform.python_implementation()} {platform.python_version()}",
        "system": platform.platform(),
        "processor": _processor(),
        "cores": os.cpu_count(),
        "usable_cores": len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else None,
        "load_average": list(os.getloadavg()) if hasattr(os, "getloadavg") else None,
    }


def _processor() -> str:
    cpuinfo = Path("/proc/cpuinfo")
    if cpuinfo.exists():
        for line in cpuinfo.read_text(encoding="utf-8", errors="replace").splitlines():
            name, _, value = line.partition(":")
            if name.strip() == "model name":
                return value.strip()
    return platform.processor() or platform.machine()


def write_requests(cells: Sequence[Cell], path: Path) -> None:
    """Write every request of the loads, those of the warm-up too, as a row of an Arrow file.

    Times are seconds from the beginning of the load's measured stretch, null where a request did
    not come so far.

    Raises:
        OSError: it cannot be written.
    """
    tables = [_table(number, cell) for number, cell in enumerate(cells)]
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


def _table(number: int, cell: Cell) -> pa.Table:
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
        "cell": same(number, pa.int32()),
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
