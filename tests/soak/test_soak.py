"""The soak at a length that every run of the tests can bear; ``run.py`` beside it does more."""

import pytest
from soak.job import Plan, soak


@pytest.mark.parametrize(
    "plan",
    [
        Plan(rows=120_000, kills=3, seed=1, timeout_s=1.0),
        Plan(rows=24_000, kills=3, seed=2, timeout_s=1.0, batch_size=100, concurrency=4),
    ],
    ids=["as users have it", "small window"],
)
def test_a_job_killed_at_random_moments_under_mixed_faults_loses_no_row(tmp_path, plan):
    """Every row is there once, in order and right; only what was in the window was sent twice."""
    outcome = soak(tmp_path, plan)
    assert outcome.kills == plan.kills
    assert outcome.server["rows_never_sent"] == 0
    assert outcome.server["rows_sent_twice"] <= plan.kills * outcome.window_rows
    assert 0 < outcome.report["rows_resumed"] <= plan.rows
    assert outcome.report["rows_scored"] == plan.rows
    assert sum(outcome.server["faults"].values()) > 20
