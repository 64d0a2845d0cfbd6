"""Scenarios: TOML files that say what goes wrong, and within which bounds the job must end.

A file has a ``promise``, and these tables; ``[cases.NAME]`` lays tables over them, one scenario
for each case.

============  =====================================================================================
``input``     ``rows`` (x = 0, 1, ...) and ``file``, whose suffix is the format
``server``    ``model`` (linear or classifier), and options of ``FaultServer``
``faults``    what goes wrong with requests, see ``script``
``events``    what happens once, at a request: see ``Event``
``options``   of ``batchscore.score``; ``token_file = true`` for a file with the server's token
``bounds``    what must come of it, see ``check_bounds``
``then``      a second run, which resumes: ``options`` and ``bounds``; before it the server is
              there again with ``server_back``, and answers well with ``calm``
============  =====================================================================================
"""

from __future__ import annotations

import json
import math
import time
import tomllib
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.csv
import pyarrow.parquet as pq
from faultserver import CLASSIFIER, LINEAR, FaultServer, Model, RequestInfo, faults
from faultserver.faults import Fault, ScriptCallable

import batchscore

Table = dict[str, Any]
_MODELS = {"linear": LINEAR, "classifier": CLASSIFIER}
_OTHER_OUTPUTS = {"z": ("numeric", [1])}
_ROOT = Path(__file__).parents[2]
_ANIMALS = ("bird", "cat", "dog")


@dataclass(frozen=True)
class Scenario:
    """One case of a file; ``case`` is empty where the file has but one."""

    file: Path
    case: str
    promise: str
    tables: Table

    @property
    def name(self) -> str:
        """The file and the case, without a suffix."""
        return f"{self.file.stem} {self.case}".strip()

    def __str__(self) -> str:
        """Where it stands, what it promises, and what chance there is in it."""
        case = f", [cases.{self.case}]" if self.case else ""
        seeds = [f"{place} drawn with seed {seed}" for place, seed in _seeds(self.tables)]
        return "\n".join(
            [
                f"scenario: {self.file.relative_to(_ROOT)}{case}",
                f"promises: {self.promise}",
                f"chance: {', '.join(seeds) or 'none'}",
            ]
        )


def scenarios(folder: Path) -> list[Scenario]:
    """All scenarios of the files in a folder."""
    found = []
    for path in sorted(folder.glob("*.toml")):
        tables = tomllib.loads(path.read_text())
        promise, cases = tables.pop("promise"), tables.pop("cases", {})
        for name, case in (cases or {"": {}}).items():
            found.append(Scenario(path, name, promise, _over(tables, case)))
    return found


def _seeds(tables: Table, place: str = "") -> list[tuple[str, int]]:
    """The seeds in tables, each with the table that it stands in."""
    found = []
    for key, value in tables.items():
        if isinstance(value, dict):
            found += _seeds(value, f"{place}.{key}".lstrip("."))
        elif key == "seed":
            found.append((place, value))
    return found


def _over(base: Table, more: Table) -> Table:
    """Tables laid over others, key by key; lists are replaced."""
    merged = dict(base)
    for key, value in more.items():
        is_table = isinstance(value, dict) and isinstance(base.get(key), dict)
        merged[key] = _over(base[key], value) if is_table else value
    return merged


def play(scenario: Scenario, folder: Path) -> None:
    """Run a scenario in an empty folder and hold it to its bounds; an error names the scenario."""
    try:
        _play(scenario.tables, folder)
    except Exception as error:
        error.add_note(str(scenario))
        raise


def _play(tables: Table, folder: Path) -> None:
    source = folder / tables["input"].get("file", "in.parquet")
    rows = tables["input"]["rows"]
    write_input(source, rows)
    options = dict(tables.get("server", {}))
    model: Model = _MODELS[options.pop("model", "linear")]
    job = dict(tables.get("options", {}))
    if job.pop("token_file", False):
        job["token_file"] = folder / "token"
        job["token_file"].write_text(options["token"])
    with FaultServer(*model, **options) as server:
        server.script = Happenings(server, tables, folder / "token")
        run = Run.of(source, folder, server, job)
        check_output(run, model, rows, tables["bounds"])
        check_bounds(run, server, rows, tables["bounds"])
        if "then" in tables:
            then = tables["then"]
            if then.get("server_back", False):
                server.come_back()
            if then.get("calm", False):
                server.script = None
            run = Run.of(source, folder, server, {**job, "resume": True, **then.get("options", {})})
            check_output(run, model, rows, then["bounds"])
            check_bounds(run, server, rows, then["bounds"])


