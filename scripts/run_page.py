"""Run what a page tells its reader to type, and compare what is printed with what the page shows.

    python scripts/run_page.py docs/tutorial.md           # fails where the page is not what happens
    python scripts/run_page.py docs/tutorial.md --write   # writes what happens into the page

In a page for this

- a block after "Write `NAME`...:" is a file of that name;
- a ``console`` block holds commands (``$ ...``, going on after a backslash), each with what it
  prints; they run in order, in one empty folder;
- ``batchscore serve`` goes on until the end of the page, as it would in another terminal;
- what a command exports holds for those after it;
- in what is shown, ``...`` stands for anything within a line, and alone on a line for any lines.

Durations, rates and sizes differ from run to run and from machine to machine, so they are not
compared; of a block after the line ``<!-- the figures differ -->`` no numbers are. Ports 8000 to
8099 become free ones and are shown as the page has them.
"""

from __future__ import annotations

import argparse
import os
import re
import shlex
import signal
import socket
import subprocess
import sys
import tempfile
import time
from contextlib import ExitStack, closing
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Iterator

ROOT = Path(__file__).parents[1]
READY_WITHIN_S = 60
COMMAND_WITHIN_S = 100

_PROGRAM = "from batchscore.cli import main\n\nraise SystemExit(main())\n"
_FIGURES_DIFFER = "<!-- the figures differ -->\n"
_FENCE = re.compile(r"^```(\w+)\n(.*?)^```$", re.DOTALL | re.MULTILINE)
_NAMED = re.compile(r"[Ww]rite\s(?:it\sinto\s)?`([\w./-]+)`(?:.|\n(?!\n))*:\n\n\Z")
_MEASURED = re.compile(
    r"(?<![\w.])[\d.,]+ (?:ns|µs|us|ms|s|min|rows/s|requests/s|req/s|B|KiB|MiB|kB|MB)(?![\w])"
    r"|(?<=127\.0\.0\.1:)\d{5}|(?<=--port )\d{5}"
)
# A dash stands for a percentile that so few requests do not tell.
_NUMBER = re.compile(r"(?<![\w.])[\d.,]*\d(?: (?:ms|s))?(?![\w])|(?<=\s)-(?=\s)")


@dataclass(frozen=True)
class File:
    """A file that the page shows."""

    name: str
    text: str


@dataclass(frozen=True)
class Step:
    """A command, what the page shows of its output, and where in the page that stands."""

    command: str
    shown: str
    span: tuple[int, int]
    figures_differ: bool

    @property
    def is_server(self) -> bool:
        """Whether it goes on until somebody stops it."""
        return re.match(r"(\w+=\S+ )*batchscore serve ", self.command) is not None


def parts(page: str) -> Iterator[File | Step]:
    """What the reader of a page is told to write and to type, in order."""
    for block in _FENCE.finditer(page):
        language, text = block.groups()
        if language == "console":
            differ = page[: block.start()].endswith(_FIGURES_DIFFER)
            yield from _steps(text, block.start(2), differ)
        elif named := _NAMED.search(page[: block.start()]):
            yield File(named[1], text)


def _steps(text: str, start: int, figures_differ: bool) -> Iterator[Step]:
    for found in re.finditer(r"^\$ ((?:.*\\\n)*.*\n)((?:(?!\$ ).*\n)*)", text, re.MULTILINE):
        place = (start + found.start(2), start + found.end(2))
        yield Step(found[1].strip(), found[2], place, figures_differ)


def comparable(text: str, *, figures_differ: bool) -> str:
    """The text without what is measured, and without the spaces that depend on it."""
    measured = _NUMBER if figures_differ else _MEASURED
    if figures_differ:  # whether a load can be trusted is one of them
        text = re.sub(r" +(invalid|not stable)$", "", text, flags=re.MULTILINE)
    lines = [measured.sub("N", line).split() for line in text.strip().splitlines()]
    return "\n".join(" ".join(words) for words in lines)


def is_as_shown(shown: str, printed: str, *, figures_differ: bool = False) -> bool:
    """Whether a command printed what the page shows."""
    pattern = ""
    for line in comparable(shown, figures_differ=figures_differ).splitlines():
        if line == "...":
            pattern += r"(?:.*\n)*"
        else:
            pattern += re.escape(line).replace(r"\.\.\.", ".*") + r"\n"
    lines = comparable(printed, figures_differ=figures_differ).splitlines(keepends=True)
    return re.fullmatch(pattern, "".join(lines) + "\n" * bool(lines)) is not None


