"""A bench beside an earlier one: how much changed, and how sure that is."""

from __future__ import annotations

import json
import math
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt

from batchscore.errors import UsageError

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping, Sequence
    from pathlib import Path

CONFIDENCE = 0.95
_RESAMPLES = 4_000
# Windows without a good answer are left out; from fewer than these nothing can be told.
_LEAST_WINDOWS = 5
_NEEDED = {"load", "batch_size", "seconds", "over_time", "valid"}
_MATTERING = {
    "options": ("duration", "warmup", "max_attempts", "limit"),
    "environment": ("processor", "cores", "usable_cores", "system", "python"),
}
METRICS = {"goodput_rows_per_s": "rows/s", "response_s.p50": "p50", "response_s.p99": "p99"}
"""The figures that are compared, and what they are called."""


@dataclass(frozen=True, slots=True)
class Change:
    """What became of one figure of one load.

    Attributes:
        cell: which load, by its place in the new report.
        metric: which figure; the mean of it over the windows of the measurement.
        old, new: its values.
        low, high: within which the change lies, as a share of the old value, at 95 %.
        was_invalid: the old value is one of the client, so that nothing can be told.
    """

    cell: int
    metric: str
    old: float
    new: float
    low: float
    high: float
    was_invalid: bool = False

    @property
    def change(self) -> float:
        """The change as a share of the old value."""
        return self.new / self.old - 1

    def is_regression(self, most: float) -> bool:
        """Whether it is worse by more than that share, and that it is worse at all is sure."""
        if self.was_invalid:
            return False
        if self.metric == "goodput_rows_per_s":
            return self.change < -most and self.high < 0
        return self.change > most and self.low > 0

    def as_dict(self, most: float) -> dict[str, object]:
        """As it stands in the report."""
        return {
            "cell": self.cell,
            "metric": self.metric,
            "old": self.old,
            "new": self.new,
            "change": self.change,
            "low": self.low,
            "high": self.high,
            "was_invalid": self.was_invalid,
            "is_regression": self.is_regression(most),
        }


def read_report(path: Path) -> dict[str, Any]:
    """An earlier report.

    Raises:
        UsageError: it cannot be read, or is none of a bench.
    """
    try:
        report = json.loads(path.read_text(encoding="utf-8"))
    except OSError as error:
        raise UsageError(
            f"--compare: cannot read {str(path)!r}: {error.strerror}"
            "; give a --report FILE.json of an earlier bench"
        ) from error
    except ValueError as error:
        raise UsageError(
            f"--compare: {str(path)!r} is no JSON: {error}"
            "; give a --report FILE.json of an earlier bench"
        ) from error
    if not isinstance(report, dict) or report.get("kind") != "bench":
        raise UsageError(
            f"--compare: {str(path)!r} is no report of batchscore bench"
            "; give a --report FILE.json of an earlier bench"
        )
    if report.get("schema_version") != 1:
        raise UsageError(
            f"--compare: {str(path)!r} was written by another version; measure again with this one"
        )
    cells = report.get("cells")
    if not isinstance(cells, list) or not all(_is_whole(cell) for cell in cells):
        raise UsageError(
            f"--compare: {str(path)!r} lacks figures, as if written by hand; give a --report "
            "FILE.json of an earlier bench"
        )
    return report


def _is_whole(cell: object) -> bool:
    return isinstance(cell, dict) and cell.keys() >= _NEEDED


def changes(
    old: Sequence[Mapping[str, Any]], new: Sequence[Mapping[str, Any]], seed: int
) -> list[Change]:
    """What became of the loads that both reports have.

    Args:
        old: the cells of the earlier report.
        new: those of the later one.
        seed: of the resampling.
    """
    by_load = {key_of(cell): cell for cell in old}
    dice = np.random.default_rng(seed)
    found = []
    for number, cell in enumerate(new):
        if (before := by_load.get(key_of(cell))) is None:
            continue
        for metric in METRICS:
            pair = [_by_window(each, metric) for each in (before, cell)]
            if min(map(len, pair)) < _LEAST_WINDOWS or not pair[0].mean() > 0:
                continue
            low, high = bootstrapped(pair[0], pair[1], dice)
            olds, news = (float(values.mean()) for values in pair)
            was_invalid = not before["valid"]
            found.append(Change(number, metric, olds, news, low, high, was_invalid))
    return found


def differences(old: Mapping[str, Any], new: Mapping[str, Any]) -> list[str]:
    """In what else than the deployment's speed two reports differ, a text each."""
    found = []
    for name in ("endpoint", "protocol", "version"):
        found += _differing(name, old.get(name), new.get(name))
    for table, names in _MATTERING.items():
        befores, nows = (report.get(table) or {} for report in (old, new))
        for name in names:
            found += _differing(name.replace("_", " "), befores.get(name), nows.get(name))
    return found


def _differing(name: str, before: object, now: object) -> list[str]:
    return [] if before == now else [f"{name} {_shown(before)} before, now {_shown(now)}"]


def _shown(value: object) -> str:
    if isinstance(value, float):
        return f"{value:g}"
    return "none" if value is None else str(value)


def key_of(cell: Mapping[str, Any]) -> str:
    """What makes two loads the same."""
    parts = (cell["load"], cell["batch_size"], cell.get("rows_reused", False))
    return json.dumps(parts, sort_keys=True)


def _by_window(cell: Mapping[str, Any], metric: str) -> npt.NDArray[np.float64]:
    windows: Iterable[Mapping[str, Any]] = cell["over_time"]
    if metric == "goodput_rows_per_s":
        seconds = cell["seconds"] / max(1, len(cell["over_time"]))
        return np.array([window["rows"] / seconds for window in windows])
    name = metric.rpartition(".")[2]
    values = [window[name] for window in windows]
    return np.array([value for value in values if value is not None and math.isfinite(value)])


def bootstrapped(
    old: npt.NDArray[np.float64], new: npt.NDArray[np.float64], dice: np.random.Generator
) -> tuple[float, float]:
    """Bootstrap of the windows: neighbouring requests wait for each other, windows hardly."""
    means = [resampled_means(values, dice) for values in (old, new)]
    ratios = means[1] / np.maximum(means[0], 1e-12) - 1
    tail = (1 - CONFIDENCE) / 2
    low, high = np.quantile(ratios, (tail, 1 - tail))
    return float(low), float(high)


def resampled_means(
    values: npt.NDArray[np.float64], dice: np.random.Generator
) -> npt.NDArray[np.float64]:
    """The means of many samples drawn from values: how far the mean could have been off."""
    means: npt.NDArray[np.float64] = values[
        dice.integers(0, len(values), (_RESAMPLES, len(values)))
    ].mean(axis=1)
    return means
