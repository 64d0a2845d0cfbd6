"""One seed lived through: runs of a job, each ended before its time, until one ends by itself."""

from __future__ import annotations

import asyncio
import csv
import json
import random
import shutil
import tempfile
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq

from batchscore.client.transport import TransportOptions
from batchscore.config import ScoreConfig, configured
from batchscore.errors import ModelChangedError, OutputError, TemporaryError, UsageError
from batchscore.metrics import RunMetrics, RunReport
from batchscore.observers import NullObserver
from batchscore.runtime import Runtime
from batchscore.scorer import score
from simulation.deployment import SimulatedDeployment, SimulatedTransport, answer_of
from simulation.disk import CrashedError, SimulatedDisk, restore
from simulation.loop import Inline, SimulatedLoop
from simulation.plan import Interruption, Plan, draw

URL = "http://127.0.0.1/deployment/simulated/forward"
_MOST_RUNS = 40
_LONGEST_S = 48 * 3600.0


class ViolatedError(AssertionError):
    """Raised when a job broke a promise."""


@dataclass
class Told:
    """What a seed came to, for the sum of many."""

    runs: int = 0
    crashes: int = 0
    rows: int = 0
    requests: int = 0
    simulated_s: float = 0.0
    ended: str = ""


@dataclass
class _Watch(NullObserver):
    """What a run says of itself while it runs."""

    max_window_rows: Callable[[RunMetrics], int]
    is_schema_known: bool
    rows_done: int = 0
    rows_synced: int = 0
    report: RunReport | None = None
    metrics: RunMetrics = field(default_factory=RunMetrics)

    def on_start(self, metrics: RunMetrics) -> None:
        self.metrics = metrics

    def on_batch(self, metrics: RunMetrics) -> None:
        if self.is_schema_known or metrics.rows_scored:
            self.rows_done = metrics.rows_done
        waiting, bound = metrics.rows_read - metrics.rows_done, self.max_window_rows(metrics)
        if waiting > bound:
            raise ViolatedError(f"{waiting} rows are read and not written; the window is {bound}")

    def on_sync(self, name: str) -> None:
        if name == "journal":
            self.rows_synced = self.rows_done

    def on_finish(self, report: RunReport) -> None:
        self.report = report


