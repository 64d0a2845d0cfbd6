"""Draw docs/terminal-*.svg: real commands in a real terminal (a pty), against a real deployment.

python scripts/draw_terminal.py
"""

from __future__ import annotations

import io
import os
import pty
import re
import sys
import tempfile
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
from rich.console import Console
from rich.text import Text

from batchscore.serving.app import running_deployment
from batchscore.serving.demo import write_sample_data

ROOT = Path(__file__).parents[1]
WIDTH = 118
# The file of the tutorial; and many rows of the demo, for a bar that is half-way.
BIRDS = """\
name,island,sex,bill_length_mm,bill_depth_mm,flipper_mm,body_mass_g
Ada,Torgersen,male,39.1,18.7,181,3750
Bob,Torgersen,female,NA,17.4,186,3800
Cleo,Biscoe,female,46.1,13.2,211,4500
Dot,Dream,male,46.5,17.9,192,heavy
Eve,Biscoe,,50.0,16.3,230,5700
Fox,Dream,male,52.0,19.0,197,4150
"""
SCORE = "batchscore score rows.parquet --url $URL -o scored.arrow --rate-limit 2000rows/s"
CHECK = "batchscore check birds.csv --url $URL"
# The end of a frame of the bar: the next one is drawn over it.
_OVERDRAWN = re.compile(r"\r(?:\x1b\[1A)?\x1b\[2K")
_CONTROL = re.compile(r"\x1b\[\?25[lh]|\x1b\[2K|\r")
# The picture looks the same without a network: no font is fetched.
_FONTS = re.compile(r"\s*@font-face \{.*?\n\s*\}", re.DOTALL)


def printed(command: str) -> str:
    """All that a command sends to its terminal; it is shown, too."""
    sent: list[bytes] = []

    def keep(terminal: int) -> bytes:
        sent.append(os.read(terminal, 65536))
        return sent[-1]

    pty.spawn(["bash", "-c", command], keep)
    return b"".join(sent).decode()


def at_the_end(text: str) -> str:
    """What stands there when the command has ended."""
    return _OVERDRAWN.split(text)[-1]


def half_way(text: str) -> str:
    """The frame of the bar in the middle of a run, then what stands below it at the end."""
    *frames, last = _OVERDRAWN.split(text)
    bar, _, rest = last.partition("\n")
    return f"{frames[len(frames) * 2 // 3]}\n\n# at the end\n{bar}\n{rest}"


def picture(command: str, text: str) -> str:
    """An SVG of a terminal that shows a command and what it printed."""
    console = Console(
        record=True, width=WIDTH, file=io.StringIO(), force_terminal=True, color_system="truecolor"
    )
    console.print(Text(f"$ {command}", style="bold"))
    console.print(Text.from_ansi(_CONTROL.sub("", text).rstrip()))
    return _FONTS.sub("", console.export_svg(title="batchscore"))


def main() -> int:
    """Draw all."""
    folder = Path(tempfile.mkdtemp())
    os.chdir(folder)
    (folder / "birds.csv").write_text(BIRDS)
    (folder / "batchscore").write_text(f'#!/bin/sh\nexec {sys.executable} -m batchscore "$@"\n')
    (folder / "batchscore").chmod(0o755)
    os.environ.pop("NO_COLOR", None)
    os.environ |= {
        "COLUMNS": str(WIDTH), "TERM": "xterm-256color", "COLORTERM": "truecolor",
        "PATH": f"{folder}{os.pathsep}{os.environ['PATH']}",
    }  # fmt: skip
    write_rows(folder / "rows.parquet")
    with running_deployment("penguins") as url:
        os.environ["URL"] = url
        for name, command, shown in (("check", CHECK, at_the_end), ("score", SCORE, half_way)):
            svg = picture(command, shown(printed(command)))
            (ROOT / "docs" / f"terminal-{name}.svg").write_text(svg, encoding="utf-8")
    return 0


def write_rows(path: Path) -> None:
    """The penguins of the demo, thirty times."""
    write_sample_data(path.parent)
    table = pq.read_table(path.parent / "penguins.parquet")
    pq.write_table(pa.concat_tables([table] * 30), path)


if __name__ == "__main__":
    raise SystemExit(main())
