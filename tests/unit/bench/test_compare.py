"""What became of a load since an earlier report."""

import json

import numpy as np
import pytest

from batchscore.bench.compare import changes, differences, read_report
from batchscore.errors import UsageError


def cell(rows: float, p50: float, seed: int, *, concurrency: int = 1) -> dict[str, object]:
    """A load of 20 windows of a second each, that differ by some percent."""
    dice = np.random.default_rng(seed)
    noise = dice.normal(1, 0.03, (20, 2))
    windows = [{"rows": rows * a, "p50": p50 * b, "p99": 2 * p50 * b} for a, b in noise.tolist()]
    load = {"kind": "closed", "concurrency": concurrency}
    return {
        "load": load, "batch_size": 1, "seconds": 20.0, "over_time": windows, "valid": True,
    }  # fmt: skip


def test_a_change_is_told_with_the_interval_that_holds_it():
    """Of 20 % slower and fewer, each interval holds the true change and not zero."""
    rate, p50, p99 = changes([cell(1000, 0.01, 1)], [cell(800, 0.012, 2)], seed=1)
    assert rate.low < -0.2 < rate.high < 0
    for change in (p50, p99):
        assert 0 < change.low < 0.2 < change.high
        assert change.change == pytest.approx(0.2, abs=0.03)
    assert rate.is_regression(0.05)
    assert p50.is_regression(0.05)
    assert not p50.is_regression(0.5)


def test_getting_better_is_no_regression():
    """Faster and more, however much, stays within any bound."""
    better = changes([cell(1000, 0.01, 1)], [cell(2000, 0.005, 2)], seed=1)
    assert len(better) == 3
    assert not any(change.is_regression(0.01) for change in better)


def test_noise_is_no_regression():
    """The same load measured again is within a small bound, in nearly all of many pairs."""
    found = [
        change.is_regression(0.01)
        for seed in range(50)
        for change in changes([cell(1000, 0.01, seed)], [cell(1000, 0.01, 1000 + seed)], seed=1)
    ]
    assert sum(found) <= 0.1 * len(found)


def test_only_the_same_loads_are_compared():
    """A load that the earlier report has not is left out."""
    assert changes([cell(1, 1, 1)], [cell(1, 1, 1, concurrency=2)], seed=1) == []


@pytest.mark.parametrize(
    ("text", "word"),
    [
        ("{", "is no JSON"),
        ("[]", "no report of batchscore bench"),
        (json.dumps({"kind": "bench", "schema_version": 9}), "another version"),
        (json.dumps({"kind": "bench", "schema_version": 1}), "lacks figures"),
        (json.dumps({"kind": "bench", "schema_version": 1, "cells": [{}]}), "lacks figures"),
    ],
)
def test_what_is_no_report_is_refused(tmp_path, text, word):
    """The file is named, and what is wrong with it."""
    path = tmp_path / "old.json"
    path.write_text(text)
    with pytest.raises(UsageError, match=word):
        read_report(path)
    with pytest.raises(UsageError, match="cannot read"):
        read_report(tmp_path / "none.json")


def test_beside_an_invalid_measurement_nothing_got_worse():
    """A load that the client spoiled is shown beside the new one, but is no ground to fail."""
    before, now = cell(1000, 0.01, 1), cell(500, 0.02, 2)
    assert all(change.is_regression(0.05) for change in changes([before], [now], seed=1))
    found = changes([before | {"valid": False}], [now], seed=1)
    assert [change.was_invalid for change in found] == [True] * 3
    assert not any(change.is_regression(0.05) for change in found)


def test_what_else_differs_is_told():
    """Another machine, another duration or another address may explain a change."""
    old = {
        "endpoint": "http://a/x", "protocol": "rows", "version": "1",
        "options": {"duration": 10.0, "seed": 1}, "environment": {"cores": 8},
    }  # fmt: skip
    new = old | {"options": {"duration": 60.0, "seed": 2}, "environment": {"cores": 2}}
    assert differences(old, old) == []
    assert differences(old, new) == [
        "duration 10 before, now 60", "cores 8 before, now 2",
    ]  # fmt: skip
    assert differences(old, old | {"endpoint": None}) == ["endpoint http://a/x before, now none"]