class World:
    """See the module. ``live`` raises ``ViolatedError`` where a promise was broken."""

    def __init__(self, plan: Plan, folder: Path, trace: Callable[[str], None]) -> None:
        self._plan = plan
        self._folder = folder
        self._trace = self._timed(trace)
        self._random = random.Random(f"world {plan.seed}")
        self._now_s = 0.0
        self._loop: SimulatedLoop | None = None
        self._deployment = SimulatedDeployment(plan, self._random, self._trace)
        self._source = folder / f"in.{plan.source}"
        self._disk_root = folder / "disk"
        self._out = self._disk_root / f"out.{plan.output}"
        self._must_resume = 0
        self.told = Told(rows=plan.num_rows)

    def _timed(self, trace: Callable[[str], None]) -> Callable[[str], None]:
        return lambda text: trace(f"{self._loop.time() if self._loop else 0:10.3f} s  {text}")

    def live(self) -> Told:
        """Run the job until it ends by itself, and look at what it wrote."""
        self._write_input()
        self._disk_root.mkdir()
        interruptions = list(self._plan.interruptions)
        while True:
            self.told.runs += 1
            if self.told.runs > _MOST_RUNS:
                raise ViolatedError(f"the job has not ended after {_MOST_RUNS} runs")
            interruption = interruptions.pop(0) if interruptions else None
            if self._run(interruption):
                break
        if self._deployment.violations:
            raise ViolatedError(self._deployment.violations[0])
        self.told.simulated_s = self._now_s
        return self.told

    def _write_input(self) -> None:
        count = self._plan.num_rows
        notes = [f'row {row}, "quoted"\n' if row % 5 == 0 else f"row {row}" for row in range(count)]
        if self._plan.source == "parquet":
            table = pa.table(
                {"x": pa.array(range(count), pa.int64()), "note": pa.array(notes, pa.string())}
            )
            pq.write_table(table, self._source, row_group_size=64)
            return
        with self._source.open("w", newline="") as file:
            writer = csv.writer(file)
            writer.writerow(["x", "note"])
            writer.writerows(
                ["?" if row in self._plan.unreadable else row, note]
                for row, note in enumerate(notes)
            )

    # One run.

    def _run(self, interruption: Interruption | None) -> bool:
        """One run of the job; whether it was the last."""
        watch = _Watch(
            self._window_rows,
            # Until it is, failed rows wait outside of the partial file.
            is_schema_known=self._plan.model in {"number", "published category"},
        )
        disk = SimulatedDisk(self._disk_root, self._random, watch.on_sync)
        loop = self._loop = SimulatedLoop(self._now_s)
        self._trace(f"run {self.told.runs}, to be interrupted by {interruption}")
        error: BaseException | None = None
        try:
            loop.run_until_complete(self._job(loop, disk, watch, interruption))
        except (Exception, CrashedError, asyncio.CancelledError) as raised:  # noqa: BLE001 - judged below
            error = raised
        finally:
            left = asyncio.all_tasks(loop)
            self._now_s = loop.time() + self._random.expovariate(1 / 30)
            loop.close()
        if left:
            raise ViolatedError(f"{len(left)} tasks outlive their run: {left}")
        self.told.requests += watch.metrics.requests
        self._trace(f"the run ended: {error!r}, {watch.rows_done} rows done")
        if self._now_s > _LONGEST_S:
            raise ViolatedError(f"the job took {self._now_s / 3600:.0f} hours")
        return self._ended(error, disk, watch, interruption)

    async def _job(
        self, loop: SimulatedLoop, disk: SimulatedDisk, watch: _Watch, end: Interruption | None
    ) -> None:
        plan = self._plan
        options = {
            **plan.options,
            "inputs": [str(self._source)],
            "output": str(self._out),
            "url": URL,
            "token": self._deployment.token,
            "resume": True,
        }
        runtime = Runtime(
            offload=Inline(self._random, plan.slow_s).opened,
            transport=self._transport,
            disk=disk,
            clock=loop.time,
            random=self._random,
        )
        self._deployment.resumed = 0
        run = asyncio.ensure_future(
            score(configured(ScoreConfig, options), observer=watch, runtime=runtime)
        )
        if end is not None:
            self._prepare(end, run, disk, loop)
        await run

    def _prepare(
        self, end: Interruption, run: asyncio.Task[Any], disk: SimulatedDisk, loop: SimulatedLoop
    ) -> None:
        if end.end == "full":
            disk.full_at(end.after_steps or 1)
        elif end.end != "cancel" and end.after_steps is not None:
            disk.stop_at(end.after_steps, power=end.end == "power")
        else:
            loop.call_later(end.after_s, self._stop, end, run, disk)

    def _stop(self, end: Interruption, run: asyncio.Task[Any], disk: SimulatedDisk) -> None:
        if run.done():
            return
        self._trace(end.end)
        if end.end != "cancel":
            disk.crash(power=end.end == "power")
        run.cancel()

    def _transport(self, options: TransportOptions) -> SimulatedTransport:
        return SimulatedTransport(self._deployment, options)

    def _window_rows(self, metrics: RunMetrics) -> int:
        # A chunk may be between the reader and the window; the limit may have been larger before.
        fixed = self._plan.options["concurrency"]
        limit = fixed if isinstance(fixed, int) else 256
        return (max(32, 4 * limit) + 2) * self._plan.chunk_rows

    # What a run left.

    def _ended(
        self,
        error: BaseException | None,
        disk: SimulatedDisk,
        watch: _Watch,
        interruption: Interruption | None,
    ) -> bool:
        if watch.metrics.requests and watch.metrics.rows_resumed < self._must_resume:
            raise ViolatedError(
                f"{self._must_resume} rows were durable, {watch.metrics.rows_resumed} taken over"
            )
        if disk.image is not None:
            self.told.crashes += 1
            restore(self._disk_root, disk.image)
            power = interruption is not None and interruption.end == "power"
            self._keeps(watch, watch.rows_synced if power else watch.rows_done)
        elif error is None:
            self._check_end(watch)
            self.told.ended = "whole"
            return True
        elif self._is_other_model(error):
            self.told.ended = "model changed"
            return True
        else:
            self._check_error(error, interruption)
            is_full = isinstance(error, OutputError)
            self._keeps(watch, watch.rows_synced if is_full else watch.rows_done)
        if self._out.exists():
            self._check_rows()
        return False

    def _keeps(self, watch: _Watch, rows: int) -> None:
        """So many rows of a run are durable; where it did not come so far, those of before."""
        if watch.rows_done:
            self._must_resume = rows

    def _check_error(self, error: BaseException, interruption: Interruption | None) -> None:
        """Whether there is a reason why a run ended early."""
        asked_for = interruption.end if interruption is not None else None
        plan = self._plan
        match error:
            case asyncio.CancelledError():
                is_right = asked_for == "cancel"
            case OutputError():
                is_right = asked_for == "full"
            case TemporaryError():
                is_right = bool(plan.outages or plan.fault_share or plan.poison)
                self._now_s += self._random.expovariate(1 / 300)
            case _:
                is_right = False
        if not is_right:
            raise ViolatedError(f"the job ended with {error!r}") from error

    def _is_other_model(self, error: BaseException) -> bool:
        """Whether that is why a run ended."""
        if isinstance(error, UsageError):
            is_told = "specification" in str(error)
        else:
            is_told = isinstance(error, ModelChangedError)
        if is_told and not self._deployment.has_changed(self._now_s):
            raise ViolatedError("the model is said to have changed, and has not") from error
        return is_told

    def _check_end(self, watch: _Watch) -> None:
        failed = self._check_rows()
        report = watch.report
        assert report is not None
        counts = (report.rows_scored, report.rows_failed, report.exit_code)
        expected = (self._plan.num_rows - failed, failed, 3 if failed else 0)
        if counts != expected:
            raise ViolatedError(f"the report tells {counts}, the file {expected}")
        fixed = self._plan.options["concurrency"]
        if isinstance(fixed, int) and self._deployment.most_in_flight > fixed:
            raise ViolatedError(f"{self._deployment.most_in_flight} requests at once, not {fixed}")
        left = [path.name for path in self._disk_root.iterdir() if path != self._out]
        if left:
            raise ViolatedError(f"left behind: {left}")

    def _check_rows(self) -> int:
        """Look at every row of the output; how many have failed."""
        rows = _READ[self._plan.output](self._out)
        if len(rows) != self._plan.num_rows:
            raise ViolatedError(f"{len(rows)} rows, not {self._plan.num_rows}")
        for position, row in enumerate(rows):
            wrong = self._wrong(position, row)
            if wrong:
                raise ViolatedError(f"row {position}: {wrong}: {row}")
        if self._plan.output == "arrow":
            self._check_borders()
        return sum(row["prediction_error"] is not None for row in rows)

    def _wrong(self, position: int, row: dict[str, Any]) -> str | None:
        plan = self._plan
        is_unreadable = position in plan.unreadable
        if row["x"] != ("?" if is_unreadable else position) or not row["note"].startswith(
            f"row {position}"
        ):
            return "it is another row"
        outputs = {name: row[name] for name in row if name.startswith("predicted_")}
        error = row["prediction_error"]
        if is_unreadable or position in plan.poison:
            if error is None:
                return "it cannot have been scored"
            if is_unreadable != error.startswith("invalid_input: "):
                return "it has the wrong reason"
            return None if all(v is None for v in outputs.values()) else "it has predictions"
        if error is not None:
            return "nothing is wrong with it"
        answer = answer_of(plan, position, changed="predicted_z" in row)
        expected = {f"predicted_{name}": value for name, value in answer.items()}
        if "animal" in answer:
            probs = expected["predicted_animal_probs"] = expected["predicted_animal"]
            expected["predicted_animal"] = max(probs, key=probs.__getitem__)
        return None if outputs == expected else f"not {expected}"

    def _check_borders(self) -> None:
        with pa.OSFile(str(self._out)) as source, pa.ipc.open_file(source) as reader:
            sizes = [reader.get_batch(n).num_rows for n in range(reader.num_record_batches)]
        rows, size = self._plan.num_rows, self._plan.chunk_rows
        if sizes != [min(size, rows - start) for start in range(0, rows, size)]:
            raise ViolatedError(f"the record batches have {sizes} rows, the chunks {size}")


