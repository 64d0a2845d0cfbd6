"""Load generators on a server whose service times are known: what they say, and what was true.

    python benchmarks/latency.py                          # half an hour, prints the table
    python benchmarks/latency.py --seconds 2 --rounds 1   # short
    python benchmarks/latency.py --docs --realtime        # as root: writes docs/latency.json

The server has one worker and a queue (tests/queueing) and records when each request came and when
its answer went. Every tool that is installed has its turn in each case, on the same server and
core; rounds follow one another, and the figures are the medians of the rounds. --realtime keeps
the other programs of the computer off both cores, but where an echo server would keep them busy.
"""

from __future__ import annotations

import argparse
import json
import os
import platform
import statistics
import subprocess
import sys
import tempfile
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

sys.path.insert(0, str(Path(__file__).parents[1] / "tests"))

from queueing import Bimodal, Exponential, Fixed, QueueServerProcess, ours, theory
from queueing.process import last_core
from queueing.simulated import percentile, poisson, responses_s
from queueing.tools import SHARES, TOOLS, Load, wrk_corrected

if TYPE_CHECKING:
    from queueing import Service
    from queueing.tools import Figures

DOCS = Path(__file__).parents[1] / "docs"
ECHO, FIXED, EXPONENTIAL = Fixed(0.0), Fixed(0.005), Exponential(0.005)
BIMODAL = Bimodal(short_s=0.002, long_s=0.017, long_share=0.2)
CLIENTS, RATE = 8, 120.0
SIMULATED = 1_000_000
# Never the same for both: services that follow their arrivals' own chances make no queue.
ARRIVALS_SEED, SERVICE_SEED = 1, 2
LONGER = 6  # Random arrivals bunch, and take that much longer to come near their means.


class Case(NamedTuple):
    """One kind of server under one load."""

    name: str
    service: Service
    concurrency: int
    rate: float | None = None
    arrivals: str = "constant"

    @property
    def tools(self) -> list[str]:
        """Who can generate this load; random arrivals only we can."""
        others = [] if self.arrivals == "poisson" else TOOLS
        return [
            ours.NAME,
            *(t.name for t in others if t.is_there and (t.takes_rate or not self.rate)),
        ]

    def expected(self) -> dict[str, Any] | None:
        """What theory says: percentiles, requests a second, and by which formula."""
        if not self.service.mean_s:
            return None
        if self.rate is None:
            found = [theory.closed_response_s(self.service, self.concurrency, p) for p in SHARES]
            rate = theory.closed_requests_per_s(self.service, self.concurrency)
            count = self.concurrency
            name = "one service" if count == 1 else f"the sum of {count} services"
            return _told(name, found, rate)
        if self.arrivals == "poisson":
            return _told(*_under_poisson(self.service, self.rate), self.rate)
        if isinstance(self.service, Exponential):
            found = [theory.dm1_response_s(self.service, self.rate, p) for p in SHARES]
            return _told("D/M/1", found, self.rate)
        return _told("D/D/1", [self.service.mean_s] * len(SHARES), self.rate)


def _told(formula: str, percentiles_s: list[float], rate: float) -> dict[str, Any]:
    return {"formula": formula, "percentiles_s": percentiles_s, "requests_per_s": rate}


def _under_poisson(service: Service, rate: float) -> tuple[str, list[float]]:
    match service:
        case Fixed():
            return "M/D/1", [theory.md1_response_s(service, rate, p) for p in SHARES]
        case Exponential():
            return "M/M/1", [theory.mm1_response_s(service, rate, p) for p in SHARES]
    # No closed form: Lindley's recursion, a million requests.
    simulated = responses_s(service, poisson(rate, SIMULATED, ARRIVALS_SEED), SERVICE_SEED)
    return "M/G/1, simulated", [percentile(simulated, p) for p in SHARES]


_KINDS = [
    ("fixed 5 ms", FIXED),
    ("exponential, mean 5 ms", EXPONENTIAL),
    ("2 ms, every fifth 17 ms", BIMODAL),
]
CASES = [
    *(Case(f"echo, {n} in flight", ECHO, n) for n in (1, 4)),
    *(Case(f"{name}, {n} in flight", kind, n) for name, kind in _KINDS for n in (1, 4)),
    *(Case(f"{name}, {RATE:g} req/s, constant", s, CLIENTS, RATE) for name, s in _KINDS[:2]),
    *(Case(f"{name}, {RATE:g} req/s, Poisson", s, CLIENTS, RATE, "poisson") for name, s in _KINDS),
]  # fmt: skip