def write_input(path: Path, rows: int) -> None:
    """Rows numbered from 0."""
    table = pa.table({"x": pa.array(range(rows), pa.int64())})
    match path.suffix:
        case ".parquet":
            pq.write_table(table, path)
        case ".csv":
            pyarrow.csv.write_csv(table, path)
        case ".jsonl":
            path.write_text("".join(f'{{"x": {n}}}\n' for n in range(rows)))
        case _:
            raise ValueError(f"no such format: {path.suffix}")


# What goes wrong


def script(table: Table) -> ScriptCallable:
    """The script of a ``faults`` table.

    ``always``: a fault for every request. ``at``: faults by the number of the request. ``mix``:
    the arguments of ``mixed_faults``. ``rows`` and ``fault``: for every request that holds one of
    these rows. ``above_rows``: 413 for more rows than that. ``above_in_flight``: 429 for more
    requests at once.
    """
    parts: list[ScriptCallable] = []
    if "always" in table:
        always = faults.make_fault(table["always"])
        parts.append(faults.before_body(lambda _: always))
    if "at" in table:
        at = {int(number): faults.make_fault(kind) for number, kind in table["at"].items()}
        parts.append(faults.before_body(lambda info: at.get(info.index)))
    if "mix" in table:
        parts.append(faults.mixed_faults(**table["mix"]))
    if "rows" in table:
        bad, fault = set(table["rows"]), faults.make_fault(table["fault"])
        parts.append(lambda info: fault if any(row["x"] in bad for row in info.rows) else None)
    if "above_rows" in table:
        parts.append(faults.too_large(max_rows=table["above_rows"]))
    if "above_in_flight" in table:
        parts.append(faults.busy_above(table["above_in_flight"]))
    return faults.first_of(*parts)


class Event:
    """Something that happens once, when a request arrives: ``do`` at ``at_request``.

    ``restart``: connections break and are refused, for ``for_s`` or for ever. ``faults``: another
    ``faults`` table holds, for ``for_s`` or for ever. ``token``: only a new token is accepted,
    which the token file then holds, or with ``told = false`` does not. ``model``: a restart with
    other outputs. ``class``: answers show a class that was not there before.
    """

    def __init__(self, server: FaultServer, table: Table, token_file: Path) -> None:
        self._server, self._table, self._token_file = server, table, token_file
        self.at_request: int = table["at_request"]
        self.script: ScriptCallable | None = None
        self.until_s = 0.0

    def happen(self) -> None:
        """Do it; runs in the server's event loop."""
        server, table = self._server, self._table
        match table["do"]:
            case "restart":
                server.restart(table.get("for_s"))
            case "token":
                server.token = "second"
                if table.get("told", True):
                    self._token_file.write_text("second")
            case "model":
                server.outputs = _OTHER_OUTPUTS
                server.predict = lambda rows: [{"z": 1.0} for _ in rows]
                server.restart(table["for_s"])
            case "class":
                server.predict = lambda rows: [{"animal": {"unicorn": 1.0}} for _ in rows]
            case "faults":
                self.script = script(table["faults"])
                self.until_s = time.monotonic() + table.get("for_s", math.inf)
            case other:
                raise ValueError(f"no such event: {other}")


class Happenings:
    """The script of a whole scenario: its faults, and its events at their time."""

    def __init__(self, server: FaultServer, tables: Table, token_file: Path) -> None:
        self._events = [Event(server, table, token_file) for table in tables.get("events", [])]
        self._coming = list(self._events)
        self._script = script(tables.get("faults", {}))
        self.before_body = getattr(self._script, "before_body", False)

    def __call__(self, info: RequestInfo) -> Fault | None:
        for event in [event for event in self._coming if info.index >= event.at_request]:
            self._coming.remove(event)
            event.happen()
        for event in self._events:
            if event.script is not None and info.time_s < event.until_s:
                return event.script(info)
        return self._script(info)


# What comes of it