def _read_arrow(path: Path) -> list[dict[str, Any]]:
    with pa.OSFile(str(path)) as source, pa.ipc.open_file(source) as reader:
        return _typed(reader.read_all().to_pylist())


def _read_csv(path: Path) -> list[dict[str, Any]]:
    with path.open(newline="") as file:
        rows: list[dict[str, Any]] = list(csv.DictReader(file))
    for row in rows:
        for name, text in row.items():
            if text == "":
                row[name] = None
            elif name in {"predicted_y", "predicted_z"}:
                row[name] = float(text)
            elif name == "predicted_animal_probs":
                row[name] = json.loads(text)
    return _typed(rows)


def _typed(rows: list[dict[str, Any]]) -> list[dict[str, Any]]:
    for row in rows:
        if isinstance(row["x"], str) and row["x"] != "?":
            row["x"] = int(row["x"])
    return rows


_READ: dict[str, Callable[[Path], list[dict[str, Any]]]] = {
    "arrow": _read_arrow,
    "parquet": lambda path: _typed(pq.read_table(path).to_pylist()),
    "csv": _read_csv,
    "jsonl": lambda path: _typed([json.loads(line) for line in path.read_text().splitlines()]),
}


def simulate(seed: int, trace: Callable[[str], None] = lambda _: None) -> Told:
    """Live through a seed.

    Raises:
        ViolatedError: a promise was broken; the message tells how to see it again.
    """
    folder = Path(tempfile.mkdtemp(prefix="simulation-"))
    try:
        plan = draw(seed)
        trace(str(plan))
        return World(plan, folder, trace).live()
    except Exception as error:
        raise ViolatedError(
            f"{error}\nTo see it again: PYTHONPATH=tests python -m simulation {seed}"
        ) from error
    finally:
        shutil.rmtree(folder)