class Folder:
    """An empty folder, in which the parts of a page happen."""

    def __init__(self, path: Path) -> None:
        self.path = path / "work"
        self.path.mkdir()
        self._ports: dict[str, str] = {}
        self._servers = ExitStack()
        tools = path / "bin"
        tools.mkdir()
        (tools / "batchscore").write_text(f"#!{sys.executable}\n{_PROGRAM}")
        (tools / "python").write_text(f'#!/bin/sh\nexec {sys.executable} "$@"\n')
        for tool in tools.iterdir():
            tool.chmod(0o755)
        kept = {k: v for k, v in os.environ.items() if not k.startswith("BATCHSCORE_")}
        self._environment = kept | {
            "PATH": f"{tools}{os.pathsep}{os.environ['PATH']}",
            "PYTHONPATH": str(ROOT),
            "COLUMNS": "80",
            "NO_COLOR": "1",
            "TERM": "dumb",
            "BATCHSCORE_PROGRESS": "none",  # the bar of a terminal is no text
            "no_proxy": "*",
        }

    def write(self, file: File) -> None:
        """Make a file of the page."""
        target = self.path / file.name
        target.parent.mkdir(parents=True, exist_ok=True)
        target.write_text(self._with_free_ports(file.text), encoding="utf-8")

    def run(self, step: Step) -> str:
        """What a command prints, on standard output and standard error."""
        command = self._with_free_ports(step.command)
        if step.is_server:
            return self._as_in_the_page(self._serve(command))
        kept = shlex.quote(str(self.path.parent / "exported"))
        done = subprocess.run(
            ["bash", "-c", f"source {kept} 2>/dev/null\n{command}\nexport -p >{kept}"],
            cwd=self.path,
            env=self._environment,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            check=False,
            timeout=COMMAND_WITHIN_S,
        )
        return self._as_in_the_page(done.stdout)

    def _serve(self, command: str) -> str:
        """What a server says until it accepts requests; it is stopped when the page is done."""
        log = self.path.parent / f"server-{time.monotonic_ns()}.log"
        with log.open("wb") as output:
            server = subprocess.Popen(
                ["bash", "-c", f"exec env {command}"],
                cwd=self.path,
                env=self._environment,
                stdout=output,
                stderr=output,
            )
        self._servers.callback(server.wait, 30)
        self._servers.callback(server.send_signal, signal.SIGINT)
        deadline = time.monotonic() + READY_WITHIN_S
        while "Ctrl-C stops" not in log.read_text():
            if server.poll() is not None or time.monotonic() > deadline:
                raise AssertionError(f"{command} does not serve: {log.read_text()}")
            time.sleep(0.05)
        return log.read_text()

    def close(self) -> None:
        """Stop the servers."""
        self._servers.close()

    def _with_free_ports(self, text: str) -> str:
        for port in sorted(set(re.findall(r"\b80\d\d\b", text))):
            if port not in self._ports:
                with socket.socket() as probe:
                    probe.bind(("127.0.0.1", 0))
                    self._ports[port] = str(probe.getsockname()[1])
        return re.sub(r"\b80\d\d\b", lambda found: self._ports[found[0]], text)

    def _as_in_the_page(self, text: str) -> str:
        for shown, port in self._ports.items():
            text = text.replace(f":{port}", f":{shown}")
        return "".join(f"{line.rstrip()}\n" for line in text.strip("\n").splitlines())


def happened(page: str, folder: Path) -> tuple[str, list[str]]:
    """The page with what its commands print, and what differs from what it shows."""
    different: list[str] = []
    written = page
    shift = 0
    with closing(Folder(folder)) as place:
        for part in parts(page):
            if isinstance(part, File):
                place.write(part)
                continue
            printed = place.run(part)
            if is_as_shown(part.shown, printed, figures_differ=part.figures_differ):
                continue
            different.append(
                f"$ {part.command}\n--- the page shows\n{part.shown}--- printed\n{printed}"
            )
            begin, end = (edge + shift for edge in part.span)
            written = written[:begin] + printed + written[end:]
            shift += len(printed) - len(part.shown)
    return written, different


def main() -> int:
    """Run a page; 1 where it does not show what happens."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("pages", nargs="+", type=Path, metavar="PAGE")
    parser.add_argument("--write", action="store_true", help="write what happens into the page")
    options = parser.parse_args()
    is_different = False
    for page in options.pages:
        with tempfile.TemporaryDirectory() as folder:
            written, different = happened(page.read_text(encoding="utf-8"), Path(folder))
        if options.write:
            page.write_text(written, encoding="utf-8")
        is_different |= bool(different)
        print(f"{page}: {len(different)} differ", *different, sep="\n", file=sys.stderr)
    return int(is_different and not options.write)


if __name__ == "__main__":
    raise SystemExit(main())
