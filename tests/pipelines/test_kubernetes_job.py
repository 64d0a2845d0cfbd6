"""examples/pipelines/job.yaml: its command runs, and its policy does what the exit codes mean."""

from __future__ import annotations

import sys
from typing import Any

import pytest
import yaml
from faultserver import LINEAR, FaultServer
from pipelines.running import COMMAND, EXAMPLES, input_of, prepared, report_of, run

TERMINATED_BY_KUBELET = 137


def the_job() -> dict[str, Any]:
    documents = yaml.safe_load_all((EXAMPLES / "job.yaml").read_text())
    (job,) = [document for document in documents if document["kind"] == "Job"]
    return job


def the_container(job: dict[str, Any]) -> dict[str, Any]:
    (container,) = job["spec"]["template"]["spec"]["containers"]
    return container


def action(job: dict[str, Any], code: int) -> str:
    """What the job controller does after a container ended with that code: the first rule wins."""
    for rule in job["spec"]["podFailurePolicy"]["rules"]:
        codes = rule.get("onExitCodes")
        if codes is None:
            continue
        assert codes["containerName"] == the_container(job)["name"]
        if (code in codes["values"]) == (codes["operator"] == "In"):
            return rule["action"]
    return "Count"


@pytest.mark.parametrize(
    ("codes", "what"),
    [((1, 2, 3), "FailJob"), ((75, 130, 143, TERMINATED_BY_KUBELET), "Count")],
)
def test_the_policy_tries_again_what_may_pass_and_nothing_else(codes, what):
    """1, 2 and 3 end the Job; 75 and a Pod that was stopped or killed are tried again."""
    assert {action(the_job(), code) for code in codes} == {what}


def test_no_two_pods_write_one_output():
    """One Pod at a time, on a volume that one Pod alone can have, and no second container try."""
    spec = the_job()["spec"]
    assert (spec["parallelism"], spec["completions"]) == (1, 1)
    assert spec["podReplacementPolicy"] == "Failed"
    assert spec["template"]["spec"]["restartPolicy"] == "Never"
    claim, _ = yaml.safe_load_all((EXAMPLES / "job.yaml").read_text())
    assert claim["spec"]["accessModes"] == ["ReadWriteOncePod"]
    volumes = {volume["name"]: volume for volume in spec["template"]["spec"]["volumes"]}
    assert volumes["data"]["persistentVolumeClaim"]["claimName"] == claim["metadata"]["name"]


@pytest.mark.skipif(sys.platform == "win32", reason="paths of Unix")
def test_the_container_command_runs_as_it_stands(tmp_path):
    """Command and arguments score the file; of them only address and folders are others here."""
    folder = prepared(tmp_path)
    (folder / "scored").mkdir()
    (folder / "token").write_text("secret")
    container = the_container(the_job())
    assert container["command"] == ["batchscore"]
    with FaultServer(*LINEAR, token="secret") as server:
        words = [
            word.replace("https://HOST/deployment/ID/forward", server.url)
            .replace("/data/", f"{folder}/")
            .replace("/secret/", f"{folder}/")
            for word in container["args"]
        ]
        for _ in range(2):  # as the next Pod would
            done = run(folder, str(COMMAND), *words)
            assert done.returncode == 0, done.stderr
        assert server.rows_seen == 200
    assert input_of(folder).exists()
    assert report_of(folder / "scored" / "monday.parquet")["rows_resumed"] == 200