def turn(server: QueueServerProcess, case: Case, tool: str, seconds: int, folder: Path) -> Any:
    """One tool's turn: what it says, and the server's record of the same requests."""
    seconds *= LONGER if case.arrivals == "poisson" else 1
    load = Load(server.url, case.concurrency, seconds, case.rate)
    cores = sorted(os.sched_getaffinity(0) - {last_core()})
    server.begin(case.service, SERVICE_SEED)
    found: Figures
    extra: dict[str, Any] = {}
    if tool == ours.NAME:
        done = ours.run(load, folder, arrivals=case.arrivals, seed=ARRIVALS_SEED, cores=cores)
        found, cell = done.figures, done.cell
        extra = {key: cell[key] for key in ("client_share_s", "valid", "why_invalid")}
        records = server.records()[1:]  # The first is none of the load's.
    else:
        (chosen,) = (one for one in TOOLS if one.name == tool)
        found = chosen.run(load, cores=cores)
        records = server.records()
    truth = [record.response_s for record in records]
    took = records[-1].sent_s - records[0].arrived_s
    extra["truth_s"] = [percentile(truth, p) for p in SHARES]
    extra["truth_requests_per_s"] = (len(records) - 1) / took
    extra["late_p99_s"] = percentile([record.late_s for record in records], 0.99)
    if tool == "wrk":
        corrected = wrk_corrected(truth, case.concurrency, took)
        extra["truth_corrected_s"] = [percentile(corrected, p) for p in SHARES]
    return {
        "requests": found.requests,
        "percentiles_s": list(found.percentiles_s),
        "requests_per_s": found.requests_per_s,
        **extra,
    }


def measured(options: argparse.Namespace) -> dict[str, Any]:
    """All turns of all rounds, as they stand in docs/latency.json."""
    cases = [case for case in CASES if not options.case or options.case in case.name]
    turns: dict[str, dict[str, list[Any]]] = {c.name: {t: [] for t in c.tools} for c in cases}
    for number in range(options.rounds):
        for case in cases:
            prefer(is_realtime=options.realtime and bool(case.service.mean_s))
            with (
                tempfile.TemporaryDirectory() as text,
                QueueServerProcess(case.service, core=last_core()) as server,
            ):
                for tool in case.tools:
                    done = turn(server, case, tool, options.seconds, Path(text))
                    turns[case.name][tool].append(done)
                    print(f"{number + 1}: {case.name}: {tool}: {done}", file=sys.stderr)
    return {
        "seconds": options.seconds,
        "rounds": options.rounds,
        "realtime": options.realtime,
        "environment": environment(),
        "commands": commands(),
        "cases": [
            {"name": c.name, "expected": c.expected(), "tools": turns[c.name]} for c in cases
        ],
    }


def prefer(*, is_realtime: bool) -> None:
    """How the system shall treat this process, and those that it starts from now on."""
    policy = os.SCHED_FIFO if is_realtime else os.SCHED_OTHER
    os.sched_setscheduler(0, policy, os.sched_param(int(is_realtime)))


def environment() -> dict[str, Any]:
    """The computer, and the versions of the tools."""
    return {
        "system": platform.platform(),
        "cores": os.cpu_count(),
        "processor": processor(),
        "python": platform.python_version(),
        "tools": {tool.name: version(tool.name, tool.package) for tool in TOOLS if tool.is_there},
    }


def processor() -> str:
    """Its name, where the system tells."""
    told = Path("/proc/cpuinfo").read_text().splitlines() if sys.platform == "linux" else []
    names = [line.partition(":")[2].strip() for line in told if line.startswith("model name")]
    return names[0] if names else platform.machine()


def version(name: str, package: str) -> str:
    """Of Debian's package, or what the tool itself says."""
    words = ["dpkg-query", "-W", "-f", "${Version}", package] if package else [name, "--version"]
    done = subprocess.run(words, capture_output=True, text=True, check=True)
    return done.stdout.splitlines()[0].removeprefix(f"{name} ")


