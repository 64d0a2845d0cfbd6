"""A real Prometheus watches a run, and the dashboard that is shipped asks it."""

from __future__ import annotations

import json
import re
import subprocess
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from faultserver import LINEAR, FaultServer
from integration.test_metrics_port import beside, free_port, refusing
from monitoring import prometheus_process
from unit.observers.test_exposition import about, some_metrics

import batchscore
from batchscore.metrics import RunMetrics
from batchscore.observers.exposition import OPENMETRICS, TEXT, exposition, families

ROOT = Path(__file__).parents[2]
EXAMPLES = ROOT / "examples" / "monitoring"
needs_prometheus = pytest.mark.skipif(
    prometheus_process.PROMETHEUS is None, reason=prometheus_process.INSTALL
)
needs_promtool = pytest.mark.skipif(
    prometheus_process.PROMTOOL is None, reason=prometheus_process.INSTALL
)


def dashboard_queries() -> dict[str, list[str]]:
    """What each panel of the dashboard asks, and its notes of when runs began."""
    dashboard = json.loads((EXAMPLES / "grafana-dashboard.json").read_text())
    asked = {
        panel["title"]: [target["expr"] for target in panel["targets"]]
        for panel in dashboard["panels"]
    }
    asked |= {note["name"]: [note["expr"]] for note in dashboard["annotations"]["list"]}
    runs = [v["definition"] for v in dashboard["templating"]["list"] if v["type"] == "query"]
    return asked | {"runs": runs}


def metric_names(text: str) -> set[str]:
    return set(re.findall(r"\bbatchscore_[a-z_]+", text))


def exported() -> set[str]:
    """The names of all samples of a run in which all that can happen has happened."""
    text = exposition(families(some_metrics(), about()), TEXT).decode()
    return {line.split("{")[0].split()[0] for line in text.splitlines() if line[0] != "#"}


def test_the_dashboard_asks_for_what_a_run_exports():
    """Every metric that a panel names is exported, and what is exported can be seen on a panel."""
    named = metric_names(json.dumps(dashboard_queries()))
    assert named - exported() == set()
    assert exported() - named <= {"batchscore_rows_resumed_total", "batchscore_exit_code"}
    assert metric_names((EXAMPLES / "alerts.yml").read_text()) <= exported()


def test_the_panels_of_the_dashboard_lie_beside_each_other():
    """Each panel has its own place on the grid, a title, and words that say what it shows."""
    panels = json.loads((EXAMPLES / "grafana-dashboard.json").read_text())["panels"]
    taken: set[tuple[int, int]] = set()
    for panel in panels:
        at = panel["gridPos"]
        cells = {
            (x, y)
            for x in range(at["x"], at["x"] + at["w"])
            for y in range(at["y"], at["y"] + at["h"])
        }
        assert not cells & taken, panel["title"]
        assert max(x for x, _ in cells) < 24
        taken |= cells
        assert panel["description"].endswith(".")
    assert len({panel["id"] for panel in panels}) == len(panels) > 10


def test_the_page_for_users_names_every_metric():
    """docs/watch.md has a line for each family."""
    told = (ROOT / "docs" / "watch.md").read_text()
    for family in families(some_metrics(), about()):
        suffix = {"counter": "_total", "info": "_info"}.get(family.kind, "")
        assert f"`batchscore_{family.name}{suffix}" in told, family.name


def promtool(*words: str | Path, stdin: str = "") -> str:
    """What promtool has to say, once it is content."""
    done = subprocess.run(
        [str(prometheus_process.PROMTOOL), *map(str, words)],
        input=stdin, capture_output=True, text=True, check=False,
    )  # fmt: skip
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout + done.stderr


@needs_promtool
@pytest.mark.parametrize("metrics", [RunMetrics(), some_metrics()], ids=["begun", "busy"])
def test_promtool_finds_nothing_to_complain_of(metrics):
    """`promtool check metrics` is silent on a run that has begun and on one that is busy."""
    text = exposition(families(metrics, about()), TEXT).decode()
    assert promtool("check", "metrics", stdin=text) == ""


@needs_promtool
def test_the_shipped_configuration_and_alerts_are_valid():
    """Promtool takes the scrape configuration and the rules that it names."""
    assert "4 rules found" in promtool("check", "config", EXAMPLES / "prometheus.yml")


