"""What a failing test tells beside its traceback: where to look, and what was run.

``tests/conftest.py`` puts it below the traceback, under "what to look at".
"""

from __future__ import annotations

import inspect
import shlex
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

ROOT = Path(__file__).parents[1]
_COMMANDS_SHOWN = 3
_LINES_SHOWN = 15
_WORDS_SHOWN = 600

# What a file of tests is about, where that is not the module it has its name from.
_ABOUT = {
    "tests/clouds/test_azure.py": "docs/stores.md batchscore/stores",
    "tests/engines/test_ray.py": "docs/engines.md batchscore/engines/ray.py",
    "tests/engines/test_spark.py": "docs/engines.md batchscore/engines/spark",
    "tests/integration/test_bench_echo.py": "docs/bench.md batchscore/bench/echo.py",
    "tests/integration/test_check.py": "docs/check.md batchscore/checking",
    "tests/integration/test_engine_core.py": "docs/engines.md batchscore/engines",
    "tests/integration/test_metrics_port.py": "docs/watch.md batchscore/observers",
    "tests/integration/test_notebook.py": "docs/watch.md batchscore/observers",
    "tests/integration/test_sharing.py": "docs/overload.md batchscore/client/sharing.py",
    "tests/monitoring/test_prometheus.py": "docs/watch.md batchscore/observers",
    "tests/monitoring/test_watch_page.py": "docs/watch.md",
    "tests/orchestrators/test_dagster.py": "docs/pipelines.md examples/pipelines",
    "tests/orchestrators/test_kubernetes_schema.py": "docs/pipelines.md examples/pipelines",
    "tests/test_errors.py": "docs/errors.md scripts/write_error_reference.py",
    "tests/test_package.py": "docs/install.md pyproject.toml",
    "tests/unit/test_addresses.py": "batchscore/observers",
    "tests/unit/test_platforms.py": "docs/platforms.md",
    "tests/unit/test_scale.py": "docs/scale.md scripts/simulate_scale.py",
    "tests/integration/cli/test_commands.py": "docs/commands.md batchscore/cli",
    "tests/integration/cli/test_runner.py": "batchscore/cli/runner.py",
    "tests/integration/test_bench.py": "batchscore/bench",
    "tests/integration/test_bounds.py": "docs/bounds.md",
    "tests/integration/test_cancellation.py": "ARCHITECTURE.md batchscore/scoring/pipeline.py",
    "tests/integration/test_client.py": "docs/failures.md batchscore/client",
    "tests/integration/test_endpoints.py": "docs/protocols.md batchscore/protocols/instances.py",
    "tests/integration/test_features.py": "docs/protocols.md batchscore/codecs",
    "tests/integration/test_hardening.py": "docs/bounds.md docs/failures.md",
    "tests/integration/test_instances.py": "docs/protocols.md batchscore/protocols/instances.py",
    "tests/integration/test_mlflow.py": "docs/protocols.md batchscore/protocols/mlflow.py",
    "tests/integration/test_open_inference.py": (
        "docs/protocols.md batchscore/protocols/open_inference.py"
    ),
    "tests/integration/test_overload.py": "docs/overload.md batchscore/client",
    "tests/integration/test_processes.py": "docs/decisions/0007-processes.md batchscore/processes",
    "tests/integration/test_real_models.py": "docs/protocols.md docs/serve.md",
    "tests/integration/test_rescore.py": "docs/decisions/0005-rescore.md",
    "tests/integration/test_resume.py": "docs/decisions/0004-resume.md batchscore/partial",
    "tests/integration/test_score.py": "ARCHITECTURE.md",
    "tests/integration/test_serve_app.py": "docs/serve.md batchscore/serving",
    "tests/integration/test_tls_and_proxies.py": "docs/bounds.md batchscore/client",
    "tests/pages/test_pages.py": "docs/reports.md batchscore/report_page",
    "tests/proxies/test_envoy.py": "docs/failures.md tests/proxies/envoy_process.py",
    "tests/scenarios/test_scenarios.py": "docs/failures.md tests/scenarios/scenario.py",
    "tests/simulation/test_simulation.py": "docs/simulation.md",
    "tests/soak/test_soak.py": "docs/soak.md tests/soak/job.py",
    "tests/test_docs.py": "docs README.md",
    "tests/test_pages_run.py": "docs/tutorial.md docs/howto scripts/run_page.py",
    "tests/test_failing.py": "tests/failing.py tests/conftest.py",
    "tests/test_habits.py": "CONTRIBUTING.md",
    "tests/test_slow_lanes.py": "scripts/slow_lanes.py",
    "tests/unit/cli/test_configs.py": "configs",
    "tests/unit/test_faultserver.py": "tests/faultserver",
    "tests/unit/test_public_api.py": "batchscore/__init__.py",
}