@dataclass(frozen=True)
class Run:
    """How one run of ``batchscore.score`` ended."""

    exit_code: int
    message: str
    report: Table
    out: Path

    @classmethod
    def of(cls, source: Path, folder: Path, server: FaultServer, options: Table) -> Run:
        """Score a file against the server."""
        out = folder / options.pop("output", "out.arrow")
        report = folder / "report.json"
        message = ""
        try:
            code = batchscore.score(source, out, url=server.url, report=report, **options).exit_code
        except batchscore.BatchscoreError as error:
            code, message = error.exit_code, str(error)
        return cls(code, message, json.loads(report.read_text()), out)

    def table(self) -> pa.Table:
        """What was written."""
        if self.out.suffix == ".parquet":
            return pq.read_table(self.out)
        with pa.OSFile(str(self.out)) as file, pa.ipc.open_file(file) as reader:
            return reader.read_all()


def check_output(run: Run, model: Model, rows: int, bounds: Table) -> None:
    """Every row is there in its place, with its own prediction or the code of its failure.

    A job that did not finish leaves no output, and what can be gone on with where it is resumable.
    """
    assert run.exit_code == bounds["exit_code"], run.message
    if run.exit_code not in {0, 3}:
        assert not run.out.exists()
        assert run.report["resumable"] == bounds.get("resumable", True)
        return
    table = run.table()
    failed = {number: bounds.get("code", "") for number in bounds.get("failed", ())}
    spoilt = set(bounds.get("not_finite", ()))
    errors = table["prediction_error"].to_pylist()
    assert [int(x) for x in table["x"].to_pylist()] == list(range(rows))
    told = {number: error.partition(":")[0] for number, error in enumerate(errors) if error}
    assert told == failed
    for number, value in enumerate(table[f"predicted_{next(iter(model.outputs))}"].to_pylist()):
        if number in failed:
            assert value is None
        elif number in spoilt:
            assert not math.isfinite(value)
        elif model is LINEAR:
            assert value == 2.0 * number + 1
        else:
            assert value == _ANIMALS[number % 3]


def check_bounds(run: Run, server: FaultServer, rows: int, bounds: Table) -> None:
    """Hold a run to its ``bounds``; numbers are exact, or ``[least, most]``.

    ``message``: words of the error. ``requests``, ``rows_resumed``, ``concurrency``: of the
    report. ``retries``: of the report, by code; no others. ``retries_are_faults``: each faulty
    request cost one retry. ``isolation``: ``[clean, attempts]``, the requests that a run without
    bad rows takes, and the tries that a refused one takes; each bad row may cost a logarithm more.
    ``in_flight``, ``largest``: the most requests at once, and the most rows in one, that the server
    saw. ``sent_again``: rows that the server saw twice. ``refused``: requests answered 429.
    ``seconds``: between the first request and the last.
    """
    report, requests = run.report, server.requests
    for words in bounds.get("message", ()):
        assert words in run.message
    for name in ("requests", "rows_resumed", "concurrency"):
        if name in bounds:
            assert _within(report[name], bounds[name]), f"{name}: {report[name]}"
    if "retries" in bounds:
        assert report["retries"].keys() <= bounds["retries"].keys(), report["retries"]
        for code, wanted in bounds["retries"].items():
            found = report["retries"].get(code, 0)
            assert _within(found, wanted), f"retries after {code}: {found}"
    if bounds.get("retries_are_faults"):
        faulty = sum(info.fault is not None for info in requests)
        assert sum(report["retries"].values()) == faulty > 0
    if "isolation" in bounds:
        clean, attempts = bounds["isolation"]
        bad = len(bounds["failed"])
        a_batch = math.ceil(rows / clean)
        worst = 2 * bad * math.log2(a_batch * max(1, clean / bad)) + 2 * bad
        assert report["requests"] <= clean + attempts * worst
    seen: Mapping[str, Callable[[], float]] = {
        "in_flight": lambda: server.max_in_flight,
        "largest": lambda: max(len(info.rows) for info in requests),
        "sent_again": lambda: server.rows_seen - rows,
        "refused": lambda: sum(info.status == 429 for info in requests),
        "seconds": lambda: requests[-1].time_s - requests[0].time_s,
    }
    for name, count in seen.items():
        if name in bounds:
            assert _within(count(), bounds[name]), f"{name}: {count()}"
    assert not report["retries"] or "retries" in bounds or "retries_are_faults" in bounds


def _within(value: float, wanted: float | list[float]) -> bool:
    least, most = wanted if isinstance(wanted, list) else (wanted, wanted)
    return least <= value <= most