@needs_prometheus
def test_what_prometheus_has_of_a_run_is_what_its_report_says(tmp_path):
    """Scraped five times a second, every sum is the report's, and every panel has its answer."""
    pq.write_table(pa.table({"x": pa.array(range(3000), pa.int64())}), tmp_path / "in.parquet")
    port, target = free_port(), free_port()

    def job() -> batchscore.RunReport:
        return batchscore.score(
            tmp_path / "in.parquet", tmp_path / "out.arrow", url=server.url, batch_size=20,
            max_attempts=20, concurrency=4, rate_limit="60req/s", metrics_port=target,
            metrics_linger="60s",
        )  # fmt: skip

    with (
        FaultServer(*LINEAR, script=refusing, delay_s=0.02) as server,
        prometheus_process.running(tmp_path, port, target, EXAMPLES / "alerts.yml") as prometheus,
    ):
        with beside(job) as returned:
            prometheus.until("rate(batchscore_rows_failed_total[5s]) > 0")
            answers = asked_while_it_runs(prometheus)
        (report,) = returned
        prometheus.until("last_over_time(batchscore_exit_code[1h])")
        found = {name: total(prometheus, name) for name in exported() if "bucket" not in name}
        by_code = series(prometheus, "batchscore_rows_failed_total", "code")
        by_cause = series(prometheus, "batchscore_retries_total", "cause")
        (run,) = prometheus.query("last_over_time(batchscore_run_info[1h])")
        kinds = prometheus.asked("metadata")
    assert not [title for title, there in answers.items() if not there]
    assert found["batchscore_rows_read_total"] == report.rows_read == 3000
    assert found["batchscore_rows_scored_total"] == report.rows_scored == 2970
    assert found["batchscore_attempts_total"] == report.requests == server.request_count
    assert found["batchscore_request_duration_seconds_count"] == report.requests
    assert found["batchscore_sent_bytes_total"] == report.bytes_sent
    assert found["batchscore_received_bytes_total"] == report.bytes_received
    assert found["batchscore_exit_code"] == report.exit_code == 3
    assert by_code == report.failed_rows == {"http_422": 30}
    assert by_cause == report.retries
    assert run["metric"]["endpoint"] == server.url
    kind = kinds["batchscore_request_duration_seconds"][0]["type"]
    assert kind == "histogram"


def total(prometheus: prometheus_process.Prometheus, name: str) -> float | None:
    return prometheus.value(f"sum(last_over_time({name}[1h]))")


def series(prometheus: prometheus_process.Prometheus, name: str, label: str) -> dict[str, Any]:
    found = prometheus.query(f"last_over_time({name}[1h])")
    return {one["metric"][label]: float(one["value"][1]) for one in found}


def asked_while_it_runs(prometheus: prometheus_process.Prometheus) -> dict[str, bool]:
    """Whether there is an answer to each panel of the dashboard."""
    answers = {}
    for title, queries in dashboard_queries().items():
        for query in queries:
            plain = re.sub(r"^label_values\((\w+), .*", r"\1", query)
            asked = plain.replace("$__rate_interval", "5s").replace("$instance", ".*")
            answers[f"{title}: {asked}"] = bool(prometheus.query(asked))
    return answers


@needs_prometheus
def test_prometheus_takes_the_format_that_it_likes_best(tmp_path):
    """Prometheus asks for OpenMetrics and gets it, with the units that only that has."""
    port, target = free_port(), free_port()
    pq.write_table(pa.table({"x": pa.array(range(100), pa.int64())}), tmp_path / "in.parquet")

    def job() -> batchscore.RunReport:
        return batchscore.score(
            tmp_path / "in.parquet", tmp_path / "out.arrow", url=server.url, metrics_port=target,
            metrics_linger="60s",
        )  # fmt: skip

    with (
        FaultServer(*LINEAR) as server,
        prometheus_process.running(tmp_path, port, target, EXAMPLES / "alerts.yml") as prometheus,
    ):
        with beside(job):
            pass
        prometheus.until("last_over_time(batchscore_exit_code[1h])")
        units = {name: told[0]["unit"] for name, told in prometheus.asked("metadata").items()}
    named = {n: unit for n, unit in units.items() if n.startswith("batchscore_")}
    assert OPENMETRICS.startswith("application/openmetrics-text")
    assert named["batchscore_sent_bytes"] == "bytes"
    assert named["batchscore_request_duration_seconds"] == "seconds"
