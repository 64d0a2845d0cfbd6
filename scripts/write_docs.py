"""Write what is generated in docs/ anew, or tell what is out of date.

    python scripts/write_docs.py            # writes
    python scripts/write_docs.py --check    # fails where a page is not what would be written
    python scripts/write_docs.py --check commands.md

The figures of docs/benchmarks.json are measured (``benchmarks/run.py --docs``); what is made of
them is generated here.
"""

from __future__ import annotations

import argparse
import difflib
import itertools
import json
import sys
from pathlib import Path
from typing import TYPE_CHECKING

ROOT = Path(__file__).parents[1]
sys.path[:0] = [str(ROOT / "scripts"), str(ROOT / "benchmarks")]

from latency import page as latency_page  # noqa: E402 - the folders above hold scripts
from plot import plot  # noqa: E402
from run import table as benchmark_table  # noqa: E402
from simulate_overload import table as overload_table  # noqa: E402
from simulate_scale import tables as scale_tables  # noqa: E402
from simulate_sharing import table as sharing_table  # noqa: E402
from write_command_reference import reference  # noqa: E402
from write_config_schema import schema  # noqa: E402
from write_error_reference import reference as error_reference  # noqa: E402
from write_reference_tables import config_reference, report_reference  # noqa: E402

if TYPE_CHECKING:
    from collections.abc import Callable

BEGIN, END = "<!-- table -->\n", "<!-- end of table -->\n"
LINES_SHOWN = 20


def with_table(page: Path, *tables: str) -> str:
    """The page with other tables between its pairs of marks, in their order."""
    text, *rest = page.read_text(encoding="utf-8").split(BEGIN)
    for table, part in zip(tables, rest, strict=True):
        _, after = part.split(END)
        text += f"{BEGIN}{table}\n{END}{after}"
    return text


def generated(docs: Path) -> dict[str, Callable[[], str]]:
    """The pages of the folder that are generated, by name, and what makes each of them."""
    figures = json.loads((docs / "benchmarks.json").read_text(encoding="utf-8"))
    latencies = json.loads((docs / "latency.json").read_text(encoding="utf-8"))
    return {
        "bench.md": lambda: with_table(docs / "bench.md", latency_page(latencies)),
        "commands.md": reference,
        "config-reference.md": config_reference,
        "errors.md": error_reference,
        "overload.md": lambda: with_table(docs / "overload.md", overload_table(), sharing_table()),
        "report-reference.md": report_reference,
        "scale.md": lambda: with_table(docs / "scale.md", *scale_tables(docs)),
        "benchmarks.md": lambda: with_table(docs / "benchmarks.md", benchmark_table(figures)),
        "benchmarks.svg": lambda: plot(figures["kinds"]),
        # One for editors that read the examples, one for whoever has only the package.
        "../configs/batchscore.schema.json": schema,
        "../batchscore/cli/config.schema.json": schema,
    }


def difference(page: Path, text: str) -> str:
    """The first lines in which a page differs from a text; none where it is that text."""
    old, new = page.read_text(encoding="utf-8").splitlines(), text.splitlines()
    lines = difflib.unified_diff(old, new, "as it is", "as it should be", lineterm="", n=0)
    return "\n".join(itertools.islice(lines, LINES_SHOWN))


def main() -> int:
    """Write pages, or with --check tell which are out of date; 1 where one is."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("pages", nargs="*", metavar="PAGE", help="names of pages; else all")
    parser.add_argument("--check", action="store_true", help="write nothing, fail where one is old")
    parser.add_argument("--docs", type=Path, default=ROOT / "docs", help="the folder of the pages")
    options = parser.parse_args()
    made = generated(options.docs)
    if unknown := set(options.pages) - made.keys():
        parser.error(f"not generated: {', '.join(sorted(unknown))}; these are: {', '.join(made)}")
    old = 0
    for name in options.pages or made:
        page, text = options.docs / name, made[name]()
        if not options.check:
            page.write_text(text, encoding="utf-8")
        elif told := difference(page, text):
            print(f"{name} is out of date, `make docs` writes it anew\n{told}", file=sys.stderr)
            old += 1
    return 1 if old else 0


if __name__ == "__main__":
    sys.exit(main())