def commands() -> list[str]:
    """The tools' own commands, of one closed loop and, where a tool has it, one rate."""
    told = []
    for rate in (None, RATE):
        load = Load("URL", CLIENTS if rate else 4, 10, rate)
        for tool in TOOLS:
            if tool.takes_rate or not rate:
                with tempfile.TemporaryDirectory() as text:
                    told.append(_plain(tool.command(load, Path(text)), text))
        told.append(_plain(ours.command(load, Path("DIR")), "DIR"))
    return told


def _plain(words: list[str], folder: str) -> str:
    words = [word.replace(f"{folder}/", "") for word in words]
    return " ".join(f"'{word}'" if " " in word else word for word in words)


# The table


def page(figures: dict[str, Any]) -> str:
    """The computer, a table a case, and the commands that made them."""
    where, rounds = figures["environment"], figures["rounds"]
    versions = ", ".join(f"{name} {version}" for name, version in where["tools"].items())
    how = "one round" if rounds == 1 else f"medians of {rounds} rounds"
    begin = (
        f"Each turn {figures['seconds']} s ({LONGER} times that for Poisson), {how}, on "
        f"{where['cores']} cores of an {where['processor']}, Python {where['python']}; {versions}."
    )
    return "\n\n".join(
        [
            begin,
            *(_case_table(case) for case in figures["cases"]),
            "Behind each line is one of these commands, with the number in flight of its case:",
            "```console\n" + "\n".join(f"$ {line}" for line in figures["commands"]) + "\n```",
        ]
    )


def _case_table(case: dict[str, Any]) -> str:
    lines = [
        f"**{case['name']}**",
        "",
        "| | p50 | p90 | p99 | req/s | truth: p50 | p90 | p99 | req/s |",
        "|---|--:|--:|--:|--:|--:|--:|--:|--:|",
    ]
    for tool, rounds in case["tools"].items():
        said = [*_medians(rounds, "percentiles_s"), *_medians(rounds, "truth_s")]
        rates = [statistics.median(one[key] for one in rounds)
                 for key in ("requests_per_s", "truth_requests_per_s")]  # fmt: skip
        cells = [*map(_ms, said[:3]), f"{rates[0]:,.1f}", *map(_ms, said[3:]), f"{rates[1]:,.1f}"]
        lines.append(f"| {tool} | {' | '.join(cells)} |")
        if tool == "wrk":
            corrected = map(_ms, _medians(rounds, "truth_corrected_s"))
            lines.append(
                f"| *the same truth, corrected as wrk does* | | | | | {' | '.join(corrected)} | |"
            )
    if expected := case["expected"]:
        cells = [*map(_ms, expected["percentiles_s"]), f"{expected['requests_per_s']:,.1f}"]
        lines.append(f"| *theory: {expected['formula']}* | | | | | {' | '.join(cells)} |")
    return "\n".join(lines)


def _medians(rounds: list[Any], key: str) -> list[float]:
    return [statistics.median(one[key][n] for one in rounds) for n in range(len(SHARES))]


def _ms(seconds: float) -> str:
    return f"{seconds * 1e3:.3f}"


def with_others(figures: dict[str, Any], old: dict[str, Any]) -> dict[str, Any]:
    """Some cases measured anew, the others as they were, if all else is the same.

    Raises:
        SystemExit: the others were measured otherwise.
    """
    for key in figures.keys() - {"cases"}:
        if figures[key] != old[key]:
            raise SystemExit(f"{key} was {old[key]}: measure all cases anew")
    anew = {case["name"]: case for case in figures["cases"]}
    return {**figures, "cases": [anew.get(case["name"], case) for case in old["cases"]]}


def main() -> None:
    """Run what is asked for, and print or write it."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--seconds", type=int, default=10, help="of each turn")
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--case", help="only cases named so; files keep others")
    parser.add_argument("--realtime", action="store_true", help="before other programs; as root")
    parser.add_argument("--json", type=Path, help="write the figures here")
    parser.add_argument("--docs", action="store_true", help="write docs/latency.json")
    options = parser.parse_args()
    figures = measured(options)
    if options.docs:
        options.json = DOCS / "latency.json"
    if options.json:
        if options.case and options.json.exists():
            figures = with_others(figures, json.loads(options.json.read_text()))
        options.json.write_text(json.dumps(figures, indent=1) + "\n")
    print(page(figures))


if __name__ == "__main__":
    main()