_ABOUT_FOLDERS = {
    "tests/pipelines/": "docs/pipelines.md examples/pipelines",
    "tests/queueing/": "docs/bench.md batchscore/bench",
    "tests/servers/": "docs/servers.md batchscore/protocols",
    "tests/stores/": "docs/stores.md batchscore/stores",
}


def about(test_file: str) -> list[str]:
    """The pages and modules that a file of tests is about, as paths from the root.

    ``tests/unit`` mirrors the package: there it is the module of the same name, else its folder.
    """
    if test_file in _ABOUT:
        return _ABOUT[test_file].split()
    for folder, pages in _ABOUT_FOLDERS.items():
        if test_file.startswith(folder):
            return pages.split()
    path = Path(test_file)
    name = path.stem.removeprefix("test_")
    folder = Path("batchscore", *path.parts[2:-1])
    for looked_at in (folder / f"{name}.py", folder / name, folder):
        if (ROOT / looked_at).exists():
            return [str(looked_at)]
    return ["batchscore"]


@dataclass
class Command:
    """A process that a test started: its words, and how it ended as far as anybody asked."""

    words: str
    folder: str
    code: int | None = None
    errors: str = ""

    def __str__(self) -> str:
        """The command, its exit code, and the end of what it wrote to standard error."""
        ended = "nobody waited for its end" if self.code is None else f"exit code {self.code}"
        lines = [f"$ {self.words}", f"  in {self.folder}: {ended}"]
        told = self.errors.splitlines()
        if len(told) > _LINES_SHOWN:
            lines.append(f"  ... {len(told) - _LINES_SHOWN} lines of standard error before")
        return "\n".join([*lines, *(f"  {line}" for line in told[-_LINES_SHOWN:])])


@contextmanager
def watched() -> Iterator[list[Command]]:
    """The processes that are started meanwhile by way of ``subprocess``, in their order."""
    commands: list[Command] = []
    original = subprocess.Popen

    class Watched(original):
        """Behaves as the original, and notes what comes of the process."""

        def __init__(self, args, *more, **options):
            words = args if isinstance(args, str) else shlex.join(map(str, args))
            self._noted = Command(words[:_WORDS_SHOWN], str(options.get("cwd") or Path.cwd()))
            commands.append(self._noted)
            super().__init__(args, *more, **options)

        def poll(self):
            self._noted.code = super().poll()
            return self._noted.code

        def wait(self, timeout=None):
            self._noted.code = super().wait(timeout)
            return self._noted.code

        def communicate(self, *args, **options):
            out, errors = super().communicate(*args, **options)
            told = errors or ""
            self._noted.errors = told if isinstance(told, str) else told.decode(errors="replace")
            return out, errors

    subprocess.Popen = Watched
    try:
        yield commands
    finally:
        subprocess.Popen = original


def signpost(node_id: str, test: object, commands: list[Command]) -> str:
    """The text for a test that failed: promise, where to look, how to run it alone, what ran."""
    lines = [
        f"promise: {' '.join((inspect.getdoc(test) or 'none is told').split())}",
        f"look at: {', '.join(about(node_id.partition('::')[0]))}",
        f"alone:   .venv/bin/pytest {shlex.quote(node_id)}",
    ]
    if len(commands) > _COMMANDS_SHOWN:
        lines.append(f"{len(commands)} processes were started, the last ones:")
    return "\n".join([*lines, *map(str, commands[-_COMMANDS_SHOWN:])])
