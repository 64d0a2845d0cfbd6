"""A real Prometheus on 127.0.0.1, that scrapes and is asked."""

from __future__ import annotations

import json
import shutil
import subprocess
import time
import urllib.error
import urllib.parse
import urllib.request
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

PROMETHEUS, PROMTOOL = shutil.which("prometheus"), shutil.which("promtool")
INSTALL = "needs Prometheus: apt-get install --no-install-recommends prometheus"
DEADLINE_S = 60

_CONFIG = """
global: {{scrape_interval: 200ms, scrape_timeout: 200ms, evaluation_interval: 200ms}}
rule_files: ["{rules}"]
scrape_configs:
  - job_name: batchscore
    static_configs: [{{targets: ["127.0.0.1:{target}"]}}]
"""


@dataclass(frozen=True)
class Prometheus:
    """Answers queries; see ``running``."""

    port: int

    def asked(self, path: str, **parameters: str) -> Any:
        """The data of an answer of the HTTP API."""
        query = urllib.parse.urlencode(parameters)
        url = f"http://127.0.0.1:{self.port}/api/v1/{path}?{query}"
        opener = urllib.request.build_opener(urllib.request.ProxyHandler({}))
        try:
            with opener.open(url, timeout=20) as response:
                answer = json.load(response)
        except urllib.error.HTTPError as error:
            with error:
                raise AssertionError(f"{parameters}: {error.read().decode()}") from None
        assert answer["status"] == "success", answer
        return answer["data"]

    def query(self, expression: str) -> list[dict[str, Any]]:
        """The series of an instant query, with its labels and value."""
        return self.asked("query", query=expression)["result"]

    def value(self, expression: str) -> float | None:
        """The one value of an instant query; None where there is none."""
        found = self.query(expression)
        assert len(found) <= 1, found
        return float(found[0]["value"][1]) if found else None

    def until(self, expression: str) -> float:
        """The value of a query, once there is one."""
        deadline = time.monotonic() + DEADLINE_S
        while time.monotonic() < deadline:
            if (value := self.value(expression)) is not None:
                return value
            time.sleep(0.1)
        raise AssertionError(f"nothing came of {expression}")


@contextmanager
def running(folder: Path, port: int, target: int, rules: Path) -> Iterator[Prometheus]:
    """Prometheus, scraping ``target`` five times a second, as soon as it answers."""
    assert PROMETHEUS
    config, log = folder / "prometheus.yml", folder / "prometheus.log"
    config.write_text(_CONFIG.format(rules=rules, target=target))
    with log.open("wb") as output:
        process = subprocess.Popen(
            [
                PROMETHEUS, f"--config.file={config}", f"--storage.tsdb.path={folder / 'data'}",
                f"--web.listen-address=127.0.0.1:{port}", "--log.level=warn",
            ],
            stdout=output, stderr=output,
        )  # fmt: skip
    try:
        yield _ready(Prometheus(port), process, log)
    finally:
        process.terminate()
        process.wait(DEADLINE_S)


def _ready(prometheus: Prometheus, process: subprocess.Popen[bytes], log: Path) -> Prometheus:
    deadline = time.monotonic() + DEADLINE_S
    while time.monotonic() < deadline and process.poll() is None:
        try:
            prometheus.query("vector(1)")
        except (AssertionError, OSError):
            time.sleep(0.1)
        else:
            return prometheus
    raise AssertionError(f"Prometheus does not answer: {log.read_text()}")
