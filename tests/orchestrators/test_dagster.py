"""examples/pipelines/dagster_scored.py, materialized by a real Dagster."""

from __future__ import annotations

import json
import subprocess
import sys

import pyarrow.parquet as pq
import pytest
from faultserver import LINEAR, FaultServer, faults
from pipelines.page import commands, with_address
from pipelines.running import (
    REFUSES,
    environment,
    input_of,
    kill_at_work,
    noting,
    pids,
    prepared,
    run,
)

DAY = "2026-11-02"
# The pause between two tries is that of the example but for its length.
PROGRAM = """
import importlib.util, json, sys
import dagster as dg
spec = importlib.util.spec_from_file_location("dagster_scored", "dagster_scored.py")
module = importlib.util.module_from_spec(spec)
spec.loader.exec_module(module)
policy = module.scored.op.retry_policy
module.scored.op._retry_policy = policy._replace(delay=0.01)
with dg.DagsterInstance.ephemeral() as instance:
    result = dg.materialize(
        [module.scored], partition_key=sys.argv[1], instance=instance, raise_on_error=False,
        run_config={"ops": {"scored": {"config": json.loads(sys.argv[2])}}},
    )
    found = result.asset_materializations_for_node("scored") if result.success else []
    failure = [e for e in result.all_events if e.is_step_failure]
    told = found[0].metadata if found else failure[0].step_failure_data.user_failure_data.metadata
    checks = result.get_asset_check_evaluations()
    print(json.dumps({
        "success": result.success,
        "tries": 1 + sum(e.is_step_restarted for e in result.all_events),
        "message": failure[0].step_failure_data.user_failure_data.description if failure else None,
        "metadata": {name: value.value for name, value in told.items()},
        "checks": [[c.check_name, c.passed, c.severity.value] for c in checks],
    }))
"""


@pytest.fixture
def folder(tmp_path):
    prepared(tmp_path, "dagster_scored.py")
    input_of(tmp_path).rename(input_of(tmp_path, DAY))
    return tmp_path


def config(folder, url: str, *options: str) -> dict:
    return {"url": url, "command": [str(noting(folder))], "options": list(options)}


def start(folder, told: dict) -> subprocess.Popen[str]:
    return subprocess.Popen(
        [sys.executable, "-c", PROGRAM, DAY, json.dumps(told)],
        cwd=folder, env=environment(), text=True,
        stdout=subprocess.PIPE, stderr=subprocess.PIPE,
    )  # fmt: skip


def ended(process: subprocess.Popen[str]) -> dict:
    out, err = process.communicate(timeout=100)
    assert process.returncode == 0, err
    return json.loads(out.splitlines()[-1])


SMALL = ("--batch-size", "10", "--concurrency", "1")


def test_a_killed_first_try_goes_on_at_the_second(folder):
    """Dagster tries again, and that run takes up what the killed one had made safe."""
    with FaultServer(*LINEAR, delay_s=0.05) as server:
        process = start(folder, config(folder, server.url, *SMALL))
        kill_at_work(folder, folder / "scored" / f"{DAY}.parquet.partial")
        told = ended(process)
    assert told["success"]
    assert told["tries"] == len(pids(folder)) == 2
    assert told["metadata"]["rows_resumed"] > 0
    assert told["metadata"]["rows_scored"] == 200
    assert told["checks"] == [["every_row_scored", True, "WARN"]]
    scored = pq.read_table(folder / "scored" / f"{DAY}.parquet")
    assert scored["x"].to_pylist() == list(range(200))


def test_failed_rows_are_an_output_and_a_failed_check(folder):
    """After a 3 the asset is there, its check tells which rows failed, and nothing is retried."""

    def script(request):
        return faults.status(422) if any(row["x"] == 7 for row in request.rows) else None

    with FaultServer(*LINEAR, script=script) as server:
        told = ended(start(folder, config(folder, server.url, *SMALL)))
    assert (told["success"], told["tries"]) == (True, 1)
    assert (told["metadata"]["exit_code"], told["metadata"]["rows_failed"]) == (3, 1)
    assert told["metadata"]["failed_rows"] == {"http_422": 1}
    assert told["checks"] == [["every_row_scored", False, "WARN"]]


def test_a_refused_job_is_not_tried_again(folder):
    """After a 1 the run fails at once, with the figures of the report."""
    with FaultServer(*LINEAR, script=lambda _: faults.status(403)) as server:
        told = ended(start(folder, config(folder, server.url)))
    assert (told["success"], told["tries"], len(pids(folder))) == (False, 1, 1)
    assert told["metadata"]["exit_code"] == 1
    assert told["message"].startswith("batchscore ended with 1: http://127.0.0.1:")
    assert "answered 403" in told["message"]


def test_an_outage_is_tried_again_until_the_tries_are_used_up(folder):
    """After a 75 Dagster tries again, as often as the policy says."""
    told = ended(start(folder, config(folder, REFUSES)))
    assert (told["success"], len(pids(folder))) == (False, 6)
    assert told["metadata"]["exit_code"] == 75
    assert told["message"].startswith("batchscore ended with 75: cannot reach 127.0.0.1:9")


def test_the_command_of_the_page_materializes_the_asset(folder):
    """What docs/pipelines.md has for Dagster runs word for word."""
    command = commands()[-1]
    with FaultServer(*LINEAR) as server:
        done = run(folder, "sh", "-c", with_address(command, server.url), DAGSTER_HOME="")
        assert done.returncode == 0, done.stderr
        assert server.rows_seen == 200
    assert (folder / "scored" / f"{DAY}.parquet").exists()
