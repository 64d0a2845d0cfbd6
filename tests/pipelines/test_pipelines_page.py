"""docs/pipelines.md, block for block."""

from __future__ import annotations

import shutil
import sys

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from faultserver import LINEAR, FaultServer
from pipelines.page import ADDRESS, blocks, commands, with_address
from pipelines.running import COMMAND, REFUSES, input_of, prepared, report_of, run

pytestmark = pytest.mark.skipif(sys.platform == "win32", reason="commands of sh")


@pytest.fixture
def folder(tmp_path):
    return prepared(tmp_path, "score.sh", "Makefile")


def typed(folder, line: str, url: str):
    return run(folder, "sh", "-c", with_address(line, url))


def test_every_block_of_the_page_is_run_by_a_test():
    """There is no block but those that are run here, and Dagster's in its own lane."""
    begins = [line.split()[0] for line in commands()]
    assert begins == ["batchscore", "URL=" + ADDRESS, "make", "make", "dagster"]
    assert [len(blocks(language)) for language in ("crontab", "text", "python")] == [1, 1, 1]


def test_the_one_command_scores_and_may_be_given_again(folder):
    """It runs word for word, twice, and the second time sends nothing."""
    (folder / "scored").mkdir()
    with FaultServer(*LINEAR) as server:
        for _ in range(2):
            done = typed(folder, commands()[0], server.url)
            assert done.returncode == 0, done.stderr
        assert server.rows_seen == 200
    assert report_of(folder / "scored" / "monday.parquet")["rows_resumed"] == 200


def test_another_job_is_refused_unless_it_may_overwrite(folder):
    """Other rows under the same name: 2, with what differs; with --overwrite they are scored."""
    (folder / "scored").mkdir()
    with FaultServer(*LINEAR) as server:
        assert typed(folder, commands()[0], server.url).returncode == 0
        pq.write_table(pa.table({"x": pa.array(range(7), pa.int64())}), input_of(folder))
        refused = typed(folder, commands()[0], server.url)
        assert refused.returncode == 2
        assert "the input differs" in refused.stderr
        for _ in range(2):
            assert typed(folder, f"{commands()[0]} --overwrite", server.url).returncode == 0
        assert server.rows_seen == 207
    assert pq.read_metadata(folder / "scored" / "monday.parquet").num_rows == 7


def test_the_script_and_make_run_as_they_stand_there(folder):
    """Both commands, and the codes that the page shows."""
    (folder / "scored").mkdir()
    _, script, make, codes, _ = commands()
    with FaultServer(*LINEAR) as server:
        assert typed(folder, script, server.url).returncode == 0
        if shutil.which("make") is None:
            pytest.skip("needs make")
        done = typed(folder, make, server.url)
        assert done.returncode == 0, done.stderr
        assert server.rows_seen == 400
    assert typed(folder, codes, "").stdout == blocks("text")[0]


def test_the_line_of_the_crontab_scores_and_is_silent(folder):
    """Cron has nothing to mail of a good run, and the error of a bad one."""
    (folder / "scored").mkdir()
    (folder / "token").write_text("secret")
    variable, line = blocks("crontab")[0].splitlines()
    command = line.split(maxsplit=5)[5].replace("/srv/scoring", str(folder))
    environment = {"HOME": str(folder), "PATH": f"{COMMAND.parent}:/usr/bin:/bin", "TRIES": "1"}
    with FaultServer(*LINEAR, token="secret") as server:
        for url, code in ((server.url, 0), (REFUSES, 75)):
            shutil.rmtree(folder / "scored")
            (folder / "scored").mkdir()
            environment["URL"] = with_address(variable, url).removeprefix("URL=")
            done = run(folder, "sh", "-c", command, **environment)
            assert done.returncode == code, done.stderr
            assert bool(done.stderr) == bool(code)


def test_the_alerts_name_the_runs_that_need_somebody(folder, monkeypatch):
    """The query finds the outage, and not the good run beside it."""
    with FaultServer(*LINEAR) as server:
        assert run(folder, "make", f"URL={server.url}", "scored/monday.parquet").returncode == 0
    run(folder, "make", f"URL={REFUSES}", "scored/tuesday.parquet", TRIES="1")
    monkeypatch.chdir(folder)
    names: dict = {}
    exec(blocks("python")[0], names)
    ((output, code, status, failed, message),) = names["alerts"]
    assert (output, code, status, failed) == ("scored/tuesday.parquet", 75, "temporary", 0)
    assert message.startswith("cannot reach 127.0.0.1:9")
